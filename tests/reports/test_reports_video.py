"""Which frames counted: attention followed back through space and time, the strip and the page."""

import numpy as np
import pytest
import torch

from attncli.attention import record
from attncli.layers.pooling import AttentionPooling
from attncli.models.vision.video import VideoModel
from attncli.models.vision.video_config import resolve_video
from attncli.recipe.loading import load_recipe
from attncli.reports.video_attention import Strip, draw_strips, key_frames
from attncli.reports.video_page import video_page
from attncli.reports.video_rollout import token_shares


def shares_of(*settings, keep=None, seed=0):
    """Shares by rollout of a small model on a random clip, and the model's configuration."""
    small = ["model.width=24", "model.layers=2", "model.temporal_layers=1", "model.attention.heads=2"]
    recipe = load_recipe("classify", "video", [*small, "clip.frames=4", *settings]).recipe
    torch.manual_seed(seed)
    config = resolve_video(recipe, labels=3, channels=1, image=(16, 24))
    model = VideoModel(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    clip = torch.randn(1, config.frames * config.scales, 1, 16, 24, dtype=torch.float64)
    mask = None if keep is None else torch.tensor([keep])
    with torch.no_grad(), record(model) as recorded:
        model(clip, mask)
    pools = {name for name, module in model.named_modules() if isinstance(module, AttentionPooling)}
    found = [(name, weights.numpy()) for name, weights in recorded.weights]
    frames = np.ones((config.scales, config.frames), bool) if keep is None else np.array([keep])
    there = frames.reshape(config.scales, config.encoder.grid[0], -1).any(2)
    layers = [one for one in found if one[0] not in pools]
    return token_shares(config, layers, {n: w for n, w in found if n in pools}, there), config


@pytest.mark.parametrize("pooling", ["class", "mean", "attention"])
@pytest.mark.parametrize("kind", ["joint", "factorised", "divided", "pooled", "frame"])
def test_shares_add_up(kind, pooling):
    found, config = shares_of(f"model.space_time={kind}", f"model.pooling={pooling}")
    assert found.shape == (1, *config.encoder.grid)
    assert (found >= 0).all()
    assert found.sum() == pytest.approx(1)
    assert found.std() > 1e-4


@pytest.mark.parametrize("kind", ["joint", "factorised", "divided", "pooled"])
@pytest.mark.parametrize("pooling", ["class", "mean", "attention"])
def test_frames_that_are_not_there_count_nothing(kind, pooling):
    settings = [f"model.space_time={kind}", f"model.pooling={pooling}", "model.tubelet=1"]
    found, _ = shares_of(*settings, keep=[True, True, True, False])
    assert found[0, 3].sum() == pytest.approx(0, abs=1e-12)
    assert found[0, :3].sum() == pytest.approx(1)


def test_scales_share_what_fusion_gives_them():
    found, config = shares_of("clip.stride=[1,2]", "model.fusion=attention")
    assert found.shape == (2, *config.encoder.grid)
    assert found.sum() == pytest.approx(1)
    models = [shares_of("clip.stride=[1,2]", "model.fusion=attention", seed=seed)[0] for seed in range(4)]
    assert max(abs(one[0].sum() - 0.5) for one in models) > 1e-2
    even, _ = shares_of("clip.stride=[1,2]", "model.fusion=mean")
    assert even.sum((1, 2, 3)) == pytest.approx([0.5, 0.5])


def test_one_layer_that_reads_by_the_mean_is_its_weights():
    """Mean pooling over one joint layer: half of the residual stream, half of the mean attention."""
    _, config = shares_of("model.space_time=joint", "model.layers=1", "model.pooling=mean", "model.tubelet=2")
    tokens = int(np.prod(config.encoder.grid))
    rng = np.random.default_rng(0)
    weights = rng.random((1, 2, tokens, tokens))
    weights /= weights.sum(-1, keepdims=True)
    there = np.ones((1, config.encoder.grid[0]), bool)
    found = token_shares(config, [("encoder.stack.blocks.0.attention", weights)], {}, there)
    wanted = 0.5 / tokens + 0.5 * weights[0].mean(0).mean(0)
    assert np.allclose(found.ravel(), wanted)


def test_divided_layers_are_products_over_time_and_space():
    """Token by token, by the definition of each of the two attentions."""
    _, config = shares_of(
        "model.space_time=divided", "model.layers=1", "model.pooling=mean", "model.tubelet=1"
    )
    time, rows, columns = config.encoder.grid
    cells = rows * columns
    rng = np.random.default_rng(1)
    over_time, over_space = rng.random((cells, 1, time, time)), rng.random((time, 1, cells, cells))
    over_time /= over_time.sum(-1, keepdims=True)
    over_space /= over_space.sum(-1, keepdims=True)
    layers = [("encoder.blocks.0.time", over_time), ("encoder.blocks.0.space", over_space)]
    found = token_shares(config, layers, {}, np.ones((1, time), bool))[0].reshape(time, cells)
    wanted = np.zeros((time, cells))
    for p in range(time):
        for n in range(cells):
            for m in range(cells):
                through = 0.5 * (n == m) + 0.5 * over_space[p, 0, n, m]
                for q in range(time):
                    wanted[q, m] += through * (0.5 * (p == q) + 0.5 * over_time[m, 0, p, q])
    assert np.allclose(found, wanted / (time * cells))


def strip(moments=4, each=2):
    rng = np.random.default_rng(0)
    shares = np.array([0.1, 0.5, 0.15, 0.25][:moments])
    regions = rng.random((moments, 2, 3))
    regions *= shares[:, None, None] / regions.sum((1, 2), keepdims=True)
    frames = rng.integers(0, 256, (moments * each, 16, 24, 1), np.uint8)
    return Strip(
        "clip 1",
        frames,
        list(range(3, 3 + moments * each)),
        shares,
        regions,
        rng.normal(size=(moments, 2, 3)),
    )


def test_key_frames_begin_the_moments_that_counted_most():
    assert key_frames(strip(), 2) == [5, 9]
    assert key_frames(strip(each=1), 3) == [4, 6, 5]


def test_strip_and_page(tmp_path):
    draw_strips([strip(), strip()], tmp_path / "a.png", "a $title")
    assert (tmp_path / "a.png").stat().st_size > 5000
    page = video_page([strip()], title="<b>a</b>", result=[("<i>", "1 %")])
    assert "<b>a</b>" not in page
    assert "&lt;b&gt;a&lt;/b&gt;" in page
    assert page.count("iVBOR") == 8
    for outside in ("http://", "https://", 'src="/', "import("):
        assert outside not in page

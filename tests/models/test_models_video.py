"""Models of video: what they are made of, against plain formulas, and what they must not depend on."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from attncli.attention import record
from attncli.errors import RecipeError
from attncli.models.vision.video import VideoModel
from attncli.models.vision.video_config import resolve_video, video_config
from attncli.models.vision.video_encoders import DividedBlock
from attncli.recipe.loading import load_recipe

KINDS = ("joint", "factorised", "divided", "pooled", "frame")


def build(*settings, image=(16, 24), channels=1, seed=0, std=0.3):
    """A small model in float64, its weights far enough from 0 that all of it matters."""
    small = ["model.width=24", "model.layers=2", "model.temporal_layers=1", "model.attention.heads=2"]
    exact = ["model.attention.backend=reference", "model.patch=8", "clip.frames=4"]
    recipe = load_recipe("classify", "video", [*small, *exact, *settings]).recipe
    config = resolve_video(recipe, labels=5, channels=channels, image=image)
    model = VideoModel(config).double().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(std * noise / max(1, parameter.shape[-1]) ** 0.5)
    return model


def clips(batch=2, frames=4, channels=1, image=(16, 24), seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, frames, channels, *image, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("tokenizer", ["patch", "convolution"])
@pytest.mark.parametrize("pooling", ["class", "mean", "attention"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_logits_and_all_weights_learn(kind, pooling, tokenizer):
    model = build(f"model.space_time={kind}", f"model.pooling={pooling}", f"model.tokenizer={tokenizer}")
    out = model(clips())
    assert out.shape == (2, 5)
    out.square().sum().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert video_config(model.config.plain()) == model.config


@pytest.mark.parametrize("position", ["none", "learned", "sinusoidal", "rotary"])
@pytest.mark.parametrize("kind", ["joint", "factorised", "divided", "pooled"])
def test_the_order_of_frames(kind, position):
    """Without places in time the order does not matter; with them it does."""
    settings = [f"model.space_time={kind}", f"model.attention.position={position}", "model.tubelet=1"]
    ordered = position != "none"
    if kind == "pooled":
        settings.append(f"model.ordered={str(ordered).lower()}")
    model, x = build(*settings), clips()
    same = torch.allclose(model(x), model(x.flip(1)), atol=1e-9)
    assert same == (not ordered)


def test_order_can_be_switched_off_where_space_and_time_are_apart():
    x = clips()
    for kind in ("factorised", "pooled"):
        model = build(f"model.space_time={kind}", "model.ordered=false", "model.tubelet=1")
        assert torch.allclose(model(x), model(x[:, [2, 0, 3, 1]]), atol=1e-9)
    model = build("model.space_time=pooled")
    assert not model.config.ordered
    with pytest.raises(RecipeError, match="is of factorised and pooled"):
        build("model.space_time=joint", "model.ordered=false")


def test_one_frame_sees_the_middle_one_alone():
    model, x = build("model.space_time=frame"), clips()
    other = x.clone()
    other[:, [0, 1, 3]] = 7.0
    assert torch.equal(model(x), model(other))
    other[:, 2] += 1
    assert not torch.allclose(model(x), model(other))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pooling", ["class", "mean", "attention"])
def test_frames_that_are_not_there_change_nothing(kind, pooling):
    model = build(f"model.space_time={kind}", f"model.pooling={pooling}", "model.tubelet=1")
    x, keep = clips(), torch.ones(2, 4, dtype=torch.bool)
    keep[1, 2:] = False
    filled = x.clone()
    filled[1, 2:] = 9.0
    assert torch.allclose(model(x, keep), model(filled, keep), atol=1e-9)
    assert torch.allclose(model(x, keep)[0], model(x)[0], atol=1e-9)
    if kind != "frame":
        assert not torch.allclose(model(x, keep)[1], model(x)[1], atol=1e-6)


def test_a_tubelet_is_a_convolution_in_three_dimensions():
    model, x = build("model.tokenizer=patch", "model.tubelet=2", channels=3), clips(channels=3)
    found, _ = model.embed(*model.frames(x, None))  # [B, P, N, C]
    weight = model.tokens.project.weight.view(24, 2, 3, 8, 8).transpose(1, 2)  # [C, K, t, p, p]
    wanted = F.conv3d(x.transpose(1, 2), weight, model.tokens.project.bias, stride=(2, 8, 8))
    assert torch.allclose(found, wanted.flatten(3).permute(0, 2, 3, 1), atol=1e-9)


def attend(layer, x):
    """Scaled dot-product attention of [T, C] by its formula."""
    heads = layer.qkv(x).unflatten(-1, (-1, layer.head_dim))  # [T, 3 H, D]
    q, k, v = (part.transpose(0, 1) for part in heads.chunk(3, 1))  # [H, T, D]
    weights = (q @ k.transpose(1, 2) / layer.head_dim**0.5).softmax(-1)
    return layer.out((weights @ v).transpose(0, 1).flatten(1))


@pytest.mark.parametrize("first", [False, True])
def test_divided_attention_by_its_formula(first):
    """Time among equal places, space within each moment, each with its residual connection."""
    block: DividedBlock = build("model.space_time=divided").encoder.blocks[0]
    moments, cells, width = 3, 4, 24
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(1, moments, cells, width, generator=generator, dtype=torch.float64)
    one = torch.randn(1, 1, width, generator=generator, dtype=torch.float64) if first else None
    found, found_one = block(x, one, None)
    y = x[0].clone()  # [P, N, C]
    normed = block.time_norm(y)
    y = y + torch.stack([block.time_out(attend(block.time, normed[:, n])) for n in range(cells)], 1)
    wanted, ones = [], []
    for moment in y:
        tokens = moment if one is None else torch.cat((one[0], moment))
        tokens = tokens + attend(block.space, block.space_norm(tokens))
        ones.append(tokens[0])
        wanted.append(tokens if one is None else tokens[1:])
    wanted = torch.stack(wanted)
    wanted = wanted + block.feed_forward(block.feed_forward_norm(wanted))
    assert torch.allclose(found[0], wanted, atol=1e-9)
    if first:
        mean = torch.stack(ones).mean(0)
        assert torch.allclose(
            found_one[0, 0], mean + block.feed_forward(block.feed_forward_norm(mean)), atol=1e-9
        )


def test_divided_attention_over_time_begins_as_nothing():
    recipe = load_recipe(
        "classify", "video", ["model.space_time=divided", "model.attention.position=none"]
    ).recipe
    torch.manual_seed(0)
    model = VideoModel(resolve_video(recipe, labels=3, channels=1, image=(32, 32))).eval()
    x = torch.randn(1, 8, 1, 32, 32)
    with record(model) as recorded:
        model(x)
    names = [name for name, _ in recorded.weights]
    assert names[:2] == ["encoder.blocks.0.time", "encoder.blocks.0.space"]
    block = model.encoder.blocks[0]
    tokens = torch.randn(1, 8, 16, 96)
    alone = torch.cat([block(tokens[:, at : at + 1], None, None)[0] for at in range(8)], 1)
    assert torch.allclose(block(tokens, None, None)[0], alone, atol=1e-5)


def test_the_factorised_encoder_is_space_then_time():
    model, x = build("model.space_time=factorised", "model.tubelet=2"), clips()
    tokens, _ = model.embed(*model.frames(x, None))
    encoder = model.encoder
    frames = torch.stack(
        [encoder.space.pool(encoder.space.stack(encoder.space.places(t)[0])) for t in tokens]
    )
    wanted = encoder.pool(encoder.time(encoder.places(frames)[0]))
    assert torch.allclose(model(x), model.head(wanted), atol=1e-9)


def test_a_clip_of_one_moment_needs_no_time():
    """Joint attention over one moment is that of its frame."""
    joint = build(
        "model.space_time=joint", "clip.frames=1", "model.tubelet=1", "model.attention.position=none"
    )
    frame = build("model.space_time=frame", "clip.frames=1", "model.attention.position=none")
    state = {name.replace("encoder.", "encoder.space.", 1): w for name, w in joint.state_dict().items()}
    assert set(state) == set(frame.state_dict())
    frame.load_state_dict(state)
    x = clips(frames=1)
    assert torch.allclose(joint(x), frame(x), atol=1e-9)


@pytest.mark.parametrize("fusion", ["mean", "concat", "attention"])
def test_scales_are_seen_by_the_same_encoder_and_fused(fusion):
    model = build("clip.stride=[1,3]", f"model.fusion={fusion}")
    x = clips(frames=8)
    assert model(x).shape == (2, 5)
    slow = x.clone()
    slow[:, 4:] += 1
    assert not torch.allclose(model(x), model(slow))
    if fusion == "mean":
        with torch.no_grad():
            model.scale.weight[1] = model.scale.weight[0]
        assert torch.allclose(model(x), model(torch.cat((x[:, 4:], x[:, :4]), 1)), atol=1e-9)


def test_motion_is_the_change_from_frame_to_frame():
    x = clips()
    only = build("clip.motion=only", "model.tubelet=1")
    assert torch.allclose(only(x), only(x + 3.0), atol=1e-9)
    seen, _ = only.frames(x, None)
    assert not seen[:, 0].any()
    assert torch.equal(seen[:, 1:], x[:, 1:] - x[:, :-1])
    beside, _ = build("clip.motion=beside", "model.tubelet=1").frames(x, None)
    assert torch.equal(beside, torch.cat((x, seen), 2))
    with pytest.raises(RecipeError, match="has no motion"):
        build("clip.motion=only", "model.space_time=frame")


def test_recomputing_activations_changes_nothing():
    for kind in ("joint", "divided", "factorised"):
        model, x = build(f"model.space_time={kind}").train(), clips()
        gradients = []
        for on in (False, True):
            model.gradient_checkpointing(on)
            model.zero_grad()
            model(x).sum().backward()
            gradients.append([p.grad.clone() for p in model.parameters()])
        assert all(torch.allclose(a, b, atol=1e-9) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize(
    ("settings", "image", "what"),
    [
        (["model.tokenizer=patch", "model.patch=7"], (16, 24), "not whole patches"),
        ([], (20, 24), "not whole patches"),
        (["model.attention.heads=5"], (16, 24), "not divisible"),
        (["model.attention.position=rotary", "model.attention.heads=12"], (16, 24), "needs heads of"),
        (["model.patch=6"], (18, 24), "convolutions halve"),
        (["clip.frames=5"], (16, 24), "not whole tubelets"),
        (["model.space_time=pooled", "model.tubelet=2"], (16, 24), "sees each frame for itself"),
    ],
)
def test_settings_that_do_not_go_together(settings, image, what):
    with pytest.raises(RecipeError, match=what):
        build(*settings, image=image)


def test_other_mechanisms_and_fewer_heads_of_keys():
    x = clips()
    for settings in (
        ["model.attention.kv_heads=1"],
        ["model.attention.kv_latent=6", "model.attention.position=rotary"],
        ["model.attention.mechanism=topk", "model.attention.topk=2"],
    ):
        for kind in ("factorised", "divided"):
            model = build(f"model.space_time={kind}", *settings)
            assert model(x).isfinite().all()
    assert replace(model.config, labels=2).labels == 2

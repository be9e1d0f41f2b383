"""Models of masks: shapes, gates, exactness under cutting, what is recorded, numerics in bf16."""

import pytest
import torch

from attncli.attention import record
from attncli.errors import RecipeError
from attncli.models.vision.segmenters import build_segmenter, fixed_size, start_from
from attncli.models.vision.unet import UNet
from attncli.models.vision.unet_config import UNetConfig
from attncli.recipe.segment import GridAttention, SegmentModel

SMALL = {"norm": "group", "width": 8, "levels": 3, "widest": 16, "groups": 4}
VIT = {"family": "vit", "width": 16, "layers": 2, "patch": 4}
VARIANTS = {
    "plain": {**SMALL, "family": "unet"},
    "gates": SMALL,
    "residual": {**SMALL, "residual": True},
    "batch": {**SMALL, "norm": "batch"},
    "instance": {**SMALL, "norm": "instance"},
    "squeeze": {**SMALL, "feature_attention": "squeeze_excite"},
    "eca": {**SMALL, "feature_attention": "eca"},
    "cbam": {**SMALL, "feature_attention": "cbam"},
    "scales": {**SMALL, "multi_scale": True, "deep_supervision": True},
    "bottleneck": {**SMALL, "layers": 1, "attention": GridAttention(heads=2)},
    "learned": {**SMALL, "layers": 1, "attention": GridAttention(heads=2, position="learned_2d")},
    "latent": {
        **SMALL,
        "layers": 1,
        "attention": GridAttention(heads=2, kv_latent=4, position="relative_2d"),
    },
    "linear": {
        **SMALL,
        "layers": 1,
        "attention": GridAttention(heads=2, mechanism="linear", position="none"),
    },
    "vit": {**VIT, "attention": GridAttention(heads=2)},
    "mask": {**VIT, "head": "mask", "attention": GridAttention(heads=2, position="relative_2d")},
}


def build(name="gates", size=(20, 27), channels=3, classes=5, **more):
    torch.manual_seed(0)
    section = SegmentModel(**{**VARIANTS[name], **more})
    return build_segmenter(section, channels=channels, classes=classes, size=size)


def pictures(batch=3, channels=3, size=(20, 27), seed=1):
    torch.manual_seed(seed)
    return torch.randint(0, 256, (batch, channels, *size), dtype=torch.uint8)


@pytest.mark.parametrize("name", VARIANTS)
class TestEveryVariant:
    def test_gives_logits_of_every_pixel_and_every_weight_learns(self, name):
        model = build(name)
        outputs = model(pictures())
        assert outputs[0].shape == (3, 5, 20, 27)
        assert len(outputs) == (2 if name == "scales" else 1)
        sum(output.float().square().mean() for output in outputs).backward()
        assert [n for n, p in model.named_parameters() if p.grad is None] == []
        assert model.eval()(pictures())[0].shape == (3, 5, 20, 27)
        assert len(model(pictures())) == 1

    def test_each_picture_is_read_alone(self, name):
        if name == "batch":
            pytest.skip("batch norm looks at the batch")
        model = build(name).double()
        images = pictures()
        whole = model(images.double())
        parts = [model(image.unsqueeze(0).double()) for image in images]
        for level, output in enumerate(whole):
            torch.testing.assert_close(
                torch.cat([part[level] for part in parts]), output, atol=1e-10, rtol=1e-8
            )

    def test_bf16_stays_near_float32(self, name):
        model = build(name).eval()
        with torch.no_grad():
            exact = model(pictures())[0]
            with torch.autocast("cpu", torch.bfloat16):
                half = model(pictures())[0].float()
        assert torch.isfinite(half).all()
        assert (half - exact).norm() / exact.norm() < 0.05

    def test_recomputing_changes_no_gradient(self, name):
        model = build(name).double()

        def gradients():
            model.zero_grad()
            sum(output.square().mean() for output in model(pictures().double())).backward()
            return {n: p.grad.clone() for n, p in model.named_parameters()}

        before = gradients()
        model.gradient_checkpointing(True)
        for parameter, grad in gradients().items():
            torch.testing.assert_close(grad, before[parameter])


def test_the_deep_outputs_stand_on_the_rows_of_halved_masks():
    model = build("scales", levels=4, size=(21, 27))
    outputs = model(pictures(size=(21, 27)))
    mask = torch.zeros(21, 27)
    assert [tuple(o.shape[2:]) for o in outputs] == [
        tuple(mask[:: 2**level, :: 2**level].shape) for level in range(3)
    ]


def test_a_unet_reads_any_size_and_one_with_attention_below_its_own():
    assert build()(pictures(size=(33, 50)))[0].shape == (3, 5, 33, 50)
    assert not fixed_size(build())
    assert fixed_size(build("bottleneck"))
    assert fixed_size(build("vit"))


def test_pictures_are_brought_around_zero_once():
    model = build_segmenter(
        SegmentModel(**SMALL),
        channels=1,
        classes=2,
        size=(16, 16),
        mean=torch.tensor([0.25]),
        std=torch.tensor([0.5]),
    )
    x = torch.full((1, 1, 16, 16), 255, dtype=torch.uint8)
    torch.testing.assert_close(model.normalise(x), torch.full((1, 1, 16, 16), 1.5))


def test_gates_are_recorded_with_their_level_and_scale_the_skip():
    model = build("gates").eval()
    with torch.no_grad(), record(model) as recorded:
        model(pictures(size=(16, 24)))
    found = dict(recorded.maps)
    assert sorted(found) == ["up.0.gate", "up.1.gate"]
    assert found["up.0.gate"].shape == (3, 1, 16, 24)
    assert found["up.1.gate"].shape == (3, 1, 8, 12)
    assert all(((factor > 0) & (factor < 1)).all() for factor in found.values())
    with torch.no_grad():
        for block in model.up:
            block.gate.score.bias.fill_(-50.0)  # shut: what comes from below alone decides
        shut = model(pictures(size=(16, 24)))[0]
        for block in model.up:
            block.block.units[0].convolution.weight[:, : block.gate.of_skip.in_channels] = 0
        torch.testing.assert_close(model(pictures(size=(16, 24)))[0], shut)


def test_weights_at_the_lowest_level_and_of_a_vit_are_recorded():
    for name, shapes in (
        ("bottleneck", [(3, 2, 35, 35)]),
        ("mask", [(3, 2, 35, 35)] * 2 + [(3, 2, 40, 40)] * 2),
    ):
        model = build(name).eval()
        with torch.no_grad(), record(model) as recorded:
            model(pictures())
        assert [tuple(weights.shape) for _, weights in recorded.weights] == shapes, name


def test_the_gates_cost_little():
    plain, gated = (
        sum(p.numel() for p in UNet(UNetConfig(classes=11, gates=gates)).parameters())
        for gates in (False, True)
    )
    assert 1 < gated / plain < 1.06


@pytest.mark.parametrize(
    ("settings", "size", "what"),
    [
        ({**SMALL, "levels": 6}, (20, 27), "too small for model.levels=6"),
        ({**SMALL, "layers": 1, "attention": GridAttention(heads=3)}, (20, 27), "heads=3"),
        ({**VIT, "patch": 30}, (20, 27), "model.patch=30 is larger"),
        ({**VIT, "attention": GridAttention(heads=8)}, (20, 27), "rotary_2d"),
    ],
)
def test_what_cannot_be_is_told(settings, size, what):
    with pytest.raises(RecipeError, match=what):
        build_segmenter(SegmentModel(**settings), channels=3, classes=2, size=size)


@pytest.mark.parametrize("name", ["scales", "vit", "mask"])
def test_fresh_outputs_can_begin_with_the_classes_shares(name):
    model = build(name, classes=3)
    start_from(model, torch.tensor([900.0, 100.0, 0.0]))
    for output in model.outputs:
        shares = output.bias.detach().softmax(0)
        assert shares[0] / shares[1] == pytest.approx(9)
        assert 0 < shares[2] < 0.01

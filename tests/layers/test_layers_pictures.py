"""From pictures to tokens; stochastic depth and layer scale in blocks."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from attncli.layers import Block, FeedForward
from attncli.layers.block import kept_paths
from attncli.layers.pictures import ConvolutionTokens, Normalise, PatchTokens, ResidualBlock


@pytest.mark.parametrize(
    ("size", "image"), [((2, 2), (4, 6)), ((4, 4), (8, 8)), ((1, 1), (3, 5)), ((2, 3), (4, 9))]
)
def test_patches_are_a_convolution_without_overlap(size, image):
    tokens = PatchTokens(3, size, 5).double()
    x = torch.randn(2, 3, *image, dtype=torch.float64)
    kernel = tokens.project.weight.unflatten(1, (3, *size))
    expected = F.conv2d(x, kernel, tokens.project.bias, size).flatten(2).transpose(1, 2)
    assert torch.allclose(tokens(x), expected)
    assert torch.allclose(tokens(x.contiguous(memory_format=torch.channels_last)), expected)


@pytest.mark.parametrize(("kernel", "stride", "pool"), [(3, 1, 3), (5, 2, 0), (3, 1, 2)])
def test_convolutions_are_as_published(kernel, stride, pool):
    tokens = ConvolutionTokens(3, [4, 6], kernel=kernel, stride=stride, pool=pool)
    x = torch.randn(2, 3, 16, 12)
    y = x
    for layer in tokens.layers:
        y = F.conv2d(y, layer.weight, None, stride, kernel // 2).clamp(min=0)
        y = F.max_pool2d(y, pool, 2, pool // 2) if pool else y
    assert torch.allclose(tokens(x), y.flatten(2).transpose(1, 2), atol=1e-5)


def test_convolutions_may_be_normalised_by_groups():
    tokens = ConvolutionTokens(3, [4, 6], groups=8)
    with torch.no_grad():
        for parameter in tokens.norms.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    x = torch.randn(2, 3, 16, 12)
    y = x
    for layer, norm, groups in zip(tokens.layers, tokens.norms, (4, 2), strict=True):
        y = F.max_pool2d(F.conv2d(y, layer.weight, None, 1, 1), 3, 2, 1)
        y = F.group_norm(y, groups, norm.weight, norm.bias).clamp(min=0)
    expected = y.flatten(2).transpose(1, 2)
    assert torch.allclose(tokens(x), expected, atol=1e-5)
    for ours, theirs in zip(
        torch.autograd.grad(tokens(x).square().sum(), list(tokens.parameters())),
        torch.autograd.grad(expected.square().sum(), list(tokens.parameters())),
        strict=True,
    ):
        assert torch.allclose(ours, theirs, atol=1e-3, rtol=1e-3)


def test_residual_blocks_are_nothing_at_first_and_then_their_formula():
    block, x = ResidualBlock(8, 3, 4), torch.randn(2, 8, 5, 6)
    assert torch.equal(block(x), x)
    torch.nn.init.normal_(block.norms[1].weight)
    first, second = block.convolutions
    y = F.group_norm(F.conv2d(x, first.weight, None, 1, 1), 4).clamp(min=0)
    y = F.group_norm(F.conv2d(y, second.weight, None, 1, 1), 4, block.norms[1].weight)
    assert torch.allclose(block(x), x + y, atol=1e-5)
    tokens = ConvolutionTokens(3, [8, 8], groups=4, blocks=2)
    plain = ConvolutionTokens(3, [8, 8], groups=4)
    plain.load_state_dict({k: v for k, v in tokens.state_dict().items() if "blocks" not in k})
    assert torch.allclose(tokens(torch.ones(1, 3, 8, 8)), plain(torch.ones(1, 3, 8, 8)), atol=1e-6)


def test_normalise_is_its_formula_and_is_not_stored():
    layer = Normalise((0.1, 0.5, 0.9), (0.2, 0.3, 0.4))
    images = torch.randint(0, 256, (2, 3, 4, 5), dtype=torch.uint8)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.1, 0.5, 0.9), (0.2, 0.3, 0.4)))
    assert torch.allclose(layer(images), (images.float() / 255 - mean) / std, atol=1e-5)
    assert layer(images).dtype == torch.float32
    assert not layer.state_dict()
    last = images.contiguous(memory_format=torch.channels_last)
    assert layer(last).is_contiguous(memory_format=torch.channels_last)


class _Same(nn.Module):
    """Stands in for attention."""

    position = None

    def forward(self, x, mask=None, cache=None, positions=None):
        return x + 1


def _block(**options):
    return Block(_Same(), FeedForward(4, 8), nn.Identity(), nn.Identity(), place="pre", **options)


def test_whole_examples_pass_by_a_sub_layer():
    torch.manual_seed(0)
    block, x = _block(drop_path=0.4).train(), torch.randn(400, 3, 4)
    block.feed_forward = nn.Identity()
    y = block(x)  # x, then + (x + 1) / 0.6 or nothing, then + (y) / 0.6 or nothing
    after = {0: x, 1: x + (x + 1) / 0.6}
    kinds = [torch.stack([a, a + a / 0.6]) for a in after.values()]
    near = torch.stack([(y - kind).abs().amax((2, 3)) for kind in kinds]).flatten(0, 1)  # [4, B]
    assert near.amin(0).max() < 1e-4, "every example is one of the four"
    shares = torch.bincount(near.argmin(0), minlength=4) / 400
    assert torch.allclose(shares, torch.tensor([0.16, 0.24, 0.24, 0.36]), atol=0.08)
    assert torch.allclose(block.eval()(x), 2 * (2 * x + 1), atol=1e-5), "outside training nothing is left out"


def test_paths_are_kept_at_the_rate_and_weigh_one_on_average():
    torch.manual_seed(0)
    keep = kept_paths(torch.zeros(20000, 2, 3), 0.3)
    assert keep.shape == (20000, 1, 1)
    assert keep.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    assert keep.mean() == pytest.approx(1.0, abs=0.02)


def test_layer_scale_multiplies_what_sub_layers_give():
    block, x = _block(layer_scale=0.1).eval(), torch.randn(2, 3, 4)
    middle = x + 0.1 * (x + 1)
    assert torch.allclose(block(x), middle + 0.1 * block.feed_forward(middle), atol=1e-6)
    assert {name for name, _ in block.named_parameters() if "scale" in name} == {
        "attention_scale.weight",
        "feed_forward_scale.weight",
    }

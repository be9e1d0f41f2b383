"""Layers against their formulas."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from attncli.layers import (
    Block,
    FeedForward,
    LayerStack,
    TokenEmbeddings,
    build_norm,
    initialise,
    initialise_xavier,
)


def _x(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_norms_are_their_formulas():
    x = _x(3, 5, 8) * 3 + 1
    layer, rms = build_norm("layer", 8, epsilon=1e-3), build_norm("rms", 8, epsilon=1e-3)
    centred = x - x.mean(-1, keepdim=True)
    torch.testing.assert_close(layer(x), centred / (centred.square().mean(-1, keepdim=True) + 1e-3).sqrt())
    torch.testing.assert_close(rms(x), x / (x.square().mean(-1, keepdim=True) + 1e-3).sqrt())
    assert build_norm("layer", 8, bias=False).bias is None
    with pytest.raises(ValueError, match="batch"):
        build_norm("batch", 8)


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("gelu", lambda a: a * 0.5 * (1 + torch.erf(a / math.sqrt(2)))),
        ("gelu_tanh", lambda a: a * 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a**3)))),
        ("relu", lambda a: a.clamp(min=0)),
        ("swiglu", lambda a: a * torch.sigmoid(a)),
        ("geglu", lambda a: a * 0.5 * (1 + torch.erf(a / math.sqrt(2)))),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_feed_forward_is_its_formula(activation, function, bias):
    net, x = FeedForward(8, 12, activation=activation, bias=bias), _x(2, 3, 8)
    inner = x @ net.expand.weight.T + (net.expand.bias if bias else 0)
    gated = activation.endswith("glu")
    inner = function(inner[..., :12]) * inner[..., 12:] if gated else function(inner)
    expected = inner @ net.contract.weight.T + (net.contract.bias if bias else 0)
    torch.testing.assert_close(net(x), expected, atol=1e-6, rtol=1e-5)


class _Shift(nn.Module):
    """An absolute position scheme that adds the position."""

    def embed(self, x, positions=None, start=0):
        positions = torch.arange(x.shape[1]) if positions is None else positions
        return x + positions[..., None]


def test_embeddings_sum_words_positions_and_segments():
    embed = TokenEmbeddings(7, 4, pad_id=0, position=_Shift(), segments=2, project_to=6)
    tokens, segments = torch.tensor([[1, 5, 0]]), torch.tensor([[0, 1, 1]])
    total = embed.word.weight[tokens] + embed.segment.weight[segments]
    expected = total + torch.tensor([0.0, 1, 2])[None, :, None]
    torch.testing.assert_close(embed(tokens, segments), embed.projection(expected))
    places = torch.tensor([[3, 0, 1]])
    torch.testing.assert_close(embed(tokens, segments, places), embed.projection(total + places[..., None]))
    torch.testing.assert_close(embed(tokens), embed(tokens, torch.zeros_like(tokens)))
    embed(tokens).sum().backward()
    assert not embed.word.weight.grad[0].any(), "padding gets no gradient"
    assert embed.word.weight.grad[5].any()


class _Double(nn.Module):
    """Stands in for attention: a linear layer that remembers what it was given."""

    def __init__(self):
        super().__init__()
        self.out = nn.Linear(8, 8)
        self.seen = []

    def forward(self, x, mask=None, cache=None, positions=None):
        self.seen.append((mask, cache, positions))
        return self.out(x)


def _block(place, dropout=0.0):
    torch.manual_seed(1)
    return Block(
        _Double(),
        FeedForward(8, 16),
        build_norm("layer", 8),
        build_norm("layer", 8),
        place=place,
        dropout=dropout,
    )


def test_norms_stand_where_they_should():
    x = _x(2, 3, 8)
    block = _block("post")
    y = F.layer_norm(x + block.attention.out(x), (8,))
    torch.testing.assert_close(block(x), F.layer_norm(y + block.feed_forward(y), (8,)))
    block = _block("pre")
    y = x + block.attention.out(F.layer_norm(x, (8,)))
    torch.testing.assert_close(block(x), y + block.feed_forward(F.layer_norm(y, (8,))))
    with pytest.raises(ValueError, match="sandwich"):
        _block("sandwich")


@pytest.mark.parametrize("place", ["post", "pre"])
def test_residual_dropout_acts_in_training_only(place):
    x, block = _x(2, 3, 8), _block(place, 0.5)
    assert not torch.equal(block(x), block(x))
    block.eval()
    assert torch.equal(block(x), block(x))
    assert torch.equal(block(x), _block(place)(x))


def test_stack_hands_out_masks_caches_and_one_shared_block():
    shared = LayerStack(lambda index: _block("post"), 4, share=True, local=(1, 2))
    shared(_x(1, 2, 8), "everything", "near", caches="abcd", positions=None)
    expected = [("everything", "a"), ("near", "b"), ("near", "c"), ("everything", "d")]
    assert [seen[:2] for seen in shared.block(3).attention.seen] == expected
    assert len(list(shared.parameters())) == len(list(_block("post").parameters()))
    own = LayerStack(lambda index: _block("post"), 4)
    assert len(list(own.parameters())) == 4 * len(list(shared.parameters()))


def test_a_position_scheme_of_all_layers_is_stored_once():
    scheme = nn.Linear(2, 2)

    def make(index):
        block = _block("pre")
        block.attention.position = scheme
        return block

    stack = LayerStack(make, 3, positions=[scheme])
    assert [name for name in stack.state_dict() if "position" in name] == [
        "positions.0.weight",
        "positions.0.bias",
    ]
    assert all(stack.block(i).attention.position is stack.positions[0] for i in range(3))
    stack.double()
    assert stack.block(2).attention.position.weight.dtype == torch.float64


def test_initial_weights_follow_the_papers():
    torch.manual_seed(0)

    def stack(layers):
        return LayerStack(
            lambda index: Block(_Double(), FeedForward(8, 4096), nn.Identity(), nn.Identity()), layers
        )

    cut, scaled = stack(8), stack(8)
    initialise(cut, std=0.02, cutoff=2.0)
    initialise(scaled, std=0.02, cutoff=None, scale_residual=True)
    weights = torch.cat([block.feed_forward.contract.weight.flatten() for block in cut.blocks])
    assert 0.039 < weights.abs().max().item() <= 0.04
    weights = torch.cat([block.feed_forward.contract.weight.flatten() for block in scaled.blocks])
    assert weights.std().item() == pytest.approx(0.02 / math.sqrt(16), rel=0.02)
    weights = torch.cat([block.feed_forward.expand.weight.flatten() for block in scaled.blocks])
    assert weights.std().item() == pytest.approx(0.02, rel=0.02)
    assert not any(block.feed_forward.expand.bias.any() for block in scaled.blocks)
    embed = nn.Embedding(50, 8, padding_idx=3)
    initialise(nn.ModuleList([embed]))
    assert not embed.weight[3].any()
    assert embed.weight[4].all()


def test_xavier_weights():
    model = nn.Sequential(nn.Embedding(500, 64, padding_idx=3), nn.Linear(64, 192), nn.LayerNorm(192))
    torch.manual_seed(0)
    initialise_xavier(model, embedding_std=0.125)
    embedding, linear, norm = model
    assert not embedding.weight[3].any()
    assert embedding.weight[4:].std().item() == pytest.approx(0.125, rel=0.03)
    bound = math.sqrt(6 / 256)
    assert bound * 0.99 < linear.weight.abs().max().item() <= bound
    assert not linear.bias.any()
    assert bool((norm.weight == 1).all())


@pytest.mark.parametrize("place", ["post", "pre"])
def test_a_block_with_a_context_is_its_formula(place):
    class Average(nn.Module):
        def forward(self, x, context=None, **_):
            return x + (x if context is None else context).mean(1, keepdim=True)

    norms = [nn.LayerNorm(8) for _ in range(3)]
    for scale, norm in enumerate(norms):
        nn.init.constant_(norm.weight, 1.0 + scale)
    block = Block(
        Average(),
        nn.Tanh(),
        norms[0],
        norms[2],
        cross_attention=Average(),
        cross_attention_norm=norms[1],
        place=place,
    )
    x, context = _x(2, 3, 8), _x(2, 5, 8) + 1
    want = x
    layers = (Average(), lambda y: Average()(y, context), torch.tanh)
    for norm, layer in zip(norms, layers, strict=True):
        want = want + layer(norm(want)) if place == "pre" else norm(want + layer(want))
    torch.testing.assert_close(block(x, context=context), want)

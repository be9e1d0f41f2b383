"""Local attention around a predicted place, and attention over prepared memories, against their formulas."""

import math

import pytest
import torch
from attention_formula import weights_of

from attncli.attention import MECHANISMS, record
from attncli.attention.alignment import Alignment
from attncli.attention.mechanisms.base import Mechanism

B, T, S, W = 3, 4, 9, 8
# Recipes of recurrent models offer these; heads that mix after the Gaussian would be another formula.
NAMES = [
    name
    for name, kind in MECHANISMS.items()
    if kind.support.cross and not kind.mixes and kind.finish is Mechanism.finish
]
SUM_TO_ONE = [name for name in NAMES if name not in ("sinks", "sigmoid")]


def make(name, heads=2, window=None):
    torch.manual_seed(5)
    layer = Alignment(W, heads=heads, mechanism=name, window=window, topk=3 if name == "topk" else None)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.5)
    return layer.double()


def inputs():
    torch.manual_seed(6)
    states = torch.randn(B, T, W, dtype=torch.double, requires_grad=True)
    annotations = torch.randn(B, S, W, dtype=torch.double, requires_grad=True)
    keep = torch.ones(B, S, dtype=torch.bool)
    keep[1, 5:], keep[2, 1:] = False, False
    return states, annotations, keep


def split(x, heads):
    return torch.stack(x.chunk(heads, -1), 1)  # [B, H, T, D]


def places_of(layer, states, lengths):
    """``S sigmoid(v . tanh(W h))``, one state at a time."""
    found = torch.empty(len(states), layer.heads, states.shape[1], dtype=torch.double)
    for b, h, t in torch.cartesian_prod(*map(torch.arange, found.shape)).tolist():
        inner = torch.tanh(layer.place.hidden.weight @ states[b, t])
        found[b, h, t] = lengths[b] / (1 + torch.exp(-(layer.place.score.weight[h] @ inner)))
    return found


def local_weights(layer, name, states, annotations, keep, window):
    """The published weights, and which entries are inside the window."""
    places = places_of(layer, states, keep.sum(1))
    away = torch.arange(S) - places.unsqueeze(-1)  # [B, H, T, S]
    inside = (away.abs() <= window) & keep[:, None, None]
    heads = layer.heads
    weights = weights_of(name, layer.mechanism, split(states, heads), split(annotations, heads), inside)
    sigma = window / 2
    return weights * torch.exp(-(away**2) / (2 * sigma**2)), inside


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("heads", [1, 2])
def test_global_is_the_mechanism_over_prepared_keys(name, heads):
    layer = make(name, heads)
    states, annotations, keep = inputs()
    with record() as seen:
        out = layer(states, layer.memory(annotations, keep))
    allowed = keep[:, None, None].expand(B, heads, T, S)
    want = weights_of(name, layer.mechanism, split(states, heads), split(annotations, heads), allowed)
    assert (seen.weights[0][1] - want).abs().max() < 1e-12
    context = (want @ split(annotations, heads)).transpose(1, 2).flatten(2)
    assert (out - context).abs().max() < 1e-12
    if name in SUM_TO_ONE:
        assert (seen.weights[0][1].sum(-1) - 1).abs().max() < 1e-12


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("window", [1, 2, 20])
def test_local_is_the_formula(name, window):
    layer = make(name, 2, window)
    states, annotations, keep = inputs()
    with record() as seen:
        out = layer(states, layer.memory(annotations, keep))
    want, inside = local_weights(layer, name, states, annotations, keep, window)
    weights = seen.weights[0][1]
    assert inside.any(-1).all()  # a window is never empty
    assert (~inside).any()
    assert not weights[~inside].any()
    assert (weights - want).abs().max() < 1e-12
    assert (out - (want @ split(annotations, 2)).transpose(1, 2).flatten(2)).abs().max() < 1e-12

    flow = torch.randn_like(out)
    leaves = [states, annotations, *layer.parameters()]
    got = torch.autograd.grad(out, leaves, flow)
    exact = torch.autograd.grad((want @ split(annotations, 2)).transpose(1, 2).flatten(2), leaves, flow)
    for one, other in zip(got, exact, strict=True):
        assert (one - other).abs().max() < 1e-9
    assert all(x.abs().max() > 0 for x in torch.autograd.grad(
        layer(states, layer.memory(annotations, keep)).square().sum(), list(layer.place.parameters())
    ))  # fmt: skip


def test_the_gaussian_by_hand():
    """All scores equal, the place in the middle: the published weights can be written down."""
    layer = Alignment(4, mechanism="dot", window=2).double()
    with torch.no_grad():
        layer.place.score.weight.zero_()  # sigmoid(0) = 1/2: the place is 2.5 of 5 tokens
    memory = layer.memory(torch.zeros(1, 5, 4, dtype=torch.double), torch.ones(1, 5, dtype=torch.bool))
    with record() as seen:
        layer(torch.zeros(1, 1, 4, dtype=torch.double), memory)
    inside = [1, 2, 3, 4]  # |s - 2.5| <= 2
    want = [math.exp(-((s - 2.5) ** 2) / 2) / 4 if s in inside else 0.0 for s in range(5)]
    assert seen.weights[0][1].flatten().tolist() == pytest.approx(want, abs=1e-12)


def test_a_row_of_one_token_sees_it():
    layer = make("additive", 1, 1)
    annotations = torch.randn(1, 1, W, dtype=torch.double)
    with record() as seen:
        layer(torch.randn(1, 3, W, dtype=torch.double), layer.memory(annotations, torch.ones(1, 1).bool()))
    assert (seen.weights[0][1] > 0).all()


@pytest.mark.parametrize("window", [None, 2])
def test_sentences_are_selected_with_all_that_belongs_to_them(window):
    layer = make("additive", 2, window)
    states, annotations, keep = inputs()
    chosen = torch.tensor([2, 0])
    out = layer(states[chosen], layer.memory(annotations, keep).select(chosen))
    whole = layer(states, layer.memory(annotations, keep))
    assert torch.allclose(out, whole[chosen], rtol=0, atol=1e-12)  # products of other batches may round apart


def test_queries_alone_and_together_agree():
    """Steps of a loop, hypotheses of a beam and whole sentences all give a query the same context."""
    layer = make("additive", 2, 3)
    states, annotations, keep = inputs()
    memory = layer.memory(annotations, keep)
    one_by_one = torch.cat([layer(states[:, t : t + 1], memory) for t in range(T)], 1)
    assert (layer(states, memory) - one_by_one).abs().max() < 1e-12

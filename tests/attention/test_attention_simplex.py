"""Sparsemax and entmax of rows against a search by halving in float64, and their gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attncli.attention.mechanisms.entmax import Entmax
from attncli.attention.mechanisms.simplex import entmax15, sparsemax

KINDS = {"sparsemax": (sparsemax, 2.0), "entmax15": (entmax15, 1.5)}


def by_halving(row, alpha):
    """The definition: max((alpha - 1) s - tau, 0) ^ (1 / (alpha - 1)), tau found on the line."""
    row = (alpha - 1) * row.double()
    low, high = row.max() - 1, row.max()
    for _ in range(200):
        middle = (low + high) / 2
        heavy = (row - middle).clamp(min=0).pow(1 / (alpha - 1)).sum() >= 1
        low, high = (middle, high) if heavy else (low, middle)
    return (row - low).clamp(min=0).pow(1 / (alpha - 1))


rows = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=40)


@pytest.mark.parametrize("kind", KINDS)
@given(row=rows, scale=st.sampled_from([1e-3, 1.0, 30.0, 1e4]), shift=st.sampled_from([0.0, 50.0, -50.0]))
@settings(max_examples=100, deadline=None)
def test_rows_are_those_of_the_definition(kind, row, scale, shift):
    normalise, alpha = KINDS[kind]
    scores = torch.tensor(row, dtype=torch.float64) * scale + shift
    found = normalise(scores)
    assert torch.allclose(found, by_halving(scores, alpha), atol=1e-9)
    assert float(found.sum()) == pytest.approx(1.0, abs=1e-9)
    single = normalise(scores.float())
    assert torch.allclose(single.double(), by_halving(scores.float(), alpha), atol=2e-5)


@given(row=rows, scale=st.sampled_from([1e-3, 1.0, 30.0]), shape=st.sampled_from([-6.0, -1.0, 0.0, 2.0, 8.0]))
@settings(max_examples=100, deadline=None)
def test_a_learnt_alpha(row, scale, shape):
    layer = Entmax(heads=1, kv_heads=1, head_dim=4)
    torch.nn.init.constant_(layer.shape, shape)
    scores = torch.tensor(row, dtype=torch.float64) * scale
    alpha = 1 + max(float(torch.sigmoid(layer.shape.detach().double())), 0.01)
    found = layer.normalise(scores.view(1, 1, 1, -1)).flatten()
    assert torch.allclose(found, by_halving(scores, alpha), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_of_first_and_second_order(kind):
    normalise, _ = KINDS[kind]
    torch.manual_seed(0)
    scores = torch.randn(3, 2, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(normalise, scores)
    assert torch.autograd.gradgradcheck(normalise, scores)


@pytest.mark.parametrize("kind", KINDS)
def test_what_may_not_be_seen_has_no_weight_and_no_gradient(kind):
    normalise, _ = KINDS[kind]
    scores = torch.tensor([[0.3, -torch.inf, 0.1], [-torch.inf, 2.0, -torch.inf]], requires_grad=True)
    found = normalise(scores)
    hidden = scores.detach() == -torch.inf
    assert not found[hidden].any()
    torch.testing.assert_close(found[0, [0, 2]], normalise(scores[0, [0, 2]]))
    found.square().sum().backward()
    assert scores.grad.isfinite().all()
    assert not scores.grad[hidden].any()

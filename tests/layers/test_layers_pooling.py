"""Pooling against plain formulas, row by row in float64."""

import pytest
import torch

from attncli.attention import record
from attncli.layers.pooling import POOLINGS, AttentionPooling, build_pooling


def formula(kind, layer, row):
    """``row`` [T, C], all of it tokens."""
    if kind == "first":
        return row[0]
    if kind == "mean":
        return row.sum(0) / len(row)
    if kind == "max":
        return torch.stack([max(row[:, c]) for c in range(row.shape[1])])
    inner = row if kind == "dot" else torch.tanh(row @ layer.project.weight.T + layer.project.bias)
    scores = torch.stack([(layer.context * inner[t]).sum() for t in range(len(row))])
    weights = torch.exp(scores) / torch.exp(scores).sum()
    return sum(weights[t] * row[t] for t in range(len(row)))


@pytest.mark.parametrize("kind", POOLINGS)
def test_formula_padding_and_gradients(kind):
    torch.manual_seed(1)
    layer = build_pooling(kind, 6).double()
    x = torch.randn(4, 5, 6, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([5, 3, 1, 2])
    keep = torch.arange(5) < lengths[:, None]
    out = layer(x, keep)
    want = torch.stack([formula(kind, layer, x[b, :n]) for b, n in enumerate(lengths)])
    torch.testing.assert_close(out, want, rtol=1e-12, atol=1e-12)
    chosen = torch.randn_like(out)
    (grad,) = torch.autograd.grad((out * chosen).sum(), x, retain_graph=True)
    (want_grad,) = torch.autograd.grad((want * chosen).sum(), x)
    torch.testing.assert_close(grad, want_grad, rtol=1e-12, atol=1e-12)
    assert not grad[~keep].any()  # padding takes no part
    torch.testing.assert_close(layer(x), layer(x, torch.ones(4, 5, dtype=torch.bool)))
    garbage = torch.where(keep[..., None], x, 1e6)
    torch.testing.assert_close(layer(garbage, keep), out, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", [kind for kind in POOLINGS if kind != "first"])
def test_a_row_without_tokens_is_zero_with_a_gradient(kind):
    layer = build_pooling(kind, 3)
    x = torch.randn(2, 4, 3, requires_grad=True)
    keep = torch.tensor([[False] * 4, [True] * 4])
    out = layer(x, keep)
    out.sum().backward()
    assert not out[0].any()
    assert out[1].any()
    assert torch.isfinite(x.grad).all()
    assert not x.grad[0].any()


def test_recorded_weights_add_up_to_one_over_the_tokens():
    layer = torch.nn.ModuleDict({"pool": AttentionPooling(8, hidden=5)})
    x, keep = torch.randn(2, 4, 8), torch.tensor([[True] * 4, [True, True, False, False]])
    with record(layer) as recorded:
        out = layer["pool"](x, keep)
    ((name, weights),) = recorded.weights
    assert name == "pool"
    assert weights.shape == (2, 1, 1, 4)
    assert not weights.requires_grad
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 1, 1))
    assert not weights[1, 0, 0, 2:].any()
    torch.testing.assert_close(weights[:, 0] @ x, out.unsqueeze(1))


def test_unknown_kinds_are_named():
    with pytest.raises(ValueError, match="median"):
        build_pooling("median", 4)
    with pytest.raises(ValueError, match="bilinear"):
        AttentionPooling(4, "bilinear")

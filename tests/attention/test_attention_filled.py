"""Rows of weights that are filled up to whole vectors: exact in float64; what is filled in is never seen."""

import pytest
import torch

from attncli.attention import Causal, Dense, Padding, Window, attend, build_position
from attncli.attention.backends import plan

LANES = 8


@pytest.fixture(autouse=True)
def filled(monkeypatch):
    """Small vectors for every type, and no rest too short."""
    monkeypatch.setattr(plan, "_lanes", lambda call: LANES)
    width = plan.Plan.width
    seen = []

    def always(self, count):
        self.least = 1
        seen.append(width(self, count) - count)
        return width(self, count)

    monkeypatch.setattr(plan.Plan, "width", always)
    yield
    assert max(seen) > 0


def masks(queries, keys):
    torch.manual_seed(queries + keys)
    keep = torch.ones(2, keys, dtype=torch.bool)
    keep[0, keys // 2 :] = False
    seen = torch.rand(2, 1, queries, keys) > 0.5
    seen[1, 0, 0] = False  # a row with nothing to see
    found = {"none": None, "padding": Padding(keep), "dense": Dense(seen)}
    if queries == keys:
        found |= {"causal": Causal(), "both": Causal() & Padding(keep), "window": Window(2, 1)}
    return found


SIZES = [(9, 9), (13, 13), (3, 21), (21, 3), (31, 31)]


@pytest.mark.parametrize(
    ("queries", "keys", "kind"), [(*size, kind) for size in SIZES for kind in masks(*size)]
)
@pytest.mark.parametrize("biased", [False, True])
def test_outputs_and_gradients_are_those_of_the_formula(queries, keys, kind, biased):
    torch.manual_seed(0)
    shapes = (2, 2, queries, 4), (2, 2, keys, 4), (2, 2, keys, 4)
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    bias = None
    if biased:
        position = build_position("t5", width=8, heads=2, head_dim=4, max_length=40).double()
        torch.nn.init.normal_(position.weight)
        bias = position.bias(queries, keys, torch.device("cpu"), None, None)
        inputs.append(position.weight)
    found = {}
    for backend in ("chunked", "reference"):
        out = attend(*inputs[:3], mask=masks(queries, keys)[kind], bias=bias, backend=backend)
        grads = torch.autograd.grad(out.sin().sum(), inputs)
        found[backend] = (out, *grads)
    for one, other in zip(*found.values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_dropout_keeps_its_rate_and_its_mask_in_backward():
    torch.manual_seed(0)
    q = torch.zeros(4, 8, 45, 2, dtype=torch.float64, requires_grad=True)
    v = torch.eye(45, dtype=torch.float64).expand(4, 8, 45, 45).contiguous().requires_grad_()
    out = attend(q, q, v, dropout=0.25, training=True, backend="chunked")  # the weights themselves
    kept = out > 0
    assert torch.allclose(out[kept], torch.tensor(1 / 45 / 0.75, dtype=torch.float64))
    assert abs(float(kept.double().mean()) - 0.75) < 0.01
    (grad,) = torch.autograd.grad(out.sum(), v)
    assert torch.allclose(grad[..., 0], out.sum(-2))  # each key gets what it gave

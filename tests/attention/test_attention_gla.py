"""Gated linear attention: the recurrence in float64, gates at their limits, long sequences."""

import pytest
import torch

from attncli.attention import Causal, Documents, attend, build_mechanism
from attncli.attention.backends import gates


def make(heads=2, width=8, spread=1.0):
    module = build_mechanism("gla", heads=heads, kv_heads=heads, head_dim=width)
    with torch.no_grad():
        module.weight.normal_(std=spread)
        module.bias.normal_(std=spread)
    return module


def recurrence(module, q, k, v):
    """Token by token, with a state [D, D] for each head."""
    q, k, v = q.double(), k.double(), v.double()
    gate = torch.sigmoid(k @ module.weight.double() + module.bias.double().unsqueeze(1)) ** (1 / 16)
    gate = gate.clamp(min=torch.e**-4)
    state = torch.zeros(*q.shape[:2], q.shape[-1], v.shape[-1], dtype=torch.float64)
    rows = []
    for t in range(q.shape[2]):
        state = gate[:, :, t].unsqueeze(-1) * state + k[:, :, t].unsqueeze(-1) * v[:, :, t].unsqueeze(-2)
        rows.append((q[:, :, t].unsqueeze(-2) @ state).squeeze(-2) * q.shape[-1] ** -0.5)
    out = torch.stack(rows, 2)
    return out / torch.sqrt((out**2).mean(-1, keepdim=True) + 1e-6)


@pytest.mark.parametrize("spread", [0.0, 1.0, 30.0])  # 30: gates open and shut altogether
@pytest.mark.parametrize("length", [1, 15, 64, 65, 300])
def test_the_chunked_form_is_the_recurrence(length, spread):
    module = make(spread=spread)
    q, k, v = (torch.randn(2, 2, length, 8, requires_grad=True) for _ in range(3))
    out = attend(q, k, v, Causal(), mechanism=module, backend="linear")
    want = recurrence(module, q, k, v)
    assert (out - want).abs().max() < 2e-5 * want.abs().max().clamp(min=1)
    flow = torch.randn_like(out)
    leaves = [q, k, v, module.weight, module.bias]
    for one, other in zip(
        torch.autograd.grad(out, leaves, flow), torch.autograd.grad(want, leaves, flow.double()), strict=True
    ):
        assert one.isfinite().all()
        assert (one - other).abs().max() < 2e-4 * other.abs().max().clamp(min=1)


def test_both_ways_is_read_from_either_end_alike():
    """Turning the sequence around, with the gates between the same neighbours, turns the output."""
    q, k, v = (torch.randn(1, 2, 90, 8, dtype=torch.float64) for _ in range(3))
    gate = -torch.rand(1, 2, 90, 8, dtype=torch.float64)
    out = gates.both_ways(q, k, v, gate)
    between = torch.cat([gate[:, :, :1], gate[:, :, 1:].flip(2)], 2)
    turned = gates.both_ways(*(x.flip(2) for x in (q, k, v)), between).flip(2)
    assert torch.allclose(out, turned, atol=1e-10)


def test_documents_keep_apart():
    """Masks of pairs are obeyed too, by the parallel form."""
    module = make()
    q, k, v = (torch.randn(1, 2, 20, 8) for _ in range(3))
    ids = torch.arange(20).div(7, rounding_mode="floor")[None]
    out = attend(q, k, v, Causal() & Documents(ids), mechanism=module)
    for first in (0, 7, 14):
        part = slice(first, first + 7)
        alone = attend(*(x[:, :, part] for x in (q, k, v)), Causal(), mechanism=module)
        assert torch.allclose(out[:, :, part], alone, atol=1e-4)

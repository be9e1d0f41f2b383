"""Packed recurrences against PyTorch's own layers, values and gradients in float64."""

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from attncli.ops.recurrent import packed_recurrence

SIZES = [4, 4, 3, 1, 1]


def own(cell, net, x, sizes, backwards):
    end = "_reverse" if backwards else ""
    parts = [getattr(net, f"{name}_l0{end}") for name in ("weight_ih", "bias_ih", "weight_hh", "bias_hh")]
    gates = nn.functional.linear(x, *parts[:2])
    return packed_recurrence(cell, gates, *parts[2:], sizes, backwards)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_values_and_gradients_are_those_of_the_layer(cell, backwards):
    torch.manual_seed(1)
    net = (nn.GRU if cell == "gru" else nn.LSTM)(5, 3, bidirectional=True).double()
    x = torch.randn(sum(SIZES), 5, dtype=torch.float64, requires_grad=True)
    want = net(PackedSequence(x, torch.tensor(SIZES)))[0].data[:, 3 * backwards : 3 + 3 * backwards]
    out = own(cell, net, x, SIZES, backwards)
    torch.testing.assert_close(out, want, rtol=1e-12, atol=1e-12)
    chosen = torch.randn_like(out)
    names = [name for name, _ in net.named_parameters() if name.endswith("reverse") == backwards]
    leaves = [x, *(net.get_parameter(name) for name in names)]
    got = torch.autograd.grad((out * chosen).sum(), leaves)
    expected = torch.autograd.grad((want * chosen).sum(), leaves)
    for name, a, b in zip(["x", *names], got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12, msg=name)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_no_rows(cell):
    net = (nn.GRU if cell == "gru" else nn.LSTM)(5, 3)
    out = own(cell, net, torch.zeros(0, 5, requires_grad=True), [], False)
    out.sum().backward()
    assert out.shape == (0, 3)

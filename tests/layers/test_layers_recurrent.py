"""Recurrent layers against the cells' formulas, element by element in float64."""

import pytest
import torch

from attncli.layers.recurrent import Bidirectional, RecurrentLayer, turned_places


def sigmoid(x):
    return 1 / (1 + torch.exp(-x))


def cell_formula(cell, net, x, state):
    """The next state of one row: ``x`` [I], ``state`` of [W] each."""
    h = state[0]
    wi = net.weight_ih_l0.double().chunk(len(net.weight_ih_l0) // len(h))
    wh = net.weight_hh_l0.double().chunk(len(wi))
    bi, bh = net.bias_ih_l0.double().chunk(len(wi)), net.bias_hh_l0.double().chunk(len(wi))
    inner = [a @ x + b for a, b in zip(wi, bi, strict=True)]
    outer = [a @ h + b for a, b in zip(wh, bh, strict=True)]
    if cell == "gru":
        reset, update = sigmoid(inner[0] + outer[0]), sigmoid(inner[1] + outer[1])
        new = torch.tanh(inner[2] + reset * outer[2])
        return ((1 - update) * new + update * h,)
    i, f, o = (sigmoid(inner[n] + outer[n]) for n in (0, 1, 3))
    c = f * state[1] + i * torch.tanh(inner[2] + outer[2])
    return o * torch.tanh(c), c


def layer_of(kind, cell, inputs, width):
    torch.manual_seed(3)
    layer = kind(cell, inputs, width).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return layer


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_sequence_and_steps_are_the_formula(cell):
    layer = layer_of(RecurrentLayer, cell, 5, 4)
    x = torch.randn(3, 6, 5, dtype=torch.double)
    start = tuple(torch.randn(3, 4, dtype=torch.double) for _ in range(layer.tensors))
    whole, state = layer(x, start), start
    for t in range(6):
        # The first three inputs are known beforehand, the others only at the step.
        gates = layer.project(x[:, t, :3]) + x[:, t, 3:] @ layer.rest(3).t()
        want = [cell_formula(cell, layer.net, x[n, t], tuple(part[n] for part in state)) for n in range(3)]
        state = layer.step(gates, state)
        for part, parts in zip(state, zip(*want, strict=True), strict=True):
            assert (part - torch.stack(parts)).abs().max() < 1e-12
        assert (whole[:, t] - state[0]).abs().max() < 1e-12
    from_zeros = tuple(torch.zeros_like(part) for part in start)
    assert torch.equal(layer(x), layer(x, from_zeros))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_both_directions_ignore_padding(cell):
    layer = layer_of(Bidirectional, cell, 5, 4)
    lengths = torch.tensor([6, 1, 4])
    x = torch.randn(3, 6, 5, dtype=torch.double)
    out = layer(x, turned_places(lengths, 6))
    assert out.shape == (3, 6, 8)
    for row, length in enumerate(lengths.tolist()):
        alone = x[row : row + 1, :length]
        forth, back = layer.forth(alone), layer.back(alone.flip(1)).flip(1)
        assert (out[row, :length] - torch.cat([forth, back], -1)[0]).abs().max() < 1e-12


def test_turned_places_turn_each_row_around():
    turned = turned_places(torch.tensor([3, 1, 0]), 3)
    assert turned.tolist() == [[2, 1, 0], [3, 4, 5], [6, 7, 8]]


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_initial_weights(cell):
    layer = RecurrentLayer(cell, 7, 6)
    for gate in layer.net.weight_hh_l0.detach().split(6):
        assert (gate @ gate.t() - torch.eye(6)).abs().max() < 1e-5
    biases = (layer.net.bias_ih_l0 + layer.net.bias_hh_l0).detach().split(6)
    for number, bias in enumerate(biases):
        assert bias.eq(1 if cell == "lstm" and number == 1 else 0).all()

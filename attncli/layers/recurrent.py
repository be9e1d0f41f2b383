"""Recurrent layers: whole sequences at once, or step by step with the same weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from attncli.layers.ragged import Ragged
from attncli.ops.recurrent import packed_recurrence

State = tuple[Tensor, ...]
"""Of one layer: (h,) of a GRU, (h, c) of an LSTM, each [N, W]."""

_KINDS = {"gru": (nn.GRU, 3, 1), "lstm": (nn.LSTM, 4, 2)}  # layer, gates, tensors of a state


class RecurrentLayer(nn.Module):
    """One layer of GRU (Cho et al. 2014, https://arxiv.org/abs/1406.1078) or LSTM cells (Hochreiter and
    Schmidhuber 1997, https://doi.org/10.1162/neco.1997.9.8.1735), as PyTorch defines them.

    Parameters are those of ``nn.GRU`` or ``nn.LSTM``: inputs [G W, I], recurrent [G W, W], biases. They start
    as Glorot (inputs) and orthogonal (recurrent) matrices for each gate and biases of 0, the LSTM's forget
    gate at 1.
    """

    def __init__(self, cell: str, inputs: int, width: int) -> None:
        super().__init__()
        kind, self.gates, self.tensors = _KINDS[cell]
        self.cell, self.width = cell, width
        self.net = kind(inputs, width, batch_first=True)
        for part in self.net.weight_ih_l0.split(width):
            nn.init.xavier_uniform_(part.detach())
        for part in self.net.weight_hh_l0.split(width):
            nn.init.orthogonal_(part.detach())
        nn.init.zeros_(self.net.bias_ih_l0)
        nn.init.zeros_(self.net.bias_hh_l0)
        if cell == "lstm":
            nn.init.ones_(self.net.bias_ih_l0.detach()[width : 2 * width])

    def forward(self, x: Tensor, state: State | None = None) -> Tensor:
        """``x`` [N, T, I] to outputs [N, T, W], from ``state`` or zeros on."""
        if state is None:
            return self.net(x)[0]
        first = tuple(part.unsqueeze(0) for part in state)
        return self.net(x, first if self.tensors == 2 else first[0])[0]

    def packed(self, x: Tensor, of: Ragged, backwards: bool = False) -> Tensor:
        """Outputs [M, W] of ``x`` [M, I], the tokens of rows without padding; each row starts at zeros.

        ``backwards``: rows are read from their last token to their first.
        """
        if x.device.type == "cpu":
            net = self.net
            weights = net.weight_hh_l0, net.bias_hh_l0
            return packed_recurrence(self.cell, self.project(x), *weights, of.sizes.tolist(), backwards)
        if backwards:
            return self.net(PackedSequence(x[of.turned], of.sizes))[0].data[of.turned]
        return self.net(PackedSequence(x, of.sizes))[0].data

    def project(self, x: Tensor) -> Tensor:
        """The part of the gates [..., G W] that comes from the first inputs, ``x`` [..., I' <= I]."""
        return F.linear(x, self.net.weight_ih_l0[:, : x.shape[-1]], self.net.bias_ih_l0)

    def rest(self, known: int) -> Tensor:
        """The weights [G W, I - known] of the inputs that :meth:`project` left out."""
        return self.net.weight_ih_l0[:, known:]

    def step(self, gates: Tensor, state: State) -> State:
        """The next state, from the inputs' part of the gates [N, G W]; the output is its first tensor."""
        own = F.linear(state[0], self.net.weight_hh_l0, self.net.bias_hh_l0)  # [N, G W]
        if self.tensors == 2:
            i, f, g, o = (gates + own).chunk(4, -1)
            c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
            return torch.sigmoid(o) * torch.tanh(c), c
        edge = 2 * self.width
        reset, update = torch.sigmoid(gates[:, :edge] + own[:, :edge]).chunk(2, -1)
        new = torch.tanh(torch.addcmul(gates[:, edge:], reset, own[:, edge:]))
        return (torch.lerp(new, state[0], update),)


class Bidirectional(nn.Module):
    """A layer of W in each direction: the second reads every row from its own last token to its first."""

    def __init__(self, cell: str, inputs: int, width: int) -> None:
        super().__init__()
        self.forth = RecurrentLayer(cell, inputs, width)
        self.back = RecurrentLayer(cell, inputs, width)

    def forward(self, x: Tensor, turned: Tensor) -> Tensor:
        """``x`` [N, T, I] to [N, T, 2 W]; what stands in the padding does not touch the tokens.

        ``turned`` is :func:`turned_places` of the rows' lengths.
        """
        back = self.back(x.flatten(0, 1)[turned])
        return torch.cat([self.forth(x), back.flatten(0, 1)[turned]], -1)

    def packed(self, x: Tensor, of: Ragged) -> Tensor:
        """The tokens of rows without padding, [M, I] to [M, 2 W]."""
        return torch.cat([self.forth.packed(x, of), self.back.packed(x, of, backwards=True)], -1)


def turned_places(lengths: Tensor, longest: int) -> Tensor:
    """Flat indices int64 [N, T] of rows of ``lengths`` [N] turned around, the padding left in place."""
    place = torch.arange(longest, device=lengths.device)
    end = lengths.unsqueeze(1)
    turned = torch.where(place < end, end - 1 - place, place)  # [N, T]
    return turned + longest * torch.arange(len(lengths), device=lengths.device).unsqueeze(1)

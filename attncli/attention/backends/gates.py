"""Prefix sums that fade by gates of the data: the chunked form of gated linear attention.

    S_t = diag(a_t) S_(t-1) + k_t^T v_t,  out_t = q_t S_t

Between chunks a state is handed on. Inside one, products of queries and keys carry the gates since the start
of a short stretch; a stretch is so short that none of them overflows (Yang et al. 2023, section 4,
https://arxiv.org/abs/2312.06635).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK, STRETCH = 64, 16
"""Places in a chunk and in a stretch of it."""


def causal(q: Tensor, k: Tensor, v: Tensor, gate: Tensor) -> Tensor:
    """Queries [B, H, Tq, F] at the last of Tk places, over what is there up to their own: [B, H, Tq, D].

    ``gate`` [B, H, Tk, F]: logarithms, not above 0.
    """
    length, before = q.shape[2], k.shape[2] - q.shape[2]
    first = state(k[:, :, :before], v[:, :, :before], gate[:, :, :before])  # [B, H, F, D]
    size = min(CHUNK, -(-length // STRETCH) * STRETCH)
    count = -(-length // size)
    missing = count * size - length
    q, k, v, gate = (
        longer(x, missing).unflatten(2, (count, size))
        for x in (q, k[:, :, before:], v[:, :, before:], gate[:, :, before:])
    )  # [B, H, n, c, F|D]
    total = gate.cumsum(3)
    last = total[:, :, :, -1:]
    sums = (k * torch.exp(last - total)).transpose(-1, -2) @ v  # [B, H, n, F, D]
    kept = torch.exp(last).transpose(-1, -2)  # [B, H, n, F, 1]
    states = [first]  # unbound at once: the gradient of a single piece would be as large as all of them
    for added, share in zip(sums.unbind(2)[:-1], kept.unbind(2)[:-1], strict=True):
        states.append(torch.addcmul(added, states[-1], share))
    out = (q * torch.exp(total)) @ torch.stack(states, 2)
    inner = []
    for start in range(0, size, STRETCH):
        rows, seen = slice(start, start + STRETCH), slice(0, start + STRETCH)
        base = total[:, :, :, start - 1 : start] if start else torch.zeros_like(last)
        near = k[:, :, :, seen] * torch.exp(base - total[:, :, :, seen])
        weight = (q[:, :, :, rows] * torch.exp(total[:, :, :, rows] - base)) @ near.transpose(-1, -2)
        inner.append(weight.tril(start) @ v[:, :, :, seen])
    return (out + torch.cat(inner, 3)).flatten(2, 3)[:, :, :length]


def both_ways(q: Tensor, k: Tensor, v: Tensor, gate: Tensor) -> Tensor:
    """As :func:`causal`, and what is after each place read from the right; its own place counts once."""
    between = F.pad(gate[:, :, 1:].flip(2), (0, 0, 1, 0))  # the gates stand between the same neighbours
    back = causal(q.flip(2), k.flip(2), v.flip(2), between).flip(2)
    return causal(q, k, v, gate) + back - (q * k).sum(-1, keepdim=True) * v


def longer(x: Tensor, places: int) -> Tensor:
    """``x`` [B, H, T, D] with zeros for ``places`` more; itself for none, which ``pad`` would copy."""
    return F.pad(x, (0, 0, 0, places)) if places else x


def state(k: Tensor, v: Tensor, gate: Tensor) -> Tensor:
    """What places before the first query leave: [B, H, F, D], faded to the last of them."""
    after = gate.flip(2).cumsum(2).flip(2) - gate
    return (k * torch.exp(after)).transpose(-1, -2) @ v

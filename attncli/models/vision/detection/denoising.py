"""Noised objects as further queries, whose targets are known: what they learn, matched queries learn too.

Li et al. 2022, "DN-DETR: Accelerate DETR Training by Introducing Query DeNoising",
https://arxiv.org/abs/2203.01305. A noised query far from its object shall find nothing, as in DINO (Zhang et
al. 2022, https://arxiv.org/abs/2203.03605).

Legend: B pictures, M objects, G groups, Q matched queries; N = 2 G M noised ones.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from attncli.ops.boxes import centred, cornered

_FLIPPED = 0.25
"""Share of the labels that are another class's."""
_LEAST = 1e-3
"""Smallest side of a noised box, in shares of the frame."""


class Noised(NamedTuple):
    """Queries made of objects, group by group: M that shall restore theirs, M that shall find nothing."""

    labels: Tensor
    """int64 [B, N]: a class, perhaps a wrong one; 0 in the padding."""
    boxes: Tensor
    """[B, N, 4], centre and sides, in shares of the frame."""
    there: Tensor
    """bool [B, N]."""
    pairs: tuple[Tensor, Tensor, Tensor]
    """Picture, query and object of those that shall restore one."""
    allowed: Tensor
    """bool [B, N + Q, N + Q]: who attends to whom, noised queries first."""


def noised(labels: Tensor, boxes: Tensor, groups: int, classes: int, queries: int) -> Noised:
    """``groups`` of queries of the objects ``labels`` int64 [B, M] (below 0: none) and ``boxes`` [B, M, 4].

    Matched queries see no noised one, which would tell them the answer, and groups do not see one another.
    """
    batch, objects = labels.shape
    device, real = labels.device, labels >= 0
    repeated = labels.clamp(min=0).repeat(1, 2 * groups)  # [B, N]
    there = real.repeat(1, 2 * groups)
    flipped = torch.rand(repeated.shape, device=device) < _FLIPPED
    other = torch.randint(0, classes, repeated.shape, device=device)
    kinds = torch.where(flipped, other, repeated) * there
    # each corner moves by up to half a side (or, to find nothing, by half to a whole side), either way
    far = torch.tensor([0.0, 1.0], device=device).repeat_interleave(objects).repeat(groups)  # [N]
    amount = torch.rand((*repeated.shape, 4), device=device) + far.view(1, -1, 1)
    sign = torch.where(torch.rand(amount.shape, device=device) < 0.5, -1.0, 1.0)
    whole = boxes.repeat(1, 2 * groups, 1)
    corners = cornered(whole) + sign * amount * whole[..., 2:].repeat(1, 1, 2) / 2
    low = torch.minimum(corners[..., :2], corners[..., 2:]).clamp(0, 1)
    high = torch.maximum(corners[..., :2], corners[..., 2:]).clamp(0, 1)
    moved = centred(torch.cat([low, torch.maximum(high, low + _LEAST)], -1))
    total = 2 * groups * objects + queries
    group = torch.arange(groups, device=device).repeat_interleave(2 * objects)
    number = torch.cat([group, group.new_full((queries,), -1)])  # [N + Q]
    same = number.unsqueeze(1) == number.unsqueeze(0)
    allowed = same | (number == -1).unsqueeze(0)  # noised queries see the matched ones
    seen = torch.cat([there, there.new_ones(batch, queries)], 1)
    picture, slot = (real.repeat(1, 2 * groups) & (far == 0)).nonzero(as_tuple=True)
    pairs = picture, slot, slot % max(objects, 1)
    return Noised(kinds, moved, there, pairs, (allowed & seen.unsqueeze(1)).view(batch, total, total))

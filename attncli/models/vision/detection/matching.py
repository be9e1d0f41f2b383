"""Set prediction: each object is found by one query, the cheapest way in sum, and what follows from it.

Carion et al. 2020, "End-to-End Object Detection with Transformers", https://arxiv.org/abs/2005.12872,
with the focal cost and loss of classes of Deformable DETR (Zhu et al. 2020, https://arxiv.org/abs/2010.04159).

Legend: B pictures, Q queries, M objects.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from attncli.ops.boxes import cornered, giou

CLASS, SIDES, OVERLAP = 2.0, 5.0, 2.0
"""Weights of costs and of losses, as published."""
_ALPHA, _FOCUS = 0.25, 2.0


@torch.no_grad()
def match(logits: Tensor, boxes: Tensor, labels: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of queries and objects: picture, query and object numbers, int64 [N] each.

    ``logits`` [B, Q, classes] and ``boxes`` [B, Q, 4] of queries; ``labels`` int64 [B, M], below 0 where
    there is no object, and ``targets`` [B, M, 4]. Boxes are (centre x, centre y, width, height) in shares of
    the frame. The assignment is exact (Hungarian method).
    """
    from scipy.optimize import linear_sum_assignment

    there = labels >= 0
    shares = logits.float().sigmoid()
    positive = _ALPHA * (1 - shares).pow(_FOCUS) * -(shares + 1e-8).log()
    negative = (1 - _ALPHA) * shares.pow(_FOCUS) * -(1 - shares + 1e-8).log()
    kinds = (positive - negative).gather(2, labels.clamp(min=0).unsqueeze(1).expand(-1, shares.shape[1], -1))
    sides = (boxes.unsqueeze(2) - targets.unsqueeze(1)).abs().sum(-1)  # [B, Q, M]
    shared = giou(cornered(boxes).unsqueeze(2), cornered(targets).unsqueeze(1))
    cost = CLASS * kinds + SIDES * sides - OVERLAP * shared
    cost = torch.nan_to_num(cost, nan=1e6, posinf=1e6, neginf=-1e6).cpu().numpy()
    known = there.cpu().numpy()
    pictures, queries, objects = [], [], []
    for number, (rows, columns) in enumerate(zip(cost, known, strict=True)):
        mine = np.flatnonzero(columns)
        query, which = linear_sum_assignment(rows[:, mine])
        pictures.append(np.full(len(query), number))
        queries.append(query)
        objects.append(mine[which])
    found = (torch.from_numpy(np.concatenate(part).astype(np.int64)) for part in (pictures, queries, objects))
    picture, query, which = (part.to(logits.device) for part in found)
    return picture, query, which


def focal(logits: Tensor, targets: Tensor) -> Tensor:
    """Focal loss of ``logits`` against 0 or 1, elementwise (Lin et al. 2017, https://arxiv.org/abs/1708.02002)."""
    share = logits.sigmoid()
    off = torch.where(targets > 0, 1 - share, share)
    weight = torch.where(targets > 0, _ALPHA, 1 - _ALPHA)
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none") * off.pow(_FOCUS) * weight


def set_losses(
    logits: Tensor,
    boxes: Tensor,
    labels: Tensor,
    targets: Tensor,
    pairs: tuple[Tensor, Tensor, Tensor],
    judged: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Summed losses of classes and of boxes, weighted; arguments as :func:`match`, ``pairs`` its result.

    ``judged`` bool [B, Q]: queries whose classes count.
    """
    picture, query, which = pairs
    wanted = torch.zeros_like(logits, dtype=torch.float32)
    wanted[picture, query, labels[picture, which]] = 1.0
    kinds = focal(logits.float(), wanted)
    if judged is not None:
        kinds = kinds * judged.unsqueeze(-1)
    mine, theirs = boxes[picture, query], targets[picture, which]
    sides = (mine - theirs).abs().sum()
    shared = (1 - giou(cornered(mine), cornered(theirs))).sum()
    # a term without pairs keeps a graph
    return CLASS * kinds.sum(), SIDES * sides + OVERLAP * shared + 0.0 * boxes.sum()

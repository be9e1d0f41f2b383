"""Non-maximum suppression: exact, greedy, and without a loop over boxes.

A box is dropped where a better one that was kept overlaps it. That rule looks sequential, but its outcome
is the only fixed point of "kept unless a kept, better one overlaps": from the best box on, every status is
forced. Iterating the rule for all boxes of a block at once reaches it in as many rounds as the longest chain
of boxes that overlap one another has links, and kept boxes of a block clear the later ones.
"""

from __future__ import annotations

import torch
from torch import Tensor

from attncli.ops.boxes import pairwise_iou

_BLOCK = 256


@torch.no_grad()
def nms(
    boxes: Tensor, scores: Tensor, threshold: float, groups: Tensor | None = None, most: int | None = None
) -> Tensor:
    """The boxes that remain, best first: int64 indices [K].

    Boxes [N, 4] with IoU **above** ``threshold`` to a better one that remains are dropped; of equal scores
    the first is the better. ``groups`` int64 [N] (classes, images): only boxes of one group overlap. ``most``
    ends after so many, which are the same as the first of all.
    """
    order = scores.argsort(descending=True, stable=True)
    boxes = boxes.index_select(0, order).float()
    grouped = None if groups is None else groups.index_select(0, order)
    rest = torch.arange(len(order), device=boxes.device)
    kept: list[Tensor] = []
    count = 0
    while len(rest) and (most is None or count < most):
        block, rest = rest[:_BLOCK], rest[_BLOCK:]
        block = block[_alone(_overlaps(boxes, block, block, grouped, threshold))]
        kept.append(block)
        count += len(block)
        if len(rest):
            rest = rest[~_overlaps(boxes, rest, block, grouped, threshold).any(1)]
    found = torch.cat(kept) if kept else rest
    return order[found[:most]]


@torch.no_grad()
def nms_of_pictures(boxes: Tensor, valid: Tensor, threshold: float) -> Tensor:
    """Which boxes of each picture remain: bool [B, N].

    ``boxes`` [B, N, 4] are given best first; ``valid`` bool [B, N] marks those that are any. All pictures are
    done at once, for proposals, of which there are equally many everywhere.
    """
    over = pairwise_iou(boxes.float(), boxes.float()) > threshold
    over = (over & valid.unsqueeze(1)).tril_(-1).float()  # row: judged, column: better
    kept = valid.float()
    while True:
        now = ((over @ kept.unsqueeze(-1)).squeeze(-1) == 0) & valid
        if torch.equal(now, kept.bool()):
            return now
        kept = now.float()


def _overlaps(
    boxes: Tensor, rows: Tensor, columns: Tensor, groups: Tensor | None, threshold: float
) -> Tensor:
    """Whether each of ``rows`` [R] overlaps each of ``columns`` [C] too much: bool [R, C]."""
    over = pairwise_iou(boxes[rows], boxes[columns]) > threshold
    if groups is not None:
        over &= groups[rows].unsqueeze(1) == groups[columns]
    return over


def _alone(over: Tensor) -> Tensor:
    """Which of the boxes of one block, best first, remain: bool [R] from overlaps [R, R]."""
    over = over.tril(-1).float()  # row: the box that is judged, column: a better one
    kept = over.new_ones(len(over))
    while True:
        now = (over @ kept == 0).float()
        if torch.equal(now, kept):
            return kept.bool()
        kept = now

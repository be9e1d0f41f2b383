"""Reference boxes at every place, and which of them shall find which object.

Legend: B pictures, M objects, A anchors of all levels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from attncli.ops.boxes import centred, pairwise_inside, pairwise_iou

NONE = -1
"""No object."""


def make_anchors(
    sizes: dict[int, tuple[int, int]], side: float, ratios: Sequence[float], device: torch.device
) -> tuple[Tensor, list[int]]:
    """Anchors [A, 4] of maps of ``sizes`` (height, width) by level, and how many each level has.

    At each place, row by row, one of every ratio (height over width), all of area (``side`` strides)^2.
    """
    found, counts = [], []
    for level, (height, width) in sizes.items():
        stride = 2**level
        ratio = torch.tensor(ratios, device=device)
        tall = side * stride * ratio.sqrt()
        wide = side * stride / ratio.sqrt()
        y = (torch.arange(height, device=device) + 0.5) * stride
        x = (torch.arange(width, device=device) + 0.5) * stride
        y, x = y.view(-1, 1, 1), x.view(1, -1, 1)
        corners = [x - wide / 2, y - tall / 2, x + wide / 2, y + tall / 2]
        shape = height, width, len(ratios)
        found.append(torch.stack([part.expand(shape) for part in corners], -1).view(-1, 4))
        counts.append(height * width * len(ratios))
    return torch.cat(found), counts


@torch.no_grad()
def assign_atss(
    anchors: Tensor, counts: Sequence[int], boxes: Tensor, there: Tensor, nearest: int = 9
) -> Tensor:
    """The object of each anchor, int64 [B, A]: its number among ``boxes`` [B, M, 4], or NONE.

    Of each level an object's ``nearest`` anchors are candidates; those whose IoU is at least mean plus
    deviation of the candidates', and whose middle is inside the object, find it, and so does the best one. An
    anchor of several objects finds the one that it overlaps most. ``there`` bool [B, M] marks objects.

    Zhang et al. 2020, "Bridging the Gap Between Anchor-based and Anchor-free Detection via Adaptive Training
    Sample Selection", https://arxiv.org/abs/1912.02424
    """
    batch, objects = there.shape
    if objects == 0:
        return torch.full((batch, len(anchors)), NONE, device=anchors.device)
    shared = pairwise_iou(boxes, anchors)  # [B, M, A]
    middles = centred(anchors)[:, :2]
    apart = (centred(boxes)[..., None, :2] - middles).square().sum(-1)  # [B, M, A]
    candidates, start = [], 0
    for count in counts:
        part = apart[..., start : start + count]
        candidates.append(part.topk(min(nearest, count), largest=False).indices + start)
        start += count
    chosen = torch.cat(candidates, -1)  # [B, M, K]
    overlap = shared.gather(-1, chosen)
    least = overlap.mean(-1, keepdim=True) + overlap.std(-1, keepdim=True, correction=0)
    x, y = middles[chosen].unbind(-1)  # [B, M, K]
    x0, y0, x1, y1 = (side.unsqueeze(-1) for side in boxes.unbind(-1))
    inside = (x > x0) & (x < x1) & (y > y0) & (y < y1)
    best = (overlap >= overlap.amax(-1, keepdim=True)) & (overlap > 0)
    good = ((overlap >= least) & inside | best) & there.unsqueeze(-1)
    score = torch.full_like(shared, -1.0).scatter(-1, chosen, torch.where(good, overlap, -1.0))
    most, which = score.max(1)  # [B, A]
    return torch.where(most >= 0, which, NONE)


@torch.no_grad()
def assign_iou(
    anchors: Tensor, boxes: Tensor, there: Tensor, positive: float = 0.7, negative: float = 0.3
) -> tuple[Tensor, Tensor]:
    """The object of each anchor, int64 [B, A], and whether it is to be judged at all, bool [B, A].

    As published with the proposal network (Ren et al. 2015): an anchor finds the object that it overlaps most
    if by ``positive`` or more, or if no anchor overlaps that object more; below ``negative`` it finds none;
    between the two it is not judged.
    """
    batch, objects = there.shape
    if objects == 0:
        none = torch.full((batch, len(anchors)), NONE, device=anchors.device)
        return none, torch.ones_like(none, dtype=torch.bool)
    shared = torch.where(there.unsqueeze(-1), pairwise_iou(boxes, anchors), -1.0)  # [B, M, A]
    most, which = shared.max(1)  # [B, A]
    best = shared.amax(-1, keepdim=True)
    own = (shared == best) & (best > 0)  # ties too, as published
    strongest = torch.where(own, shared, -1.0).max(1)
    which = torch.where(strongest.values > 0, strongest.indices, which)
    good = (most >= positive) | (strongest.values > 0)
    return torch.where(good, which, NONE), good | (most < negative)


@torch.no_grad()
def on_ignored(boxes: Tensor, ignored_boxes: Tensor, ignored: Tensor, share: float = 0.5) -> Tensor:
    """Which of ``boxes`` [B, N, 4] or [N, 4] lie by ``share`` in a box that does not count: bool [B, N].

    ``ignored_boxes`` [B, M, 4], of which ``ignored`` bool [B, M] do not count.
    """
    inside = pairwise_inside(boxes, ignored_boxes)  # [B, N, M]
    return ((inside >= share) & ignored.unsqueeze(1)).any(-1)

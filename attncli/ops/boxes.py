"""Arithmetic of boxes: areas, overlaps, clipping, and offsets from reference boxes.

A box is ``(x0, y0, x1, y1)`` in pixels, the corner with the larger values not part of it: its width is
``x1 - x0``. All functions are differentiable where their results vary, and take any leading dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_LONGEST = math.log(1000.0 / 16)
"""Largest logarithm of a scale that is decoded, as in Detectron: exp() of a wild guess must not overflow."""
_TINY = 1e-7


def area(boxes: Tensor) -> Tensor:
    """[..., 4] to [...], square pixels; 0 where a box has no inside."""
    sides = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)
    return sides[..., 0] * sides[..., 1]


def centred(boxes: Tensor) -> Tensor:
    """Corners [..., 4] as ``(centre x, centre y, width, height)``."""
    low, high = boxes.split(2, -1)
    return torch.cat([(low + high) / 2, high - low], -1)


def cornered(boxes: Tensor) -> Tensor:
    """The inverse of :func:`centred`."""
    middle, sides = boxes.split(2, -1)
    return torch.cat([middle - sides / 2, middle + sides / 2], -1)


def clip(boxes: Tensor, size: Tensor | Sequence[int]) -> Tensor:
    """Boxes [..., 4] inside images of ``size``, (height, width) or a tensor [..., 2] that broadcasts."""
    if not isinstance(size, Tensor):
        height, width = size
        most = boxes.new_tensor([width, height, width, height])
    else:
        sides = size.to(boxes.dtype).flip(-1)
        most = torch.cat([sides, sides], -1)
    return torch.minimum(boxes.clamp(min=0), most)


def intersection(a: Tensor, b: Tensor) -> Tensor:
    """Shared area of boxes that broadcast, [..., 4] and [..., 4] to [...]."""
    low = torch.maximum(a[..., :2], b[..., :2])
    high = torch.minimum(a[..., 2:], b[..., 2:])
    sides = (high - low).clamp(min=0)
    return sides[..., 0] * sides[..., 1]


def _over(part: Tensor, whole: Tensor) -> Tensor:
    return torch.where(whole > 0, part / whole.clamp(min=_TINY), part.new_zeros(()))


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of boxes that broadcast: [..., 4] and [..., 4] to [...]; 0 without any area."""
    shared = intersection(a, b)
    return _over(shared, area(a) + area(b) - shared)


def pairwise_iou(a: Tensor, b: Tensor) -> Tensor:
    """Every box of ``a`` [..., N, 4] with every one of ``b`` [..., M, 4]: [..., N, M]."""
    return iou(a.unsqueeze(-2), b.unsqueeze(-3))


def pairwise_inside(a: Tensor, b: Tensor) -> Tensor:
    """Share of each box of ``a`` [..., N, 4] that lies in each one of ``b`` [..., M, 4]: [..., N, M]."""
    return _over(intersection(a.unsqueeze(-2), b.unsqueeze(-3)), area(a).unsqueeze(-1))


def giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU, in [-1, 1]: how empty the hull of both is counts against them.

    Rezatofighi et al. 2019, https://arxiv.org/abs/1902.09630. Shapes as :func:`iou`.
    """
    shared = intersection(a, b)
    union = area(a) + area(b) - shared
    sides = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    hull = sides.clamp(min=0).prod(-1)
    return _over(shared, union) - _over(hull - union, hull)


def ciou(a: Tensor, b: Tensor) -> Tensor:
    """Complete IoU: IoU less the distance of the centres and the difference in shape.

    Zheng et al. 2020, https://arxiv.org/abs/1911.08287; the weight of the shape term has no gradient, as
    published. Shapes as :func:`iou`.
    """
    overlap = iou(a, b)
    sides = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    diagonal = sides.square().sum(-1)
    (a_middle, a_sides), (b_middle, b_sides) = centred(a).split(2, -1), centred(b).split(2, -1)
    apart = (a_middle - b_middle).square().sum(-1)
    turn = torch.atan2(b_sides[..., 0], b_sides[..., 1]) - torch.atan2(a_sides[..., 0], a_sides[..., 1])
    shape = 4 / math.pi**2 * turn.square()
    with torch.no_grad():
        weight = shape / (1 - overlap + shape).clamp(min=_TINY)
    return overlap - _over(apart, diagonal) - weight * shape


def encode(boxes: Tensor, references: Tensor, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """Offsets that lead from ``references`` to ``boxes``: [..., 4] both to [..., 4].

    The centre's shift in widths and heights of the reference and the logarithm of the scale, each times its
    weight (Girshick et al. 2014, https://arxiv.org/abs/1311.2524). Sides must be above 0.
    """
    box, reference = centred(boxes), centred(references)
    shift = (box[..., :2] - reference[..., :2]) / reference[..., 2:]
    scale = (box[..., 2:] / reference[..., 2:]).log()
    return torch.cat([shift, scale], -1) * boxes.new_tensor(weights)


def decode(
    offsets: Tensor,
    references: Tensor,
    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    longest: float = _LONGEST,
) -> Tensor:
    """The inverse of :func:`encode`; logarithms of scales are cut at ``longest``."""
    reference = centred(references)
    offsets = offsets / offsets.new_tensor(weights)
    middle = offsets[..., :2] * reference[..., 2:] + reference[..., :2]
    sides = offsets[..., 2:].clamp(max=longest).exp() * reference[..., 2:]
    return cornered(torch.cat([middle, sides], -1))

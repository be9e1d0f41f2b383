"""RoIAlign (He et al. 2017, https://arxiv.org/abs/1703.06870): maps sampled in boxes, as bags of rows.

A bin's value is the mean of bilinear samples, and each sample is a weighted sum of four cells. Summed up, a
bin is a weighted sum of the few cells that it touches, whose weights are products of one number of its row
and one of its column: the mean over samples at ``y`` of ``max(0, 1 - |y - cell|)``. So all bins of all boxes
are rows of one sparse matrix times the map's cells [N*H*W, C], which ``embedding_bag`` multiplies row by row;
the gradient is the transposed matrix in the same kernel, with no scattered additions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_ENTRIES = 2**23
"""Weights made at once; more boxes are done in turns."""


def roi_align(
    features: Tensor,
    boxes: Tensor,
    image: Tensor,
    *,
    size: int | tuple[int, int],
    scale: float = 1.0,
    sampling: int = 2,
    aligned: bool = True,
) -> Tensor:
    """Values of ``features`` [N, C, H, W] on a grid in each of ``boxes`` [K, 4]: [K, C, P, Q].

    Args:
        features: maps, best in channels_last.
        boxes: corners in pixels of the picture; no gradient flows into them.
        image: int64 [K], the map that each box lies in.
        size: P and Q bins, or one number for both.
        scale: cells of a map a pixel.
        sampling: samples a bin along each side; 0 takes as many as a bin has cells, rounded up.
        aligned: cells stand at their middles, half a cell from their corners; else boxes are half a cell off
            and at least one cell wide, as in the first implementations.

    Samples more than a cell outside the map count 0, those nearer the border's value.
    """
    rows, columns = (size, size) if isinstance(size, int) else size
    channels, height, width = features.shape[1:]
    cells = features.permute(0, 2, 3, 1).reshape(-1, channels)  # [N*H*W, C], a view in channels_last
    with torch.no_grad():
        low, high = (boxes.detach().float() * scale - (0.5 if aligned else 0.0)).split(2, 1)
        sides = high - low
        if not aligned:
            sides = sides.clamp(min=1.0)
        starts = (image * (height * width)).view(-1, 1, 1)
        y_first, y_weight = _axis(low[:, 1], sides[:, 1], rows, height, sampling)  # [K, P], [K, P, n]
        x_first, x_weight = _axis(low[:, 0], sides[:, 0], columns, width, sampling)  # [K, Q], [K, Q, m]
        each = rows * columns * y_weight.shape[2] * x_weight.shape[2]
        turn = max(1, _ENTRIES // max(each, 1))
    found = []
    for at in range(0, max(len(boxes), 1), turn):
        part = slice(at, at + turn)
        index, weight = _entries(
            starts[part], (y_first[part], y_weight[part], height), (x_first[part], x_weight[part], width)
        )
        found.append(_Bags.apply(cells, index, weight))
    pooled = found[0] if len(found) == 1 else torch.cat(found)
    return pooled.view(len(boxes), rows, columns, channels).permute(0, 3, 1, 2)


def _axis(low: Tensor, side: Tensor, bins: int, cells: int, sampling: int) -> tuple[Tensor, Tensor]:
    """Along one axis: each bin's first cell [K, bins], and the weights of it and the next [K, bins, n]."""
    step = side / bins  # [K]
    # as many as cells: none, so zeros, in a box without an inside
    count = torch.full_like(step, sampling) if sampling else step.ceil()
    most = max(int(count.max()), 1) if len(count) else 1
    number = torch.arange(most, device=low.device)
    bin_ = torch.arange(bins, device=low.device).unsqueeze(1)  # [bins, 1]
    share = count.clamp(min=1).view(-1, 1, 1)
    at = (number + 0.5) / share  # [K, 1, s]
    at = low.view(-1, 1, 1) + (bin_ + at) * step.view(-1, 1, 1)  # [K, bins, s]
    counted = (at >= -1) & (at <= cells) & (number < count.view(-1, 1, 1))
    at = at.clamp(0, cells - 1)
    first = at.masked_fill(~counted, cells).amin(2).floor().clamp(max=cells - 1)  # [K, bins]
    last = at.masked_fill(~counted, -1).amax(2).ceil()
    span = int((last - first).max().clamp(min=0)) + 1 if len(first) else 1
    away = (at - first.unsqueeze(2)).unsqueeze(3) - torch.arange(span, device=low.device)  # [K, bins, s, n]
    hat = (1 - away.abs()).clamp(min=0) * counted.unsqueeze(3)
    return first.long(), hat.sum(2) / share


def _entries(
    starts: Tensor, y: tuple[Tensor, Tensor, int], x: tuple[Tensor, Tensor, int]
) -> tuple[Tensor, Tensor]:
    """The sparse matrix: cell numbers and weights, [K P Q, n m] both."""
    (y_first, y_weight, height), (x_first, x_weight, width) = y, x
    n, m = y_weight.shape[2], x_weight.shape[2]
    device = starts.device
    row = (y_first.unsqueeze(2) + torch.arange(n, device=device)).clamp(max=height - 1)  # [K, P, n]
    column = (x_first.unsqueeze(2) + torch.arange(m, device=device)).clamp(max=width - 1)  # [K, Q, m]
    row = starts + row * width
    index = row[:, :, None, :, None] + column[:, None, :, None, :]  # [K, P, Q, n, m]
    weight = y_weight[:, :, None, :, None] * x_weight[:, None, :, None, :]
    return index.view(-1, n * m), weight.view(-1, n * m)


class _Bags(torch.autograd.Function):
    """A sparse matrix of equally long rows times ``cells`` [M, C]: [R, C]."""

    @staticmethod
    def forward(ctx: Any, cells: Tensor, index: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(index, weight)
        ctx.cells = len(cells)
        if not index.numel():
            return cells.new_zeros(len(index), cells.shape[1])
        return F.embedding_bag(index, cells, mode="sum", per_sample_weights=weight.to(cells.dtype))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        index, weight = ctx.saved_tensors
        if not index.numel():
            return grad.new_zeros(ctx.cells, grad.shape[1]), None, None
        flat = index.flatten()
        order = flat.argsort(stable=True)  # the same sum each time
        counts = torch.bincount(flat, minlength=ctx.cells)
        ends = counts.cumsum(0)
        found = F.embedding_bag(
            order // index.shape[1],
            grad.contiguous(),
            ends - counts,
            mode="sum",
            per_sample_weights=weight.flatten()[order].to(grad.dtype),
        )
        return found, None, None

"""A model applied to pictures of any size: whole, mirrored, or in windows that overlap."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Logits = Callable[[Tensor], Tensor]
"""Pictures [B, C, H, W] to logits [B, L, H, W]."""

LARGE = 1 << 22
"""Pixels above which a picture is always read in windows."""


def class_logits(
    logits: Logits,
    images: Tensor,
    *,
    size: tuple[int, int],
    windows: bool,
    overlap: float = 0.5,
    batch: int = 8,
    flip: bool = False,
) -> Tensor:
    """Logits float32 [B, L, H, W] of ``images`` [B, C, H, W].

    Where something is averaged, over mirror images or windows, it is the probabilities; their logarithms
    are returned. ``windows``: read pieces of ``size`` where the pictures have another one, smaller pictures
    filled up by repeating their rim; ``overlap`` and ``batch`` are of those pieces.
    """
    if windows and tuple(images.shape[2:]) != size:
        return _windows(logits, images, size, overlap, batch, flip)
    if flip:
        return _mirrored(logits, images).log()
    return logits(images).float()


def _mirrored(logits: Logits, images: Tensor) -> Tensor:
    """Mean probabilities of pictures and their mirror images, [B, L, H, W]."""
    straight = logits(images).float().softmax(1)
    return (straight + logits(images.flip(3)).float().softmax(1).flip(3)) / 2


def _windows(
    logits: Logits, images: Tensor, size: tuple[int, int], overlap: float, batch: int, flip: bool
) -> Tensor:
    height, width = images.shape[2:]
    tall, wide = max(height, size[0]), max(width, size[1])
    if (tall, wide) != (height, width):
        images = fill(images, (tall, wide))
    places = [(y, x) for y in starts(tall, size[0], overlap) for x in starts(wide, size[1], overlap)]
    weight = _weight(size, images.device)
    found = total = None
    for number in range(len(images)):
        for at in range(0, len(places), batch):
            chosen = places[at : at + batch]
            pieces = torch.stack([images[number, :, y : y + size[0], x : x + size[1]] for y, x in chosen])
            pieces = pieces.contiguous(memory_format=torch.channels_last)
            chance = _mirrored(logits, pieces) if flip else logits(pieces).float().softmax(1)
            if found is None:
                found = chance.new_zeros(len(images), chance.shape[1], tall, wide)
                total = chance.new_zeros(tall, wide)
            for (y, x), piece in zip(chosen, chance, strict=True):
                found[number, :, y : y + size[0], x : x + size[1]] += piece * weight
                if number == 0:
                    total[y : y + size[0], x : x + size[1]] += weight
    return (found / total).log()[:, :, :height, :width]


def fill(images: Tensor, size: tuple[int, int]) -> Tensor:
    """[B, C, H, W] filled up below and on the right to at least ``size`` by repeating the rim."""
    height, width = images.shape[2:]
    rows = torch.arange(max(height, size[0]), device=images.device).clamp(max=height - 1)
    columns = torch.arange(max(width, size[1]), device=images.device).clamp(max=width - 1)
    return images[:, :, rows[:, None], columns]


def starts(length: int, window: int, overlap: float) -> list[int]:
    """Where windows begin that cover ``length``, each two sharing at least ``overlap`` of a window."""
    if length <= window:
        return [0]
    step = max(1, int(window * (1 - overlap)))
    count = -(-(length - window) // step) + 1
    return [round(at * (length - window) / (count - 1)) for at in range(count)]


def _weight(size: tuple[int, int], device: torch.device) -> Tensor:
    """Weights [H, W] that fall from the middle of a window to its rim."""
    sides = []
    for length in size:
        place = (torch.arange(length, device=device) + 0.5) / length
        sides.append(torch.minimum(place, 1 - place) * 2)
    return sides[0][:, None] * sides[1] + 1e-3


def enlarge(chance: Tensor, size: tuple[int, int]) -> Tensor:
    """Probabilities or logits [B, L, H, W] of another size, bilinear."""
    if tuple(chance.shape[2:]) == size:
        return chance
    return F.interpolate(chance, size, mode="bilinear", align_corners=False)

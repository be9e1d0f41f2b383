"""Training pieces: cut out of pictures with masks at random scales and places, mirrored, recoloured."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from attncli.data.images.augment import jitter
from attncli.data.images.geometry import IGNORED
from attncli.data.images.masks import Mask
from attncli.data.images.reading import Pixels, picture, pixels
from attncli.data.images.shaping import Size
from attncli.recipe.segment import SegmentAugment


def cut_piece(
    image: Pixels,
    mask: Mask,
    rng: np.random.Generator,
    how: SegmentAugment,
    size: Size,
    room: tuple[float, float] = (1.0, 1.0),
    fill: int = 0,
) -> tuple[Pixels, Mask]:
    """A piece of ``size`` of a picture [H, W, C] and its mask [H, W].

    The picture is thought to be ``room`` times (down, across) as large as it is meant, so that pieces that
    are enlarged have detail. What lies outside is ``fill``, and ignored in the mask. The number of draws is
    always the same.
    """
    draws = rng.random(12)
    scale = math.exp(_between(math.log(how.scale[0]), math.log(how.scale[1]), draws[0]))
    aspect = math.exp(_between(-math.log(how.stretch), math.log(how.stretch), draws[1]) / 2)
    if how.rotate:
        image, mask = _rotated(image, mask, _between(-how.rotate, how.rotate, draws[2]), fill)
    height, width = mask.shape
    tall, wide = size[0] * room[0] / (scale * aspect), size[1] * room[1] * aspect / scale
    top, left = _place(draws[3], height, tall), _place(draws[4], width, wide)
    if draws[5] < how.rare:
        row, column = _seed(mask, draws[6], draws[7])
        low, high = sorted((0.0, height - tall))
        top = min(max(row - draws[3] * tall, low), high)
        low, high = sorted((0.0, width - wide))
        left = min(max(column - draws[4] * wide, low), high)
    image, mask = _resampled(image, mask, (top, left, tall, wide), size, fill)
    if draws[8] < how.flip:
        image, mask = image[:, ::-1], mask[:, ::-1]
    if draws[9] < how.vertical:
        image, mask = image[::-1], mask[::-1]
    if how.brightness or how.contrast or how.saturation or how.hue:
        image = jitter(image, rng, how.brightness, how.contrast, how.saturation, how.hue)
    if draws[10] < how.blur:
        image = pixels(
            picture(np.ascontiguousarray(image)).filter(ImageFilter.GaussianBlur(1.5 * float(draws[11])))
        )
    return image, mask


def _between(low: float, high: float, draw: float) -> float:
    return low + (high - low) * draw


def _place(draw: float, whole: float, part: float) -> float:
    """Where a part of a length begins; below 0 where it is longer than the whole."""
    return draw * (whole - part)


def _seed(mask: Mask, which: float, where: float) -> tuple[int, int]:
    """A pixel of a class drawn from those in the mask."""
    counts = np.bincount(mask.ravel(), minlength=256)[:IGNORED]
    there = np.flatnonzero(counts)
    if not len(there):
        return mask.shape[0] // 2, mask.shape[1] // 2
    chosen = there[int(which * len(there))]
    at = np.flatnonzero(mask.ravel() == chosen)[int(where * counts[chosen])]
    return divmod(int(at), mask.shape[1])


def _resampled(
    image: Pixels, mask: Mask, box: tuple[float, float, float, float], size: Size, fill: int
) -> tuple[Pixels, Mask]:
    """What lies in a box (top, left, height, width), in ``size``; the picture as means, the mask as
    nearest."""
    top, left, tall, wide = box
    height, width = mask.shape
    rows = np.floor(top + (np.arange(size[0]) + 0.5) * (tall / size[0])).astype(np.int64)
    columns = np.floor(left + (np.arange(size[1]) + 0.5) * (wide / size[1])).astype(np.int64)
    in_rows, in_columns = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    first, last = _span(in_rows)
    start, end = _span(in_columns)
    inner = last - first, end - start
    cut = (
        max(0.0, left + start * wide / size[1]),
        max(0.0, top + first * tall / size[0]),
        min(float(width), left + end * wide / size[1]),
        min(float(height), top + last * tall / size[0]),
    )
    shown = picture(image).resize(inner[::-1], Image.Resampling.BILINEAR, box=cut)
    found = mask[rows[first:last, None], columns[start:end]]
    if inner == size:
        return pixels(shown), found
    whole = np.full((*size, image.shape[2]), fill, np.uint8)
    labels = np.full(size, IGNORED, np.uint8)
    whole[first:last, start:end] = pixels(shown)
    labels[first:last, start:end] = found
    return whole, labels


def _span(inside: NDArray[np.bool_]) -> tuple[int, int]:
    """The first and behind the last of what is inside, at least one."""
    at = np.flatnonzero(inside)
    return (int(at[0]), int(at[-1]) + 1) if len(at) else (0, 1)


def _rotated(image: Pixels, mask: Mask, degrees: float, fill: int) -> tuple[Pixels, Mask]:
    colour = fill if image.shape[2] == 1 else (fill,) * image.shape[2]
    turned = picture(image).rotate(degrees, Image.Resampling.BILINEAR, fillcolor=colour)
    labels = Image.fromarray(mask).rotate(degrees, Image.Resampling.NEAREST, fillcolor=IGNORED)
    return pixels(turned), np.asarray(labels)

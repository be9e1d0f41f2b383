"""Random moves of a picture and, with it, of its mask.

Each takes ``image`` uint8 [H, W, C], the generator that all is drawn from and, where there is one, a ``mask``
of class numbers [H, W]. It returns both (None for no mask). Pixels that come in from outside are 0, in a mask
``ignored``. A mask's numbers are never blended.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from attncli.data.images.reading import Pixels, picture, pixels
from attncli.data.images.shaping import Size, resize, resize_mask

Mask = NDArray[Any]
Moved = tuple[Pixels, Mask | None]
IGNORED = 255
"""Class number of pixels that no loss and no metric looks at."""

_RATIO = (3 / 4, 4 / 3)
_TRIES = 10


def flip(image: Pixels, rng: np.random.Generator, share: float = 0.5, mask: Mask | None = None) -> Moved:
    """Left to right, for ``share`` of the pictures."""
    if rng.random() >= share:
        return image, mask
    return image[:, ::-1], None if mask is None else mask[:, ::-1]


def shift(
    image: Pixels, rng: np.random.Generator, most: int, mask: Mask | None = None, ignored: int = IGNORED
) -> Moved:
    """By up to ``most`` pixels each way."""
    down, right = (int(n) for n in rng.integers(-most, most + 1, 2))
    return _moved(image, down, right, 0), None if mask is None else _moved(mask, down, right, ignored)


def _moved(array: NDArray[Any], down: int, right: int, fill: int) -> NDArray[Any]:
    height, width = array.shape[:2]
    out = np.full_like(array, fill)
    down, right = max(-height, min(down, height)), max(-width, min(right, width))
    out[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = array[
        max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)
    ]
    return out


def resized_crop(
    image: Pixels,
    rng: np.random.Generator,
    size: Size,
    scale: float = 0.08,
    ratio: tuple[float, float] = _RATIO,
    mask: Mask | None = None,
) -> Moved:
    """A cut-out of ``scale`` to 1 of the area and of a shape between ``ratio``, resized to ``size``.

    Szegedy et al. 2015, https://arxiv.org/abs/1409.4842.
    """
    top, left, height, width = _cut_out(image.shape[:2], rng, scale, ratio)
    box = (left, top, left + width, top + height)
    cut = picture(image).resize(size[::-1], Image.Resampling.BILINEAR, box=box)
    kept = None if mask is None else resize_mask(mask[top : top + height, left : left + width], size)
    return pixels(cut), kept


def _cut_out(
    shape: tuple[int, ...], rng: np.random.Generator, scale: float, ratio: tuple[float, float]
) -> tuple[int, int, int, int]:
    """Top, left, height, width. Always the same number of draws."""
    area = shape[0] * shape[1] * rng.uniform(scale, 1, _TRIES)
    shapes = np.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1]), _TRIES))
    place = rng.random(2)
    heights, widths = np.rint(np.sqrt(area / shapes)), np.rint(np.sqrt(area * shapes))
    fits = np.flatnonzero((heights >= 1) & (widths >= 1) & (heights <= shape[0]) & (widths <= shape[1]))
    if len(fits):
        height, width = int(heights[fits[0]]), int(widths[fits[0]])
    else:  # a very long picture: as much of it as has an allowed shape
        height = max(1, min(shape[0], round(shape[1] / ratio[0])))
        width = max(1, min(shape[1], round(shape[0] * ratio[1])))
    top = int(place[0] * (shape[0] - height + 1))
    left = int(place[1] * (shape[1] - width + 1))
    return top, left, height, width


def scaled_crop(
    image: Pixels,
    rng: np.random.Generator,
    size: Size,
    low: float = 0.5,
    high: float = 2.0,
    mask: Mask | None = None,
    ignored: int = IGNORED,
) -> Moved:
    """Scale jitter: the picture resized by a factor of ``low`` to ``high``, then a random part of ``size``.

    Where it is smaller than ``size``, the rest is filled.
    """
    factor = rng.uniform(low, high)
    new = tuple(max(1, round(side * factor)) for side in image.shape[:2])
    place = rng.random(2)
    image = _window(resize(image, (new[0], new[1])), size, place, 0)
    if mask is not None:
        mask = _window(resize_mask(mask, (new[0], new[1])), size, place, ignored)
    return image, mask


def _window(array: NDArray[Any], size: Size, place: NDArray[np.float64], fill: int) -> NDArray[Any]:
    """``size`` of an array, or all of it within ``size``, at a ``place`` between 0 and 1 each way."""
    out = np.full((*size, *array.shape[2:]), fill, array.dtype)
    into, of = [], []
    for old, new, at in zip(array.shape, size, place.tolist(), strict=False):
        first, both = int(at * (abs(old - new) + 1)), min(old, new)
        into.append(slice(first, first + both) if old < new else slice(None))
        of.append(slice(first, first + both) if old > new else slice(None))
    out[tuple(into)] = array[tuple(of)]
    return out

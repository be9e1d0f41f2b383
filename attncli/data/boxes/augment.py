"""Pictures varied with their boxes: pure functions of what they are given and a generator.

All that moves pixels is one operation: a piece of a picture, mirrored or not, comes to lie in a piece of a
frame. Scale jitter, stretching, cropping and mosaics are choices of the two pieces, so that a picture is
resampled once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from attncli.data.boxes.scenes import Boxes
from attncli.data.images.reading import Pixels, picture, pixels
from attncli.recipe.detect import BoxAugment

Size = tuple[int, int]
"""Height and width."""
GREY = 114
"""What is around pictures."""


@dataclass
class View:
    """A frame with what is in it."""

    image: Pixels
    """uint8 [H, W, 3]."""
    boxes: Boxes
    labels: NDArray[np.int64]
    ignored: NDArray[np.bool_]


def fitted(height: int, width: int, frame: Size) -> float:
    """The factor by which a picture is as large as fits into ``frame``."""
    return min(frame[0] / height, frame[1] / width)


def placed(
    view: View, scale: tuple[float, float], at: tuple[float, float], frame: Pixels, window: tuple[int, ...]
) -> View:
    """Draw ``view``, scaled by ``scale`` (y, x), into ``window`` (top, left, bottom, right) of ``frame``.

    ``at``: where the picture's upper left corner comes to lie in the frame. Boxes are those of the part that
    is seen; none is left out here, so that some may have no area.
    """
    height, width = view.image.shape[:2]
    top, left = max(window[0], round(at[0])), max(window[1], round(at[1]))
    bottom = min(window[2], round(at[0] + height * scale[0]))
    right = min(window[3], round(at[1] + width * scale[1]))
    if bottom > top and right > left:
        piece = (
            max(0.0, (left - at[1]) / scale[1]),
            max(0.0, (top - at[0]) / scale[0]),
            min(float(width), (right - at[1]) / scale[1]),
            min(float(height), (bottom - at[0]) / scale[0]),
        )
        frame[top:bottom, left:right] = _resampled(view.image, piece, (bottom - top, right - left))
    factor = np.array([scale[1], scale[0]] * 2, np.float32)
    boxes = view.boxes * factor + np.array([at[1], at[0]] * 2, np.float32)
    low = np.array([window[1], window[0]] * 2, np.float32)
    high = np.array([window[3], window[2]] * 2, np.float32)
    return View(frame, boxes.clip(low, high), view.labels, view.ignored)


def _resampled(image: Pixels, piece: tuple[float, ...], size: Size) -> Pixels:
    """A piece (x0, y0, x1, y1) of a picture at another size. Only pixels that count are copied."""
    reach = 2 + math.ceil(max((piece[2] - piece[0]) / size[1], (piece[3] - piece[1]) / size[0]))
    x, y = max(0, int(piece[0]) - reach), max(0, int(piece[1]) - reach)
    cut = image[y : math.ceil(piece[3]) + reach, x : math.ceil(piece[2]) + reach]
    box = (piece[0] - x, piece[1] - y, piece[2] - x, piece[3] - y)
    drawn = picture(np.ascontiguousarray(cut)).resize(size[::-1], Image.Resampling.BILINEAR, box=box)
    return pixels(drawn)


def plain(view: View, frame: Size) -> tuple[View, float]:
    """The picture as large as fits, in the upper left corner, and its factor: how models are measured."""
    height, width = view.image.shape[:2]
    scale = fitted(height, width, frame)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    canvas = np.empty((*size, 3), np.uint8)
    exact = size[0] / height, size[1] / width
    return placed(view, exact, (0.0, 0.0), canvas, (0, 0, *size)), scale


def jittered(view: View, frame: Size, augment: BoxAugment, rng: np.random.Generator) -> View:
    """Smaller or larger than fits, stretched a little, anywhere: what is outside the frame is cut off."""
    height, width = view.image.shape[:2]
    canvas = np.full((*frame, 3), GREY, np.uint8)
    scale = _factors(height, width, frame, augment, rng)
    free = frame[0] - height * scale[0], frame[1] - width * scale[1]
    at = tuple(float(rng.uniform(min(0.0, room), max(0.0, room))) for room in free)
    return dropped(placed(view, scale, at, canvas, (0, 0, *frame)), view, scale, augment.keep)  # type: ignore[arg-type]


def _factors(
    height: int, width: int, frame: Size, augment: BoxAugment, rng: np.random.Generator
) -> tuple[float, float]:
    low, high = np.log(augment.scale)
    scale = fitted(height, width, frame) * float(np.exp(rng.uniform(low, high)))
    most = np.log(augment.stretch)
    stretch = float(np.exp(rng.uniform(-most, most) / 2))
    return scale / stretch, scale * stretch


def mosaic(views: list[View], frame: Size, augment: BoxAugment, rng: np.random.Generator) -> View:
    """Four pictures around a point (YOLOv4, Bochkovskiy et al. 2020, https://arxiv.org/abs/2004.10934).

    Each is drawn at its own scale and cut at the point's cross; so objects stand in other places and
    neighbourhoods, and more of them in a picture.
    """
    canvas = np.full((*frame, 3), GREY, np.uint8)
    y, x = (round(side * rng.uniform(0.3, 0.7)) for side in frame)
    windows = [(0, 0, y, x), (0, x, y, frame[1]), (y, 0, frame[0], x), (y, x, *frame)]
    parts = []
    for view, window in zip(views, windows, strict=True):
        height, width = view.image.shape[:2]
        tall, wide = window[2] - window[0], window[3] - window[1]
        scale = _factors(height, width, frame, augment, rng)
        # any piece of the picture that fills the window, or the picture anywhere in it where it is smaller
        free = tall - height * scale[0], wide - width * scale[1]
        at = tuple(
            start + float(rng.uniform(min(0.0, room), max(0.0, room)))
            for start, room in zip(window[:2], free, strict=True)
        )
        parts.append(dropped(placed(view, scale, at, canvas, window), view, scale, augment.keep))  # type: ignore[arg-type]
    return View(
        canvas,
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.ignored for part in parts]),
    )


def dropped(seen: View, before: View, scale: tuple[float, float], keep: float) -> View:
    """Boxes that are out of sight left out; those of which too little is left, ignored."""
    now = np.prod(np.maximum(seen.boxes[:, 2:] - seen.boxes[:, :2], 0), 1)
    whole = np.prod(before.boxes[:, 2:] - before.boxes[:, :2], 1) * scale[0] * scale[1]
    sides = (seen.boxes[:, 2:] - seen.boxes[:, :2]).min(1, initial=np.inf)
    there = (now > 0) & (sides >= 1)
    ignored = seen.ignored | (now < keep * whole)
    return View(seen.image, seen.boxes[there], seen.labels[there], ignored[there])


def mirrored(view: View, across: bool) -> View:
    """Left to right, or upside down with ``across`` False."""
    image = view.image[:, ::-1] if across else view.image[::-1]
    side = image.shape[1] if across else image.shape[0]
    low, high = (0, 2) if across else (1, 3)
    boxes = view.boxes.copy()
    boxes[:, low], boxes[:, high] = side - view.boxes[:, high], side - view.boxes[:, low]
    return View(image, boxes, view.labels, view.ignored)


_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def coloured(image: Pixels, augment: BoxAugment, rng: np.random.Generator) -> Pixels:
    """Brightness, contrast, saturation and hue changed, as one matrix of the colours and a shift."""
    amounts = augment.brightness, augment.contrast, augment.saturation
    bright, contrast, strong = (1 + float(rng.uniform(-share, share)) for share in amounts)
    turn = 2 * np.pi * float(rng.uniform(-augment.hue, augment.hue))
    if not any((*amounts, augment.hue)):
        return image
    matrix = bright * contrast * _colour_matrix(strong, turn)
    mean = float(image.mean(dtype=np.float64)) * bright
    shift = (1 - contrast) * mean
    rows = tuple(np.concatenate([matrix, np.full((3, 1), shift, np.float32)], 1).ravel().tolist())
    return np.asarray(picture(np.ascontiguousarray(image)).convert("RGB", rows))


def _colour_matrix(strong: float, turn: float) -> NDArray[np.float32]:
    """Colours turned about grey by ``turn`` and moved away from it by ``strong``: [3, 3]."""
    cos, sin, third = np.cos(turn), np.sin(turn), 1 / 3
    side = np.sqrt(third) * sin
    around = np.full((3, 3), (1 - cos) * third, np.float32) + np.eye(3, dtype=np.float32) * cos
    around += side * np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]], np.float32)
    return (strong * np.eye(3, dtype=np.float32) + (1 - strong) * _LUMA) @ around

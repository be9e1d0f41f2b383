"""The built-in clips: handwritten digits (scikit-learn's) in motion, and the motion is the label.

One digit moves, another stands still somewhere. The one that moves starts anywhere and comes back over the
opposite edge, so that at any single moment it is equally likely to be at any place, whatever the motion: one
frame alone says nothing about the label. Opposite motions show the same frames in the opposite order, so that
frames without their order cannot tell these apart either: half of the labels right is the most that they
allow.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MOTIONS = ("up", "down", "left", "right", "clockwise", "counterclockwise")
SIDE = 32
"""Height and width in pixels."""
FRAMES = 16
COUNTS = {"train": 2400, "validation": 360, "test": 1200}
SEED = 20_210_329
_ZOOM = 2  # each pixel of an 8x8 digit is so many pixels wide
_NOISE = 24  # grey levels of the noise, at most

_STEPS = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}
_TURNS = {"clockwise": 1, "counterclockwise": -1}


class Moving(NamedTuple):
    """Clips of moving digits."""

    frames: NDArray[np.uint8]
    """[N, T, H, W, 1]."""
    labels: NDArray[np.int64]
    """Number in :data:`MOTIONS` [N]."""
    digits: NDArray[np.int64]
    """Which digit moves and which stands still, 0 to 9 [N, 2]; independent of the label."""


def path_of(
    motion: str,
    speed: float,
    phase: float = 0.0,
    within: Sequence[float] | NDArray[np.float64] = (0.5, 0.5),
    frames: int = FRAMES,
) -> NDArray[np.int64]:
    """Places [T, 2] (down, right) of a motion relative to its start, in pixels.

    ``speed``: pixels a frame. ``phase``: angle in radians where a circle is entered; lines have none.
    ``within``: where in its pixel the motion begins, 0 to 1 each; drawn evenly, a motion backwards takes the
    very steps of the opposite motion.
    """
    time = np.arange(frames)
    if motion in _STEPS:
        exact = time[:, None] * speed * np.array(_STEPS[motion])
    else:
        radius = speed * frames / (2 * np.pi)  # one whole turn in a clip
        angle = phase + _TURNS[motion] * 2 * np.pi * time / frames  # of rows that grow downwards
        exact = radius * np.stack((np.sin(angle), np.cos(angle)), 1)
    return np.floor(exact + np.array(within)).astype(np.int64)


def draw(
    digit: NDArray[np.uint8], start: tuple[int, int], path: NDArray[np.int64], side: int = SIDE
) -> NDArray[np.uint8]:
    """A digit [h, w] along a path, over the edges: [T, side, side]."""
    rows = (start[0] + path[:, :1] + np.arange(digit.shape[0])) % side  # [T, h]
    columns = (start[1] + path[:, 1:] + np.arange(digit.shape[1])) % side  # [T, w]
    frames = np.zeros((len(path), side, side), np.uint8)
    frames[np.arange(len(path))[:, None, None], rows[:, :, None], columns[:, None, :]] = digit
    return frames


@cache
def moving_digits(part: str) -> Moving:
    """The clips of train, validation or test; no handwritten digit is in two of them."""
    names = list(COUNTS)
    images, digits = _digits()
    order = np.random.default_rng(SEED).permutation(len(images))
    shares = np.cumsum([0.0, 0.7, 0.1, 0.2])
    first, end = (int(share * len(order)) for share in shares[names.index(part) :][:2])
    rng = np.random.default_rng((SEED, names.index(part)))
    count = COUNTS[part]
    chosen = order[first:end][rng.integers(0, end - first, (count, 2))]
    labels = rng.permutation(np.arange(count) % len(MOTIONS))
    frames = rng.integers(0, _NOISE, (count, FRAMES, SIDE, SIDE), np.uint8)
    for at, (pair, label) in enumerate(zip(chosen, labels, strict=True)):
        phase, within = rng.uniform(0, 2 * np.pi), rng.random(2)
        moves = path_of(MOTIONS[label], rng.uniform(1.0, 2.5), phase, within)
        for image, path in zip(pair, (moves, np.zeros_like(moves)), strict=True):
            start = int(rng.integers(SIDE)), int(rng.integers(SIDE))
            np.maximum(frames[at], draw(images[image], start, path), out=frames[at])
    return Moving(frames[..., None], labels.astype(np.int64), digits[chosen])


def _digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    from sklearn.datasets import load_digits

    found = load_digits()
    images = (found.images * (255 / 16)).astype(np.uint8)  # [N, 8, 8]
    return images.repeat(_ZOOM, 1).repeat(_ZOOM, 2), found.target.astype(np.int64)

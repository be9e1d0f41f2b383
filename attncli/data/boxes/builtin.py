"""The built-in set: scikit-learn's handwritten digits scattered in scenes.

Digits of several sizes, tints and slants lie on smooth, noisy backgrounds among strokes that are no digits;
they may touch but hardly cover one another. A digit of one part is in no other part.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from attncli.data.boxes.scenes import BoxSet
from attncli.data.images.store import ArrayPictures

SIZE = 128
"""Pixels of a side."""
_PARTS = (("train", 800, 0.7), ("validation", 100, 0.15), ("test", 200, 0.15))
"""Scenes, and share of the digits."""
_SEED = 20


def builtin_scenes() -> tuple[dict[str, BoxSet], list[str]]:
    """The parts, and the names of the classes."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    rng = np.random.default_rng(_SEED)
    order = rng.permutation(len(digits.target))
    parts, at = {}, 0
    for name, count, share in _PARTS:
        end = at + round(share * len(order))
        chosen = order[at:end]
        parts[name] = _scenes(name, count, digits.images[chosen], digits.target[chosen], rng)
        at = end
    return parts, [str(number) for number in range(10)]


def _scenes(
    name: str, count: int, images: NDArray[np.floating], targets: NDArray[np.int64], rng: np.random.Generator
) -> BoxSet:
    pixels = np.empty((count, SIZE, SIZE, 3), np.uint8)
    boxes, labels = [], []
    for number in range(count):
        scene = _background(rng)
        placed: list[tuple[float, ...]] = []
        kinds: list[int] = []
        for _ in range(int(rng.integers(0, 8))):
            which = int(rng.integers(len(targets)))
            ink = _ink(images[which], rng)
            spot = _spot(ink.shape, placed, rng)
            if spot is None:
                continue
            _draw(scene, ink, spot, rng)
            rows, columns = np.nonzero(ink > 0.3)
            placed.append(
                (
                    float(spot[1] + columns.min()),
                    float(spot[0] + rows.min()),
                    float(spot[1] + columns.max() + 1),
                    float(spot[0] + rows.max() + 1),
                )
            )
            kinds.append(int(targets[which]))
        scene += rng.standard_normal(scene.shape, np.float32) * rng.uniform(2, 12)
        pixels[number] = scene.clip(0, 255).astype(np.uint8)
        boxes.append(np.array(placed, np.float32).reshape(-1, 4))
        labels.append(np.array(kinds, np.int64))
    return BoxSet(
        name,
        ArrayPictures(pixels),
        np.full((count, 2), SIZE, np.int64),
        boxes,
        labels,
        [np.zeros(len(one), bool) for one in labels],
        [one.astype(np.float64) for one in boxes],
        [np.prod(one[:, 2:] - one[:, :2], 1, dtype=np.float64) for one in boxes],
        list(range(1, count + 1)),
        [f"{name}-{number}.png" for number in range(1, count + 1)],
    )


def _background(rng: np.random.Generator) -> NDArray[np.floating]:
    """Colours that change slowly, and some strokes."""
    coarse = rng.uniform(20, 130, (4, 4, 3)).astype(np.uint8)
    scene = np.asarray(Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC)).astype(
        np.float32
    )
    for _ in range(int(rng.integers(0, 6))):
        start, way = rng.uniform(0, SIZE, 2), rng.normal(size=2)
        steps = np.linspace(0, rng.uniform(10, 50), 120)[:, None] * way / np.linalg.norm(way)
        bend = (np.linspace(-1, 1, 120)[:, None] ** 2 - 1) * rng.normal(0, 6, 2)
        line = (start + steps + bend).round().astype(int)
        line = line[((line >= 0) & (line < SIZE - 1)).all(1)]
        tint = rng.uniform(60, 220, 3)
        for shift in (0, 1):
            scene[line[:, 0] + shift, line[:, 1]] = tint
    return scene


def _ink(image: NDArray[np.floating], rng: np.random.Generator) -> NDArray[np.floating]:
    """A digit enlarged, slanted and turned a little: [h, w] between 0 and 1."""
    side = int(rng.integers(16, 40))
    small = Image.fromarray((image * (255 / 16)).astype(np.uint8))
    large = small.resize((side, side), Image.Resampling.BICUBIC)
    turn = np.deg2rad(rng.uniform(-12, 12))
    slant = rng.uniform(-0.15, 0.15)
    matrix = np.array([[np.cos(turn), np.sin(turn) + slant], [-np.sin(turn), np.cos(turn)]])
    middle = np.full(2, side / 2)
    shift = middle - matrix @ middle
    values = (matrix[0, 0], matrix[0, 1], shift[0], matrix[1, 0], matrix[1, 1], shift[1])
    turned = large.transform((side, side), Image.Transform.AFFINE, values, Image.Resampling.BILINEAR)
    return np.asarray(turned) / 255.0


def _spot(
    shape: tuple[int, ...], placed: list[tuple[float, ...]], rng: np.random.Generator
) -> tuple[int, int] | None:
    """A free place, or None where none is found soon."""
    height, width = shape
    for _ in range(10):
        y, x = int(rng.integers(0, SIZE - height + 1)), int(rng.integers(0, SIZE - width + 1))
        covered = [
            max(0.0, min(x + width, b[2]) - max(x, b[0])) * max(0.0, min(y + height, b[3]) - max(y, b[1]))
            for b in placed
        ]
        if max(covered, default=0.0) < 0.1 * height * width:
            return y, x
    return None


def _draw(
    scene: NDArray[np.floating], ink: NDArray[np.floating], spot: tuple[int, int], rng: np.random.Generator
) -> None:
    part = scene[spot[0] : spot[0] + ink.shape[0], spot[1] : spot[1] + ink.shape[1]]
    tint = rng.uniform(150, 255, 3)
    part += ink[:, :, None] * (tint - part)

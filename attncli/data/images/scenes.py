"""The built-in pictures to segment: handwritten digits scattered over textures, among things that look alike.

The digits are scikit-learn's (1,797 real ones, 8x8 pixels), enlarged, turned and coloured. 0 to 4 are a
class each; 5 to 9 and cut-up digits lie about too and are background, so that strokes alone do not tell. No
digit of the training scenes is in those of validation or test.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIZE = 96
NAMES = ["background", *"01234"]
COUNTS = {"train": 640, "validation": 100, "test": 100}
_PARTS = {"train": (0, 1200), "validation": (1200, 1500), "test": (1500, 1797)}


def scenes(part: str, count: int | None = None) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pictures [N, 96, 96, 3] and masks [N, 96, 96] of a part; always the same."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    first, end = _PARTS[part]
    count = COUNTS[part] if count is None else count
    images, masks = [], []
    for number in range(count):
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence((7, first, number))))
        image, mask = _scene(rng, digits.images[first:end], digits.target[first:end])
        images.append(image)
        masks.append(mask)
    return np.stack(images), np.stack(masks)


def _scene(
    rng: np.random.Generator, digits: NDArray[np.float64], targets: NDArray[np.int64]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    image = _texture(rng)  # [S, S, 3]
    mask = np.zeros((SIZE, SIZE), np.uint8)
    whole, cut = int(rng.integers(5, 9)), int(rng.integers(0, 2))
    for real in rng.permutation([True] * whole + [False] * cut):
        at = int(rng.integers(len(digits)))
        digit = digits[at] / 16
        if not real:
            digit = _cut_up(rng, digit)
        label = 1 + int(targets[at]) if real and targets[at] < len(NAMES) - 1 else 0
        side = int(rng.integers(22, 40))
        ink = _drawn(digit, side, float(rng.uniform(-20, 20)))
        top, left = (int(rng.integers(0, SIZE - side + 1)) for _ in range(2))
        here = np.s_[top : top + side, left : left + side]
        if real and (mask[here] > 0).any():
            continue
        colour = image[here].mean((0, 1)) + rng.choice([-1, 1]) * rng.uniform(60, 120, 3)
        image[here] += ink[..., None] * (np.clip(colour, 0, 255) - image[here])
        mask[here][ink > 0.4] = label
    image += rng.normal(0, 6, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), mask


def _texture(rng: np.random.Generator) -> NDArray[np.float64]:
    """Noise of several sizes around a colour."""
    image = np.broadcast_to(rng.uniform(60, 195, 3), (SIZE, SIZE, 3)).copy()
    for cells, strength in ((3, 25), (8, 15), (24, 8)):
        small = rng.normal(0, 1, (cells, cells)).astype(np.float32)
        large = Image.fromarray(small).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        image += strength * np.asarray(large)[..., None] * rng.uniform(0.5, 1.5, 3)
    return image


def _drawn(digit: NDArray[np.float64], side: int, degrees: float) -> NDArray[np.float64]:
    """A digit as ink from 0 to 1, [side, side]."""
    inner = max(4, round(side * 0.8))
    shown = Image.fromarray(digit.astype(np.float32)).resize((inner, inner), Image.Resampling.BICUBIC)
    canvas = Image.new("F", (side, side))
    canvas.paste(shown, ((side - inner) // 2, (side - inner) // 2))
    return np.clip(np.asarray(canvas.rotate(degrees, Image.Resampling.BILINEAR), np.float64), 0, 1)


def _cut_up(rng: np.random.Generator, digit: NDArray[np.float64]) -> NDArray[np.float64]:
    """The quarters of a digit in another order, each turned."""
    quarters = [digit[:4, :4], digit[:4, 4:], digit[4:, :4], digit[4:, 4:]]
    mixed = [np.rot90(quarters[at], rng.integers(1, 4)) for at in rng.permutation(4)]
    return np.block([mixed[:2], mixed[2:]])

"""RandAugment: some of fourteen operations, drawn for each picture, at one strength.

Cubuk et al. 2020, https://arxiv.org/abs/1909.13719. Directions are drawn; what comes in from outside is grey
(128), as in AutoAugment.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from attncli.data.images.geometry import IGNORED, Mask, Moved
from attncli.data.images.reading import Pixels, picture, pixels

_GREY = 128
Matrix = tuple[float, float, float, float, float, float]


def _auto_contrast(image: Image.Image, level: float, sign: int) -> Image.Image:
    return ImageOps.autocontrast(image)


def _equalise(image: Image.Image, level: float, sign: int) -> Image.Image:
    return ImageOps.equalize(image)


def _solarise(image: Image.Image, level: float, sign: int) -> Image.Image:
    return ImageOps.solarize(image, round(256 * (1 - level)))


def _posterise(image: Image.Image, level: float, sign: int) -> Image.Image:
    return ImageOps.posterize(image, 8 - round(4 * level))


def _colour(image: Image.Image, level: float, sign: int) -> Image.Image:
    return ImageEnhance.Color(image).enhance(1 + sign * 0.9 * level)


def _contrast(image: Image.Image, level: float, sign: int) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(1 + sign * 0.9 * level)


def _brightness(image: Image.Image, level: float, sign: int) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(1 + sign * 0.9 * level)


def _sharpness(image: Image.Image, level: float, sign: int) -> Image.Image:
    return ImageEnhance.Sharpness(image).enhance(1 + sign * 0.9 * level)


def _rotate(level: float, width: int, height: int) -> Matrix:
    """Up to 30 degrees about the middle."""
    angle = np.deg2rad(30 * level)
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    x, y = width / 2, height / 2
    return cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y


def _shear_x(level: float, width: int, height: int) -> Matrix:
    return 1, 0.3 * level, -0.3 * level * height / 2, 0, 1, 0


def _shear_y(level: float, width: int, height: int) -> Matrix:
    return 1, 0, 0, 0.3 * level, 1, -0.3 * level * width / 2


def _move_x(level: float, width: int, height: int) -> Matrix:
    """Up to 0.45 of the width."""
    return 1, 0, 0.45 * level * width, 0, 1, 0


def _move_y(level: float, width: int, height: int) -> Matrix:
    return 1, 0, 0, 0, 1, 0.45 * level * height


COLOURS: dict[str, Callable[[Image.Image, float, int], Image.Image]] = {
    "auto_contrast": _auto_contrast,
    "equalize": _equalise,
    "solarize": _solarise,
    "posterize": _posterise,
    "color": _colour,
    "contrast": _contrast,
    "brightness": _brightness,
    "sharpness": _sharpness,
}
MOVES: dict[str, Callable[[float, int, int], Matrix]] = {
    "rotate": _rotate,
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _move_x,
    "translate_y": _move_y,
}
OPERATIONS = ("identity", *COLOURS, *MOVES)


def rand_augment(
    image: Pixels,
    rng: np.random.Generator,
    operations: int = 2,
    magnitude: int = 9,
    mask: Mask | None = None,
    ignored: int = IGNORED,
) -> Moved:
    """``operations`` of :data:`OPERATIONS`, each at ``magnitude`` (0-10) in a drawn direction.

    ``image`` uint8 [H, W, C]. Those that move pixels move the ``mask`` [H, W] too; None stays None.
    """
    chosen = rng.integers(len(OPERATIONS), size=operations)
    signs = rng.integers(2, size=operations) * 2 - 1
    return apply(image, [(OPERATIONS[at], int(sign)) for at, sign in zip(chosen, signs, strict=True)],
                 magnitude / 10, mask, ignored)  # fmt: skip


def apply(
    image: Pixels,
    operations: list[tuple[str, int]],
    level: float,
    mask: Mask | None = None,
    ignored: int = IGNORED,
) -> Moved:
    """Named operations with their directions (1 or -1), one after another, at ``level`` from 0 to 1."""
    shown = picture(image)
    for name, sign in operations:
        if name in COLOURS:
            shown = COLOURS[name](shown, level, sign)
        elif name in MOVES:
            matrix = MOVES[name](sign * level, *shown.size)
            fill = _GREY if shown.mode == "L" else (_GREY,) * 3
            shown = shown.transform(
                shown.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=fill
            )
            if mask is not None:
                mask = _move_mask(mask, matrix, ignored)
    return pixels(shown), mask


def _move_mask(mask: Mask, matrix: Matrix, ignored: int) -> Mask:
    shown = Image.fromarray(np.ascontiguousarray(mask if mask.dtype == np.uint8 else mask.astype(np.int32)))
    moved = shown.transform(
        shown.size, Image.Transform.AFFINE, matrix, Image.Resampling.NEAREST, fillcolor=ignored
    )
    return np.asarray(moved).astype(mask.dtype, copy=False)

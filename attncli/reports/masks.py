"""Masks as pictures: class numbers with a palette, and colours over the picture that was segmented."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
_IGNORED = (224, 224, 192)  # Pascal VOC's


def write_mask(mask: NDArray[np.uint8], palette: Sequence[Colour], path: Path) -> None:
    """A PNG whose pixels are the class numbers of ``mask`` [H, W], shown in the palette's colours."""
    from PIL import Image

    image = Image.fromarray(mask, "P")
    image.putpalette(_table(palette).ravel().tolist())
    image.save(path)


def coloured(mask: NDArray[np.uint8], palette: Sequence[Colour]) -> NDArray[np.uint8]:
    """[H, W, 3]; ignored pixels are pale."""
    return _table(palette)[mask]


def overlay(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], palette: Sequence[Colour], strength: float = 0.55
) -> NDArray[np.uint8]:
    """The picture [H, W, C] in grey under the colours of ``mask`` [H, W], borders darker: [H, W, 3]."""
    grey = image.astype(np.float32).mean(2, keepdims=True)
    mixed = (1 - strength) * grey + strength * coloured(mask, palette)
    edge = np.zeros(mask.shape, bool)
    edge[1:] |= mask[1:] != mask[:-1]
    edge[:, 1:] |= mask[:, 1:] != mask[:, :-1]
    mixed[edge] *= 0.5
    return mixed.round().astype(np.uint8)


def draw_overlay(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], palette: Sequence[Colour], path: Path
) -> None:
    """Write :func:`overlay` as a PNG."""
    from PIL import Image

    Image.fromarray(overlay(image, mask, palette)).save(path)


def _table(palette: Sequence[Colour]) -> NDArray[np.uint8]:
    table = np.full((256, 3), _IGNORED, np.uint8)
    table[: len(palette)] = palette
    return table

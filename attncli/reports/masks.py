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


def draw_examples(
    examples: Sequence[tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]],
    palette: Sequence[Colour],
    names: Sequence[str],
    path: Path,
) -> None:
    """Write pictures [H, W, C], each beside its true and its found mask, and what the colours stand for."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    from attncli.reports.fonts import use_fonts

    if not examples:
        return
    shape = examples[0][1].shape
    wide = float(np.clip(2.6 * shape[1] / shape[0], 1.5, 5))
    with use_fonts(names):
        figure = Figure(figsize=(3 * wide + 1.8, 2.6 * len(examples) + 0.4), layout="constrained")
        axes = figure.subplots(len(examples), 3, squeeze=False)
        seen: set[int] = set()
        for row, (image, truth, found) in zip(axes, examples, strict=True):
            shown = np.repeat(image, 3, 2) if image.shape[2] == 1 else image
            for axis, picture in zip(
                row, (shown, coloured(truth, palette), coloured(found, palette)), strict=True
            ):
                axis.imshow(picture, interpolation="nearest")
                axis.set_axis_off()
            seen |= set(np.unique(truth).tolist()) | set(np.unique(found).tolist())
        for axis, title in zip(axes[0], ("picture", "truth", "found"), strict=True):
            axis.set_title(title, fontsize=9)
        table = _table(palette) / 255
        patches = [
            Patch(color=table[at], label=names[at] if at < len(names) else "ignored")
            for at in sorted(seen)[:40]
        ]
        figure.legend(handles=patches, loc="outside right upper", fontsize=7, frameon=False)
        figure.savefig(path, dpi=110)


def _table(palette: Sequence[Colour]) -> NDArray[np.uint8]:
    table = np.full((256, 3), _IGNORED, np.uint8)
    table[: len(palette)] = palette
    return table

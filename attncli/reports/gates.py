"""What the attention of a segmenter lets pass, drawn over the picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_COLUMNS = 4

Map = tuple[str, NDArray[np.float32]]
"""A name and values [h, w] of places of the picture, or [C] of channels."""


def draw_gates(
    image: NDArray[np.uint8], found: NDArray[np.uint8], maps: Sequence[Map], path: Path, title: str = ""
) -> None:
    """Write the picture [H, W, C], what was found in it ([H, W, 3]), and every map.

    Maps of places lie over the picture, with the range of their values; those of channels are sorted bars.
    """
    from matplotlib.figure import Figure

    from attncli.reports.fonts import use_fonts

    height, width = image.shape[:2]
    grey = image.astype(np.float32).mean(2)
    panels = 2 + len(maps)
    columns = min(_COLUMNS, panels)
    rows = -(-panels // columns)
    wide = float(np.clip(2.8 * width / height, 1.6, 5.5))
    with use_fonts([title]):
        figure = Figure(figsize=(columns * (wide + 0.6), rows * 3.2 + 0.4), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        shown = np.repeat(image, 3, 2) if image.shape[2] == 1 else image
        for axis, (name, picture) in zip(axes, (("picture", shown), ("found", found)), strict=False):
            axis.imshow(picture)
            axis.set_title(name, fontsize=9)
        for axis, (name, values) in zip(axes[2:], maps, strict=False):
            if values.ndim == 1:
                axis.bar(range(len(values)), np.sort(values)[::-1], width=1.0)
                axis.set_title(f"{name}: factor of each channel", fontsize=9)
                continue
            axis.imshow(grey, cmap="gray", alpha=0.6, extent=(0, width, height, 0))
            drawn = axis.imshow(
                values, cmap="magma", alpha=0.65, extent=(0, width, height, 0), interpolation="bilinear"
            )
            axis.set_title(f"{name} ({values.shape[0]}x{values.shape[1]})", fontsize=9)
            figure.colorbar(drawn, ax=axis, shrink=0.75)
        for axis, (_, values) in zip(axes, [("", grey), ("", grey), *maps], strict=False):
            if values.ndim == 2:
                axis.set_axis_off()
        for axis in axes[panels:]:
            axis.set_axis_off()
        if title:
            figure.suptitle(title, fontsize=10, parse_math=False)
        figure.savefig(path, dpi=120)

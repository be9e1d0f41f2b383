"""Which frames and regions of a clip counted: a strip of frames, and a page that plays them.

Legend: P moments of a clip, H and W pixels, R rows and Q columns of regions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attncli.reports.fonts import use_fonts
from attncli.reports.picture_attention import enlarged, shown

MOST = 12
"""Frames of a clip in a strip: of more, those that counted most."""


@dataclass(frozen=True)
class Strip:
    """One clip at one scale."""

    title: str
    frames: np.ndarray
    """uint8 [T, H, W, C]; T is P times the frames of a moment."""
    numbers: Sequence[int]
    """Of the frames in the video, from 0."""
    moments: np.ndarray
    """[P]: how much each counted; all of a clip add up to 1."""
    regions: np.ndarray
    """[P, R, Q]."""
    gradients: np.ndarray
    """[P, R, Q]: what each region adds to the output; negative ones speak against it."""

    @property
    def each(self) -> int:
        """Frames of a moment."""
        return len(self.frames) // len(self.moments)

    def number(self, moment: int) -> int:
        """Of a moment's first frame."""
        return int(self.numbers[moment * self.each])


def key_frames(strip: Strip, most: int = 3) -> list[int]:
    """Numbers of the frames at which the moments that counted most begin, the most important first."""
    order = np.argsort(-strip.moments, kind="stable")[:most]
    return [strip.number(int(at)) for at in order]


def draw_strips(strips: Sequence[Strip], path: Path, title: str = "") -> None:
    """Write a picture: for each clip its frames with their shares, the regions, and the gradients."""
    from matplotlib.figure import Figure

    columns = max(min(MOST, len(strip.moments)) for strip in strips)
    height, width = strips[0].frames.shape[1:3]
    wide = float(np.clip(1.15 * width / height, 0.8, 2.2))
    size = (columns * wide + 1.2, len(strips) * 3 * 1.35 + 0.8)
    with use_fonts([title]):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(3 * len(strips), columns, squeeze=False)
        for axis in axes.flat:
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_frame_on(False)
        for number, strip in enumerate(strips):
            rows = axes[3 * number : 3 * number + 3]
            _draw_strip(rows, strip, height)
            for row, name in zip(rows, (strip.title, "attention", "gradients"), strict=True):
                row[0].set_ylabel(name, fontsize=8)
        if title:
            figure.suptitle(title, fontsize=10, parse_math=False)
        figure.savefig(path, dpi=130)


def _draw_strip(rows: np.ndarray, strip: Strip, height: int) -> None:
    chosen = np.sort(np.argsort(-strip.moments, kind="stable")[:MOST])
    keys = set(key_frames(strip))
    strongest = max(float(strip.regions.max()), 1e-12)
    largest = max(float(np.abs(strip.gradients).max()), 1e-12)
    for column, at in enumerate(chosen.tolist()):
        ground, number = shown(strip.frames[at * strip.each], 112), strip.number(at)
        grey, pixels = ground.mean(2), ground.shape[:2]
        rows[0][column].imshow(ground)
        bold = "bold" if number in keys else "normal"
        told = f"frame {number}: {100 * strip.moments[at]:.0f} %"
        rows[0][column].set_title(told, fontsize=7, fontweight=bold)
        for row, weights, colours, least, most in (
            (rows[1], strip.regions[at], "inferno", 0.0, strongest),
            (rows[2], strip.gradients[at], "RdBu", -largest, largest),
        ):
            row[column].imshow(grey, cmap="gray", vmin=0, vmax=255)
            row[column].imshow(enlarged(weights, pixels), cmap=colours, vmin=least, vmax=most, alpha=0.6)

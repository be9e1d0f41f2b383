"""Attention over a picture: what each head looks at, rollout and gradients, laid over the pixels.

Legend: L layers, H heads, T tokens (those before the grid first), N = R S cells of a grid of R rows and S
columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from attncli.reports.fonts import use_fonts
from attncli.reports.heads import Maps, rollout

Grid = tuple[int, int]
Overlay = tuple[str, np.ndarray, bool]
"""A name, weights [R, S], and whether negative ones speak against the output."""


def seen(maps: Maps, reads: np.ndarray, grid: Grid) -> list[np.ndarray]:
    """For each layer and head what the tokens that the output ``reads`` [T] look at: [H, R, S]."""
    cells = grid[0] * grid[1]
    return [
        np.einsum("t,htk->hk", reads, w.astype(np.float64))[:, -cells:].reshape(-1, *grid) for _, w in maps
    ]


def rolled(maps: Maps, reads: np.ndarray, grid: Grid) -> np.ndarray:
    """Attention rollout to what the output reads, [R, S]."""
    return (reads @ rollout([weights for _, weights in maps]))[-grid[0] * grid[1] :].reshape(grid)


def distances(grid: Grid, prefix: int) -> np.ndarray:
    """Distance in cells of any two tokens [T, T]; 0 where one is not on the grid."""
    row, column = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
    found = np.hypot(row[:, None] - row, column[:, None] - column)
    return np.pad(found, ((prefix, 0), (prefix, 0)))


def enlarged(weights: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Weights [R, S] as many pixels as the picture has."""
    rows = np.arange(size[0]) * weights.shape[0] // size[0]
    columns = np.arange(size[1]) * weights.shape[1] // size[1]
    return weights[rows[:, None], columns]


def shown(image: np.ndarray, least: int = 224) -> np.ndarray:
    """A picture uint8 [H, W, C] as RGB, so many times its size that its sides have ``least`` pixels."""
    times = max(1, -(-least // min(image.shape[:2])))
    image = np.repeat(image, 3, 2) if image.shape[2] == 1 else image
    return image.repeat(times, 0).repeat(times, 1)


def draw_picture_attention(
    image: np.ndarray, layers: Sequence[np.ndarray], overlays: Sequence[Overlay], path: Path, title: str = ""
) -> None:
    """Write a picture: the input and ``overlays`` above; below a row for each layer, a column for each head.

    ``image`` uint8 [H, W, C]; ``layers`` [H, R, S] each.
    """
    from matplotlib.figure import Figure

    ground = shown(image)
    heads = max((len(weights) for weights in layers), default=0)
    columns = max(1 + len(overlays), heads + (heads > 1))
    side = 1.7 if columns <= 8 else 1.2
    with use_fonts([title]):
        figure = Figure(
            figsize=(columns * side + 0.4, (1 + len(layers)) * (side + 0.2) + 0.6), layout="constrained"
        )
        axes = figure.subplots(1 + len(layers), columns, squeeze=False)
        for axis in axes.flat:
            axis.axis("off")
        axes[0][0].imshow(ground)
        axes[0][0].set_title("picture", fontsize=8)
        for axis, (name, weights, signed) in zip(axes[0][1:], overlays, strict=False):
            _lay(axis, ground, weights, signed)
            axis.set_title(name, fontsize=8)
        for number, weights in enumerate(layers):
            row = axes[number + 1]
            for head, one in enumerate(weights):
                _lay(row[head], ground, one, False)
                row[head].set_title(f"layer {number + 1} head {head + 1}", fontsize=7)
            if len(weights) > 1:
                _lay(row[len(weights)], ground, weights.mean(0), False)
                row[len(weights)].set_title(f"layer {number + 1} mean", fontsize=7)
        if title:
            figure.suptitle(title, fontsize=10, parse_math=False)
        figure.savefig(path, dpi=130)


def _lay(axis: object, ground: np.ndarray, weights: np.ndarray, signed: bool) -> None:
    """The picture in grey, its shades and the weights in colour."""
    size = ground.shape[:2]
    strength = enlarged(weights, size)
    largest = max(float(np.abs(strength).max()), 1e-12)
    axis.imshow(ground.mean(2), cmap="gray", vmin=0, vmax=255)  # type: ignore[attr-defined]
    colours, least = ("RdBu", -largest) if signed else ("inferno", 0.0)
    axis.imshow(strength, cmap=colours, vmin=least, vmax=largest, alpha=0.6)  # type: ignore[attr-defined]

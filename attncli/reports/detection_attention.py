"""What a detector attends to, drawn over the picture: scales, places, links between boxes, points."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attncli.reports.detection import colour

_COLUMNS = 4
_PROPOSALS = 40
_LINKS = 5
"""Strongest links drawn of each detection."""


def draw_looked(image: NDArray[np.uint8], drawn: Any, looked: Any, path: Path, title: str = "") -> None:
    """Write the picture [H, W, 3], the picture with its detections, its proposals, and every panel.

    ``looked`` has ``found``, ``proposals``, ``likely`` and ``panels``, which are told apart by their fields:
    ``values`` [h, w] or [C], ``boxes`` with links, or ``places``.
    """
    from matplotlib.figure import Figure

    from attncli.reports.fonts import use_fonts

    height, width = image.shape[:2]
    panels = [panel for panel in looked.panels if not _empty(panel)]
    count = 2 + len(panels)
    columns = min(_COLUMNS, count)
    rows = -(-count // columns)
    wide = float(np.clip(2.9 * width / height, 1.6, 5.5))
    grey = image.astype(np.float32).mean(2)
    with use_fonts([title]):
        figure = Figure(figsize=(columns * (wide + 0.5), rows * 3.3 + 0.4), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        axes[0].imshow(np.asarray(drawn), extent=(0, width, height, 0))
        axes[0].set_title(f"{len(looked.found.scores)} found", fontsize=9)
        _draw_proposals(axes[1], image, looked)
        for axis in axes[:2]:
            axis.set_axis_off()
        for axis, panel in zip(axes[2:], panels, strict=False):
            if hasattr(panel, "boxes"):
                _draw_links(axis, image, panel)
            elif hasattr(panel, "places"):
                _draw_points(axis, image, panel, looked.found)
            elif panel.values.ndim == 1:
                axis.bar(range(len(panel.values)), np.sort(panel.values)[::-1], width=1.0)
                axis.set_title(f"{panel.name}: factor of each channel", fontsize=7)
                continue
            else:
                axis.imshow(grey, cmap="gray", extent=(0, width, height, 0))
                shown = axis.imshow(
                    panel.values,
                    cmap="magma",
                    alpha=0.6,
                    extent=(0, width, height, 0),
                    interpolation="bilinear",
                )
                axis.set_title(panel.name, fontsize=7)
                figure.colorbar(shown, ax=axis, shrink=0.75)
            axis.set_axis_off()
        for axis in axes[count:]:
            axis.set_axis_off()
        if title:
            figure.suptitle(title, fontsize=10, parse_math=False)
        figure.savefig(path, dpi=120)


def _empty(panel: Any) -> bool:
    return hasattr(panel, "weights") and not len(panel.weights)


def _rectangle(axis: Any, box: Sequence[float], **style: Any) -> None:
    from matplotlib.patches import Rectangle

    axis.add_patch(Rectangle((box[0], box[1]), box[2] - box[0], box[3] - box[1], fill=False, **style))


def _plain(axis: Any, image: NDArray[np.uint8], name: str) -> None:
    height, width = image.shape[:2]
    axis.imshow(image, extent=(0, width, height, 0), alpha=0.55)
    axis.set_title(name, fontsize=9)
    axis.set_xlim(0, width)
    axis.set_ylim(height, 0)


def _draw_proposals(axis: Any, image: NDArray[np.uint8], looked: Any) -> None:
    count = min(_PROPOSALS, len(looked.proposals))
    _plain(axis, image, f"best {count} proposals")
    for box, score in zip(looked.proposals[:count], looked.likely[:count], strict=True):
        _rectangle(axis, box, edgecolor="#d62728", linewidth=0.8, alpha=float(np.clip(score, 0.15, 1)))


def _draw_links(axis: Any, image: NDArray[np.uint8], panel: Any) -> None:
    _plain(axis, image, f"{panel.name}: each detection's strongest links")
    middles = (panel.boxes[:, :2] + panel.boxes[:, 2:]) / 2
    for number, (at, weights) in enumerate(zip(panel.source, panel.weights, strict=True)):
        tint = tuple(part / 255 for part in colour(number))
        _rectangle(axis, panel.boxes[at], edgecolor=tint, linewidth=1.4)
        strongest = np.argsort(-np.where(np.arange(len(weights)) == at, -1, weights))[:_LINKS]
        for other in strongest:
            if weights[other] <= 0:
                continue
            ends = middles[[at, other]]
            axis.plot(
                ends[:, 0],
                ends[:, 1],
                color=tint,
                linewidth=0.4 + 4 * float(weights[other]),
                alpha=0.8,
            )
            axis.plot(*middles[other], "o", color=tint, markersize=2.5)


def _draw_points(axis: Any, image: NDArray[np.uint8], panel: Any, found: Any) -> None:
    _plain(axis, image, f"{panel.name}: where each detection looks")
    for number, (places, weights) in enumerate(zip(panel.places, panel.weights, strict=True)):
        tint = tuple(part / 255 for part in colour(number))
        if number < len(found.boxes):
            _rectangle(axis, found.boxes[number], edgecolor=tint, linewidth=1.2)
        size = 1 + 40 * weights / max(float(weights.max()), 1e-6)
        axis.scatter(places[:, 0], places[:, 1], s=size, color=[tint], alpha=0.6, linewidths=0)

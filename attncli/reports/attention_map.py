"""The picture of recorded attention weights: every head of every layer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attncli.reports.fonts import use_fonts
from attncli.reports.heads import Layer, Maps, rollout
from attncli.training.files import disk_errors

_LABELLED = 0.1
"""Inches that a token needs to be written beside a map."""
_INCHES = 30.0
"""Width of a picture of many heads."""
_LONGEST = 24
_PIXELS = 4000
"""Of a picture's longer side, at most."""


def draw_maps(maps: Maps, tokens: list[str], path: Path, title: str = "") -> None:
    """Write a picture of self attention: a row a layer, a column a head, the rollout last."""
    weights = [each for _, each in maps]
    layers = [Layer(f"layer {number}", each, tokens, tokens) for number, each in enumerate(weights, 1)]
    rolled = [rollout(weights[:number]) for number in range(1, len(weights) + 1)]
    draw_layers(layers, path, title, rolled)


def draw_layers(
    layers: Sequence[Layer], path: Path, title: str = "", rolled: Sequence[np.ndarray] | None = None
) -> None:
    """Write a picture: a row a layer, a column a head; queries down, keys across, each layer with its own.

    ``rolled`` [T, T] of each layer stands in a last column.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with use_fonts([*(token for layer in layers for token in (*layer.rows, *layer.columns)), title]):
        heads = max(len(layer.weights) for layer in layers)
        longest = max(max(len(layer.rows), len(layer.columns)) for layer in layers)
        columns = heads + (rolled is not None)
        side = float(np.clip(0.17 * longest, 1.6, np.clip(_INCHES / columns, 1.6, 5.0)))
        size = (columns * side + 1.5, len(layers) * side + 1.2)
        figure = Figure(figsize=size, dpi=min(130.0, _PIXELS / max(size)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(len(layers), columns, squeeze=False)
        for number, layer in enumerate(layers):
            labelled = side / longest >= _LABELLED
            for column in range(columns):
                axis = axes[number][column]
                if heads > column >= len(layer.weights):
                    axis.axis("off")
                    continue
                last = column == heads
                weights = rolled[number] if last else layer.weights[column]
                _draw(axis, weights, layer, last, labelled and column == 0, labelled)
                if number == 0:
                    axis.set_title("rollout so far" if last else f"head {column + 1}", fontsize=9)
            _name(axes[number][0], layer.name)
        if title:
            figure.suptitle(title, fontsize=10, parse_math=False)
        with disk_errors(str(path)):
            figure.savefig(path)


def _draw(axis: Any, weights: np.ndarray, layer: Layer, rolled: bool, down: bool, across: bool) -> None:
    """A map; its tokens at the side where ``down``, and below where ``across``."""
    axis.imshow(weights, cmap="magma" if rolled else "viridis", vmin=0, interpolation="nearest")
    axis.set_xticks([])
    axis.set_yticks([])
    font = {"fontsize": 5.5, "parse_math": False}
    if down:
        axis.set_yticks(range(len(layer.rows)), [_label(token) for token in layer.rows], **font)
    if across:
        axis.set_xticks(
            range(len(layer.columns)), [_label(token) for token in layer.columns], rotation=90, **font
        )
    axis.tick_params(length=1.5, width=0.5)


def _name(axis: Any, name: str) -> None:
    place = {"xy": (0, 1), "xycoords": "axes fraction", "xytext": (-2, 4), "textcoords": "offset points"}
    axis.annotate(name, **place, ha="right", fontsize=9)


def _label(token: str) -> str:
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in token)
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 1] + "…"

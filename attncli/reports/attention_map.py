"""Pictures and figures of recorded attention weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attncli.reports.fonts import use_fonts

Maps = list[tuple[str, np.ndarray]]
"""Layer name and weights [H, Tq, Tk] of one example, in the order of the forward pass."""


@dataclass(frozen=True)
class HeadFigures:
    """What one head does on one input."""

    layer: int
    head: int
    entropy: float
    """Mean entropy of a query's weights, nats: 0 looks at one token, log(T) at all alike."""
    span: float
    """Mean distance in tokens between a query and what it looks at."""
    strongest: tuple[int, int]
    """Query and key of the largest single weight off the diagonal."""


def head_figures(maps: Maps, between: np.ndarray | None = None) -> list[HeadFigures]:
    """Entropy, span and strongest link of every head.

    ``between`` [Tq, Tk]: the distances that spans are means of, where tokens do not stand in a row.
    """
    rows = []
    for layer, (_, weights) in enumerate(maps):
        distance = np.abs(np.arange(weights.shape[1])[:, None] - np.arange(weights.shape[2])[None, :])
        for head, w in enumerate(weights.astype(np.float64)):
            w = np.clip(w, 0, None)  # some mechanisms have weights below zero
            entropy = float(-(w * np.log(np.clip(w, 1e-12, None))).sum(-1).mean())
            off = np.where(distance == 0, -1.0, w)
            query, key = np.unravel_index(int(off.argmax()), off.shape)
            span = float((w * (distance if between is None else between)).sum(-1).mean())
            rows.append(HeadFigures(layer, head, entropy, span, (int(query), int(key))))
    return rows


def rollout(maps: Maps) -> np.ndarray:
    """Attention rollout [T, T]: heads averaged, residual stream counted as half, layers multiplied.

    Abnar and Zuidema 2020, https://arxiv.org/abs/2005.00928. Self-attention only.
    """
    total = np.eye(maps[0][1].shape[1])
    for _, weights in maps:
        mixed = 0.5 * weights.astype(np.float64).mean(0) + 0.5 * np.eye(total.shape[0])
        total = mixed / mixed.sum(-1, keepdims=True) @ total
    return total


def draw_maps(maps: Maps, tokens: list[str], path: Path, title: str = "") -> None:
    """Write a picture: a row a layer, a column a head, the rollout last; queries down, keys across."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    with use_fonts([*tokens, title]):
        layers, heads, length = len(maps), max(w.shape[0] for _, w in maps), len(tokens)
        side = float(np.clip(0.17 * length, 1.6, 5.0))
        labelled = length <= 40
        figure, axes = plt.subplots(
            layers,
            heads + 1,
            figsize=((heads + 1) * side + 1.5, layers * side + 1.2),
            squeeze=False,
            layout="constrained",
        )
        rolled = [rollout(maps[: n + 1]) for n in range(layers)]
        for layer, (_, weights) in enumerate(maps):
            for column in range(heads + 1):
                axis = axes[layer][column]
                if column < heads and column >= weights.shape[0]:
                    axis.axis("off")
                    continue
                last = column == heads
                axis.imshow(
                    rolled[layer] if last else weights[column], cmap="magma" if last else "viridis", vmin=0
                )
                axis.set_xticks([])
                axis.set_yticks([])
                if layer == 0:
                    axis.set_title("rollout so far" if last else f"head {column + 1}", fontsize=9)
                if labelled and column == 0:
                    axis.set_yticks(range(length), tokens, fontsize=5.5, parse_math=False)
                elif column == 0:
                    axis.set_ylabel("query")
                if labelled and layer == layers - 1:
                    axis.set_xticks(range(length), tokens, fontsize=5.5, rotation=90, parse_math=False)
                if column == 0:
                    axis.annotate(
                        f"layer {layer + 1}",
                        xy=(0, 1),
                        xycoords="axes fraction",
                        xytext=(-2, 4),
                        textcoords="offset points",
                        ha="right",
                        fontsize=9,
                    )
        if title:
            figure.suptitle(title, fontsize=10, parse_math=False)
        figure.savefig(path, dpi=130)
        plt.close(figure)

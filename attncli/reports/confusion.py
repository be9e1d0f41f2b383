"""A picture of which labels are taken for which."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from attncli.metrics.classification import confusion

_WRITTEN = 30
"""Labels up to which cells carry their counts."""
_MOST = 60
"""Labels up to which each has its name at the edge."""


def draw_confusion(targets: np.ndarray, predicted: np.ndarray, names: list[str], path: Path) -> None:
    """Write the picture: a row for each true label, a column for each predicted one, shares of the row."""
    draw_counts(confusion(targets, predicted, len(names)), names, path)


def draw_counts(counts: np.ndarray, names: list[str], path: Path) -> None:
    """Write the picture of a confusion matrix [L, L]."""
    from matplotlib.figure import Figure

    from attncli.reports.fonts import use_fonts

    count = len(names)
    rows = counts.sum(1, keepdims=True)
    shares = np.divide(counts, rows, out=np.zeros(counts.shape), where=rows > 0)
    shown = [name if len(name) <= 24 else f"{name[:23]}…" for name in names]
    side = float(np.clip(0.42 * count, 3.2, 16))
    with use_fonts(shown):
        figure = Figure(figsize=(side + 2.2, side + 1.4), layout="constrained")
        axis = figure.subplots()
        image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axis.set_xlabel("predicted")
        axis.set_ylabel("true")
        ticks = range(count) if count <= _MOST else range(0, count, -(-count // _MOST))
        size = float(np.clip(220 / max(count, 1), 5, 10))
        turned = 0 if count <= 4 and max(map(len, shown)) <= 10 else 90
        labels = [shown[at] for at in ticks]
        axis.set_xticks(list(ticks), labels, rotation=turned, fontsize=size, parse_math=False)
        axis.set_yticks(list(ticks), labels, fontsize=size, parse_math=False)
        if count <= _WRITTEN:
            for row, column in np.ndindex(counts.shape):
                if counts[row, column]:
                    color = "white" if shares[row, column] > 0.55 else "black"
                    text = _short(int(counts[row, column]))
                    axis.text(column, row, text, ha="center", va="center", color=color, fontsize=size)
        total = int(counts.sum())
        right = int(counts.trace())
        share = f", {100 * right / total:.1f} %" if total else ""
        axis.set_title(f"{right:,} of {total:,} right{share}", fontsize=10)
        figure.colorbar(image, ax=axis, shrink=0.8, label="share of the true label")
        figure.savefig(path, dpi=130)


def _short(number: int) -> str:
    """A count that fits into a cell."""
    for limit, unit in ((10**9, "G"), (10**6, "M"), (10**4, "k")):
        if number >= limit:
            share = number / (1000 if unit == "k" else limit)
            return f"{share:.0f}{unit}" if share >= 10 else f"{share:.1f}{unit}"
    return f"{number:,}"

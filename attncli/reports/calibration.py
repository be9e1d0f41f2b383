"""A picture of whether probabilities can be taken at their word."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from attncli.metrics.classification import BINS, calibration


def draw_calibration(probabilities: np.ndarray, targets: np.ndarray, path: Path) -> None:
    """Write the picture: accuracy over confidence of the likeliest label, and a count of predictions."""
    from matplotlib.figure import Figure

    found = calibration(probabilities, targets)
    edges = np.arange(BINS) / BINS
    width = 1 / BINS
    figure = Figure(figsize=(4.8, 5.4), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    filled = found.counts > 0
    upper.plot((0, 1), (0, 1), color="0.5", linestyle="--", linewidth=1, label="as good as they say")
    upper.bar(
        edges[filled],
        found.accuracy[filled],
        width,
        align="edge",
        color="#4c78a8",
        edgecolor="white",
        label="accuracy",
    )
    upper.plot(found.confidence[filled], found.accuracy[filled], "o", color="#f58518", markersize=4)
    upper.set_ylim(0, 1)
    upper.set_ylabel("accuracy")
    upper.set_title(f"calibration error {100 * found.error:.1f} %", fontsize=10)
    upper.legend(fontsize=8, loc="upper left", frameon=False)
    lower.bar(edges, found.counts, width, align="edge", color="0.6", edgecolor="white")
    lower.set_xlim(0, 1)
    lower.set_xlabel("probability of the predicted label")
    lower.set_ylabel("predictions")
    figure.savefig(path, dpi=130)

"""The picture of what mechanisms learn against what they cost: a point a mechanism, a panel a task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attncli.console import rate
from attncli.training.files import disk_errors

_COLUMNS = 2
_OFFSETS = [(dx, dy) for far in (6, 12, 20, 30) for dx, dy in ((far, 0), (-far, 0), (0, far), (0, -far))] + [
    (dx, dy) for far in (8, 16, 26) for dx in (far, -far) for dy in (far, -far)
]
"""Where a name may stand from its point, in points, the nearest first."""


def draw_tradeoff(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw each mechanism's result over its speed, a panel for each probe, into ``path`` (a picture).

    Dashed lines are chance, dotted ones the ceiling. Up is better for accuracies; of losses down is.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    probes = list(dict.fromkeys(row["probe"] for row in rows))
    columns = min(_COLUMNS, len(probes))
    height = math.ceil(len(probes) / columns)
    figure = Figure(figsize=(7.2 * columns, 5.0 * height), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(height, columns, squeeze=False).ravel()
    names = list(dict.fromkeys(row["mechanism"] for row in rows))
    for panel in panels[len(probes) :]:
        panel.axis("off")
    for panel, probe in zip(panels, probes, strict=False):
        mine = [row for row in rows if row["probe"] == probe]
        _panel(panel, mine, {name: _colour(at) for at, name in enumerate(names)})
    figure.draw_without_rendering()
    for panel, probe in zip(panels, probes, strict=False):
        _label(panel, [row for row in rows if row["probe"] == probe])
    with disk_errors(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)


def _colour(number: int) -> Any:
    from matplotlib import colormaps

    colours = colormaps["tab10"].colors
    return colours[number % len(colours)]


def _panel(axis: Any, rows: Sequence[dict[str, Any]], colours: dict[str, Any]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for row in rows:
        x, y = row["tokens_per_second"], row["value"]
        axis.plot([x], [y], "o", ms=6, color=colours[row["mechanism"]], zorder=3)
    first = rows[0]
    better = "higher is better" if first["metric"] == "accuracy" else "lower is better"
    axis.set_title(f"{first['probe']}, {first['seconds']:.3g} s of training each")
    axis.set(xscale="log", xlabel="tokens a second in training", ylabel=f"{first['metric']} ({better})")
    axis.axhline(first["chance"], color="0.6", ls="--", lw=1)
    if first["ceiling"] is not None:
        axis.axhline(first["ceiling"], color="0.6", ls=":", lw=1)
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: rate(x)))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.grid(alpha=0.25, which="both")
    axis.margins(x=0.18, y=0.12)


def _label(axis: Any, rows: Sequence[dict[str, Any]]) -> None:
    """Write each mechanism's name where it covers least."""
    from matplotlib.transforms import Bbox

    figure = axis.figure
    renderer, scale = figure.canvas.get_renderer(), figure.dpi / 72
    places = [axis.transData.transform((row["tokens_per_second"], row["value"])) for row in rows]
    taken = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in places]
    frame = axis.get_window_extent(renderer)
    for row, (x, y) in zip(rows, places, strict=True):
        text = axis.annotate(
            row["mechanism"],
            (row["tokens_per_second"], row["value"]),
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=8,
            arrowprops={"arrowstyle": "-", "lw": 0.5, "color": "0.6", "shrinkA": 0, "shrinkB": 3},
        )
        size = text.get_window_extent(renderer)
        best = None
        for dx, dy in _OFFSETS:
            left = x + dx * scale - (size.width if dx < 0 else size.width / 2 if dx == 0 else 0)
            low = y + dy * scale - (size.height if dy < 0 else size.height / 2 if dy == 0 else 0)
            box = Bbox.from_bounds(left, low, size.width, size.height)
            outside = box.x0 < frame.x0 or box.x1 > frame.x1 or box.y0 < frame.y0 or box.y1 > frame.y1
            cost = sum(_shared(box, other) for other in taken) + (1e6 if outside else 0) + abs(dx) + abs(dy)
            if best is None or cost < best[0]:
                best = cost, dx, dy, box
        _, dx, dy, box = best
        text.set_position((dx, dy))
        text.set_ha("right" if dx < 0 else "center" if dx == 0 else "left")
        text.set_va("top" if dy < 0 else "center" if dy == 0 else "bottom")
        taken.append(box)


def _shared(a: Any, b: Any) -> float:
    """Area that two boxes share."""
    width, height = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
    return max(0.0, width) * max(0.0, height)

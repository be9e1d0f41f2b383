"""The picture of a benchmark of attention: time and memory over the length, a line a case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attncli.training.files import disk_errors


def draw_growth(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw time and peak memory of one sequence over its length, both logarithmic, into ``path`` (a picture).

    A row of panels for each precision and direction; grey lines are direct calls and other libraries.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups = list(dict.fromkeys((row["precision"], row["direction"]) for row in rows))
    cases = list(dict.fromkeys(row["case"] for row in rows))
    figure = Figure(figsize=(13, 4.2 * len(groups)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(groups), 2, squeeze=False)
    styles = _styles(cases)
    for (precision, direction), (time, memory) in zip(groups, panels, strict=True):
        for axis, field, unit in ((time, "milliseconds", "ms"), (memory, "peak_mib", "MiB")):
            for case in cases:
                key = case, precision, direction
                mine = [r for r in rows if (r["case"], r["precision"], r["direction"]) == key]
                if mine:
                    x = [r["length"] for r in mine]
                    axis.plot(x, [r[field] / r["batch"] for r in mine], label=case, ms=3.5, **styles[case])
            axis.set(xscale="log", yscale="log", xlabel="tokens", ylabel=f"{unit} for a sequence")
            axis.set_xscale("log", base=2)
            lengths = sorted({r["length"] for r in rows})
            axis.set_xticks(lengths, [f"{n:,}" for n in lengths])
            axis.grid(alpha=0.25)
            axis.set_title(f"{_TITLES[unit]}, {precision}, {_DIRECTIONS[direction]}")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=8)
    with disk_errors(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)


_TITLES = {"ms": "time", "MiB": "peak memory"}
_DIRECTIONS = {"forward": "forward", "backward": "forward and backward"}
_MARKS = "osD^vP"
_LINES = ("--", ":", "-.")
_PEER_MARKS = "x+1*"


def _styles(cases: list[str]) -> dict[str, dict[str, Any]]:
    """A colour and mark for each case of ours; all others are grey, told apart by line and mark."""
    from matplotlib import colormaps

    colours = [colour for at, colour in enumerate(colormaps["tab10"].colors) if at != 7]  # grey is for others
    styles: dict[str, dict[str, Any]] = {}
    ours = others = 0
    for case in cases:
        if case == "attn layer":
            styles[case] = {"color": "k", "marker": "o"}
        elif case.startswith("attn "):
            mark = _MARKS[ours // len(colours) % len(_MARKS)]
            styles[case] = {"color": colours[ours % len(colours)], "marker": mark}
            ours += 1
        else:
            line, mark = _LINES[others % len(_LINES)], _PEER_MARKS[others // len(_LINES) % len(_PEER_MARKS)]
            styles[case] = {"color": "0.45", "ls": line, "marker": mark}
            others += 1
    return styles

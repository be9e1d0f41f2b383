"""The picture of a training run: losses, evaluations and the learning rate over the steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attncli.training.files import disk_errors, read_json
from attncli.training.records import read_records

_Points = list[tuple[int, float]]


def draw_curves(run: Path) -> Path | None:
    """Draw ``curves.png`` into the run folder from its ``metrics.jsonl``; its path, None without lines.

    From left to right: training loss and evaluated losses; evaluated shares (accuracies ...); the goal
    if it is neither; learning rate and gradient norm. The best evaluation is marked.
    """
    records = read_records(run / "metrics.jsonl")
    logged = [r for r in records if "learning_rate" in r]
    evaluated = _evaluated(records)
    if not logged and not evaluated:
        return None
    best = read_json(run / "best.json") if (run / "best.json").exists() else {}
    losses = {name: points for name, points in evaluated.items() if name.endswith("loss")}
    shares = {
        name: points
        for name, points in evaluated.items()
        if name not in losses and all(0 <= value <= 1 for _, value in points)
    }
    panels: list[tuple[str, dict[str, _Points]]] = [("loss", losses)]
    if shares:
        panels.append(("share", shares))
    goal = best.get("metric")
    if goal in evaluated and goal not in losses | shares:
        panels.append((goal, {goal: evaluated[goal]}))

    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8 * (len(panels) + 1), 3.8), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels) + 1)
    training = [(r["step"], r["loss"]) for r in logged if r.get("loss") is not None]
    if training:
        axes[0].plot(*zip(*training, strict=True), color="0.6", lw=1, label="training loss")
    for axis, (title, curves) in zip(axes, panels, strict=False):
        _draw_evaluations(axis, curves, best)
        axis.set_ylabel(title)
        axis.legend(framealpha=0.8, edgecolor="none", fontsize=8)
    _draw_rates(axes[-1], logged)
    for axis in axes:
        axis.set_xlabel("step")
        axis.grid(alpha=0.25)
        axis.set_xlim(left=0)
    figure.suptitle(run.name, fontsize=10)
    path = run / "curves.png"
    with disk_errors(str(path)):
        aside = run / ".tmp-curves.png"
        figure.savefig(aside, format="png")
        aside.replace(path)
    return path


def _evaluated(records: list[dict[str, Any]]) -> dict[str, _Points]:
    """Step and value of each metric; values that are no numbers are left out."""
    found: dict[str, _Points] = {}
    for record in records:
        for name, value in record.get("evaluation", {}).items():
            if value is not None:
                found.setdefault(name, []).append((record["step"], value))
    return found


def _draw_evaluations(axis: Any, curves: dict[str, _Points], best: dict[str, Any]) -> None:
    for number, (name, points) in enumerate(curves.items()):
        label, color = name.replace("_", " "), f"C{number}"
        values = {value for _, value in points}
        if len(points) > 1 and len(values) == 1:  # a baseline
            axis.axhline(values.pop(), color=color, ls=":", lw=1, label=label)
            continue
        axis.plot(*zip(*points, strict=True), color=color, marker="o", ms=3, label=f"validation {label}")
        if name == best.get("metric"):
            at = (best["step"], best["value"])
            axis.annotate(f"{at[1]:.4g}", at, textcoords="offset points", xytext=(-4, -12), ha="right")


def _draw_rates(axis: Any, logged: list[dict[str, Any]]) -> None:
    steps = [r["step"] for r in logged]
    axis.plot(steps, [r["learning_rate"] for r in logged], color="C0")
    axis.set_ylabel("learning rate", color="C0")
    norms = axis.twinx()
    norms.plot(steps, [r["gradient_norm"] for r in logged], color="C1", lw=0.8, alpha=0.7)
    norms.set_ylabel("gradient norm", color="C1")
    norms.set_ylim(bottom=0)

"""The curves of a run: loss, learning rate and evaluation over the steps, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attncli.training.files import disk_errors, read_json
from attncli.training.records import read_records


def draw_curves(run: Path) -> Path | None:
    """Draw ``metrics.jsonl`` of the folder ``run`` to ``curves.png`` there; its path, None without lines.

    One panel holds the training loss with its terms, one the learning rate with the gradient norm, and
    one each metric of the evaluations, the best marked.
    """
    records = read_records(run / "metrics.jsonl")
    logged = [r for r in records if "loss" in r]
    evaluations = [r for r in records if "evaluation" in r]
    metrics = list(dict.fromkeys(name for r in evaluations for name in r["evaluation"]))
    if not logged and not metrics:
        return None
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = 2 + len(metrics)
    columns = min(3, panels)
    rows = -(-panels // columns)
    figure = Figure(figsize=(4.6 * columns, 3.2 * rows), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    _draw_losses(axes[0], logged)
    _draw_rates(axes[1], logged)
    best = read_json(run / "best.json") if (run / "best.json").exists() else {}
    for axis, name in zip(axes[2:], metrics, strict=False):
        _draw_metric(axis, name, evaluations, best)
    for axis in axes[:panels]:
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
    for axis in axes[panels:]:
        axis.remove()
    figure.suptitle(run.name)
    path = run / "curves.png"
    with disk_errors(str(path)):
        aside = run / ".tmp-curves.png"
        figure.savefig(aside, format="png")
        aside.replace(path)
    return path


def _draw_losses(axis: Any, logged: list[dict[str, Any]]) -> None:
    terms = [name for name in (logged[0] if logged else {}) if name.startswith("loss/")]
    for name in ["loss", *terms]:
        points = [(r["step"], r[name]) for r in logged if r.get(name) is not None]
        axis.plot(
            *zip(*points, strict=True), label=name.removeprefix("loss/"), lw=1.6 if name == "loss" else 1
        )
    axis.set_title("training loss")
    if terms:
        axis.legend()


def _draw_rates(axis: Any, logged: list[dict[str, Any]]) -> None:
    steps = [r["step"] for r in logged]
    axis.plot(steps, [r["learning_rate"] for r in logged], color="tab:green")
    axis.set_title("learning rate (green), gradient norm (grey)")
    beside = axis.twinx()
    beside.plot(steps, [r["gradient_norm"] for r in logged], color="grey", lw=0.8, alpha=0.7)


def _draw_metric(axis: Any, name: str, evaluations: list[dict[str, Any]], best: dict[str, Any]) -> None:
    points = [(r["step"], r["evaluation"][name]) for r in evaluations]
    points = [(step, value) for step, value in points if value is not None]
    if points:
        axis.plot(*zip(*points, strict=True), marker=".", color="tab:orange")
    axis.set_title(name)
    if best.get("metric") == name:
        axis.axvline(best["step"], color="black", ls=":", lw=1)
        axis.set_title(f"{name} (best {best['value']:.4g} at step {best['step']:,})")

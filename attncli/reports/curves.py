"""The picture of a training run: losses, evaluations and the learning rate over the steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attncli.training.records import read_records


def draw_curves(run: Path, goal: str = "loss") -> Path:
    """Draw ``curves.png`` into the run folder from its ``metrics.jsonl``; gives the picture's path.

    Left: training loss by logged step and the evaluated ``goal`` with its best point. Middle: the other
    evaluated shares (accuracies). Right: learning rate and gradient norm.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    records = read_records(run / "metrics.jsonl")
    steps = [r for r in records if "learning_rate" in r]
    evaluations = [(r["step"], r["evaluation"]) for r in records if "evaluation" in r]
    shares = sorted({name for _, metrics in evaluations for name in metrics if name.endswith("accuracy")})
    figure, axes = plt.subplots(1, 2 + bool(shares), figsize=(5.2 * (2 + bool(shares)), 3.8), layout="constrained")
    left, right = axes[0], axes[-1]
    if steps:
        left.plot([r["step"] for r in steps], [r["loss"] for r in steps], color="0.6", lw=1, label="training loss")
        right.plot([r["step"] for r in steps], [r["learning_rate"] for r in steps], color="C0")
        right.set_ylabel("learning rate", color="C0")
        norms = right.twinx()
        norms.plot([r["step"] for r in steps], [r["gradient_norm"] for r in steps], color="C1", lw=0.8, alpha=0.7)
        norms.set_ylabel("gradient norm", color="C1")
        norms.set_ylim(bottom=0)
    if evaluations:
        _evaluated(left, evaluations, goal)
    if shares:
        for name in shares:
            values = [metrics.get(name) for _, metrics in evaluations]
            axes[1].plot([step for step, _ in evaluations], values, marker=".", label=name.replace("_", " "))
        axes[1].set_ylim(0, 1)
        axes[1].set_ylabel("share right, validation")
        axes[1].legend(frameon=False, fontsize=8)
    left.set_ylabel("nats")
    left.legend(frameon=False, fontsize=8)
    for axis in axes:
        axis.set_xlabel("step")
        axis.grid(alpha=0.25)
        axis.set_xlim(left=0)
    figure.suptitle(run.name, fontsize=10)
    path = run / "curves.png"
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def _evaluated(axis: Any, evaluations: list[tuple[int, dict[str, float]]], goal: str) -> None:
    """Evaluations of ``goal``, with the best one marked, and the unigram baseline where there is one."""
    steps = [step for step, _ in evaluations]
    values = [metrics[goal] for _, metrics in evaluations]
    axis.plot(steps, values, color="C0", marker="o", ms=3, label=f"validation {goal}")
    best = min(range(len(values)), key=values.__getitem__)
    axis.annotate(
        f"{values[best]:.3f}", (steps[best], values[best]), textcoords="offset points", xytext=(0, -12), ha="center"
    )
    if "masked_loss" in evaluations[-1][1] and goal != "masked_loss":
        axis.plot(steps, [m["masked_loss"] for _, m in evaluations], color="C2", ls="--", lw=1, label="masked loss")
    baseline = evaluations[-1][1].get("unigram_loss")
    if baseline:
        axis.axhline(baseline, color="C3", ls=":", lw=1, label="unigram baseline")

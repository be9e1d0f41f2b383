"""``attn evaluate``: measure a finished run on its validation part, another part, or other data."""

from __future__ import annotations

import time

from attncli import console
from attncli.commands.shared import check_requirements, parse_requirements, present
from attncli.commands.trained import load_task, open_run, say_run
from attncli.errors import RecipeError


def main(
    first: str, *, split: str | None = None, data: str | None = None, require: list[str] | None = None
) -> None:
    """Metrics of the run's best weights."""
    requirements = parse_requirements(require or [])
    if split and data:
        raise RecipeError("--split is a part of the run's own data; --data names other data: give one")
    run, loaded = open_run("evaluate", first)
    say_run(run)
    from attncli.commands.outcomes import draw_outcomes
    from attncli.training import World, measuring

    task, _ = load_task(run, loaded, data=True)
    if split or data:
        task.measure_on(split=split, source=data)
    began = time.perf_counter()
    with measuring(task.model, run):
        metrics = task.evaluate(World.join()) | task.finals(run.path)
    if task.name == "detect":
        draw_outcomes(task, run.path)
    what = data or split or "validation"
    present(
        {
            "run": str(run.path),
            "on": what,
            "metrics": metrics,
            "speed": {"seconds": time.perf_counter() - began},
            **task.notes(),
        },
        title=f"{run.name} on {what}",
    )
    check_requirements(requirements, metrics)
    console.say(f"weights: the best of {run.path}")

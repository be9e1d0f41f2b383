"""What a run goes on from, and what must be said about it."""

from __future__ import annotations

from typing import Any

from attncli.errors import RecipeError
from attncli.recipe.sections import ScheduleSection
from attncli.training.checkpoints import Checkpoints
from attncli.training.files import read_json
from attncli.training.progress import Progress
from attncli.training.run import RunFolder
from attncli.training.schedules import rate_share


def starting_point(run: RunFolder, checkpoints: Checkpoints, resume: bool) -> dict[str, Any]:
    """Step of the checkpoint to load (None: begin), notes, and the choices that the run has made.

    Cleans up after a killed process. JSON values, as the first process finds them for all.
    """
    if not resume:
        if checkpoints.all():
            raise RecipeError(f"{run.path} has checkpoints already", then=f"attn resume {run.path}")
        return {"step": None, "notes": [], "choices": {}}
    checkpoints.clean()
    found, notes = checkpoints.newest()
    checkpoints.set_aside(found.step if found else 0)
    if found is None:
        notes = ["no checkpoint yet: starting at step 0"]
    choices = run.path / "choices.json"
    return {
        "step": found.step if found else None,
        "notes": notes,
        "choices": read_json(choices) if choices.exists() else {},
    }


def check_length(progress: Progress, steps: int, schedule: ScheduleSection, run: RunFolder) -> list[str]:
    """Sentences on going on from ``progress`` to ``steps``; :class:`RecipeError` when it is past them."""
    if steps < progress.step:
        raise RecipeError(
            f"train.steps={steps}: this run is at step {progress.step} already",
            then=f"attn resume {run.path} train.steps={progress.step * 2}",
        )
    if progress.step == steps and not progress.pending:
        return [f"finished at step {steps:,}; attn resume {run.path} train.steps={steps * 2} extends it"]
    notes = [f"resuming after step {progress.step:,} of {steps:,}"]
    if progress.steps != steps:
        before = rate_share(schedule, progress.step, progress.steps)
        now = rate_share(schedule, progress.step + 1, steps)
        notes.append(
            f"train.steps was {progress.steps:,}: from here on the learning rate follows the schedule of "
            f"{steps:,} steps and goes from {before:.3g} to {now:.3g} of its peak; the end differs from that "
            f"of a run of {steps:,} steps from the start"
        )
    return notes

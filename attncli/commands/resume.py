"""``attn resume``: go on with an interrupted run, or extend a finished one."""

from __future__ import annotations

from attncli import console
from attncli.commands.shared import check_metric_names, parse_requirements
from attncli.commands.trained import metric_names, open_run, task_class
from attncli.errors import RecipeError
from attncli.recipe.presenting import to_yaml
from attncli.recipe.sections import TrainSection

_KEPT = (
    "data.",
    "tokenizer.",
    "image.",
    "clip.",
    "model.",
    "train.objective.",
    "train.seed=",
    "train.batch=",
    "train.optimizer=",
    "train.average=",
    "train.ema_decay=",
    "train.average_last=",
)
"""What a run is: with other values its weights, state or order of data would not fit."""


def main(first: str, settings: list[str], *, require: list[str] | None = None) -> None:
    """Train the run on from its newest sound checkpoint."""
    requirements = parse_requirements(require or [])
    run, before = open_run("resume", first)
    _, loaded = open_run("resume", first, settings)
    kept = [text for text in settings if text.startswith(_KEPT)]
    if kept:
        what = [f"{text}: a run keeps this setting; with another value it is a new run" for text in kept]
        raise RecipeError(*what, then=f"attn {run.info['command']} {run.recipe_file} {' '.join(settings)}")
    result = run.result()
    if result and result.get("state") == "finished" and not _longer(before.recipe.train, loaded.recipe.train):
        raise RecipeError(
            f"{run.path} is finished after {result['steps']} steps",
            then=f"attn resume {run.path} train.steps={2 * result['steps']}",
        )
    from attncli.commands.training import run_to_end
    from attncli.ops.allocator import keep_freed_memory

    check_metric_names(requirements, metric_names(run.info["command"], loaded.recipe))
    keep_freed_memory()
    console.say(f"resuming {run.path}")
    task = task_class(run.info["command"], loaded.recipe).build(loaded.recipe, run.path)
    text = to_yaml(loaded.recipe) if settings else None
    run_to_end(task, task.settle(loaded.recipe.train), run, requirements, resume=True, recipe=text)


def _longer(before: TrainSection, after: TrainSection) -> bool:
    """Whether a run of ``after`` may go on where one of ``before`` ends."""
    if before.steps and after.steps:
        return after.steps > before.steps
    if before.steps or after.steps:  # steps against epochs: the loop knows
        return True

    def passes(train: TrainSection, name: str) -> float:
        return getattr(train, name, None) or 0.0

    return any(passes(after, name) > passes(before, name) for name in ("epochs", "fresh_epochs"))

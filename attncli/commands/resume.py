"""``attn resume``: go on with an interrupted run, or extend a finished one."""

from __future__ import annotations

from attncli import console
from attncli.commands.shared import check_metric_names, parse_requirements
from attncli.commands.trained import TASKS, open_run
from attncli.errors import RecipeError
from attncli.ops.allocator import keep_freed_memory
from attncli.recipe.presenting import to_yaml

_FREE = ("train.steps", "train.keep", "train.log_every", "train.device", "train.threads", "train.accumulate",
         "train.tensorboard", "train.checkpoint_every", "train.patience")  # fmt: skip
"""Settings that may change in a run without making it another."""


def main(first: str, settings: list[str], *, require: list[str] | None = None) -> None:
    """Train the run on from its newest sound checkpoint."""
    requirements = parse_requirements(require or [])
    run, before = open_run("resume", first)
    run, loaded = open_run("resume", first, settings)
    changed = [text for text in settings if text.partition("=")[0] not in _FREE]
    if changed:
        what = [f"{text}: a run keeps its settings; a resumed one may change {', '.join(_FREE)}" for text in changed]
        raise RecipeError(*what, then=f"attn {run.info['command']} {run.recipe_file} {' '.join(settings)}")
    if run.result() and loaded.recipe.train.steps <= before.recipe.train.steps:
        steps = before.recipe.train.steps
        raise RecipeError(
            f"{run.path} is finished after {steps} steps", then=f"attn resume {run.path} train.steps={2 * steps}"
        )
    from attncli.commands.training import run_to_end
    from attncli.tasks.language_metrics import metric_names
    from attncli.training import World

    check_metric_names(requirements, metric_names(loaded.recipe))
    keep_freed_memory()
    world = World.join()
    task = TASKS[run.info["command"]].build(loaded.recipe, run.path)
    if settings:
        world.first(lambda: run.replace_recipe(to_yaml(loaded.recipe)))
    console.say(f"resuming {run.path}")
    run_to_end(task, loaded.recipe.train, run, requirements, resume=True)

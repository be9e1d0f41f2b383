"""``attn segment``: train a model that gives every pixel a class, or apply a finished one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from attncli import console
from attncli.commands.shared import (
    check_metric_names,
    find_target,
    parse_requirements,
    refuse,
    split_arguments,
)
from attncli.commands.trained import APPLY, metric_names, module_of, open_run
from attncli.errors import Problem, RecipeError
from attncli.recipe.loading import load_recipe
from attncli.recipe.segment import SegmentData


def main(
    first: str | None,
    args: list[str],
    *,
    data: str | None = None,
    out: Path | None = None,
    dry_run: bool = False,
    require: list[str] | None = None,
    flip: bool = False,
) -> None:
    """Train the recipe ``first`` with settings ``args``, or segment the pictures ``args`` with the run
    ``first``."""
    requirements = parse_requirements(require or [])
    target = find_target("segment", first)
    console.say(target.sentence)
    if target.kind == "run":
        refuse(
            {"--data": data, "--dry-run": dry_run, "--require": require}, "train", f"attn evaluate {first}"
        )
        run, loaded = open_run("segment", target.path)
        module_of(APPLY, "segment", loaded.recipe).apply("segment", run, loaded, args, out=out, flip=flip)
        return
    refuse({"--flip": flip}, "apply a run", f"attn segment {first} evaluate.flip=true")
    overrides, inputs = split_arguments(args)
    if inputs:
        what = [Problem(f"{text!r} is no setting; a recipe takes key=value") for text in inputs]
        raise RecipeError(*what, then="attn runs list")
    loaded = load_recipe("segment", target.name, overrides, data)
    _locate(loaded.recipe.data)
    check_metric_names(requirements, metric_names("segment", loaded.recipe))
    from attncli.commands import training
    from attncli.tasks.segment import SegmentTask

    if loaded.recipe.train.seeds > 1 and not dry_run:
        from attncli.commands.seeds import train_seeds

        train_seeds(loaded, SegmentTask.build, requirements=requirements, out=out)
        return
    training.train(loaded, SegmentTask.build, requirements=requirements, out=out, dry_run=dry_run)


def _locate(section: SegmentData) -> None:
    """Make paths absolute, so that the run can be resumed and measured from anywhere."""

    def absolute(text: Any) -> Any:
        path = os.path.expanduser(str(text))
        return os.path.abspath(path) if text not in ("", "builtin") and os.path.exists(path) else text

    section.path, section.validation = absolute(section.path), absolute(section.validation)
    section.tests = [absolute(text) if os.sep in text else text for text in section.tests]

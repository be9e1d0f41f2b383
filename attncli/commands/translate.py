"""``attn translate``: train a translation model, or translate with a finished one."""

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
from attncli.commands.trained import metric_names
from attncli.errors import Problem, RecipeError
from attncli.recipe.loading import load_recipe
from attncli.recipe.translate import ParallelData


def main(
    first: str | None,
    args: list[str],
    *,
    data: str | None = None,
    out: Path | None = None,
    dry_run: bool = False,
    require: list[str] | None = None,
    **applying: Any,
) -> None:
    """Train the recipe ``first`` with settings ``args``, or translate ``args`` with the run ``first``."""
    requirements = parse_requirements(require or [])
    target = find_target("translate", first)
    console.say(target.sentence)
    if target.kind == "run":
        options = {"--data": data, "--out": out, "--dry-run": dry_run, "--require": require}
        refuse(options, "train", f"attn evaluate {first}")
        from attncli.commands.apply_translation import apply

        apply(target.path, args, **applying)
        return
    options = {f"--{name.replace('_', '-')}": value for name, value in applying.items()}
    refuse(options, "apply a run", f"attn translate {first} --help")
    overrides, inputs = split_arguments(args)
    if inputs:
        what = [Problem(f"{text!r} is no setting; a recipe takes key=value") for text in inputs]
        raise RecipeError(*what, then="attn runs list")
    loaded = load_recipe("translate", target.name, overrides, data)
    _locate(loaded.recipe.data)
    check_metric_names(requirements, metric_names("translate", loaded.recipe))
    from attncli.commands import training
    from attncli.tasks.translate import TranslateTask

    training.train(loaded, TranslateTask.build, requirements=requirements, out=out, dry_run=dry_run)


def _locate(section: ParallelData) -> None:
    """Make paths absolute, so that the run can be resumed and measured from anywhere."""

    def absolute(text: str) -> str:
        path = os.path.expanduser(text)
        parent, name = os.path.split(path)
        begins = os.path.isdir(parent or ".") and any(
            entry.startswith(f"{name}.") for entry in os.listdir(parent or ".")
        )
        return os.path.abspath(path) if os.path.exists(path) or begins else text

    if section.path != "builtin":
        section.path = absolute(section.path)
    if isinstance(section.validation, str):
        section.validation = absolute(section.validation)
    section.tests = [absolute(text) if os.sep in text else text for text in section.tests]

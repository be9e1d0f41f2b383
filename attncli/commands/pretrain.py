"""``attn pretrain``: train a language model from raw text, or apply a finished one."""

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
from attncli.recipe.pretrain import PretrainRecipe


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
    """Train the recipe ``first`` with settings ``args``, or apply the run ``first`` to inputs ``args``."""
    requirements = parse_requirements(require or [])
    target = find_target("pretrain", first)
    console.say(target.sentence)
    if target.kind == "run":
        options = {"--data": data, "--out": out, "--dry-run": dry_run, "--require": require}
        refuse(options, "train", f"attn evaluate {first}")
        from attncli.commands.apply_language import apply

        apply(target.path, args, **applying)
        return
    options = {f"--{name.replace('_', '-')}": value for name, value in applying.items()}
    refuse(options, "apply a run", f"attn pretrain {first} --help")
    overrides, inputs = split_arguments(args)
    if inputs:
        what = [Problem(f"{text!r} is no setting; a recipe takes key=value") for text in inputs]
        raise RecipeError(*what, then="attn runs list")
    loaded = load_recipe("pretrain", target.name, overrides, data)
    _locate(loaded.recipe)
    check_metric_names(requirements, metric_names("pretrain", loaded.recipe))
    from attncli.commands import training
    from attncli.tasks.pretrain import PretrainTask

    training.train(loaded, PretrainTask.build, requirements=requirements, out=out, dry_run=dry_run)


def _locate(recipe: PretrainRecipe) -> None:
    """Make paths absolute, so that the run can be resumed and measured from anywhere."""
    for section, key in ((recipe.data, "source"), (recipe.data, "validation"), (recipe.tokenizer, "path")):
        text = str(getattr(section, key))
        path = os.path.expanduser(text)
        if text not in ("", "builtin") and os.path.exists(path):
            setattr(section, key, os.path.abspath(path))

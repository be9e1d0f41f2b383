"""Several runs of one recipe, each with a seed of its own, and what their metrics have in common."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attncli import console
from attncli.commands import training
from attncli.commands.shared import Requirement, check_requirements
from attncli.errors import RecipeError
from attncli.recipe.loading import LoadedRecipe
from attncli.recipe.presenting import to_yaml
from attncli.training import RunFolder, Task


def train_seeds(
    loaded: LoadedRecipe, build: Callable[[Any], Task], *, requirements: list[Requirement], out: Path | None
) -> None:
    """``train.seeds`` runs, each in a folder below ``out``, and the mean and deviation of their metrics.

    A run in ``out`` that is finished is not done again, and one that was interrupted goes on.
    """
    recipe = loaded.recipe
    seeds = range(recipe.train.seed, recipe.train.seed + recipe.train.seeds)
    variants = {
        seed: recipe.model_copy(update={"train": recipe.train.model_copy(update={"seed": seed, "seeds": 1})})
        for seed in seeds
    }
    train_group(loaded, build, variants, "seed", requirements=requirements, out=out)


def train_group(
    loaded: LoadedRecipe,
    build: Callable[[Any], Task],
    variants: Mapping[int, Any],
    what: str,
    *,
    requirements: list[Requirement],
    out: Path | None,
) -> None:
    """A run of each of the ``variants`` of a recipe, by its number, and what their metrics have in common.

    ``what`` they differ in, one word: seed, fold.
    """
    name = loaded.name.rpartition("/")[2]
    group = out or _free(f"{name}-{what}s")
    runs = []
    for place, (number, recipe) in enumerate(variants.items(), 1):
        console.say(f"{what} {number} ({place} of {len(variants)})")
        runs.append(_train_one(recipe, loaded, build, group / f"{what}-{number}"))
    results = [run.result() or {} for run in runs]
    summary = summarise([result["metrics"] for result in results])
    report = {
        "runs": [str(run.path) for run in runs],
        f"{what}s": list(variants),
        "metrics": {metric: values["mean"] for metric, values in summary.items()},
        "deviation": {metric: values["deviation"] for metric, values in summary.items()},
        "each": {metric: values["each"] for metric, values in summary.items()},
    }
    (group / f"{what}s.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    console.document(report)
    if not console.json_mode():
        columns = ["metric", "mean", "deviation", *(f"{what} {number}" for number in variants)]
        rows = [
            (metric, values["mean"], values["deviation"], *values["each"])
            for metric, values in summary.items()
        ]
        console.table(columns, rows, title=f"{group}: {len(variants)} {what}s", right=columns[1:])
    console.say(f"runs: {group} ({what}s.json has these figures)")
    console.say(f"next: attn runs compare {' '.join(str(run.path) for run in runs[:2])}")
    check_requirements(requirements, report["metrics"])


def _train_one(recipe: Any, loaded: LoadedRecipe, build: Callable[..., Task], path: Path) -> RunFolder:
    text = to_yaml(recipe)
    if (path / "run.json").exists():
        run = RunFolder.open(path)
        if run.recipe_file.read_text(encoding="utf-8") != text:
            raise RecipeError(f"{path} is a run of other settings", then="give another folder with --out")
        if run.result() and run.state == "finished":
            console.say(f"{path} is finished")
            return run
        task = build(recipe, path)
        training.run_to_end(task, task.settle(recipe.train), run, [], resume=True, quiet=True)
        return run
    task = build(recipe)
    name = loaded.name.rpartition("/")[2]
    run = RunFolder.create(path, command=loaded.command, recipe=name, text=text)
    task.save(run.path)
    training.run_to_end(task, task.settle(recipe.train), run, [], resume=False, quiet=True)
    return run


def _free(name: str) -> Path:
    number = 1
    while (path := Path("runs") / f"{name}-{number}").exists():
        number += 1
    return path


def summarise(metrics: Sequence[Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """Of each metric that all runs have: its mean, its standard deviation over runs, and each value."""
    found = {}
    for name in metrics[0]:
        each = [one[name] for one in metrics if name in one]
        if len(each) < len(metrics):
            continue
        mean = math.fsum(each) / len(each)
        spread = math.fsum((value - mean) ** 2 for value in each)
        deviation = math.sqrt(spread / (len(each) - 1)) if len(each) > 1 else 0.0
        found[name] = {"mean": mean, "deviation": deviation, "each": each}
    return found

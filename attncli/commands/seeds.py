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
    first, count = recipe.train.seed, recipe.train.seeds
    name = loaded.name.rpartition("/")[2]
    group = out or _free(name)
    runs = []
    for number in range(count):
        settings = recipe.train.model_copy(update={"seed": first + number, "seeds": 1})
        one = recipe.model_copy(update={"train": settings})
        console.say(f"seed {first + number} ({number + 1} of {count})")
        runs.append(_train_one(one, loaded, build, group / f"seed-{first + number}"))
    results = [run.result() or {} for run in runs]
    summary = summarise([result["metrics"] for result in results])
    report = {
        "runs": [str(run.path) for run in runs],
        "seeds": [first + number for number in range(count)],
        "metrics": {metric: values["mean"] for metric, values in summary.items()},
        "deviation": {metric: values["deviation"] for metric, values in summary.items()},
        "each": {metric: values["each"] for metric, values in summary.items()},
    }
    (group / "seeds.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    console.document(report)
    if not console.json_mode():
        columns = ["metric", "mean", "deviation", *(f"seed {seed}" for seed in report["seeds"])]
        rows = [
            (metric, values["mean"], values["deviation"], *values["each"])
            for metric, values in summary.items()
        ]
        console.table(columns, rows, title=f"{group}: {count} seeds", right=columns[1:])
    console.say(f"runs: {group} (seeds.json has these figures)")
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
    while (path := Path("runs") / f"{name}-seeds-{number}").exists():
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

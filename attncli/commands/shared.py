"""What every command needs: the first argument, ``--require``, and results laid out."""

from __future__ import annotations

import json
import operator
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from attncli import console
from attncli.errors import CheckpointError, RecipeError, RequirementError, nearest
from attncli.recipe import catalogue
from attncli.recipe.loading import OVERRIDE, unknown_recipe

if TYPE_CHECKING:
    from attncli.training.run import RunFolder

RUNS = Path("runs")
"""Where runs are kept unless ``--out`` says otherwise."""


@dataclass(frozen=True)
class Target:
    """What a command's first argument is."""

    kind: Literal["recipe", "file", "run"]
    name: str
    """The recipe's name, its file, or the run folder, as other functions take it."""
    path: Path
    sentence: str
    """What it is taken for: the first line that the command says."""


def find_target(command: str, first: str | None, also: Sequence[str] = ()) -> Target:
    """Take ``first`` for a shipped recipe, a recipe file or a run folder of ``command``.

    A recipe's name wins over a folder of that name, which is meant by ``./name``. ``also``: other commands
    whose runs ``command`` applies.

    Raises:
        RecipeError: there is no such thing; the recipes, or the nearest, are named.
        CheckpointError: a folder that is no run, or a run of another command.
    """
    if first is None:
        raise _forgotten(command, "a recipe is missing")
    path = Path(os.path.expanduser(first))
    if catalogue.matches(first, command):
        entry = catalogue.find(first, command)
        aside = f" (the folder is ./{first})" if path.is_dir() else ""
        return Target("recipe", entry.full, entry.path, f"{first} is the recipe {entry.full}{aside}")
    if path.is_dir():
        return Target("run", first, path, _run_sentence((command, *also), path))
    if path.suffix in (".yaml", ".yml"):
        if path.exists():
            return Target("file", first, path, f"{first} is a recipe file")
        raise RecipeError(f"there is no file {first}", then=f"attn recipes list {command}")
    if path.exists():
        raise RecipeError(
            f"{first} is no recipe: recipes are .yaml files; data is named after the recipe",
            then=f"attn {command} {_example(command)} --data {first}",
        )
    if OVERRIDE.fullmatch(first) or first.startswith("-"):
        raise _forgotten(command, f"a recipe is missing before {first}")
    raise unknown_recipe(command, first)


def find_run(command: str, first: str) -> Path:
    """The run folder that ``first`` names, for commands that take nothing else."""
    path = Path(os.path.expanduser(first))
    if path.is_dir():
        open_run(path)
        return path
    if path.exists():
        raise CheckpointError(f"{first} is a file; a run is a folder", then="attn runs list")
    if catalogue.matches(first):
        entry = catalogue.matches(first)[0]
        what = f"{first} is a recipe; attn {command} takes the folder of a finished run"
        raise RecipeError(what, then=f"attn {entry.command} {entry.name}")
    near = nearest(path.name, (p.name for p in path.parent.glob("*/") if (p / "run.json").exists()))
    if near is None and (RUNS / first / "run.json").exists():
        near, path = first, RUNS / first
    if near:
        meant = path.parent / near
        what = f"there is no folder {first}; did you mean {meant}?"
        raise CheckpointError(what, then=f"attn {command} {meant}")
    raise CheckpointError(f"there is no folder {first}", then="attn runs list")


def open_run(folder: Path) -> RunFolder:
    """A run folder; :class:`CheckpointError` when the folder is something else."""
    from attncli.training.run import RunFolder

    if (folder / "config.json").exists() and not (folder / "run.json").exists():
        what = f"{folder} is a Hugging Face model folder, not a run: it has no run.json"
        raise CheckpointError(what, then="attn runs list")
    return RunFolder.open(folder)


def split_arguments(args: Iterable[str]) -> tuple[list[str], list[str]]:
    """Arguments as (overrides, inputs): those of the shape ``key.sub=value``, and the others."""
    overrides, inputs = [], []
    for text in args:
        (overrides if OVERRIDE.fullmatch(text) else inputs).append(text)
    return overrides, inputs


_OPERATORS = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?"
_REQUIREMENT = re.compile(rf"\s*(\w[\w./@-]*)\s*(>=|<=|==|>|<)\s*({_NUMBER})\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Requirement:
    """A condition on a result: ``bleu>=35``."""

    metric: str
    sign: str
    value: float

    @classmethod
    def parse(cls, text: str) -> Requirement:
        """Read ``metric op number``; op is one of ``>= <= > < ==``."""
        match = _REQUIREMENT.fullmatch(text)
        if match is None:
            what = f"--require {text!r} is no condition; it takes a metric, one of >= <= > < ==, and a number"
            raise RecipeError(what, then="quote it, as in --require 'loss<=2.5'")
        return cls(match[1], match[2], float(match[3]))

    def met(self, metrics: Mapping[str, Any]) -> bool:
        """Whether ``metrics`` fulfil it; a value that is missing or not a number never does."""
        value = metrics.get(self.metric)
        return isinstance(value, int | float) and _OPERATORS[self.sign](value, self.value)

    def __str__(self) -> str:
        return f"{self.metric}{self.sign}{self.value:g}"


def parse_requirements(texts: Iterable[str]) -> list[Requirement]:
    """All ``--require`` options; every malformed one is named."""
    parsed, problems, then = [], [], None
    for text in texts:
        try:
            parsed.append(Requirement.parse(text))
        except RecipeError as error:
            problems += error.problems
            then = error.then
    if problems:
        raise RecipeError(*problems, then=then)
    return parsed


def check_metric_names(requirements: Sequence[Requirement], names: Iterable[str]) -> None:
    """Refuse requirements on metrics that the command does not report. Before training where possible.

    A name ``*.bleu`` stands for every test set's: ``test_2016_flickr.bleu``.
    """
    known = sorted(names)
    problems = []
    for requirement in requirements:
        part = requirement.metric.rpartition(".")[0]
        possible = [name.replace("*", part) for name in known if part or not name.startswith("*.")]
        if requirement.metric not in possible:
            near = nearest(requirement.metric, possible)
            hint = f"did you mean {near}?" if near else f"there are {', '.join(known)}"
            problems.append(f"--require {requirement}: no metric is named {requirement.metric}; {hint}")
    if problems:
        raise RecipeError(*problems, then="attn runs list")


def check_requirements(requirements: Sequence[Requirement], metrics: Mapping[str, Any]) -> None:
    """Raise :class:`RequirementError` (exit code 6) naming each requirement that is not met."""
    check_metric_names(requirements, metrics)
    missed = [
        f"--require {requirement} is not met: it is {console.show(metrics[requirement.metric])}"
        for requirement in requirements
        if not requirement.met(metrics)
    ]
    if missed:
        raise RequirementError(*missed)


def present(result: Mapping[str, Any], *, title: str | None = None) -> None:
    """A result with ``metrics``, ``speed`` and ``signatures`` (mappings): a table, or the JSON document."""
    console.document(dict(result))
    if not console.json_mode():
        rows = [
            (name, value) for part in ("metrics", "speed") for name, value in result.get(part, {}).items()
        ]
        console.table(["metric", "value"], rows, title=title, right=["value"])
        for name, signature in result.get("signatures", {}).items():
            console.say(f"{name}: {signature}")


def _forgotten(command: str, what: str) -> RecipeError:
    entries = [entry for entry in catalogue.shipped() if entry.command == command]
    names = ", ".join(entry.name for entry in entries)
    return RecipeError(f"{what}; the recipes are {names}", then=f"attn {command} {_example(command)}")


def _example(command: str) -> str:
    names = [entry.name for entry in catalogue.shipped() if entry.command == command]
    return "bert" if "bert" in names else names[0] if names else "RECIPE"


def _run_sentence(commands: Sequence[str], path: Path) -> str:
    run = open_run(path)
    owner = run.info.get("command")
    if owner not in commands:
        what = f"{path} is a run of attn {owner}, not of attn {commands[0]}"
        raise CheckpointError(what, then=f"attn {owner} {path}")
    return f"{path} is a run of attn {owner} (recipe {run.info.get('recipe')}, {run.state})"


def refuse(options: dict[str, Any], purpose: str, then: str) -> None:
    """Options that have no meaning here are errors, never ignored."""
    given = [
        name for name, value in options.items() if value is not None and value is not False and value != []
    ]
    if given:
        raise RecipeError(
            *(f"{name} is there to {purpose}; it has no effect here" for name in given), then=then
        )


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """A JSON file for other programs."""
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def say_dry_run(report: dict[str, Any]) -> None:
    """What a command would do and take, by name."""
    console.document(report)
    if not console.json_mode():
        console.table(["dry run", ""], [(name, _in_one_line(value)) for name, value in report.items()])
    console.say("next: the same command without --dry-run")


def _in_one_line(value: Any) -> Any:
    if isinstance(value, dict):
        value = [f"{name} {one}" for name, one in value.items()]
    return ", ".join(value) or "nothing" if isinstance(value, list) else value

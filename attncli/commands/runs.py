"""``attn runs``: list and compare. Reads JSON and YAML only, so that it answers at once."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from attncli import console
from attncli.commands.compare_translations import compare_translations, show_translations
from attncli.commands.shared import RUNS
from attncli.errors import AttnError, CheckpointError, RecipeError
from attncli.recipe.reading import read_file
from attncli.training.files import read_json
from attncli.training.run import RunFolder


@dataclass
class Run:
    """What a run folder says about itself."""

    path: Path
    command: str = ""
    recipe: str = ""
    state: str = ""
    steps: int | None = None
    goal: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    speed: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, Any] = field(default_factory=dict)
    created: float = 0.0


def list_runs(folder: Path = RUNS) -> None:
    """A table of the runs in a folder, the newest last; damaged ones are shown as such."""
    if not folder.is_dir():
        if folder != RUNS:
            raise CheckpointError(f"there is no folder {folder}", then="attn runs list")
        console.document({"runs": []})
        console.say("there are no runs yet: no folder runs")
        console.say("next: attn pretrain bert")
        return
    runs, rows = [], []
    for path in _folders(folder):
        try:
            run = read(path)
        except AttnError as error:
            run = Run(path, state=f"damaged: {error.problems[0].what}")
        runs.append(run)
    for run in sorted(runs, key=lambda run: run.created):
        value = f"{run.goal} {console.show(run.metrics[run.goal])}" if run.goal in run.metrics else None
        age = _age(time.time() - run.created) if run.created else None
        rows.append((run.path, run.command, run.recipe, run.state, run.steps, value, age))
    console.document({"runs": [_described(run) for run in runs]})
    if not rows:
        console.say(f"there are no runs in {folder}")
        console.say("next: attn pretrain bert")
    elif not console.json_mode():
        columns = ["run", "command", "recipe", "state", "steps", "result", "age"]
        console.table(columns, rows, right=["steps", "age"])


def compare(paths: list[Path]) -> None:
    """Metrics of several runs side by side, translations of the same test sets, settings that differ."""
    if len(paths) < 2:
        raise RecipeError("two runs or more are compared", then="attn runs list")
    runs, problems = [], []
    for path in paths:
        try:
            if not path.is_dir():
                raise CheckpointError(f"there is no run folder {path}")
            runs.append((read(path), _settings(path)))
        except AttnError as error:
            problems += error.problems
    if problems:
        raise CheckpointError(*problems, then="attn runs list")
    languages = {
        path: str(given.get("data.target", "")) for path, (_, given) in zip(paths, runs, strict=True)
    }
    translated, notes = compare_translations(paths, languages)
    names = [str(path) for path in paths]
    measured = [{**run.metrics, **run.speed, "steps": run.steps, "state": run.state} for run, _ in runs]
    settings = [{**{f"versions.{k}": v for k, v in run.versions.items()}, **given} for run, given in runs]
    differing = [key for key in _union(settings) if len({str(given.get(key)) for given in settings}) > 1]
    console.document(
        {
            "runs": [_described(run) for run, _ in runs],
            "differs": {key: [given.get(key) for given in settings] for key in differing},
            "translations": [vars(each) for each in translated],
            "not_compared": notes,
        }
    )
    for note in notes:
        console.warn(note)
    if console.json_mode():
        return
    rows = [[key, *(values.get(key) for values in measured)] for key in _union(measured)]
    console.table(["result", *names], rows, right=names)
    show_translations(translated)
    if differing:
        rows = [[key, *(_cell(given, key) for given in settings)] for key in differing]
        console.table(["setting", *names], rows)
    else:
        console.result("the settings are the same")


def read(path: Path) -> Run:
    """A run folder's summary. :class:`CheckpointError` when it is not one, or damaged."""
    folder = RunFolder.open(path)
    result = folder.result() or {}
    versions = _mapping(folder.info.get("versions"))
    best = read_json(path / "best.json") if (path / "best.json").exists() else {}
    goal, steps = best.get("metric"), result.get("steps")
    return Run(
        path=path,
        command=str(folder.info.get("command", "")),
        recipe=str(folder.info.get("recipe", "")),
        state=str(result.get("state") or folder.state),
        steps=_last_step(folder.metrics_file) if steps is None else steps,
        goal=goal,
        metrics=_mapping(result.get("metrics")) or ({goal: best.get("value")} if goal else {}),
        speed=_mapping(result.get("speed")),
        versions={"attn": folder.info.get("attn"), **versions},
        created=_moment(folder.info.get("created"), path),
    )


def _folders(folder: Path) -> list[Path]:
    found = {
        file.parent for pattern in ("run.json", "*/run.json", "*/*/run.json") for file in folder.glob(pattern)
    }
    return sorted(found)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _moment(created: Any, path: Path) -> float:
    try:
        return (
            float(created)
            if isinstance(created, int | float)
            else datetime.fromisoformat(created).timestamp()
        )
    except (TypeError, ValueError):
        return path.stat().st_mtime


def _last_step(file: Path) -> int | None:
    """The step of the last whole line, from the end of the file."""
    try:
        with file.open("rb") as handle:
            handle.seek(max(0, file.stat().st_size - 65536))
            lines = handle.read().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        try:
            return int(json.loads(line)["step"])
        except (ValueError, KeyError, TypeError):
            continue
    return None


def _settings(path: Path) -> dict[str, Any]:
    file = path / "recipe.yaml"
    try:
        leaves = dict(read_file(file).leaves()) if file.exists() else {}
    except RecipeError as error:
        raise CheckpointError(*error.problems) from None
    return {key: item.value for key, item in leaves.items() if key not in ("description", "extends")}


def _union(mappings: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(key for mapping in mappings for key in mapping))


def _cell(given: dict[str, Any], key: str) -> str:
    if key not in given:
        return "-"
    value = given[key]
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _described(run: Run) -> dict[str, Any]:
    return {**vars(run), "path": str(run.path)}


def _age(seconds: float) -> str:
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return "now"

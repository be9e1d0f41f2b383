"""``attn classify RUN IMAGE...``: label pictures, in order, as they come."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attncli import console
from attncli.commands.trained import load_task
from attncli.data.faults import CAP
from attncli.data.files import missing
from attncli.errors import DataError, Problem, RecipeError
from attncli.recipe.loading import LoadedRecipe

if TYPE_CHECKING:
    from attncli.tasks.image_classify import ImageClassifyTask
    from attncli.training import RunFolder

CHUNK = 1024
"""Pictures that are read at once."""
_FIRST = 32


def apply(
    command: str,
    run: RunFolder,
    loaded: LoadedRecipe,
    inputs: list[str],
    *,
    nbest: int | None = None,
    context: str | None = None,
) -> None:
    """Label pictures: files, folders with all below them, or - for paths on standard input, one a line.

    What cannot be decoded is named in its place, and warned of; it is an error where nothing else is there.
    """
    if context is not None:
        raise RecipeError("--context is of question answering; this run labels pictures")
    if not inputs and not sys.stdin.isatty():
        inputs = ["-"]
    paths = picture_paths(inputs, f"attn {command} {run.path} IMAGE")
    one = len(inputs) == 1 and inputs[0] != "-" and not Path(inputs[0]).is_dir()
    from attncli.training import measuring

    task, _ = load_task(run, loaded, data=False)
    told: list[dict[str, Any]] = []
    right, wrong = 0, []
    with (
        console.Progress("labelling", unit="images", total=None if not one else 0) as bar,
        measuring(task.model, run),
    ):
        for chunk in _chunks(paths):
            found = _label(task, chunk, nbest)
            bad = [Problem(row["error"], row["image"]) for row in found if "error" in row]
            right += len(found) - len(bad)
            wrong += bad[: CAP - len(wrong)]
            for problem in bad if not one else ():
                console.warn(f"{problem.where}: {problem.what}")
            if console.json_mode():
                told += found
            elif one:
                for row in found if right else ():
                    _show(row)
            else:
                for row in found:
                    console.result(json.dumps(row, ensure_ascii=False))
            bar.advance(len(chunk), units=len(chunk))
            sys.stdout.flush()
    if wrong and not right:
        raise DataError(*wrong)
    console.document({"run": str(run.path), "results": told})


def picture_paths(inputs: list[str], then: str) -> Iterable[Path]:
    """The files that inputs name, folders followed; all inputs that are not there are named at once."""
    from attncli.data.images.folders import picture_files

    if not inputs:
        raise RecipeError(
            "an input is missing: a picture, a folder, or - for paths on standard input", then=then
        )
    absent = [given for given in inputs if given != "-" and not Path(given).exists()]
    if absent:
        raise DataError(*(missing(Path(given), "input") for given in absent[:CAP]))
    empty = [
        given for given in inputs if Path(given).is_dir() and next(picture_files(Path(given)), None) is None
    ]
    if empty:
        raise DataError(*(Problem("no picture in this folder", given) for given in empty))

    def paths() -> Iterator[Path]:
        for given in inputs:
            if given == "-":
                yield from (Path(line.rstrip("\r\n")) for line in sys.stdin if line.strip())
            elif Path(given).is_dir():
                yield from sorted(picture_files(Path(given)))
            else:
                yield Path(given)

    return paths()


def _chunks(paths: Iterable[Path]) -> Iterator[list[Path]]:
    paths = iter(paths)
    size = _FIRST  # something to read soon
    while chunk := list(itertools.islice(paths, size)):
        yield chunk
        size = CHUNK


def _label(task: ImageClassifyTask, paths: list[Path], nbest: int | None) -> list[dict[str, Any]]:
    examples, wrong = task.read(paths)
    shares = iter(task.apply(examples))
    rows: list[dict[str, Any]] = []
    for number, path in enumerate(paths):
        if number in wrong:
            rows.append({"image": str(path), "error": wrong[number]})
            continue
        answer = task.answer(next(shares))
        if "probabilities" in answer:
            ranked = sorted(answer["probabilities"].items(), key=lambda item: -item[1])[:nbest]
            answer["probabilities"] = dict(ranked)
        rows.append({"image": str(path), **answer})
    return rows


def _show(row: dict[str, Any]) -> None:
    """A result for people: the file, and below it what was found."""
    console.result(row["image"])
    if "probabilities" not in row:
        console.table(["predicted"], [(row["predicted"],)])
        return
    several = isinstance(row["predicted"], list)
    rows = [
        (name, f"{100 * share:.1f} %", *(["yes" if name in row["predicted"] else ""] * several))
        for name, share in row["probabilities"].items()
    ]
    console.table(["label", "probability", *["predicted"] * several], rows, right=["probability"])

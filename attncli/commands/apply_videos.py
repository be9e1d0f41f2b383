"""``attn classify RUN CLIP...``: label videos, in order, as they come."""

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
    from attncli.tasks.video_classify import VideoTask
    from attncli.training import RunFolder

CHUNK = 32
"""Videos that are looked through at once."""
_FIRST = 4


def apply(
    command: str,
    run: RunFolder,
    loaded: LoadedRecipe,
    inputs: list[str],
    *,
    nbest: int | None = None,
    context: str | None = None,
) -> None:
    """Label videos: files, folders of frames, folders with all below them, or - for paths, one a line.

    What cannot be decoded is named in its place, and warned of; it is an error where nothing else is there.
    """
    if context is not None:
        raise RecipeError("--context is of question answering; this run labels videos")
    if not inputs and not sys.stdin.isatty():
        inputs = ["-"]
    paths = video_paths(inputs, f"attn {command} {run.path} CLIP")
    one = len(inputs) == 1 and inputs[0] != "-" and is_one(Path(inputs[0]))
    from attncli.training import measuring

    task, _ = load_task(run, loaded, data=False)
    told: list[dict[str, Any]] = []
    right, wrong = 0, []
    with (
        console.Progress("labelling", unit="videos", total=None if not one else 0) as bar,
        measuring(task.model, run),
    ):
        for chunk in _chunks(paths):
            found = _label(task, chunk, nbest)
            bad = [Problem(row["error"], row["video"]) for row in found if "error" in row]
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


def is_one(path: Path) -> bool:
    """Whether a path is a single video: a file, or a folder of frames."""
    from attncli.data.clips.folders import is_frames

    return not path.is_dir() or is_frames(path)


def video_paths(inputs: list[str], then: str) -> Iterable[Path]:
    """The videos that inputs name, folders followed; all inputs that are not there are named at once."""
    from attncli.data.clips.decoding import natural
    from attncli.data.clips.folders import videos_below

    if not inputs:
        what = "an input is missing: a video, a folder of frames, a folder of videos, or - for paths"
        raise RecipeError(f"{what} on standard input", then=then)
    absent = [given for given in inputs if given != "-" and not Path(given).exists()]
    if absent:
        raise DataError(*(missing(Path(given), "input") for given in absent[:CAP]))
    empty = [
        given
        for given in inputs
        if given != "-" and not is_one(Path(given)) and next(videos_below(Path(given)), None) is None
    ]
    if empty:
        raise DataError(*(Problem("no video in this folder", given) for given in empty))

    def paths() -> Iterator[Path]:
        for given in inputs:
            if given == "-":
                yield from (Path(line.rstrip("\r\n")) for line in sys.stdin if line.strip())
            elif is_one(Path(given)):
                yield Path(given)
            else:
                yield from sorted(videos_below(Path(given)), key=lambda path: natural(str(path)))

    return paths()


def _chunks(paths: Iterable[Path]) -> Iterator[list[Path]]:
    paths = iter(paths)
    size = _FIRST  # something to read soon
    while chunk := list(itertools.islice(paths, size)):
        yield chunk
        size = CHUNK


def _label(task: VideoTask, paths: list[Path], nbest: int | None) -> list[dict[str, Any]]:
    examples, wrong = task.read(paths)
    shares = iter(task.apply(examples))
    rows: list[dict[str, Any]] = []
    for number, path in enumerate(paths):
        if number in wrong:
            rows.append({"video": str(path), "error": wrong[number]})
            continue
        answer = task.answer(next(shares))
        if "probabilities" in answer:
            ranked = sorted(answer["probabilities"].items(), key=lambda item: -item[1])[:nbest]
            answer["probabilities"] = dict(ranked)
        rows.append({"video": str(path), **answer})
    return rows


def _show(row: dict[str, Any]) -> None:
    """A result for people: the file, and below it what was found."""
    console.result(row["video"])
    if "probabilities" not in row:
        console.table(["predicted"], [(row["predicted"],)])
        return
    several = isinstance(row["predicted"], list)
    rows = [
        (name, f"{100 * share:.1f} %", *(["yes" if name in row["predicted"] else ""] * several))
        for name, share in row["probabilities"].items()
    ]
    console.table(["label", "probability", *["predicted"] * several], rows, right=["probability"])

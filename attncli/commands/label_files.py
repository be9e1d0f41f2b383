"""Files that hold one thing to label each, pictures or videos: found, labelled in order, as they come."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attncli import console
from attncli.commands.trained import load_task
from attncli.data.faults import CAP
from attncli.data.files import missing
from attncli.errors import DataError, Problem, RecipeError
from attncli.recipe.loading import LoadedRecipe

if TYPE_CHECKING:
    from attncli.training import RunFolder


@dataclass(frozen=True)
class Kind:
    """What is labelled."""

    name: str
    plural: str
    chunk: int
    """Files that are looked at together."""
    first: int
    """The same at the beginning, so that there is something to read soon."""
    wanted: str
    """What inputs may be, for an error."""
    is_one: Callable[[Path], bool]
    """Whether a path that is there holds one of it, and not many."""
    below: Callable[[Path], Iterable[Path]]
    """All below a folder, in order."""

    def paths(self, inputs: list[str], then: str) -> Iterator[Path]:
        """The files that inputs name, folders followed, ``-`` for paths on standard input, one a line.

        All inputs that are not there are named at once, before the first is read.
        """
        if not inputs:
            raise RecipeError(
                f"an input is missing: {self.wanted}, or - for paths on standard input", then=then
            )
        given = [text for text in inputs if text != "-"]
        absent = [text for text in given if not Path(text).exists()]
        if absent:
            raise DataError(*(missing(Path(text), "input") for text in absent[:CAP]))
        folders = [text for text in given if not self.is_one(Path(text))]
        empty = [text for text in folders if next(iter(self.below(Path(text))), None) is None]
        if empty:
            raise DataError(*(Problem(f"no {self.name} in this folder", text) for text in empty))
        return self._walk(inputs)

    def _walk(self, inputs: list[str]) -> Iterator[Path]:
        for text in inputs:
            if text == "-":
                yield from (Path(line.rstrip("\r\n")) for line in sys.stdin if line.strip())
            elif self.is_one(Path(text)):
                yield Path(text)
            else:
                yield from self.below(Path(text))

    def apply(
        self,
        command: str,
        run: RunFolder,
        loaded: LoadedRecipe,
        inputs: list[str],
        *,
        nbest: int | None = None,
        context: str | None = None,
    ) -> None:
        """Label what ``inputs`` name: a table of a single file, a JSON line each of several.

        What cannot be decoded is named in its place, and warned of; it is an error where nothing else is
        there.
        """
        if context is not None:
            raise RecipeError(f"--context is of question answering; this run labels {self.plural}")
        if not inputs and not sys.stdin.isatty():
            inputs = ["-"]
        paths = self.paths(inputs, f"attn {command} {run.path} {self.name.upper()}")
        one = len(inputs) == 1 and inputs[0] != "-" and self.is_one(Path(inputs[0]))
        from attncli.training import measuring

        task, _ = load_task(run, loaded, data=False)
        told: list[dict[str, Any]] = []
        right, wrong = 0, []
        with (
            console.Progress("labelling", unit=self.plural, total=None if not one else 0) as bar,
            measuring(task.model, run),
        ):
            for chunk in _chunks(paths, self):
                found = _label(self, task, chunk, nbest)
                bad = [Problem(row["error"], row[self.name]) for row in found if "error" in row]
                right += len(found) - len(bad)
                wrong += bad[: CAP - len(wrong)]
                for problem in bad if not one else ():
                    console.warn(f"{problem.where}: {problem.what}")
                if console.json_mode():
                    told += found
                elif one:
                    for row in found if right else ():
                        _show(self, row)
                else:
                    for row in found:
                        console.result(json.dumps(row, ensure_ascii=False))
                bar.advance(len(chunk), units=len(chunk))
                sys.stdout.flush()
        if wrong and not right:
            raise DataError(*wrong)
        console.document({"run": str(run.path), "results": told})


def _chunks(paths: Iterable[Path], kind: Kind) -> Iterator[list[Path]]:
    paths, size = iter(paths), kind.first
    while chunk := list(itertools.islice(paths, size)):
        yield chunk
        size = kind.chunk


def _label(kind: Kind, task: Any, paths: list[Path], nbest: int | None) -> list[dict[str, Any]]:
    examples, wrong = task.read(paths)
    shares = iter(task.apply(examples))
    rows: list[dict[str, Any]] = []
    for number, path in enumerate(paths):
        if number in wrong:
            rows.append({kind.name: str(path), "error": wrong[number]})
            continue
        answer = task.answer(next(shares))
        if "probabilities" in answer:
            ranked = sorted(answer["probabilities"].items(), key=lambda item: -item[1])[:nbest]
            answer["probabilities"] = dict(ranked)
        rows.append({kind.name: str(path), **answer})
    return rows


def _show(kind: Kind, row: dict[str, Any]) -> None:
    """A result for people: the file, and below it what was found."""
    console.result(row[kind.name])
    if "probabilities" not in row:
        console.table(["predicted"], [(row["predicted"],)])
        return
    several = isinstance(row["predicted"], list)
    rows = [
        (name, f"{100 * share:.1f} %", *(["yes" if name in row["predicted"] else ""] * several))
        for name, share in row["probabilities"].items()
    ]
    console.table(["label", "probability", *["predicted"] * several], rows, right=["probability"])

"""What a language model learns from: one interface over built-in text, files and hub data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from attncli.data import builtin
from attncli.data.faults import Faults
from attncli.data.files import Files, find_files, missing, near_path
from attncli.data.formats import Piece, read_pieces
from attncli.data.hub import HubText, is_saved, may_be_hub_name
from attncli.errors import DataError, Problem
from attncli.recipe.pretrain import TextData

Progress = Callable[[str, int, int], None]
"""Called with what is being done, documents and bytes so far."""


class Origin(Protocol):
    """Where pieces of documents come from."""

    verbatim: bool
    """Whether a document is a whole file, kept as it is."""

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits there are; train always."""
        ...

    def pieces(self, split: str, faults: Faults) -> Iterator[Piece]:
        """Pieces of the documents of a split."""
        ...

    def identity(self) -> list[Any]:
        """JSON that changes whenever the text does."""
        ...

    def describe(self) -> str:
        """One line for the console."""
        ...


class BuiltinText:
    """The text that comes with Python."""

    verbatim = False
    splits = ("train", "validation")

    def pieces(self, split: str, faults: Faults) -> Iterator[Piece]:
        """A topic a document."""
        return ((text, True) for text in builtin.builtin_documents()[split])

    def identity(self) -> list[Any]:
        """The text itself, hashed."""
        import hashlib

        return ["builtin", hashlib.sha256(repr(builtin.builtin_documents()).encode()).hexdigest()]

    def describe(self) -> str:
        """One line."""
        return "the language reference that comes with Python"


class FileText:
    """Text of files."""

    def __init__(self, files: Files, column: str, documents: str) -> None:
        self.files, self.column, self.documents = files, column, documents
        self.verbatim = documents == "file" and all(file.kind == "text" for file in files.all())

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits there are."""
        return tuple(self.files.by_split)

    def pieces(self, split: str, faults: Faults) -> Iterator[Piece]:
        """Pieces of the files in the order of their names."""
        for file in self.files.by_split[split]:
            yield from read_pieces(file, self.column, self.documents, faults)

    def identity(self) -> list[Any]:
        """Paths, sizes and times of the files."""
        listed = {split: [file.identity() for file in files] for split, files in self.files.by_split.items()}
        return ["files", listed, self.column, self.documents]

    def describe(self) -> str:
        """One line."""
        counts = ", ".join(f"{len(files)} {split}" for split, files in self.files.by_split.items())
        one = len(self.files.all()) == 1
        text = str(self.files.root) if one else f"{self.files.root} (files: {counts})"
        if self.files.ignored:
            names = ", ".join(path.name for path in self.files.ignored[:3])
            text += f"; not read beside the split files: {names}" + (
                " ..." if len(self.files.ignored) > 3 else ""
            )
        return text


class HoldOut:
    """Which of numbered items are held out: one of every ``1 / share``, at a place drawn by a fixed rule.

    Args:
        share: of the items.
        few: how many items there are where they are fewer than ``1 / share``: then it is the last one.
    """

    def __init__(self, share: float, few: int = 0) -> None:
        self.share, self.few = share, few
        self._block, self._chosen = -1, few - 1

    def __call__(self, number: int) -> bool:
        """Whether item ``number`` is."""
        if not self.few and int(number * self.share) != self._block:
            self._block = block = int(number * self.share)
            first, end = math.ceil(block / self.share), math.ceil((block + 1) / self.share)
            self._chosen = first + ((block + 1) * 2654435761 % 2**32) * (end - first) // 2**32
        return number == self._chosen


@dataclass
class Survey:
    """What a pass over one split found."""

    documents: int = 0
    characters: int = 0
    bytes: int = 0


class TextSource:
    """The documents of ``train``, ``validation`` and, where the source has one, ``test``.

    A source without a validation part has a share of its documents held out: one document at a place
    drawn by a fixed rule out of every ``1 / share``, the last one where there are fewer. When documents
    are whole files it is the last ``share`` of all characters.
    """

    def __init__(self, origin: Origin, validation: Origin | float, limit: int = 0) -> None:
        self.origin, self.limit, self.verbatim = origin, limit, origin.verbatim
        self.other = None if isinstance(validation, float) else validation
        has_own = self.other is not None or "validation" in origin.splits
        self.share = validation if isinstance(validation, float) and not has_own else 0.0

    @property
    def splits(self) -> tuple[str, ...]:
        """train and validation, and test where there is one."""
        return ("train", "validation", *(split for split in self.origin.splits if split == "test"))

    def documents(self, split: str) -> Iterator[str]:
        """Whole documents."""
        held: list[str] = []
        for text, begins in self.pieces(split):
            if begins and held:
                yield "".join(held)
                held = []
            held.append(text)
        if held:
            yield "".join(held)

    def pieces(self, split: str, faults: Faults | None = None) -> Iterator[Piece]:
        """``(text, begins)``: documents in pieces of bounded size; ``begins`` opens a document."""
        faults = faults or Faults(1)
        if split == "validation" and self.other is not None:
            pieces = self._limited(self.other.pieces("train", faults))
        elif split not in ("train", "validation") or not self.share:
            pieces = self._limited(self.origin.pieces(split, faults))
        elif self.verbatim:
            pieces = self._by_characters(split, faults)
        else:
            pieces = self._by_document(split, faults)
        return pieces

    def _limited(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        documents = 0
        for text, begins in pieces:
            documents += begins
            if self.limit and documents > self.limit:
                return
            yield text, begins

    def _all(self, faults: Faults) -> Iterator[Piece]:
        return self._limited(self.origin.pieces("train", faults))

    def _by_document(self, split: str, faults: Faults) -> Iterator[Piece]:
        held_out, number, held = HoldOut(self.share, self._few), -1, False
        for text, begins in self._all(faults):
            if begins:
                number += 1
                held = held_out(number)
            if held == (split == "validation"):
                yield text, begins

    def _by_characters(self, split: str, faults: Faults) -> Iterator[Piece]:
        left = int(self._characters * (1 - self.share))
        for text, begins in self._all(faults):
            head, text, left = text[:left], text[left:], max(left - len(text), 0)
            if split == "train" and head:
                yield head, begins
            elif split == "validation" and text:
                yield text, begins or bool(head)

    @cached_property
    def _few(self) -> int:
        """Documents, when there are too few to hold out a share of every block; else 0."""
        enough, documents = math.ceil(1 / self.share), 0
        for _, begins in self._all(Faults(1)):
            documents += begins
            if documents >= enough:
                return 0
        return documents

    @cached_property
    def _characters(self) -> int:
        return sum(len(text) for text, _ in self._all(Faults(1)))

    def check(self, progress: Progress | None = None) -> dict[str, Survey]:
        """Read everything once and count; the first thing to do with text that was never read.

        Raises:
            DataError: all problems of all files, up to a cap, each with file, line and reason; or a
                part without text.
        """
        faults = Faults()
        surveys: dict[str, Survey] = {}
        parts = {"train": self.origin.pieces("train", faults)}
        if self.other is not None:
            parts["validation"] = self.other.pieces("train", faults)
        elif not self.share:
            parts["validation"] = self.origin.pieces("validation", faults)
        for split, pieces in parts.items():
            survey = surveys.setdefault(split, Survey())
            for text, begins in self._limited(pieces):
                survey.documents += begins
                survey.characters += len(text)
                survey.bytes += len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
                if progress:
                    progress("reading", survey.documents, survey.bytes)
        faults.check()
        for split, survey in surveys.items():
            if not survey.documents:
                origin = self.other if split == "validation" and self.other is not None else self.origin
                raise DataError(Problem(f"{origin.describe()}: the {split} part has no text, only blanks"))
        if self.share and not self.verbatim and surveys["train"].documents < 2:
            raise one_document(self.origin, "nothing can be held out for validation", "data.validation=FILE")
        if (
            self.share
            and self.verbatim
            and min(int(surveys["train"].characters * s) for s in (self.share, 1 - self.share)) < 2
        ):
            raise DataError(
                Problem(f"{self.origin.describe()}: too little text for data.validation={self.share:g}")
            )
        return surveys

    def identity(self) -> list[Any]:
        """JSON that changes whenever the text or its splitting does."""
        other = self.other.identity() if self.other is not None else self.share
        return [1, self.origin.identity(), other, self.limit]

    def describe(self) -> str:
        """One line for the console."""
        text = self.origin.describe()
        if self.other is not None:
            text += f"; validation: {self.other.describe()}"
        elif self.share:
            text += f"; {self.share:.3g} of the {'characters' if self.verbatim else 'documents'} held out"
        return text


def one_document(origin: Origin, why: str, *more: str) -> DataError:
    """The error for text that turns out to be a single document."""
    if isinstance(origin, FileText) and origin.documents == "blank_line":
        what = f"{origin.describe()}: no blank line, so the text is one document, and {why}"
        ways = ["data.documents=line (each line a document)", *more]
    else:
        what, ways = f"{origin.describe()}: the text is one document, and {why}", list(more)
    return DataError(Problem(what, hint="set " + " or ".join(ways)))


def _open(name: str, column: str, documents: str, setting: str) -> Origin:
    if name == "builtin" and setting == "data.source":
        return BuiltinText()
    path = Path(name).expanduser()
    if path.is_dir() and is_saved(path):
        return HubText(str(path), column)
    if path.exists():
        return FileText(find_files(path, setting), column, documents)
    looks_like_path = (
        name.startswith((".", "~", "/"))
        or name.count("/") > 1
        or Path(name).suffix in (".txt", ".json", ".jsonl", ".csv", ".tsv", ".parquet", ".gz")
    )
    if looks_like_path or setting != "data.source" or not may_be_hub_name(name):
        raise DataError(missing(path, setting))
    near = near_path(path)
    return HubText(name, column, f"did you mean {near}? Or " if near else "")


def open_text(section: TextData) -> TextSource:
    """The text that ``data`` names.

    Paths are looked at, contents are not: :meth:`TextSource.check` reads them.

    Raises:
        DataError: a path or hub name that is not there, or a folder without usable files.
    """
    problems: list[Problem] = []
    validation: Origin | float = 0.05
    try:
        validation = float(section.validation)
        if not 0 < validation < 1:
            problems.append(Problem(f"data.validation={section.validation}: a share must be between 0 and 1"))
    except ValueError:
        try:
            validation = _open(str(section.validation), section.column, section.documents, "data.validation")
        except DataError as error:
            problems += error.problems
    try:
        origin = _open(section.source, section.column, section.documents, "data.source")
        if isinstance(origin, HubText):
            _ = origin.splits  # load it now, so that a wrong name fails with the rest
    except DataError as error:
        raise DataError(*problems, *error.problems, then=error.then) from None
    if problems:
        raise DataError(*problems)
    return TextSource(origin, validation, section.limit)

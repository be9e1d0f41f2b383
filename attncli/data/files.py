"""Which files hold the text: endings, and the split each file belongs to."""

from __future__ import annotations

import gzip
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from attncli.data.faults import choices_hint, quoted
from attncli.errors import DataError, Problem, nearest

Kind = Literal["text", "json", "csv", "parquet"]

ENDINGS: dict[str, Kind] = {
    ".txt": "text",
    ".text": "text",
    ".tokens": "text",
    ".raw": "text",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
}
READ = "text (.txt .text .tokens .raw), JSON lines (.jsonl .ndjson .json), .csv, .tsv, .parquet; .gz of these"

SPLITS = ("train", "validation", "test")
_SPLIT_NAME = re.compile(r"(?:^|[._-])(train|training|validation|valid|val|dev|test)(?:[._\-\d]|$)", re.I)
_SPLIT_OF = {"training": "train", "valid": "validation", "val": "validation", "dev": "validation"}


@dataclass(frozen=True)
class TextFile:
    """A file of text and how it is read."""

    path: Path
    kind: Kind

    def open(self) -> BinaryIO:
        """The bytes, unpacked when the name ends in .gz."""
        if self.path.suffix.lower() == ".gz":
            return gzip.open(self.path, "rb")  # type: ignore[return-value]
        return self.path.open("rb")

    def identity(self) -> list[str | int]:
        """What changes when the file does."""
        stat = self.path.stat()
        return [str(self.path.resolve()), stat.st_size, stat.st_mtime_ns]


@dataclass(frozen=True)
class Files:
    """The files of a path by split; ``ignored`` were found beside files named as a split."""

    root: Path
    by_split: dict[str, tuple[TextFile, ...]]
    ignored: tuple[Path, ...] = ()

    def all(self, splits: Sequence[str] = SPLITS) -> list[TextFile]:
        """Files of the given splits."""
        return [file for split in splits for file in self.by_split.get(split, ())]


def kind_of(path: Path, more: Mapping[str, Kind] | None = None) -> Kind | None:
    """How a file is read, by its ending; None when the ending is neither known nor among ``more``."""
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    return {**ENDINGS, **(more or {})}.get(suffixes[-1]) if suffixes else None


def split_of(relative: Path) -> str | None:
    """The split that a file's name or a folder above it names (nearest first)."""
    for part in reversed(relative.parts):
        found = _SPLIT_NAME.search(part)
        if found:
            name = found.group(1).lower()
            return _SPLIT_OF.get(name, name)
    return None


def missing(path: Path, setting: str) -> Problem:
    """A path that is not there, with the nearest name beside it."""
    near = near_path(path)
    if near is not None:
        hint = f"did you mean {near}?"
    else:
        names = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else None
        there = (
            choices_hint("", sorted(names), "it holds", setting)
            if names is not None
            else "nor is that folder"
        )
        hint = f"looked in {path.parent.resolve()}; {there}"
    return Problem(f"{setting}={path}: there is no such file or folder", hint=hint)


def near_path(path: Path) -> Path | None:
    """What may have been meant: the nearest name beside the first part of ``path`` that is not there."""
    whole, parent = path, path.parent
    while not parent.exists() and parent != parent.parent:
        path, parent = parent, parent.parent
    names = sorted(p.name for p in parent.iterdir()) if parent.is_dir() else []
    begun = (name for name in names if name.lower().startswith(path.name.lower()))
    near = nearest(path.name, names) or next(begun, None)
    if near is None:
        return None
    meant = parent / near / whole.relative_to(path)
    return meant if meant.exists() else parent / near


def find_files(
    path: Path,
    setting: str = "data.source",
    training: bool = True,
    more: Mapping[str, Kind] | None = None,
) -> Files:
    """The usable files of a file or folder, by split.

    In a folder, files or subfolders called train*, validation* (valid*, val*, dev*) and test* are those
    splits. Where nothing is called train, whatever has no split in its name is the training part.
    ``more``: further endings, and how they are read.

    Raises:
        DataError: nothing there, or nothing usable; nothing for training where ``training`` asks for it.
    """
    if not path.exists():
        raise DataError(missing(path, setting))
    if path.is_file():
        return Files(path, {"train": (TextFile(path, kind_of(path, more) or "text"),)})
    found = sorted(
        p
        for p in path.rglob("*")
        if p.is_file() and not any(part.startswith(".") for part in p.relative_to(path).parts)
    )
    usable = [TextFile(p, kind) for p in found if (kind := kind_of(p, more)) is not None]
    if not usable:
        holds = f"it holds {quoted([p.name for p in found])}" if found else "it is empty"
        raise DataError(
            Problem(f"{setting}={path}: no usable file in this folder; {holds}", hint=f"read: {READ}")
        )
    filled = [file for file in usable if file.path.stat().st_size]
    if not filled:
        raise DataError(Problem(f"{setting}={path}: all {len(usable)} files are empty"))
    splits: dict[str | None, list[TextFile]] = {}
    for file in filled:
        splits.setdefault(split_of(file.path.relative_to(path)), []).append(file)
    unnamed = splits.pop(None, [])
    ignored = unnamed if "train" in splits else []
    if "train" not in splits:
        splits["train"] = unnamed
    if not splits["train"] and training:
        names = quoted(sorted({str(s) for s in splits if s != "train"}))
        raise DataError(
            Problem(f"{setting}={path}: every file is named as a {names} part, none for training")
        )
    by_split = {str(split): tuple(files) for split, files in splits.items() if files}
    return Files(path, by_split, tuple(file.path for file in ignored))

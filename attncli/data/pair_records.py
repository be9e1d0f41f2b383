"""Sentence pairs as records: TSV, CSV, JSON lines, parquet, and data sets of the hub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attncli.data.faults import Faults
from attncli.data.files import TextFile, find_files, kind_of, split_of
from attncli.data.hub import HubText
from attncli.data.lines import lines
from attncli.data.pair_files import Pair, PairFiles
from attncli.data.records import Fields, csv_header, read_records, text_of
from attncli.errors import DataError, Problem

_SETTINGS = ("data.source", "data.target")
_NESTED = "translation"
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")
_LINE_BREAK = re.compile(r"\r\n|[\r\n]")


@dataclass(frozen=True)
class RecordFile:
    """A file with a pair in each record: columns or fields named as the languages.

    They may be nested in ``translation``. A file of tabs may do without names: then it is the source, a
    tab and the target in every line, and quotes are text.
    """

    file: TextFile
    languages: tuple[str, str]

    def pairs(self, faults: Faults) -> Iterator[Pair]:
        """The pairs in order."""
        if self._nameless():
            yield from self._tabs(faults)
            return
        fields = Fields(self.languages, _SETTINGS, _NESTED)
        for where, values in read_records(self.file, fields, faults):
            yield _pair(values, where, self.languages, faults)

    def _nameless(self) -> bool:
        path = self.file.path
        if self.file.kind == "csv" and ".tsv" not in [ending.lower() for ending in path.suffixes]:
            return False
        if self.file.kind not in ("csv", "text"):
            return False
        first = next(lines(self.file, Faults(1 << 30)), "")
        return not set(self.languages) & set(csv_header(first, self.languages).names)

    def _tabs(self, faults: Faults) -> Iterator[Pair]:
        for number, line in enumerate(lines(self.file, faults), 1):
            fields = line.removesuffix("\r").split("\t")
            if len(fields) == 2:
                yield fields[0], fields[1]
            elif not line.strip():
                yield "", ""
            else:
                a, b = self.languages
                faults.add(
                    f"{len(fields)} field{'s' * (len(fields) > 1)} where {a}, a tab and {b} belong",
                    f"{self.file.path}:{number}",
                    f"or name the columns in the first line, {a} and {b} among them" if number == 1 else None,
                )

    def identity(self) -> list[Any]:
        """Path, size and time."""
        return self.file.identity()


def _pair(values: tuple[Any, ...], where: str, languages: tuple[str, str], faults: Faults) -> Pair:
    source, target = (
        _LINE_BREAK.sub(" ", text_of(value, where, name, faults) or "")
        for value, name in zip(values, languages, strict=True)
    )
    return source, target


def find_record_files(
    path: Path, languages: tuple[str, str], setting: str, training: bool = True
) -> PairFiles:
    """The files of records of a folder, or a single one.

    Raises:
        DataError: there is none, or none for training where ``training`` asks for one.
    """
    if path.is_file():
        file = TextFile(path, kind_of(path) or "text")
        return PairFiles(path, {"train": (RecordFile(file, languages),)}, languages)
    a, b = languages
    hint = (
        f"parallel text is train.{a} and train.{b}, or .tsv, .csv, .jsonl or .parquet "
        f"with columns {a} and {b}"
    )
    try:
        found = find_files(path, setting, training)
    except DataError as error:
        raise DataError(*(Problem(p.what, p.where, hint) for p in error.problems)) from None
    parts: dict[str, list[RecordFile]] = {}
    for split, files in found.by_split.items():
        for file in files:
            if file.kind != "text":
                part = _test_name(file.path) if split == "test" else split
                parts.setdefault(part, []).append(RecordFile(file, languages))
    if not parts or (training and "train" not in parts):
        raise DataError(Problem(f"{setting}={path}: no parallel text for training", hint=hint))
    order = sorted(parts, key=lambda part: ({"train": 0, "validation": 1}.get(part, 2), part))
    return PairFiles(path, {part: tuple(parts[part]) for part in order}, languages)


def _test_name(path: Path) -> str:
    """The name of a test set: its file's, without endings and numbers of shards."""
    name = path.name
    while Path(name).suffix and kind_of(Path(name)) is not None:
        name = name.removesuffix(Path(name).suffix)
    name = _SHARD.sub("", name)
    return name if split_of(Path(name)) else "test"


class HubPairs:
    """Pairs of a data set that the ``datasets`` library loads."""

    def __init__(self, text: HubText, languages: tuple[str, str]) -> None:
        self.text, self.languages = text, languages

    @property
    def parts(self) -> tuple[str, ...]:
        """Parts there are."""
        return self.text.splits

    def pairs(self, part: str, faults: Faults) -> Iterator[Pair]:
        """The pairs in order."""
        fields = Fields(self.languages, _SETTINGS, _NESTED)
        for number, row in enumerate(self.text.rows(part), 1):
            record = fields.holder(row)
            if fields.missing(record, "columns", f"{self.text.name} ({part})", "column", faults):
                return
            where = f"{self.text.name}: row {number}"
            yield _pair(tuple(record[name] for name in self.languages), where, self.languages, faults)

    def identity(self) -> list[Any]:
        """Name and revision; of a folder its fingerprints."""
        return [*self.text.identity(), self.languages]

    def describe(self) -> str:
        """One line."""
        return self.text.name

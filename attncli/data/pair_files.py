"""Parallel text in files: which files make a part, and the pairs in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol

from attncli.data.faults import Faults, quoted
from attncli.data.files import ENDINGS, TextFile, split_of
from attncli.data.lines import lines
from attncli.errors import DataError, Problem, nearest

Pair = tuple[str, str]


class PairFile(Protocol):
    """One file of pairs, or two files whose lines are pairs."""

    def pairs(self, faults: Faults) -> Iterator[Pair]:
        """The pairs in order, empty sides included."""
        ...

    def identity(self) -> list[Any]:
        """JSON that changes when the files do."""
        ...


@dataclass(frozen=True)
class TwoFiles:
    """A file for each language; line n of one belongs to line n of the other."""

    source: TextFile
    target: TextFile

    def pairs(self, faults: Faults) -> Iterator[Pair]:
        """The pairs; unequal numbers of lines are a fault."""
        before, counts = len(faults.problems), [0, 0]
        for pair in zip_longest(lines(self.source, faults), lines(self.target, faults)):
            counts = [count + (text is not None) for count, text in zip(counts, pair, strict=True)]
            if counts[0] == counts[1]:
                yield pair[0].removesuffix("\r"), pair[1].removesuffix("\r")
        if counts[0] != counts[1] and len(faults.problems) == before:
            faults.add(
                f"{self.source.path.name} has {counts[0]:,} lines, "
                f"{self.target.path.name} has {counts[1]:,}: "
                "line n of one belongs to line n of the other",
                str(self.source.path.parent),
            )

    def identity(self) -> list[Any]:
        """Paths, sizes and times."""
        return [self.source.identity(), self.target.identity()]


@dataclass(frozen=True)
class PairFiles:
    """The files of a path by part: train, validation, and test sets by their names."""

    root: Path
    by_part: dict[str, tuple[PairFile, ...]]
    languages: tuple[str, str]
    one_sided: tuple[str, ...] = ()
    """Test files that lack their other side."""

    @property
    def parts(self) -> tuple[str, ...]:
        """Parts there are; train always."""
        return tuple(self.by_part)

    def pairs(self, part: str, faults: Faults) -> Iterator[Pair]:
        """Pairs of the files of a part, in the order of their names."""
        for file in self.by_part[part]:
            yield from file.pairs(faults)

    def identity(self) -> list[Any]:
        """Of all files."""
        listed = {part: [file.identity() for file in files] for part, files in self.by_part.items()}
        return ["files", self.languages, listed]

    def describe(self) -> str:
        """One line."""
        text = str(self.root)
        if self.one_sided:
            text += f"; not read, one language only: {quoted(self.one_sided)}"
        return text


@dataclass
class _Stem:
    """Files that differ in the language only."""

    base: Path
    by_language: dict[str, TextFile] = field(default_factory=dict)


_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(?:[_-][A-Za-z0-9]{2,8})*")
_NOT_LANGUAGES = frozenset(("md", "py", "sh", "js", "css", "cfg", "log", "tmp", "bak", "zip", "tar", "pdf"))


def language_of(path: Path, languages: tuple[str, str]) -> tuple[Path, str] | None:
    """The common beginning and the language of ``train.en``, ``train.en.gz``, ``train.en.txt``."""
    name = path.name
    for ending in (".gz", ".txt"):
        name = name[: -len(ending)] if name.lower().endswith(ending) else name
    stem, dot, language = name.rpartition(".")
    if not dot or not stem:
        return None
    other = language.lower() in _NOT_LANGUAGES or f".{language.lower()}" in ENDINGS
    is_language = _LANGUAGE.fullmatch(language) and not other
    return (path.parent / stem, language) if language in languages or is_language else None


def _stems(paths: list[Path], languages: tuple[str, str]) -> dict[Path, _Stem]:
    stems: dict[Path, _Stem] = {}
    for path in sorted(paths):
        found = language_of(path, languages)
        if found is not None:
            base, language = found
            stems.setdefault(base, _Stem(base)).by_language.setdefault(language, TextFile(path, "text"))
    return stems


def _visible(folder: Path) -> list[Path]:
    return sorted(
        p
        for p in folder.rglob("*")
        if p.is_file() and not any(part.startswith(".") for part in p.relative_to(folder).parts)
    )


def _lacking(stem: _Stem, languages: tuple[str, str], setting: str) -> dict[str, Problem]:
    """What is wrong with each language that has no file."""
    problems = {}
    there = sorted(stem.by_language)
    names = [stem.by_language[language].path.name for language in there]
    verb = "is" if len(names) == 1 else "are"
    for language, key in zip(languages, ("data.source", "data.target"), strict=True):
        if language not in stem.by_language:
            near = nearest(language, there)
            problems[language] = Problem(
                f"{stem.base.name}.{language} is not there; there {verb} {quoted(names)}",
                f"{setting}={stem.base.parent}",
                f"did you mean {key}={near}?" if near else None,
            )
    return problems


def common_beginning(path: Path, languages: tuple[str, str]) -> _Stem | None:
    """The files ``path.en``, ``path.de`` ...; also where ``path`` is one of them."""
    if path.is_file():
        found = language_of(path, languages)
        if found is None or found[1] not in languages:
            return None
        path = found[0]
    if not path.parent.is_dir():
        return None
    beside = [p for p in path.parent.iterdir() if p.is_file() and p.name.startswith(f"{path.name}.")]
    return _stems(beside, languages).get(path)


def find_two_files(
    path: Path, languages: tuple[str, str], setting: str, training: bool = True
) -> PairFiles | None:
    """The parallel files of a folder, or of a common beginning; None where there are none.

    Raises:
        DataError: a language is missing, or there is no training part where ``training`` asks for one.
    """
    if not path.is_dir():
        stem = common_beginning(path, languages)
        if stem is None:
            return None
        problems = _lacking(stem, languages, setting)
        if problems:
            raise DataError(*problems.values())
        return PairFiles(stem.base, {"train": (_two(stem, languages),)}, languages)
    stems = _stems(_visible(path), languages)
    by_part: dict[str | None, list[_Stem]] = {}
    for stem in stems.values():
        part = split_of(stem.base.relative_to(path))
        if any(language in stem.by_language for language in languages) or part is not None:
            by_part.setdefault(stem.base.name if part == "test" else part, []).append(stem)
    unnamed = by_part.pop(None, [])
    if not by_part and not unnamed:
        return None
    if "train" not in by_part and unnamed:
        by_part["train"] = unnamed
    problems: list[Problem] = []
    one_sided: list[str] = []
    complete: dict[str, list[TwoFiles]] = {}
    told: set[str] = set()  # a language that is nowhere is told once
    for part, found in sorted(by_part.items(), key=lambda item: item[0] != "train"):
        for stem in found:
            lacking = _lacking(stem, languages, setting)
            if not lacking:
                complete.setdefault(part, []).append(_two(stem, languages))
            elif part in ("train", "validation"):
                problems += [problem for language, problem in lacking.items() if language not in told]
                told |= lacking.keys()
            else:
                one_sided += [file.path.name for file in stem.by_language.values()]
    if problems:
        raise DataError(*problems)
    if not complete or (training and "train" not in complete):
        a, b = languages
        raise DataError(
            Problem(
                f"{setting}={path}: no training part; there are {quoted(sorted(complete) or one_sided)}",
                hint=f"call it train.{a} and train.{b}",
            )
        )
    order = ["train", "validation", *sorted(set(complete) - {"train", "validation"})]
    parts = {part: tuple(complete[part]) for part in order if part in complete}
    return PairFiles(path, parts, languages, tuple(one_sided))


def _two(stem: _Stem, languages: tuple[str, str]) -> TwoFiles:
    return TwoFiles(stem.by_language[languages[0]], stem.by_language[languages[1]])

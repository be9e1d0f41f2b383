"""What a translation model learns from: one interface over built-in pairs, files and hub data."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from attncli.data.faults import Faults, choices_hint, quoted
from attncli.data.files import kind_of, missing, near_path
from attncli.data.hub import HubText, is_saved, may_be_hub_name
from attncli.data.pair_files import Pair, common_beginning, find_two_files
from attncli.data.pair_language import BuiltinPairs
from attncli.data.pair_records import HubPairs, find_record_files
from attncli.data.sources import HoldOut, Progress
from attncli.errors import DataError, Problem
from attncli.recipe.translate import ParallelData

_COMMAND = "attn translate transformer --data PATH"
_ALIASES = {"val": "validation", "valid": "validation", "dev": "validation"}


class PairOrigin(Protocol):
    """Where sentence pairs come from."""

    @property
    def parts(self) -> tuple[str, ...]:
        """train and validation where there are such, then test sets by name."""
        ...

    def pairs(self, part: str, faults: Faults) -> Iterator[Pair]:
        """Pairs of a part, empty sides included."""
        ...

    def identity(self) -> list[Any]:
        """JSON that changes whenever the pairs do."""
        ...

    def describe(self) -> str:
        """One line for the console."""
        ...


@dataclass(frozen=True)
class TestSet:
    """Sentences and what people translated them to, empty lines included."""

    __test__ = False  # the name is no order to pytest

    name: str
    sources: list[str]
    references: list[str]

    def __len__(self) -> int:
        return len(self.sources)


@dataclass(frozen=True)
class Part:
    """A part of an origin, under the name it goes by."""

    name: str
    origin: PairOrigin
    part: str

    def pairs(self, faults: Faults) -> Iterator[Pair]:
        """Its pairs."""
        return self.origin.pairs(self.part, faults)

    def identity(self) -> list[Any]:
        """JSON that changes whenever it does."""
        return [self.part, self.origin.identity()]


class ParallelSource:
    """The parts of parallel text, with a validation part held out where there is none.

    Held out is one pair at a place drawn by a fixed rule out of every ``1 / share``, the last one where
    there are fewer.

    Args:
        origin: of the training part.
        validation: a part, or the share of the training pairs that is held out.
        tests: test sets.
        limit: most training pairs, what is held out included; 0 is all.
    """

    def __init__(
        self, origin: PairOrigin, validation: Part | float, tests: list[Part], limit: int = 0
    ) -> None:
        self.origin, self.limit = origin, limit
        self.validation = validation if isinstance(validation, Part) else None
        self.share = 0.0 if isinstance(validation, Part) else validation
        self.tests = {test.name: test for test in tests}

    @property
    def parts(self) -> tuple[str, ...]:
        """train, validation, test sets."""
        return ("train", "validation", *self.tests)

    def pairs(self, part: str, faults: Faults | None = None) -> Iterator[Pair]:
        """Pairs of a part; without ``faults`` the first problem is raised."""
        faults = faults or Faults(1)
        if part in self.tests:
            yield from self.tests[part].pairs(faults)
        elif part == "validation" and self.validation is not None:
            yield from self.validation.pairs(faults)
        else:
            held_out = HoldOut(self.share, self._few) if self.share else None
            for number, pair in enumerate(self._training(faults)):
                held = held_out is not None and held_out(number)
                if held == (part == "validation"):
                    yield pair

    def _training(self, faults: Faults) -> Iterator[Pair]:
        return islice(self.origin.pairs("train", faults), self.limit or None)

    @cached_property
    def _few(self) -> int:
        """Pairs, when there are too few to hold out a share of every block; else 0."""
        enough = math.ceil(1 / self.share)
        pairs = sum(1 for _ in islice(self._training(Faults(1)), enough))
        return pairs if pairs < enough else 0

    def part(self, name: str) -> Part | None:
        """A part by its name; None where there is no such."""
        name = _ALIASES.get(name, name)
        if name in self.tests:
            return self.tests[name]
        return Part(name, self, name) if name in ("train", "validation") else None

    def identity(self) -> list[Any]:
        """JSON that changes whenever the training or validation pairs do."""
        held = self.share if self.validation is None else self.validation.identity()
        return [self.origin.identity(), held, self.limit]

    def check(self, progress: Progress | None = None) -> int:
        """Read everything once; the first thing to do with text that was never read.

        Returns the characters of the training part, both sides.

        Raises:
            DataError: all problems of all parts, up to a cap, each with file, line and reason; or a part
                without pairs.
        """
        faults = Faults()
        characters = number = 0
        for number, (a, b) in enumerate(self.origin.pairs("train", faults), 1):
            characters += len(a) + len(b) if not self.limit or number <= self.limit else 0
            if progress:
                progress("reading", number, characters)
        if not number and not faults.problems:
            faults.add(f"{self.origin.describe()}: the training part has no pair")
        if number == 1 and self.share and not faults.problems:
            faults.add(
                f"{self.origin.describe()}: one pair only, so none can be held out for validation",
                hint="set data.validation=PATH",
            )
        others = [*self.tests.values(), *([self.validation] if self.validation else [])]
        for part in others:
            before, empty = len(faults.problems), True
            for _ in part.pairs(faults):
                empty = False
            if empty and len(faults.problems) == before:
                faults.add(f"{part.origin.describe()}: {part.name} has no pair")
        faults.check()
        return characters

    def describe(self) -> str:
        """One line for the console."""
        text = self.origin.describe()
        if self.validation is not None and self.validation.origin is not self.origin:
            text += f"; validation: {self.validation.origin.describe()}"
        elif self.share:
            text += f"; {self.share:.3g} of the pairs held out"
        return text


def read_set(part: Part) -> TestSet:
    """A part as text, all in memory.

    Raises:
        DataError: all its problems.
    """
    faults = Faults()
    found = list(part.pairs(faults))
    faults.check()
    return TestSet(part.name, [a for a, _ in found], [b for _, b in found])


def open_origin(name: str, languages: tuple[str, str], setting: str, training: bool = True) -> PairOrigin:
    """The parallel text called ``name``: built-in, a path, or a hub name.

    Raises:
        DataError: not there, or without pairs of these languages; without a training part, where
            ``training`` asks for one.
    """
    if name == "builtin" and setting == "data.path":
        return BuiltinPairs(languages)
    path = Path(name).expanduser()
    if path.is_dir() and is_saved(path):
        return HubPairs(HubText(str(path), "", setting=setting, then=_COMMAND), languages)
    found = find_two_files(path, languages, setting, training)
    if found is not None:
        return found
    if path.exists():
        return find_record_files(path, languages, setting, training)
    looks_like_path = name.startswith((".", "~", "/")) or name.count("/") > 1 or kind_of(path) is not None
    if looks_like_path or setting != "data.path" or not may_be_hub_name(name):
        raise DataError(missing(path, setting))
    near = near_path(path)
    hub = HubText(name, "", f"did you mean {near}? Or " if near else "", setting=setting, then=_COMMAND)
    _ = hub.splits  # load it now, so that a wrong name fails with the rest
    return HubPairs(hub, languages)


def test_parts(origin: PairOrigin) -> list[str]:
    """Names of its test sets."""
    return [part for part in origin.parts if part not in ("train", "validation")]


def whole_part(name: str, origin: PairOrigin, setting: str) -> Part:
    """What is meant by parallel text that is not trained on: its test set, its validation part, or all.

    For ``data.validation`` the validation part comes first, then all of it.

    Raises:
        DataError: it has several test sets.
    """
    tests = test_parts(origin)
    order = (
        ["validation", "train", *tests] if setting == "data.validation" else [*tests, "validation", "train"]
    )
    chosen = next(part for part in order if part in origin.parts)
    if chosen in tests and len(tests) > 1:
        raise DataError(
            Problem(
                f"{setting}={name}: several test sets, {quoted(tests)}", hint=f"name one: {name}/{tests[0]}"
            )
        )
    return Part(chosen if chosen in tests else Path(name).name, origin, chosen)


def find_part(section: ParallelData, origin: PairOrigin, name: str, setting: str) -> Part:
    """A part of ``origin`` by its name, or other parallel text by its path.

    Raises:
        DataError: neither.
    """
    part = _ALIASES.get(name, name)
    if part in origin.parts:
        return Part(name, origin, part)
    languages = (section.source, section.target)
    base = Path(section.path).expanduser()
    places = [Path(name).expanduser()]
    if section.path != "builtin":
        places += [base / name, base.parent / name]
    for place in places:
        if not place.exists() and common_beginning(place, languages) is None:
            continue
        other = open_origin(str(place), languages, setting, training=False)
        return whole_part(name, other, setting)
    hint = choices_hint(name, test_parts(origin), "test sets here", setting) + "; or give a path"
    raise DataError(
        Problem(f"{setting}={name}: no such part of {origin.describe()}, and no such file", hint=hint)
    )


def open_pairs(section: ParallelData) -> ParallelSource:
    """The parallel text that ``data`` names.

    Paths are looked at, contents are not: :meth:`ParallelSource.check` reads them.

    Raises:
        DataError: all that is not there, or has no pairs of these languages.
    """
    problems: list[Problem] = []
    share, other = 0.05, ""
    try:
        share = float(section.validation)
        if not 0 < share < 1:
            problems.append(Problem(f"data.validation={section.validation}: a share must be between 0 and 1"))
    except ValueError:
        other = str(section.validation)
    try:
        origin = open_origin(section.path, (section.source, section.target), "data.path")
    except DataError as error:
        raise DataError(*problems, *error.problems, then=error.then) from None
    validation: Part | float = share
    tests = []
    try:
        if other:
            validation = find_part(section, origin, other, "data.validation")
        elif "validation" in origin.parts:
            validation = Part("validation", origin, "validation")
    except DataError as error:
        problems += error.problems
    for name in section.tests or test_parts(origin):
        try:
            tests.append(find_part(section, origin, name, "data.tests"))
        except DataError as error:
            problems += error.problems
    if problems:
        raise DataError(*problems)
    return ParallelSource(origin, validation, tests, section.limit)

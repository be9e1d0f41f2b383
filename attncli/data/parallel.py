"""From recipe settings to tokenised sentence pairs, a tokeniser and test sets: each made once and cached."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from attncli.data.cache import cache_folder, entry, key_of
from attncli.data.faults import Faults
from attncli.data.pair_files import Pair, find_two_files
from attncli.data.pair_store import VERSION, PairStore, write_pairs
from attncli.data.pair_tokenizers import PairTokenizer, train_pair_tokenizer
from attncli.data.sources import HoldOut, Progress
from attncli.data.tokenizers import MOST_TEXT
from attncli.errors import DataError, Problem
from attncli.recipe.translate import PairTokenizer as PairTokenizerSection
from attncli.recipe.translate import ParallelData


class PairOrigin(Protocol):
    """Where sentence pairs come from."""

    @property
    def parts(self) -> tuple[str, ...]:
        """train, always; validation where there is one; then test sets by name."""
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
class Pairs:
    """What a translation model is trained and measured on.

    Attributes:
        source: where the pairs come from.
        tokenizer: trained on them, or given.
        train, validation: tokenised pairs.
        validation_set: the validation part as text.
        tests: test sets in the order asked for.
    """

    source: ParallelSource
    tokenizer: PairTokenizer
    train: PairStore
    validation: PairStore
    validation_set: TestSet
    tests: list[TestSet]

    @property
    def validation_text(self) -> tuple[list[str], list[str]]:
        """Sources and references of the validation part."""
        return self.validation_set.sources, self.validation_set.references

    def describe(self) -> str:
        """One line: where from, how many, and what was left out."""
        a, b = self.tokenizer.languages
        text = (
            f"{self.source.describe()} ({a} to {b}): {len(self.train):,} pairs, "
            f"{len(self.validation_set):,} for validation"
        )
        if self.tests:
            text += "; tests " + ", ".join(f"{test.name} ({len(test):,})" for test in self.tests)
        for store, part in ((self.train, "training"), (self.validation, "the validation loss")):
            if store.left_out():
                text += f"; left out of {part}: {store.left_out()}"
        return text


class ParallelSource:
    """The parts of parallel text, with a validation part held out where the origin has none.

    Held out is one pair at a place drawn by a fixed rule out of every ``1 / share``, the last one where
    there are fewer.
    """

    def __init__(self, origin: PairOrigin, validation: PairOrigin | float, limit: int = 0) -> None:
        self.origin, self.limit = origin, limit
        self.other = None if isinstance(validation, float) else validation
        has_own = self.other is not None or "validation" in origin.parts
        self.share = validation if isinstance(validation, float) and not has_own else 0.0

    @property
    def parts(self) -> tuple[str, ...]:
        """train, validation, test sets."""
        return ("train", "validation", *self.tests)

    @property
    def tests(self) -> tuple[str, ...]:
        """Names of the test sets."""
        return tuple(part for part in self.origin.parts if part not in ("train", "validation"))

    def pairs(self, part: str, faults: Faults | None = None) -> Iterator[Pair]:
        """Pairs of a part."""
        faults = faults or Faults(1)
        if part == "validation" and self.other is not None:
            yield from self.other.pairs("train", faults)
        elif part != "train" and not (part == "validation" and self.share):
            yield from self.origin.pairs(part, faults)
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

    def read(self, part: str, name: str | None = None) -> TestSet:
        """A part as text, all in memory."""
        pairs = list(self.pairs(part))
        return TestSet(name or part, [a for a, _ in pairs], [b for _, b in pairs])

    def identity(self) -> list[Any]:
        """JSON that changes whenever the pairs or their splitting do."""
        other = self.other.identity() if self.other is not None else self.share
        return [1, self.origin.identity(), other, self.limit]

    def check(self, progress: Progress | None = None) -> int:
        """Read everything once; the first thing to do with text that was never read.

        Returns the characters of the training part, both sides.

        Raises:
            DataError: all problems of all parts, up to a cap, each with file, line and reason.
        """
        faults = Faults()
        characters = 0
        for part in self.parts:
            if part == "validation" and self.share:
                continue
            for number, (a, b) in enumerate(self.pairs(part, faults), 1):
                if part == "train":
                    characters += len(a) + len(b)
                    if progress:
                        progress("reading", number, characters)
        faults.check()
        return characters

    def describe(self) -> str:
        """One line for the console."""
        text = self.origin.describe()
        if self.other is not None:
            text += f"; validation: {self.other.describe()}"
        elif self.share:
            text += f"; {self.share:.3g} of the pairs held out"
        return text


def prepare_pairs(
    section: ParallelData,
    tokenizer: PairTokenizerSection | PairTokenizer,
    progress: Progress | None = None,
) -> Pairs:
    """Everything a translation model is trained on, from the cache where it was made before.

    Args:
        section: the ``data`` section.
        tokenizer: the ``tokenizer`` section, or the tokeniser of a run that goes on.
        progress: called with what is being done, pairs and characters so far.

    Raises:
        DataError: the pairs do not serve; all problems at once.
        DeviceError: the cache folder is full or cannot be written to.
    """
    source = open_pairs(section)
    folder, identity = cache_folder(section.cache), source.identity()
    surveyed = []

    def survey() -> int:
        if not surveyed:
            surveyed.append(source.check(progress))
        return surveyed[0]

    if not isinstance(tokenizer, PairTokenizer):
        settings = {key: value for key, value in tokenizer.model_dump().items() if key != "dropout"}

        def train(aside: Path) -> None:
            texts = [_Sample(source, side, survey(), progress) for side in (0, 1)]
            train_pair_tokenizer(tokenizer, (section.source, section.target), *texts).save(aside)

        name = f"pair-tokenizer-{key_of(VERSION, identity, settings)}"
        tokenizer = PairTokenizer.load(entry(folder, name, train))
    stores = {}
    for part in ("train", "validation"):

        def build(aside: Path, part: str = part) -> None:
            survey()
            what = "training part" if part == "train" else "validation part"
            write_pairs(aside, source.pairs(part), tokenizer, section.max_length, what, progress)

        key = key_of(VERSION, identity, part, tokenizer.fingerprint, section.max_length)
        stores[part] = PairStore(entry(folder, f"pairs-{key}", build))
        if not len(stores[part]):
            raise DataError(
                Problem(f"{source.describe()}: no pair left in the {part} part; {stores[part].left_out()}")
            )
    tests = [source.read(name) for name in section.tests or source.tests]
    pairs = Pairs(source, tokenizer, stores["train"], stores["validation"], source.read("validation"), tests)
    return pairs


class _Sample:
    """One side's text that a tokeniser is trained on: all, or every k-th sentence of a large corpus."""

    def __init__(self, source: ParallelSource, side: int, characters: int, progress: Progress | None) -> None:
        self.source, self.side, self.progress = source, side, progress
        self.every = max(1, -(-characters // MOST_TEXT))

    def __iter__(self) -> Iterator[str]:
        for number, pair in enumerate(islice(self.source.pairs("train"), 0, None, self.every), 1):
            if self.progress:
                self.progress("training the tokeniser", number, 0)
            yield pair[self.side]


def open_pairs(section: ParallelData) -> ParallelSource:
    """The parallel text that ``data`` names."""
    languages = (section.source, section.target)
    found = find_two_files(Path(section.path).expanduser(), languages, "data.path")
    return ParallelSource(found, float(section.validation), section.limit)

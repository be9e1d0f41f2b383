"""From recipe settings to tokenised sentence pairs, a tokeniser and test sets: each made once and cached."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

from attncli import console
from attncli.data.cache import cache_folder, entry, key_of
from attncli.data.pair_sources import ParallelSource, Part, TestSet, open_pairs, read_set
from attncli.data.pair_store import VERSION, PairStore, write_pairs
from attncli.data.pair_tokenizers import PairTokenizer, train_pair_tokenizer
from attncli.data.sources import Progress
from attncli.data.tokenizers import MOST_TEXT
from attncli.errors import DataError, Problem
from attncli.recipe.translate import PairTokenizer as PairTokenizerSection
from attncli.recipe.translate import ParallelData

__all__ = ["Pairs", "TestSet", "prepare_pairs"]

_ALIKE = 0.2
"""Share of pairs with the same text on both sides from which on there is a warning."""


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
            seen = count(1)
            texts = [_Sample(source, side, survey(), seen, progress) for side in (0, 1)]
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
    train, validation = stores["train"], stores["validation"]
    if train.same > _ALIKE * len(train):
        console.warn(
            f"{train.same:,} of {len(train):,} training pairs have the same text on both sides: "
            f"are data.source={section.source} and data.target={section.target} what they should be?"
        )
    tests = [read_set(test) for test in source.tests.values()]
    held = read_set(Part("validation", source, "validation"))
    return Pairs(source, tokenizer, train, validation, held, tests)


class _Sample:
    """One side's text that a tokeniser is trained on: all, or every k-th sentence of a large corpus."""

    def __init__(
        self,
        source: ParallelSource,
        side: int,
        characters: int,
        seen: Iterator[int],
        progress: Progress | None,
    ) -> None:
        """``seen`` numbers what was read, over all passes."""
        self.source, self.side, self.seen, self.progress = source, side, seen, progress
        self.every = max(1, -(-characters // MOST_TEXT))

    def __iter__(self) -> Iterator[str]:
        for pair in islice(self.source.pairs("train"), 0, None, self.every):
            if self.progress:
                self.progress("training the tokeniser", next(self.seen), 0)
            yield pair[self.side]

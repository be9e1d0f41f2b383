"""Sentence pairs that a finished model is measured on: a part of its own data, or other data."""

from __future__ import annotations

from pathlib import Path

from attncli.data.cache import cache_folder, entry, key_of
from attncli.data.pair_store import VERSION, PairStore, write_pairs
from attncli.data.pair_tokenizers import PairTokenizer
from attncli.data.parallel import TestSet, read_test_set
from attncli.data.sources import Progress
from attncli.errors import DataError, Problem
from attncli.recipe.translate import ParallelData


def measured_pairs(
    section: ParallelData, tokenizer: PairTokenizer, name: str, progress: Progress | None = None
) -> tuple[TestSet, PairStore]:
    """A part of the run's own data by its name, or other pairs by their path: as text, and tokenised.

    Raises:
        DataError: no such part or data, or bad text; all problems at once.
    """
    test = read_test_set(section, name)
    pairs = list(zip(test.sources, test.references, strict=True))

    def build(aside: Path) -> None:
        write_pairs(aside, pairs, tokenizer, section.max_length, f"part {test.name}", progress)

    key = key_of(VERSION, pairs, tokenizer.fingerprint, section.max_length)
    store = PairStore(entry(cache_folder(section.cache), f"pairs-{key}", build))
    if not len(store):
        raise DataError(Problem(f"{test.name}: no pair to measure on; {store.left_out() or 'it is empty'}"))
    return test, store

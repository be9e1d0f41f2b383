"""Sentence pairs that a finished model is measured on: a part of its own data, or other data."""

from __future__ import annotations

from pathlib import Path

from attncli.data.cache import cache_folder, entry, key_of
from attncli.data.pair_sources import (
    TestSet,
    find_part,
    open_origin,
    open_pairs,
    read_set,
    whole_part,
)
from attncli.data.pair_store import VERSION, PairStore, write_pairs
from attncli.data.pair_tokenizers import PairTokenizer
from attncli.data.sources import Progress
from attncli.errors import DataError, Problem
from attncli.recipe.translate import ParallelData


def measured_pairs(
    section: ParallelData,
    tokenizer: PairTokenizer,
    *,
    split: str | None = None,
    source: str | None = None,
    progress: Progress | None = None,
) -> tuple[TestSet, PairStore]:
    """A part of the run's own data by its name, or other pairs: as text, and tokenised for the loss.

    Of other data its test set is taken, else its validation part, else all of it.

    Raises:
        DataError: no such part or data, or bad text; all problems at once.
    """
    if source is None:
        own = open_pairs(section)
        part = own.part(split or "validation")
        part = part or find_part(section, own.origin, str(split), "--split")
    else:
        languages = (section.source, section.target)
        origin = open_origin(source, languages, "data.path", training=False)
        part = whole_part(source, origin, "data.path")
    test = read_set(part)

    def build(aside: Path) -> None:
        lines = zip(test.sources, test.references, strict=True)
        write_pairs(aside, lines, tokenizer, section.max_length, f"part {test.name}", progress)

    key = key_of(VERSION, part.identity(), tokenizer.fingerprint, section.max_length)
    store = PairStore(entry(cache_folder(section.cache), f"pairs-{key}", build))
    if not len(store):
        raise DataError(Problem(f"{test.name}: no pair to measure on; {store.left_out() or 'it is empty'}"))
    return test, store

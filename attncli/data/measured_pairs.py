"""Sentence pairs that a finished model is measured on: a part of its own data, or other data."""

from __future__ import annotations

from pathlib import Path

from attncli.data.cache import cache_folder, entry, key_of
from attncli.data.faults import Faults, choices_hint
from attncli.data.pair_store import VERSION, PairStore, write_pairs
from attncli.data.pair_tokenizers import PairTokenizer
from attncli.data.parallel import TestSet, open_pairs
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

    Of other data the first test set is taken, else its validation part, else all of it.

    Raises:
        DataError: no such part or data, or bad text; all problems at once.
    """
    if source is None:
        pairs = open_pairs(section)
        if split not in pairs.parts:
            hint = choices_hint(str(split), pairs.parts, "there are", "--split")
            raise DataError(Problem(f"{pairs.describe()}: there is no part {split!r}", hint=hint))
        faults = Faults()
        lines = list(pairs.pairs(split, faults))
        name, identity = split, pairs.identity()
    else:
        origin = open_pairs(section.model_copy(update={"path": source, "tests": []})).origin
        tests = [part for part in origin.parts if part not in ("train", "validation")]
        part = next(iter([*tests, *(p for p in ("validation", "train") if p in origin.parts)]))
        faults = Faults()
        lines = list(origin.pairs(part, faults))
        name = part if part in tests else Path(source).name
        identity = origin.identity()
    faults.check()
    test = TestSet(name, [a for a, _ in lines], [b for _, b in lines])

    def build(aside: Path) -> None:
        write_pairs(aside, lines, tokenizer, section.max_length, f"part {name}", progress)

    key = key_of(VERSION, identity, split or "other", name, tokenizer.fingerprint, section.max_length)
    store = PairStore(entry(cache_folder(section.cache), f"pairs-{key}", build))
    if not len(store):
        raise DataError(Problem(f"{name}: no pair to measure on; {store.left_out() or 'it is empty'}"))
    return test, store

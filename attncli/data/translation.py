"""Batches of sentence pairs: pairs of like length together, as many as the budget of tokens takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from attncli.data.language import Shelves
from attncli.data.order import Batch, EpochBatches, EvaluationBatches
from attncli.data.packing import ranges
from attncli.data.pair_store import PairStore
from attncli.data.pair_tokenizers import PairTokenizer, Side
from attncli.errors import Problem, RecipeError

SLICE = 1 << 12
"""Pairs that lie together on a shelf."""
_SAMPLE = 1000
"""Pairs that tell how much longer BPE-dropout makes sentences."""

Ints = NDArray[np.int64]


class PairExamples:
    """Batches for translation (an ``Examples`` of :mod:`attncli.data.order`).

    A batch has ``source`` [B, S] (``</s>`` at the end) with ``source_keep`` [B, S], False on padding;
    ``tokens`` [B, T], what the decoder reads (``<s>``, then the target); ``labels_at`` [N], the real
    places in B*T, and ``labels`` [N], what comes next there (the target, then ``</s>``).

    Args:
        store: the pairs.
        tokenizer: theirs.
        batch: tokens: B times the longer of S and T is at most that.
        dropout: share of the merges left out; sentences are segmented anew each time they are seen.
            Lengths are foreseen then, so ``batch`` is kept on average.

    Raises:
        RecipeError: a pair is longer than ``batch``.
    """

    def __init__(
        self, store: PairStore, tokenizer: PairTokenizer, *, batch: int, dropout: float = 0.0
    ) -> None:
        if store.longest > batch:
            raise RecipeError(
                Problem(
                    f"train.batch={batch}: the longest pair has {store.longest} tokens",
                    hint=f"set train.batch={store.longest} or more, or data.max_length={batch}",
                )
            )
        self.store, self.tokenizer, self.batch, self.dropout = store, tokenizer, batch, dropout
        self._shelves = Shelves(-(-len(store) // SLICE))
        self.shelves = self._shelves.shelves
        self._growth = (self._longer("source"), self._longer("target")) if dropout else (1.0, 1.0)

    def _longer(self, side: Side) -> float:
        """How many times longer dropout makes a side, on average."""
        numbers = np.linspace(0, len(self.store) - 1, min(_SAMPLE, len(self.store))).astype(np.int64)
        plain = self.store.lengths(numbers)[0 if side == "source" else 1]
        return float(self._side(side, numbers, np.random.default_rng(0))[1].sum() / plain.sum())

    def plan(self, epoch: int, shelf: int, rng: np.random.Generator) -> Sequence[Ints]:
        """Numbers of the pairs of each batch; every pair of the shelf once."""
        slices, rng = self._shelves.on(shelf, rng)
        first = slices * SLICE
        numbers = rng.permutation(ranges(first, np.minimum(len(self.store) - first, SLICE)))
        source, target = (
            np.rint(length * growth).astype(np.int64) + 1
            for length, growth in zip(self.store.lengths(numbers), self._growth, strict=True)
        )
        # Sources go up within one target length and down within the next: no jump between the two.
        snake = np.where(target % 2 == 0, source, -source)
        order = np.lexsort((snake, target))
        longer = np.maximum(source, target)[order]
        ends = _ends(longer.tolist(), self.batch)
        batches = [rng.permutation(group) for group in np.split(numbers[order], ends[:-1])]
        return [batches[at] for at in rng.permutation(len(batches))]

    def make(self, item: Ints, rng: np.random.Generator) -> Batch:
        """The batch of the pairs at ``item`` [B]."""
        pad, bos, eos = self.tokenizer.pad_id, self.tokenizer.bos_id, self.tokenizer.eos_id
        count = len(item)
        ids, length = self._side("source", item, rng)
        source = np.full((count, int(length.max()) + 1), pad, np.int64)  # [B, S]
        keep = np.arange(source.shape[1]) <= length[:, None]
        source[np.arange(source.shape[1]) < length[:, None]] = ids
        source[np.arange(count), length] = eos
        ids, length = self._side("target", item, rng)
        width = int(length.max()) + 1
        real = np.arange(width) <= length[:, None]  # [B, T]
        labels = np.full((count, width), eos, np.int64)
        labels[np.arange(width) < length[:, None]] = ids
        tokens = np.full((count, width), pad, np.int64)
        tokens[:, 0] = bos
        tokens[:, 1:][real[:, 1:]] = ids
        batch = {
            "source": source,
            "source_keep": keep,
            "tokens": tokens,
            "labels_at": np.flatnonzero(real),
            "labels": labels[real],
        }
        return {key: torch.from_numpy(value) for key, value in batch.items()}

    def _side(self, side: Side, numbers: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
        """Ids [N] and lengths [B] of one side of the pairs at ``numbers`` [B]."""
        store = self.store
        ids, at = (store.source, store.source_at) if side == "source" else (store.target, store.target_at)
        lengths = at[numbers + 1] - at[numbers]
        plain = ids[ranges(at[numbers], lengths)]
        if not self.dropout:
            return plain, lengths
        found, longer = self.tokenizer.resegment(plain, lengths, side, self.dropout, rng)
        over = longer + 1 > store.max_length
        if over.any():  # too long for the model this way: these stay as they are
            rows = zip(
                np.split(found, np.cumsum(longer)[:-1]), np.split(plain, np.cumsum(lengths)[:-1]), over
            )
            found = np.concatenate([old if stays else new for new, old, stays in rows])
            longer = np.where(over, lengths, longer)
        return found, longer


def _ends(lengths: list[int], budget: int) -> list[int]:
    """Where batches end, so that each one's number of pairs times its longest is at most ``budget``.

    The last one, of the longest pairs, takes from the one before where it would be small.
    """
    ends, longest, first = [0], 0, 0
    for at, length in enumerate(lengths):
        longest = max(longest, length)
        if (at + 1 - first) * longest > budget and at > first:
            ends.append(at)
            first, longest = at, length
    if len(ends) > 1:
        half = (len(lengths) - ends[-2]) // 2
        ends[-1] = min(ends[-1], len(lengths) - min(half, budget // max(lengths[ends[-2] :])))
    return [*ends[1:], len(lengths)]


def training_batches(
    store: PairStore, tokenizer: PairTokenizer, *, batch: int, seed: int, dropout: float = 0.0
) -> EpochBatches:
    """The training stream."""
    return EpochBatches(PairExamples(store, tokenizer, batch=batch, dropout=dropout), seed)


def validation_batches(store: PairStore, tokenizer: PairTokenizer, *, batch: int) -> EvaluationBatches:
    """All pairs, the same batches each time."""
    return EvaluationBatches(PairExamples(store, tokenizer, batch=batch), 0)

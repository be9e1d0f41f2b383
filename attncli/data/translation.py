"""Batches of sentence pairs: pairs of like length together, as many as the budget of tokens takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from attncli.data.language import SLICES, Shelves
from attncli.data.order import Batch, EpochBatches, EvaluationBatches
from attncli.data.packing import ranges
from attncli.data.pair_store import PairStore
from attncli.data.pair_tokenizers import PairTokenizer
from attncli.errors import Problem, RecipeError

SLICE = 1 << 12
"""Pairs that lie together on a shelf."""
SLICES_APART = 8
"""Slices of a shelf with BPE-dropout, which are segmented when the shelf is begun and held in memory."""
_CHUNK = 2048

Ints = NDArray[np.int64]


class Texts(Protocol):
    """Where the ids of pairs lie: see :class:`PairStore`."""

    source: NDArray[Any]
    target: NDArray[Any]
    source_at: Ints
    target_at: Ints


@dataclass(frozen=True)
class _Segmented:
    """Pairs in memory."""

    source: NDArray[Any]
    source_at: Ints
    target: NDArray[Any]
    target_at: Ints


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
            A pair that would grow too long so for ``store.max_length`` keeps its ordinary segmentation.

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
        self._shelves = Shelves(-(-len(store) // SLICE), SLICES_APART if dropout else SLICES)
        self.shelves = self._shelves.shelves

    def plan(self, epoch: int, shelf: int, rng: np.random.Generator) -> Sequence[tuple[Texts, Ints]]:
        """Of each batch where its pairs lie and their numbers there; every pair of the shelf once."""
        slices, rng = self._shelves.on(shelf, rng)
        first = slices * SLICE
        numbers = ranges(first, np.minimum(len(self.store) - first, SLICE))
        texts: Texts = self.store
        if self.dropout:
            texts, numbers = self._segmented(numbers, rng), np.arange(len(numbers))
        numbers = rng.permutation(numbers)
        source = texts.source_at[numbers + 1] - texts.source_at[numbers]
        target = texts.target_at[numbers + 1] - texts.target_at[numbers]
        longer, more = np.maximum(source, target), source - target
        # Alike in both lengths: from long targets to long sources, back again for the next length.
        order = np.lexsort((np.where(longer % 2 == 0, more, -more), longer))
        longer = longer[order] + 1
        ends = _ends(longer.tolist(), self.batch)
        batches = [(texts, rng.permutation(group)) for group in np.split(numbers[order], ends[:-1])]
        return [batches[at] for at in rng.permutation(len(batches))]

    def _segmented(self, numbers: Ints, rng: np.random.Generator) -> _Segmented:
        """The pairs at ``numbers`` with BPE-dropout."""
        store = self.store
        sides = (("source", store.source, store.source_at), ("target", store.target, store.target_at))
        arrays = []
        for side, ids, at in sides:
            found = []
            for chunk in np.array_split(numbers, -(-len(numbers) // _CHUNK)):
                lengths = at[chunk + 1] - at[chunk]
                plain = ids[ranges(at[chunk], lengths)]
                new, longer = self.tokenizer.resegment(plain, lengths, side, self.dropout, rng)
                over = longer + 1 > min(store.max_length, self.batch)
                if over.any():  # too long this way: these stay as they are
                    whole = np.concatenate([new, plain])
                    longest = np.where(over, lengths, longer)
                    start = np.where(
                        over, len(new) + np.cumsum(lengths) - lengths, np.cumsum(longer) - longer
                    )
                    new, longer = whole[ranges(start, longest)], longest
                found.append((new.astype(ids.dtype), longer))
            arrays.append(np.concatenate([new for new, _ in found]))
            arrays.append(np.cumsum(np.concatenate([[0], *(longer for _, longer in found)])))
        return _Segmented(*arrays)

    def make(self, item: tuple[Texts, Ints], rng: np.random.Generator) -> Batch:
        """The batch of an item of the plan."""
        texts, numbers = item
        pad, bos, eos = self.tokenizer.pad_id, self.tokenizer.bos_id, self.tokenizer.eos_id
        count = len(numbers)
        lengths = texts.source_at[numbers + 1] - texts.source_at[numbers]
        column = np.arange(int(lengths.max()) + 1)
        source = np.full((count, len(column)), pad, np.int64)  # [B, S]
        source[column < lengths[:, None]] = texts.source[ranges(texts.source_at[numbers], lengths)]
        source[np.arange(count), lengths] = eos
        keep = column <= lengths[:, None]
        lengths = texts.target_at[numbers + 1] - texts.target_at[numbers]
        column = np.arange(int(lengths.max()) + 1)
        real = column <= lengths[:, None]  # [B, T]
        ids = texts.target[ranges(texts.target_at[numbers], lengths)]
        following = np.full((count, len(column)), eos, np.int64)
        following[column < lengths[:, None]] = ids
        tokens = np.full((count, len(column)), pad, np.int64)
        tokens[:, 0] = bos
        tokens[:, 1:][real[:, 1:]] = ids
        batch = {
            "source": source,
            "source_keep": keep,
            "tokens": tokens,
            "labels_at": np.flatnonzero(real),
            "labels": following[real],
        }
        return {key: torch.from_numpy(value) for key, value in batch.items()}


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

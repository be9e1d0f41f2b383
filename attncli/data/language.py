"""Examples of masked and causal language models, from a token store.

An epoch goes over shelves of about four million tokens, each gathered from 64 slices that lie anywhere
in the text, so that shuffling is thorough and the plan is small however large the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attncli.data.masking import choose_tokens, choose_words, corrupt
from attncli.data.order import Batch, EpochBatches, EvaluationBatches, generator
from attncli.data.packing import (
    Pairs,
    Rows,
    full_sentences,
    packed,
    ranges,
    sentence_pairs,
    truncated,
    windows,
)
from attncli.data.token_store import TokenStore
from attncli.data.tokenizers import Tokenizer
from attncli.errors import DataError, Problem
from attncli.recipe.pretrain import Objective

SLICE = 1 << 16
"""Tokens that are read in one go."""
SLICES = 64
"""Slices of a shelf."""

Ints = NDArray[np.int64]


class Shelves:
    """Which slices are on which shelf of an epoch."""

    def __init__(self, slices: int, each: int = 0) -> None:
        """``each``: most slices of a shelf; 0 is :data:`SLICES`."""
        self.slices, self.shelves = slices, -(-slices // (each or SLICES))

    def on(self, shelf: int, rng: np.random.Generator) -> tuple[Ints, np.random.Generator]:
        """Slices of a shelf and the shelf's generator; ``rng`` is the epoch's."""
        order = np.array_split(rng.permutation(self.slices), self.shelves)[shelf]
        return order, rng.spawn(self.shelves)[shelf]


@dataclass
class _Batched(Sequence[Any]):
    """Rows in batches: item i are the rows of ``order[i * batch : (i + 1) * batch]``."""

    rows: Any
    order: Ints
    batch: int
    whole: bool

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch) if self.whole else len(self.order) // self.batch

    def __getitem__(self, index: int) -> Any:  # type: ignore[override]
        chosen = self.order[index * self.batch : (index + 1) * self.batch]
        return self.rows.take(chosen) if isinstance(self.rows, Rows) else self.rows[chosen]


class MaskedExamples:
    """Batches for masked language models (an ``Examples`` of :mod:`attncli.data.order`).

    A batch has ``tokens`` [B, T], ``labels_at`` [N], ``labels`` [N]; ``segments`` [B, T] and ``pair`` [B]
    with a sentence objective; ``documents`` and ``positions`` [B, T] when packed (padding counts as a
    document of its own); ``keep`` [B, T] only where something is padded. T is ``length`` or, when no row
    is that long, the longest row.

    Args:
        store: tokens split into sentences.
        tokenizer: theirs.
        length: tokens of an example, special ones included.
        batch: examples of a batch.
        objective: the ``train.objective`` section.
        whole: keep the last, smaller batch (for evaluation).
    """

    def __init__(
        self,
        store: TokenStore,
        tokenizer: Tokenizer,
        *,
        length: int,
        batch: int,
        objective: Objective,
        whole: bool = False,
    ) -> None:
        self.store, self.tokenizer, self.objective = store, tokenizer, objective
        self.length, self.batch, self.whole = length, batch, whole
        self.paired = objective.sentences != "none"
        self._bounds = _slice_bounds(store)
        self._shelves = Shelves(len(self._bounds) - 1)
        self.shelves = self._shelves.shelves
        special = np.zeros(tokenizer.vocabulary, bool)
        special[tokenizer.special_ids] = True
        self._special, self._starts = special, tokenizer.starts_word if objective.whole_word else None
        least = 5 if self.paired else 3
        if length < least:
            raise DataError(
                Problem(f"model.length={length}: fewer than the {least} tokens of the shortest example")
            )

    def plan(self, epoch: int, shelf: int, rng: np.random.Generator) -> Sequence[Any]:
        """Batches of a shelf, its rows shuffled."""
        slices, rng = self._shelves.on(shelf, rng)
        rows = self._rows(slices, rng)
        order = rng.permutation(len(rows))
        if self.shelves == 1 and not self.whole and 0 < len(order) < self.batch:
            order = np.resize(order, self.batch)
        return _Batched(rows, order, self.batch, self.whole)

    def _rows(self, slices: Ints, rng: np.random.Generator) -> Rows:
        documents = [doc for s in slices.tolist() for doc in self._documents(s)]
        if self.paired:
            return self._pairs(documents, rng)
        documents = [documents[at] for at in rng.permutation(len(documents))]
        if self.objective.packing == "full":
            return full_sentences([off for _, off in documents], self.length - 2)
        start = np.array([off[0] for _, off in documents], np.int64)
        size = np.array([off[-1] for _, off in documents], np.int64) - start
        if self.objective.packing == "packed":
            return packed(start, size, self.length, rng)
        return windows(start, size, self.length - 2)

    def _documents(self, number: int) -> list[tuple[int, Ints]]:
        """Documents (or parts) of a slice: number, first token of each sentence, end."""
        low, high = self._bounds[number], self._bounds[number + 1]
        offsets = np.asarray(self.store.sentences[low : high + 1])
        first = int(np.searchsorted(self.store.documents, low, side="right")) - 1
        last = int(np.searchsorted(self.store.documents, high, side="left"))
        cuts = np.asarray(self.store.documents[first : last + 1]).clip(low, high) - low
        return [
            (first + at, offsets[a : b + 1])
            for at, (a, b) in enumerate(zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True))
            if b > a
        ]

    def _pairs(self, documents: list[tuple[int, Ints]], rng: np.random.Generator) -> Rows:
        budget = self.length - 3
        pairs = sentence_pairs(documents, budget, self.objective.sentences, rng)
        drawn = pairs.b_start < 0
        if drawn.any():
            self._draw(pairs, drawn, budget, rng)
        return truncated(pairs, budget, rng)

    def _draw(self, pairs: Pairs, drawn: NDArray[np.bool_], budget: int, rng: np.random.Generator) -> None:
        """Second segments from other documents: any sentence that leaves enough text to fill the row."""
        store = self.store
        own = pairs.document[drawn]
        other = rng.integers(len(store.documents) - 2, size=len(own))
        other += other >= own
        low = store.sentences[store.documents[other]].astype(np.int64)
        high = store.sentences[store.documents[other + 1]].astype(np.int64)
        need = np.maximum(budget - pairs.a_length[drawn], budget // 4)
        at = low + (rng.random(len(own)) * (np.maximum(high - need - low, 0) + 1)).astype(np.int64)
        start = store.sentences[np.searchsorted(store.sentences, at, side="right") - 1]
        pairs.b_start[drawn] = start
        pairs.b_length[drawn] = np.minimum(high - start, need)

    def make(self, item: Rows, rng: np.random.Generator) -> Batch:
        """A batch from its rows."""
        tokenizer = self.tokenizer
        row, column, used = item.layout()
        count, width = len(item), int(used.max())
        tokens = np.full((count, width), tokenizer.pad_id, np.int64)
        flat, at = tokens.reshape(-1), row * width + column
        text = ranges(at, item.length)
        values = self.store.tokens[ranges(item.start, item.length)]
        flat[text] = values
        flat[at[item.opens] - 1] = tokenizer.cls_id
        flat[at + item.length] = tokenizer.sep_id
        candidates = np.zeros(count * width, bool)
        candidates[text] = ~self._special[values]
        candidates = candidates.reshape(count, width)
        batch: dict[str, Any] = {"tokens": tokens}
        columns = np.arange(width)
        if self.paired:
            second = column[1::2]
            batch["segments"] = ((columns >= second[:, None]) & (columns < used[:, None])).astype(np.int64)
            batch["pair"] = item.label
        elif self.objective.packing == "packed":
            begins = np.zeros((count, width), np.int64)
            begins.reshape(-1)[at - 1] = 1
            short = used < width
            begins[short, used[short]] = 1
            batch["documents"] = np.cumsum(begins, axis=1) - 1
            batch["positions"] = columns - np.maximum.accumulate(begins * columns, axis=1)
        if used.min() < width:
            batch["keep"] = columns < used[:, None]
        if self._starts is None:
            chosen = choose_tokens(candidates, self.objective.mask, rng)
        else:
            chosen = choose_words(candidates, self._starts[tokens], self.objective.mask, rng)
        batch["labels_at"], batch["labels"] = corrupt(
            tokens, chosen, tokenizer.mask_id, tokenizer.ordinary, rng
        )
        return {key: torch.from_numpy(value) for key, value in batch.items()}


def _slice_bounds(store: TokenStore) -> Ints:
    """First sentence of each slice, then the number of sentences.

    Slices end where a document does, or inside one that is longer than a slice.
    """
    sentences, documents = store.sentences, store.documents
    total = len(sentences) - 1
    places = np.arange(SLICE, max(len(store), 1), SLICE)
    near = np.searchsorted(sentences, places)  # first sentence at or after
    after = documents[np.searchsorted(documents, near).clip(max=len(documents) - 1)]
    far = sentences[after] > places + SLICE
    return np.unique(np.concatenate([[0], np.where(far, near, after), [total]]))


class CausalExamples:
    """Windows of ``length`` tokens and the token after each: ``tokens`` and ``labels`` [B, T].

    Each epoch covers the text once from a random offset, without overlap; its windows are shuffled.
    """

    def __init__(self, store: TokenStore, *, length: int, batch: int) -> None:
        self.store, self.length, self.batch = store, length, batch
        if len(store) <= length:
            raise DataError(
                Problem(
                    f"the training text has {len(store)} tokens; model.length={length} needs "
                    f"{length + 1} at least",
                    hint="set a smaller model.length or give more text",
                )
            )
        self._per_slice = max(SLICE // length, 1)
        self._most = (len(store) - 1) // length
        self._shelves = Shelves(-(-self._most // self._per_slice))
        self.shelves = self._shelves.shelves

    def plan(self, epoch: int, shelf: int, rng: np.random.Generator) -> Sequence[Any]:
        """Batches of first tokens of windows."""
        offset = int(rng.integers(min(self.length, len(self.store) - self.length)))
        count = (len(self.store) - 1 - offset) // self.length
        slices, rng = self._shelves.on(shelf, rng)
        numbers = (slices[:, None] * self._per_slice + np.arange(self._per_slice)).reshape(-1)
        order = rng.permutation(offset + numbers[numbers < count] * self.length)
        if self.shelves == 1 and 0 < len(order) < self.batch:
            order = np.resize(order, self.batch)
        return _Batched(order, np.arange(len(order)), self.batch, False)

    def make(self, item: Ints, rng: np.random.Generator) -> Batch:
        """A batch from the first tokens of its windows."""
        window = self.store.tokens[item[:, None] + np.arange(self.length + 1)].astype(np.int64)  # [B, T+1]
        window = torch.from_numpy(window)
        return {"tokens": window[:, :-1].contiguous(), "labels": window[:, 1:].contiguous()}


class CausalCover:
    """The whole text once, in order: every token but the first is a label exactly once.

    Windows start ``stride`` tokens apart; what a window shares with the one before is context only
    (label -100). The last window reaches back to its full length.
    """

    shelves = 1

    def __init__(self, store: TokenStore, *, length: int, batch: int, stride: int = 0) -> None:
        if len(store) < 2:
            raise DataError(Problem("the validation text has fewer than two tokens"))
        self.store, self.batch = store, batch
        self.length = min(length, len(store) - 1)
        self.stride = min(stride or self.length, self.length)
        self._last = len(store) - 1 - self.length

    def plan(self, epoch: int, shelf: int, rng: np.random.Generator) -> Sequence[Any]:
        """Batches of numbers of windows."""
        count = -(-self._last // self.stride) + 1
        order = np.arange(count)
        return _Batched(order, order, self.batch, True)

    def make(self, item: Ints, rng: np.random.Generator) -> Batch:
        """A batch from the numbers of its windows."""
        first = np.minimum(item * self.stride, self._last)
        known = np.where(item > 0, (item - 1) * self.stride + self.length, 0)  # labels up to here were given
        at = first[:, None] + np.arange(self.length + 1)
        window = self.store.tokens[at].astype(np.int64)
        labels = np.where(at[:, 1:] > known[:, None], window[:, 1:], -100)
        return {"tokens": torch.from_numpy(window[:, :-1].copy()), "labels": torch.from_numpy(labels)}


def training_batches(
    store: TokenStore, tokenizer: Tokenizer, *, length: int, batch: int, objective: Objective, seed: int
) -> EpochBatches:
    """The training stream of a language model.

    Raises:
        DataError: the text is too little for one batch.
    """
    if objective.kind == "clm":
        examples: Any = CausalExamples(store, length=length, batch=batch)
        count = examples._most
    else:
        examples = MaskedExamples(store, tokenizer, length=length, batch=batch, objective=objective)
        count = batch
        if len(store) < 4 * batch * length:
            count = len(examples._rows(*examples._shelves.on(0, generator(seed, 0, 0))))
    if count < batch:
        raise DataError(
            Problem(
                f"the training text of {len(store)} tokens makes {count} examples of {length} tokens, "
                f"fewer than train.batch={batch}",
                hint=f"set train.batch={max(count // 2, 1)} or a smaller model.length, or give more text",
            )
        )
    return EpochBatches(examples, seed)


def validation_batches(
    store: TokenStore,
    tokenizer: Tokenizer,
    *,
    length: int,
    batch: int,
    objective: Objective,
    stride: int = 0,
    most: int = 0,
    seed: int = 0,
) -> EvaluationBatches:
    """The whole validation text, each time with the same examples and masks; ``most`` limits the batches."""
    if objective.kind == "clm":
        examples: Any = CausalCover(store, length=length, batch=batch, stride=stride)
    else:
        examples = MaskedExamples(
            store, tokenizer, length=length, batch=batch, objective=objective, whole=True
        )
    return EvaluationBatches(examples, seed, most)

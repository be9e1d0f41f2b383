"""Batches of a fixed number of examples, neighbours in length, so that little of them is padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attncli.data.order import Batch

_WINDOW = 64
"""Batches among which examples are sorted by length."""


class Rows:
    """What :class:`~attncli.data.order.EpochBatches` draws from: ``batch`` examples of like length at a time.

    Args:
        lengths: of each example [N]; only their order counts.
        collate: the batch of some examples, given their numbers [B]; the generator is for what is drawn.
        batch: examples in a batch; one of an epoch may have fewer.
        shuffle: whether each epoch has its own order; else the longest come first.
    """

    shelves = 1

    def __init__(
        self,
        lengths: NDArray[np.int64],
        collate: Callable[[NDArray[np.int64], np.random.Generator], Batch],
        *,
        batch: int,
        shuffle: bool,
    ) -> None:
        self.lengths, self.collate, self.batch, self.shuffle = lengths, collate, batch, shuffle

    def plan(self, epoch: int, shelf: int, rng: np.random.Generator) -> Sequence[NDArray[np.int64]]:
        """The batches of an epoch, each as the numbers of its examples."""
        count = len(self.lengths)
        if not self.shuffle:
            order = np.argsort(-self.lengths, kind="stable")
            return [order[at : at + self.batch] for at in range(0, count, self.batch)]
        order = rng.permutation(count)
        found: list[NDArray[np.int64]] = []
        for at in range(0, count, _WINDOW * self.batch):
            window = order[at : at + _WINDOW * self.batch]
            window = window[np.argsort(self.lengths[window], kind="stable")]
            found += [window[first : first + self.batch] for first in range(0, len(window), self.batch)]
        return [found[at] for at in rng.permutation(len(found))]

    def make(self, item: Any, rng: np.random.Generator) -> Batch:
        """One global batch."""
        return self.collate(item, rng)


def batches_an_epoch(examples: int, batch: int) -> int:
    """Batches that :class:`Rows` makes of so many examples."""
    return -(-examples // batch)


def pad(rows: Sequence[NDArray[np.integer]], value: int, length: int | None = None) -> NDArray[np.int64]:
    """Rows of different length as one array [B, T], filled up on the right."""
    width = max((len(row) for row in rows), default=0) if length is None else length
    out = np.full((len(rows), width), value, np.int64)
    for at, row in enumerate(rows):
        out[at, : len(row)] = row
    return out

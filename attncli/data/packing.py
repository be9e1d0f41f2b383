"""Rows of examples: which runs of tokens stand where. Planned with numpy, filled in one go.

A row is a list of runs; a run is a stretch of the token store, with the opening token ([CLS]) before it
where ``opens`` and the closing one ([SEP]) after it always.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass
class Rows:
    """Rows of runs, ``first[r] : first[r + 1]`` being those of row r; ``label`` [R] where rows have one."""

    first: Ints
    start: Ints
    length: Ints
    opens: Bools
    label: Ints

    def __len__(self) -> int:
        return len(self.first) - 1

    def take(self, order: Ints) -> Rows:
        """The rows at ``order``."""
        count = self.first[order + 1] - self.first[order]
        runs = ranges(self.first[order], count)
        first = np.concatenate([[0], np.cumsum(count)])
        return Rows(first, self.start[runs], self.length[runs], self.opens[runs], self.label[order])

    def layout(self) -> tuple[Ints, Ints, Ints]:
        """Row and first column of the text of each run, and [R] tokens used by each row."""
        row = np.repeat(np.arange(len(self)), np.diff(self.first))
        taken = self.length + 1 + self.opens
        ends = np.cumsum(taken)
        base = np.concatenate([[0], ends])[self.first]
        column = ends - self.length - 1 - base[row]
        return row, column, np.diff(base)


def ranges(start: Ints, length: Ints) -> Ints:
    """``start[0], start[0] + 1, ...`` over ``length[0]`` entries, then those of 1, and so on."""
    ends = np.cumsum(length)
    total = int(ends[-1]) if len(ends) else 0
    return np.repeat(start - (ends - length), length) + np.arange(total)


def rows_of(row: Ints, start: Ints, length: Ints, opens: Bools, rows: int, label: Ints | None = None) -> Rows:
    """Rows from runs sorted by row."""
    first = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=rows))])
    return Rows(first, start, length, opens, np.zeros(rows, np.int64) if label is None else label)


def windows(start: Ints, length: Ints, budget: int) -> Rows:
    """Each document in as few windows of at most ``budget`` tokens as cover it, evenly spread.

    Windows of a document that is no multiple of the budget overlap a little, so that no row is short.
    """
    count = -(-length // budget)
    row = np.repeat(np.arange(len(start)), count)
    number = np.arange(len(row)) - np.repeat(np.cumsum(count) - count, count)
    gaps = np.maximum(count - 1, 1)[row]
    at = start[row] + number * np.maximum(length - budget, 0)[row] // gaps
    size = np.minimum(length, budget)[row]
    return rows_of(np.arange(len(row)), at, size, np.ones(len(row), bool), len(row))


def full_sentences(documents: list[Ints], budget: int) -> Rows:
    """Sentences one after another up to ``budget`` tokens, across documents with a separator between.

    RoBERTa's FULL-SENTENCES, https://arxiv.org/abs/1907.11692 section 4.2. Unlike there, a sentence that
    would leave more than an eighth of a row empty is cut, and goes on in the next row.

    Args:
        documents: in the order wanted, the first token of each sentence, then the document's end.
        budget: tokens of a row besides the first and the last special token.
    """
    size = np.array([off[-1] - off[0] for off in documents], np.int64)
    base = np.cumsum(size + 1) - size - 1  # places of the documents in one line, a separator after each
    shift = np.repeat(base - [off[0] for off in documents], [len(off) - 1 for off in documents])
    starts = (np.concatenate([off[:-1] for off in documents]) + shift).tolist()
    ends = (np.concatenate([off[1:] for off in documents]) + shift).tolist()
    begins, stops, at = [], [], 0
    while True:
        limit = at + budget
        last = bisect_right(ends, limit) - 1
        begins.append(at)
        if last == len(ends) - 1:
            stops.append(ends[last])
            break
        if last >= 0 and ends[last] > at and limit - ends[last] <= budget // 8:
            stops.append(ends[last])
            at = starts[last + 1]
        else:
            stops.append(limit)
            at = limit
    begin = np.union1d(begins, base)
    row = np.searchsorted(begins, begin, side="right") - 1
    document = np.searchsorted(base, begin, side="right") - 1
    length = np.minimum(np.array(stops)[row], (base + size)[document]) - begin
    real = length > 0
    begin, row, document, length = begin[real], row[real], document[real], length[real]
    origin = np.array([off[0] for off in documents], np.int64)
    opens = np.concatenate([[True], np.diff(row) != 0])
    return rows_of(row, begin - base[document] + origin[document], length, opens, len(begins))


def packed(start: Ints, length: Ints, room: int, rng: np.random.Generator) -> Rows:
    """Documents, cut where longer than a row, packed whole into rows of ``room`` tokens.

    Best fit, longest first: each piece goes where the least room is left. A piece takes two tokens more
    than its text. The remainder of a long document is its first or its last piece, drawn.
    """
    budget = room - 2
    count = -(-length // budget)
    owner = np.repeat(np.arange(len(start)), count)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    shift = np.where(rng.random(len(start)) < 0.5, count * budget - length, 0)[owner]
    low = np.maximum(number * budget - shift, 0)
    high = np.minimum((number + 1) * budget - shift, length[owner])
    starts, sizes = start[owner] + low, high - low
    order = np.argsort(-sizes, kind="stable")
    rows = np.empty(len(order), np.int64)
    open_rows: list[list[int]] = [[] for _ in range(room + 1)]  # by room left
    have = made = 0  # bit r of have: some row has r left
    for at, size in zip(order.tolist(), (sizes[order] + 2).tolist(), strict=True):
        fitting = have >> size
        if fitting:
            left = size + (fitting & -fitting).bit_length() - 1
            row = open_rows[left].pop()
            if not open_rows[left]:
                have ^= 1 << left
        else:
            left, row, made = room, made, made + 1
        rows[at] = row
        if left > size:
            open_rows[left - size].append(row)
            have |= 1 << (left - size)
    by_row = np.argsort(rows, kind="stable")
    return rows_of(rows[by_row], starts[by_row], sizes[by_row], np.ones(len(rows), bool), made)


@dataclass
class Pairs:
    """Pairs of segments before truncation: runs of tokens and labels, [P] each.

    ``b_start`` is -1 where the second segment is still to be drawn from another document.
    """

    document: Ints
    a_start: Ints
    a_length: Ints
    b_start: Ints
    b_length: Ints
    label: Ints

    def take(self, keep: NDArray[np.bool_]) -> Pairs:
        """Those at ``keep``."""
        return Pairs(*(getattr(self, field.name)[keep] for field in fields(self)))


def sentence_pairs(
    sentences: list[tuple[int, Ints]], budget: int, objective: str, rng: np.random.Generator
) -> Pairs:
    """Two segments each, split at a sentence boundary, as BERT's and ALBERT's published preparation.

    Sentences of a document are gathered until they reach ``budget`` tokens. ``next``
    (https://arxiv.org/abs/1810.04805): half of the time the second segment is left open, to be drawn
    from another document, and the sentences that it would have had are used again. ``order``
    (https://arxiv.org/abs/1909.11942): half of the time the segments are swapped. Unlike there, the
    last segments of a document reach back until they fill a row, and none is made short on purpose:
    padding is time lost.

    Args:
        sentences: for each document its number and the first token of each sentence, then its end.
        budget: tokens of both segments together.
        objective: ``next`` or ``order``.
        rng: draws splits and labels.
    """
    made: list[tuple[int, int, int, int, int, int]] = []
    random = objective == "next"
    for document, starts in sentences:
        off = starts.tolist()
        last = len(off) - 1
        draws = rng.random((2 * last + 2, 2)).tolist()
        at = step = 0
        while at < last:
            coin, place = draws[step]
            step += 1
            begin, end = at, bisect_left(off, off[at] + budget, at + 1, last)
            tail = end == last and off[end] - off[at] < budget
            if tail:
                begin = max(bisect_right(off, off[end] - budget, 0, at + 1) - 1, 0)
            count = end - begin
            middle = begin + 1 + int(place * (count - 1))
            split = off[middle]
            at = end
            if random and (count == 1 or coin < 0.5):
                if tail and count > 1:
                    made.append((document, split, off[end] - split, -1, 0, 1))
                else:
                    split = off[end] if count == 1 else split
                    made.append((document, off[begin], split - off[begin], -1, 0, 1))
                    at = end if tail or count == 1 else middle
                continue
            if count == 1:  # one sentence is split in its middle
                split = (off[begin] + min(off[end], off[begin] + budget)) // 2
                if split == off[begin]:
                    continue
            first, second = (off[begin], split - off[begin]), (split, off[end] - split)
            swapped = not random and coin < 0.5
            made.append((document, *second, *first, 1) if swapped else (document, *first, *second, 0))
    return Pairs(*np.array(made, np.int64).reshape(-1, 6).T)


def truncated(pairs: Pairs, budget: int, rng: np.random.Generator) -> Rows:
    """Rows of two runs within ``budget`` tokens.

    As published: tokens are taken off the longer segment, one by one, at its front or end at random.
    """
    a, b = pairs.a_length, pairs.b_length
    excess = np.maximum(a + b - budget, 0)
    even = np.minimum(np.abs(a - b), excess)  # until both are of one length
    rest = excess - even
    off_a = np.where(a > b, even, 0) + rest // 2
    off_b = np.where(a > b, 0, even) + rest - rest // 2
    front_a, front_b = rng.binomial(off_a, 0.5), rng.binomial(off_b, 0.5)
    count = len(a)
    start = np.stack([pairs.a_start + front_a, pairs.b_start + front_b], 1).reshape(-1)
    length = np.stack([a - off_a, b - off_b], 1).reshape(-1)
    opens = np.tile([True, False], count)
    return rows_of(np.repeat(np.arange(count), 2), start, length, opens, count, pairs.label)

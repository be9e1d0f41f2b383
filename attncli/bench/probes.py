"""Small tasks that tell attention mechanisms apart, each generated without end and scored by accuracy.

copy        repeat a row of symbols                      looks at one exact place, far away
recall      after pairs of symbols, a first symbol's second   looks for content, then its neighbour
sorting     a row of numbers in order                    looks at all places and compares
listops     the value of a nested expression             follows a tree (Nangia and Bowman 2018,
            https://arxiv.org/abs/1804.06028, in a short form)

Every task is masked prediction by an encoder: what is asked for stands as a question mark in the row, so
that mechanisms without a causal form take part.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

PAD, ASK, BREAK = 0, 1, 2
_FIRST = 3  # symbols start here


@dataclass(frozen=True)
class Question:
    """Rows and what is asked: tokens int64 [B, T], keep bool [B, T], at [N] into B*T, labels [N]."""

    tokens: Tensor
    keep: Tensor
    at: Tensor
    labels: Tensor


class Probe(ABC):
    """A task over rows of at most ``length`` tokens."""

    name: str
    vocabulary: int
    chance: float
    """Accuracy of the best answer that does not look at the row."""
    ceiling = 1.0

    def __init__(self, length: int) -> None:
        self.length = length

    @abstractmethod
    def row(self, rng: np.random.Generator) -> tuple[list[int], list[int], list[int]]:
        """Tokens, the places that are asked for, and what belongs there."""

    def draw(self, count: int, rng: np.random.Generator) -> Question:
        """``count`` rows."""
        tokens = np.full((count, self.length), PAD, dtype=np.int64)
        at, labels = [], []
        for index in range(count):
            row, places, answers = self.row(rng)
            tokens[index, : len(row)] = row
            at += [index * self.length + place for place in places]
            labels += answers
        rows = torch.from_numpy(tokens)
        return Question(rows, rows != PAD, torch.tensor(at), torch.tensor(labels))


class Copy(Probe):
    """A row of random symbols, a break, and as many question marks."""

    name = "copy"
    symbols = 32
    vocabulary = _FIRST + symbols
    chance = 1 / symbols

    def row(self, rng: np.random.Generator) -> tuple[list[int], list[int], list[int]]:
        """Half of the length or less."""
        most = (self.length - 1) // 2
        count = int(rng.integers(max(1, most // 2), most + 1))
        drawn = (rng.integers(0, self.symbols, count) + _FIRST).tolist()
        return [*drawn, BREAK, *[ASK] * count], list(range(count + 1, 2 * count + 1)), drawn


class Sorting(Copy):
    """As copy, but the answers are in order."""

    name = "sorting"

    def row(self, rng: np.random.Generator) -> tuple[list[int], list[int], list[int]]:
        """The smallest first."""
        tokens, places, drawn = super().row(rng)
        return tokens, places, sorted(drawn)


class Recall(Probe):
    """Pairs of a key and a value, each key once; then some of the keys, whose values are asked for."""

    name = "recall"
    keys, values = 24, 16
    vocabulary = _FIRST + keys + values
    chance = 1 / values

    def row(self, rng: np.random.Generator) -> tuple[list[int], list[int], list[int]]:
        """As many pairs as fit, a quarter of them asked for."""
        most = min(self.keys, 2 * (self.length - 1) // 5)
        count = int(rng.integers(max(1, most // 2), most + 1))
        keys = rng.permutation(self.keys)[:count] + _FIRST
        values = rng.integers(0, self.values, count) + _FIRST + self.keys
        asked = rng.permutation(count)[: max(1, count // 4)]
        row = [int(x) for pair in zip(keys, values, strict=True) for x in pair] + [BREAK]
        places = []
        for which in asked:
            row += [int(keys[which]), ASK]
            places.append(len(row) - 1)
        return row, places, [int(values[which]) for which in asked]


_OPERATIONS = {"MIN": min, "MAX": max, "MED": lambda x: int(np.median(x)), "SM": lambda x: sum(x) % 10}


class ListOps(Probe):
    """Nested minimum, maximum, median and sum modulo ten of digits; the value stands for the first token."""

    name = "listops"
    vocabulary = _FIRST + 10 + len(_OPERATIONS) + 1
    chance = 0.15
    """About the share of the commonest value."""

    def row(self, rng: np.random.Generator) -> tuple[list[int], list[int], list[int]]:
        """Expressions of two levels or three that fit."""
        while True:
            tokens, value = self._tree(rng, 3)
            if 4 <= len(tokens) < self.length:
                return [ASK, *tokens], [0], [value + _FIRST]

    def _tree(self, rng: np.random.Generator, depth: int) -> tuple[list[int], int]:
        if depth == 0 or (depth < 3 and rng.random() < 0.6):
            digit = int(rng.integers(0, 10))
            return [digit + _FIRST], digit
        number = int(rng.integers(0, len(_OPERATIONS)))
        parts = [self._tree(rng, depth - 1) for _ in range(int(rng.integers(2, 6)))]
        value = list(_OPERATIONS.values())[number]([value for _, value in parts])
        inner = [token for tokens, _ in parts for token in tokens]
        return [_FIRST + 10 + number, *inner, _FIRST + 10 + len(_OPERATIONS)], value


PROBES: dict[str, type[Probe]] = {kind.name: kind for kind in (Copy, Recall, Sorting, ListOps)}

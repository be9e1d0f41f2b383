"""BPE-dropout, https://arxiv.org/abs/1910.13267: the same text segmented anew at random, many words at once.

Algorithm 1 of the paper: in each round every merge that a word allows is left out with probability
``p``, the first learnt of the rest is done, and the word is finished when none is left. All words of a
batch go through their rounds together in numpy, drawn from a given generator, so that a segmentation
follows from the seed.

A word's first round in which its best merge is left out is drawn at once. A word that is finished before
that keeps its ordinary segmentation and is not looked at: most words, where ``p`` is small.
"""

from __future__ import annotations

import json

import numpy as np
import tokenizers as hf
from numpy.typing import NDArray

from attncli.data.packing import ranges

Ints = NDArray[np.int64]


class Resegmenter:
    """The merges of a trained BPE, applied with dropout to ids that it made.

    Works from ids alone: each is taken apart into the characters it was merged from. No merge crosses
    the border of two pieces of the pre-tokeniser, because none was learnt across one.
    """

    def __init__(self, backend: hf.Tokenizer) -> None:
        vocabulary = backend.get_vocab()
        merges = json.loads(backend.to_str())["model"]["merges"]
        pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in merges]
        left = np.array([vocabulary[a] for a, _ in pairs], np.int64)
        right = np.array([vocabulary[b] for _, b in pairs], np.int64)
        self._made = np.array([vocabulary[a + b] for a, b in pairs], np.int64)  # by rank
        self._size = max(vocabulary.values()) + 1
        keys = left * self._size + right
        self._order = np.argsort(keys)
        self._keys = keys[self._order]
        atoms: list[list[int]] = [[token] for token in range(self._size)]
        for a, b, made in zip(left.tolist(), right.tolist(), self._made.tolist(), strict=True):
            if len(atoms[made]) == 1:  # the first merge that makes it; later ones spell the same
                atoms[made] = atoms[a] + atoms[b]
        self._count = np.fromiter(map(len, atoms), np.int64, self._size)
        self._first = np.cumsum(self._count) - self._count
        self._atoms = np.array([atom for spelt in atoms for atom in spelt], np.int64)
        self._inner = self._ranks(self._atoms, np.append(self._atoms[1:], 0))  # wrong where a token ends
        self._opens = np.zeros(self._size, bool)
        self._opens[[at for token, at in vocabulary.items() if token.startswith("▁")]] = True

    def __call__(
        self, ids: Ints, lengths: Ints, dropout: float, rng: np.random.Generator
    ) -> tuple[Ints, Ints]:
        """New ids [N'] and lengths [S] of the sentences ``ids`` [N] of ``lengths`` [S]; 0 < dropout < 1."""
        ids = ids.astype(np.int64)
        sentence = np.repeat(np.arange(len(lengths)), lengths)
        begins = self._opens[ids] | np.diff(sentence, prepend=-1).astype(bool)
        word = np.cumsum(begins) - 1
        count = self._count[ids]
        rounds = np.add.reduceat(count - 1, np.flatnonzero(begins)) if len(ids) else count
        first = np.floor(np.log1p(-rng.random(len(rounds))) / np.log1p(-dropout)).astype(np.int64)
        touched = first < rounds
        apart = touched[word]
        count = np.where(apart, count, 1)
        places = ranges(np.where(apart, self._first[ids], 0), count)
        apart, word = np.repeat(apart, count), np.repeat(word, count)
        tokens = np.where(apart, self._atoms[places], np.repeat(ids, count))
        kept = np.ones(len(tokens), bool)
        at = np.flatnonzero(apart)
        rank = self._inner[places[at]]
        ends = np.zeros(len(tokens), bool)
        ends[np.cumsum(count) - 1] = True
        self._merge(tokens, kept, at, word[at], rank, np.flatnonzero(ends[at]), first, dropout, rng)
        sentence = np.repeat(sentence, count)[kept]
        return tokens[kept], np.bincount(sentence, minlength=len(lengths))

    def _merge(
        self,
        tokens: Ints,
        kept: NDArray[np.bool_],
        at: Ints,
        word: Ints,
        rank: Ints,
        unranked: Ints,
        first: Ints,
        dropout: float,
        rng: np.random.Generator,
    ) -> None:
        """Merge ``tokens`` in place and mark in ``kept`` the places that hold one in the end.

        Args:
            tokens, kept: [M].
            at: [m] places of the words to do, one word after another.
            word: [m] their words.
            rank: [m] rank of the merge with the next token, or the number of merges where there is none.
            unranked: entries whose rank is still to be found.
            first: [W] round in which each word's best merge is left out first.
        """
        none, number = len(self._made), 0
        changed = unranked
        while len(at):
            inner = changed[changed < len(at) - 1]
            rank[changed] = none
            inner = inner[word[inner] == word[inner + 1]]
            rank[inner] = self._ranks(tokens[at[inner]], tokens[at[inner + 1]])
            width = len(at)
            begins = np.flatnonzero(np.diff(word, prepend=-1))
            place = np.arange(width)
            order = rank * width + place  # the leftmost of the best is the least
            best = np.minimum.reduceat(order, begins)
            since = number - first[word[begins]]
            out = since >= 0
            if out.any():
                drawn = np.repeat(out, np.diff(begins, append=width)) & (rng.random(width) < dropout)
                drawn[best[since == 0] % width] = True
                best = np.minimum.reduceat(np.where(drawn, none * width + place, order), begins)
            goes_on = best < none * width
            place = best[goes_on] % width
            tokens[at[place]] = self._made[rank[place]]
            kept[at[place + 1]] = False
            stays = np.repeat(goes_on, np.diff(begins, append=width))
            stays[place + 1] = False
            moved = np.cumsum(stays)[place] - 1
            at, word, rank = at[stays], word[stays], rank[stays]
            changed = np.concatenate([moved, moved[moved > 0] - 1])
            number += 1

    def _ranks(self, left: Ints, right: Ints) -> Ints:
        """Rank of the merge of each pair, the number of merges where there is none."""
        none = len(self._made)
        if not none:
            return np.zeros(len(left), np.int64)
        key = left * self._size + right
        found = np.searchsorted(self._keys, key).clip(max=none - 1)
        return np.where(self._keys[found] == key, self._order[found], none)

"""BPE-dropout, https://arxiv.org/abs/1910.13267: the same text segmented anew at random, many words at once.

Algorithm 1 of the paper: in each round every merge that a word allows is left out with probability
``p``, the first learnt of the rest is done, and the word is finished when none is left. All words of a
batch go through their rounds together in numpy, drawn from a given generator, so that a segmentation
follows from the seed.
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
        opens = np.zeros(self._size, bool)
        opens[[at for token, at in vocabulary.items() if token.startswith("▁")]] = True
        self._opens = opens

    def __call__(
        self, ids: Ints, lengths: Ints, dropout: float, rng: np.random.Generator
    ) -> tuple[Ints, Ints]:
        """New ids [N'] and lengths [S] of the sentences ``ids`` [N] of ``lengths`` [S]."""
        ids = ids.astype(np.int64)
        sentence = np.repeat(np.arange(len(lengths)), lengths)
        begins = self._opens[ids] | np.diff(sentence, prepend=-1).astype(bool)
        word = np.cumsum(begins) - 1
        count = self._count[ids]
        tokens = self._atoms[ranges(self._first[ids], count)]
        kept = self._merge(tokens, np.repeat(word, count), dropout, rng)
        sentence = np.repeat(sentence, count)[kept]
        return tokens[kept], np.bincount(sentence, minlength=len(lengths))

    def _merge(self, tokens: Ints, word: Ints, dropout: float, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Merge ``tokens`` [M] in place within words; the places that hold a token in the end."""
        none = len(self._made)
        kept = np.ones(len(tokens), bool)
        at = np.arange(len(tokens))  # places of the words that are not finished
        rank = self._ranks(tokens, at, word, np.arange(len(at)))
        while len(at):
            width = len(at)
            left_out = rng.random(width) < dropout
            best = np.where(left_out, none, rank) * width + np.arange(width)  # leftmost of the best
            first = np.flatnonzero(np.diff(word, prepend=-1))
            best = np.minimum.reduceat(best, first)
            goes_on = best < none * width
            place = best[goes_on] % width
            tokens[at[place]] = self._made[rank[place]]
            kept[at[place + 1]] = False
            stays = np.repeat(goes_on, np.diff(first, append=width))
            stays[place + 1] = False
            moved = np.cumsum(stays)[place] - 1
            at, word, rank = at[stays], word[stays], rank[stays]
            changed = np.union1d(moved, moved[moved > 0] - 1)
            rank[changed] = self._ranks(tokens, at, word, changed)
        return kept

    def _ranks(self, tokens: Ints, at: Ints, word: Ints, places: Ints) -> Ints:
        """Rank of the merge of the token at each of ``places`` with the next one of its word."""
        none = len(self._made)
        rank = np.full(len(places), none, np.int64)
        inner = places < len(at) - 1
        places = places[inner]
        inner[inner] = word[places] == word[places + 1]
        places = places[word[places] == word[places + 1]]
        if none:
            key = tokens[at[places]] * self._size + tokens[at[places + 1]]
            found = np.searchsorted(self._keys, key).clip(max=none - 1)
            rank[inner] = np.where(self._keys[found] == key, self._order[found], none)
        return rank

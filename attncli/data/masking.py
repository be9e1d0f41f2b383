"""Which tokens a masked language model predicts, drawn anew for every batch.

BERT, https://arxiv.org/abs/1810.04805: of the chosen tokens 80 % become the mask token, 10 % a random
one, 10 % stay. Drawn anew each time: RoBERTa, https://arxiv.org/abs/1907.11692.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


def choose_tokens(candidates: Bools, share: float, rng: np.random.Generator) -> Bools:
    """[B, T] bool: of each row's candidates a random ``share``, at least one.

    The number is rounded up or down at random, so that the share is met exactly on average.
    """
    count = candidates.sum(1)
    want = np.floor(count * share + rng.random(len(count))).astype(np.int64).clip(1)
    keys = rng.random(candidates.shape)
    keys[~candidates] = 2.0
    limit = np.sort(keys, axis=1)[np.arange(len(keys)), np.minimum(want, keys.shape[1]) - 1]
    return (keys <= limit[:, None]) & candidates


def choose_words(candidates: Bools, starts: Bools, share: float, rng: np.random.Generator) -> Bools:
    """[B, T] bool: whole words drawn until each row has a ``share`` of its candidates, at least one word.

    The word that crosses the share is taken with the probability that meets it on average.
    ``starts`` [B, T] says which tokens open a word; a token after a non-candidate always does.
    """
    length = candidates.shape[1]
    after = np.zeros_like(candidates)
    after[:, 1:] = candidates[:, :-1]
    opens = candidates & (starts | ~after)
    at = np.flatnonzero(candidates)
    word = np.cumsum(opens.ravel())[at] - 1  # of each candidate
    row = np.flatnonzero(opens) // length  # of each word
    size = np.bincount(word, minlength=len(row))
    order = np.lexsort((rng.random(len(row)), row))
    ends = np.cumsum(size[order])
    before = ends - size[order]
    first = np.searchsorted(row, np.arange(len(candidates)))
    before -= np.append(before, 0)[np.minimum(first, len(row))][row]
    missing = share * candidates.sum(1)[row] - before
    take = (before == 0) | (rng.random(len(row)) * size[order] < missing)
    chosen_word = np.zeros(len(row), bool)
    chosen_word[order] = take
    chosen = np.zeros(candidates.size, bool)
    chosen[at] = chosen_word[word]
    return chosen.reshape(candidates.shape)


def corrupt(
    tokens: Ints, chosen: Bools, mask_id: int, ordinary: Ints, rng: np.random.Generator
) -> tuple[Ints, Ints]:
    """Replace the chosen ``tokens`` [B, T] in place, 80/10/10.

    Returns:
        ``labels_at`` [N], flat positions in ascending order, and ``labels`` [N], the tokens that stood
        there. Random replacements come from ``ordinary``, which has no special token.
    """
    flat = tokens.reshape(-1)
    at = np.flatnonzero(chosen)
    labels = flat[at]
    draw = rng.random(len(at))
    flat[at[draw < 0.8]] = mask_id
    other = at[(draw >= 0.8) & (draw < 0.9)]
    flat[other] = ordinary[rng.integers(len(ordinary), size=len(other))]
    return at, labels

"""The target words that are likely for given source words: fewer logits to compute."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from attncli.errors import CheckpointError

_ROUNDS = 5
_BLOCK = 4_000_000  # word pairs looked at together
_RARE = 1e-4  # expected count below which a word pair is forgotten, so that noise does not fill the memory
_MULTIPLE = 32  # the search is quicker with such a number of words


class Shortlist:
    """For each source token the target tokens that translate it most probably, and the most frequent ones.

    The probabilities are those of IBM model 1 (Brown et al. 1993, https://aclanthology.org/J93-2003), which
    covers more of what references say than the words that are found together most distinctively (Dice,
    log-likelihood ratio), at equal sizes.
    """

    def __init__(self, likely: Tensor, ranking: Tensor, frequent: int, eos_id: int) -> None:
        """From its parts; see `build`.

        Args:
            likely: int32 [V source, count], filled up with ``eos_id``.
            ranking: int32 [V target], all target tokens, the most frequent first.
            frequent: how many of these are always in.
            eos_id: always in.
        """
        self.likely, self.ranking, self.frequent, self.eos_id = likely, ranking, frequent, eos_id
        self._always = torch.zeros(len(ranking), dtype=torch.bool)
        self._always[ranking[:frequent].long()] = True
        self._always[eos_id] = True

    @classmethod
    def build(
        cls,
        pairs: Iterable[tuple[np.ndarray, np.ndarray]],
        *,
        source_vocabulary: int,
        target_vocabulary: int,
        eos_id: int,
        count: int = 50,
        frequent: int = 500,
        most: int = 100_000,
    ) -> Shortlist:
        """Learn it from sentence pairs.

        Args:
            pairs: token ids of source and target.
            source_vocabulary: source tokens.
            target_vocabulary: target tokens.
            eos_id: the end, always in.
            count: target tokens of each source token.
            frequent: target tokens that are always in.
            most: read so many pairs at most.
        """
        texts = [(np.unique(source), np.unique(target)) for source, target in islice(pairs, most)]
        seen = np.zeros(target_vocabulary, dtype=np.int64)
        for _, target in texts:
            seen[target] += 1
        ranking = np.argsort(-seen, kind="stable").astype(np.int32)
        keys, probability = _model_one(texts, source_vocabulary, target_vocabulary)
        source, target = np.divmod(keys, target_vocabulary)
        order = np.lexsort((target, -probability, source))
        source, target = source[order], target[order]
        rank = np.arange(len(source)) - np.searchsorted(source, source)  # within the source token
        kept = rank < count
        likely = np.full((source_vocabulary, count), eos_id, dtype=np.int32)
        likely[source[kept], rank[kept]] = target[kept]
        return cls(torch.from_numpy(likely), torch.from_numpy(ranking), frequent, eos_id)

    def words(self, source: Tensor) -> Tensor:
        """Target tokens for these sources together, ascending: int64 [B, S] to int64 [W].

        More frequent words fill W up to a multiple of 32, as far as there are any.
        """
        chosen = self._always.clone()  # [V]
        chosen[self.likely[source.unique().cpu()].long().flatten()] = True
        missing = -int(chosen.sum()) % _MULTIPLE
        ranking = self.ranking.long()
        chosen[ranking[~chosen[ranking]][:missing]] = True
        return chosen.nonzero()[:, 0].to(source.device)

    def allowed(self, source: Tensor, words: Tensor) -> Tensor:
        """Which of the ``words`` [W] each sentence has on its own account: bool [B, W]."""
        own = self._always.expand(len(source), -1).clone()  # [B, V]
        own.scatter_(1, self.likely[source.cpu()].long().flatten(1), True)
        return own[:, words.cpu()].to(words.device)

    def save(self, path: Path) -> None:
        """Write it as a safetensors file."""
        about = {"frequent": str(self.frequent), "eos_id": str(self.eos_id)}
        save_file({"likely": self.likely, "ranking": self.ranking}, path, metadata=about)

    @classmethod
    def load(cls, path: Path) -> Shortlist:
        """Read what `save` has written; raise CheckpointError where it is not that."""
        try:
            with safe_open(path, framework="pt") as file:
                about = file.metadata()
                likely, ranking = file.get_tensor("likely"), file.get_tensor("ranking")
            return cls(likely, ranking, int(about["frequent"]), int(about["eos_id"]))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} is not a shortlist: {error}") from None


def _model_one(
    texts: list[tuple[np.ndarray, np.ndarray]], source_vocabulary: int, target_vocabulary: int
) -> tuple[np.ndarray, np.ndarray]:
    """IBM model 1 by expectation maximisation.

    Returns ascending keys ``source * target_vocabulary + target``, and each target's probability given its
    source.
    """
    keys = np.empty(0, dtype=np.int64)
    probability = np.empty(0)
    for turn in range(_ROUNDS):
        found, counts = [keys[:0]], [probability[:0]]
        for pair, word in _blocks(texts, target_vocabulary):
            distinct, which = np.unique(pair, return_inverse=True)
            if turn == 0:
                share = np.ones(len(pair))
            else:
                place = np.minimum(np.searchsorted(keys, distinct), len(keys) - 1)
                share = np.where(keys[place] == distinct, probability[place], 0.0)[which]
            total = np.bincount(word, share)  # of each target word over the source words of its sentence
            share /= np.maximum(total, 1e-30)[word]
            found.append(distinct)
            counts.append(np.bincount(which, share, minlength=len(distinct)))
        keys, which = np.unique(np.concatenate(found), return_inverse=True)
        expected = np.bincount(which, np.concatenate(counts), minlength=len(keys))
        kept = expected >= _RARE
        keys, expected = keys[kept], expected[kept]
        source = keys // target_vocabulary
        probability = expected / np.bincount(source, expected, minlength=source_vocabulary)[source]
    return keys, probability


def _blocks(
    texts: list[tuple[np.ndarray, np.ndarray]], target_vocabulary: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All word pairs of each sentence pair: their keys, and the target word's number within the block."""
    pairs: list[np.ndarray] = []
    words: list[np.ndarray] = []
    size = first = 0
    for source, target in texts:
        pairs.append((source[:, None] * np.int64(target_vocabulary) + target).ravel())
        words.append(np.tile(np.arange(first, first + len(target)), len(source)))
        first += len(target)
        size += len(pairs[-1])
        if size >= _BLOCK:
            yield np.concatenate(pairs), np.concatenate(words)
            pairs, words, size, first = [], [], 0, 0
    if size:
        yield np.concatenate(pairs), np.concatenate(words)

"""Bags of words: texts as weighted counts of their words and runs of words, without their order.

The weights are tf-idf (with ``1 + log tf``, smooth idf and rows of length 1, as in scikit-learn), presence,
or counts. Log-count ratios of naive Bayes (Wang and Manning 2012, "Baselines and Bigrams",
https://aclanthology.org/P12-2018) are found along with the features.

Legend: N texts, M words in all, K pairs of a text and a feature in it, F features, L labels.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from attncli.data.order import Batch, EpochBatches, EvaluationBatches
from attncli.data.rows import Rows, pad
from attncli.errors import CheckpointError, DataError, Problem, RecipeError
from attncli.recipe.classify import BagModel

_ONE = r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"  # kana and ideographs: a word each
_MARK = r"\s!-/:-@\[-`{-~\u00a1-\u00bf\u2010-\u205e\u3001-\u303f\uff01-\uff0f\uff1a-\uff20"
_WORD = re.compile(rf"[{_ONE}]|[^{_MARK}{_ONE}]+(?:['\u2019][^{_MARK}{_ONE}]+)*|[^\s]")
_FILES = ("bag.json", "bag.safetensors")
_SECOND = "2:"  # before the words of the second text of a pair; no word has a colon inside


@dataclass(frozen=True)
class Bags:
    """Features of N texts, text by text."""

    features: NDArray[np.int64]  # [K]
    weights: NDArray[np.float32]  # [K]
    starts: NDArray[np.int64]  # [N + 1]: those of text i are starts[i] : starts[i + 1]

    def __len__(self) -> int:
        return len(self.starts) - 1


class BagFeatures:
    """Which words and runs of words are features, and what they weigh.

    Attributes:
        kind: tfidf, binary, counts or nb; nb weighs presence here, and its ratios are the model's.
        words: the words that are features, sorted; feature i < len(words) is word i.
        size: F, features in all.
        idf: float32 [F], 1 unless kind is tfidf.
        ratios: float32 [F, L] for nb, else None.
    """

    def __init__(
        self,
        kind: str,
        words: list[str],
        keys: list[NDArray[np.int64]],
        idf: NDArray[np.float32],
        ratios: NDArray[np.float32] | None = None,
    ) -> None:
        self.kind, self.words, self.idf, self.ratios = kind, words, idf, ratios
        self._keys = keys  # of runs of 2, 3 ...: run without its last word * words + last word, sorted
        self._ends = np.cumsum([len(words), *map(len, keys)])
        self.size = int(self._ends[-1])

    @classmethod
    def fit(
        cls,
        section: BagModel,
        texts: Sequence[str],
        targets: NDArray | None = None,
        labels: int = 0,
        pairs: Sequence[str] | None = None,
    ) -> BagFeatures:
        """The features of training texts.

        ``targets``, for nb: int64 [N], the number of each text's label of ``labels``, or 0 and 1 in [N, L].
        ``pairs``: second texts; their words are features of their own. DataError where no word is frequent
        enough, RecipeError for nb on numbers.
        """
        if section.features == "nb" and (
            targets is None or (targets.ndim == 1 and targets.dtype.kind == "f")
        ):
            raise RecipeError(
                Problem(
                    "model.features=nb weighs words by how often each label has them, and these are numbers",
                    hint="model.features=tfidf",
                )
            )
        known: dict[str, int] = {}
        raw, of = _read(texts, pairs, lambda word: known.setdefault(word, len(known)))
        frequent = _document_counts(raw, of, len(known)) >= section.min_count
        names = np.array(list(known), dtype=object)
        words = sorted(names[frequent]) if len(names) else []
        if not words:
            raise DataError(
                Problem(
                    f"none of the {len(known)} words of the training part occurs in "
                    f"model.min_count={section.min_count} texts",
                    hint="model.min_count=1",
                )
            )
        place = {word: at for at, word in enumerate(words)}
        ids = np.array([place.get(word, -1) for word in known], np.int64)[raw]
        keys: list[NDArray[np.int64]] = []
        grams = ids
        for length in range(2, section.ngrams + 1):
            found = _extend(grams, ids, of, length, len(words))
            real = found >= 0
            unique, number = np.unique(found[real], return_inverse=True)
            kept = _document_counts(number, of[: len(found)][real], len(unique)) >= section.min_count
            keys.append(unique[kept])
            grams = _look_up(keys[-1], found)
        self = cls(section.features, words, keys, np.ones(0, np.float32))
        features, _, starts = self._count(ids, of, len(texts))
        present = np.bincount(features, minlength=self.size)
        self.idf = np.ones(self.size, np.float32)
        if self.kind == "tfidf":
            self.idf = (np.log((1 + len(texts)) / (1 + present)) + 1).astype(np.float32)
        elif self.kind == "nb":
            self.ratios = _ratios(features, starts, _one_hot(targets, labels), self.size)
        return self

    def encode(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> Bags:
        """The features of texts; what is none of them counts nothing."""
        place = self._places
        ids, of = _read(texts, pairs, lambda word: place.get(word, -1))
        features, counts, starts = self._count(ids, of, len(texts))
        if self.kind == "tfidf":
            weights = (1 + np.log(counts)) * self.idf[features]
            squares = np.bincount(_owners(starts), weights**2, len(texts))
            weights /= np.sqrt(np.maximum(squares, 1e-12))[_owners(starts)]
        else:
            weights = counts if self.kind == "counts" else np.ones(len(features))
        return Bags(features, weights.astype(np.float32), starts)

    def places(self, text: str) -> list[tuple[int, int, int]]:
        """(feature, first character, character after the last) of every feature in a text."""
        found = [(m.group().lower(), m.start(), m.end()) for m in _WORD.finditer(text)]
        ids = np.array([self._places.get(word, -1) for word, _, _ in found], np.int64)
        out = []
        for length, grams in enumerate(self._levels(ids, np.zeros(len(ids), np.int64)), start=1):
            for at in np.flatnonzero(grams >= 0):
                out.append((int(grams[at]), found[at][1], found[at + length - 1][2]))
        return out

    def name(self, feature: int) -> str:
        """The word or words of a feature."""
        tail: list[str] = []
        level = int(np.searchsorted(self._ends, feature, side="right"))
        while level:
            key = int(self._keys[level - 1][feature - self._ends[level - 1]])
            feature, last = divmod(key, len(self.words))
            tail.append(self.words[last])
            level -= 1
            feature += int(self._ends[level - 1]) if level else 0
        return " ".join([self.words[feature], *reversed(tail)])

    def save(self, folder: Path) -> None:
        """Store as ``bag.json`` and ``bag.safetensors``."""
        names = {"kind": self.kind, "ngrams": len(self._keys) + 1, "words": self.words}
        (folder / _FILES[0]).write_text(json.dumps(names, ensure_ascii=False) + "\n", encoding="utf-8")
        arrays = {f"keys.{length}": keys for length, keys in enumerate(self._keys, start=2)}
        arrays["idf"] = self.idf
        if self.ratios is not None:
            arrays["ratios"] = self.ratios
        save_file(arrays, folder / _FILES[1])

    @classmethod
    def load(cls, folder: Path) -> BagFeatures:
        """Read what :meth:`save` wrote; CheckpointError where it is not there or damaged."""
        try:
            names = json.loads((folder / _FILES[0]).read_text(encoding="utf-8"))
            arrays = load_file(folder / _FILES[1])
            keys = [arrays[f"keys.{length}"] for length in range(2, names["ngrams"] + 1)]
            self = cls(names["kind"], names["words"], keys, arrays["idf"], arrays.get("ratios"))
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            raise CheckpointError(
                Problem(
                    f"the features of a bag of words cannot be read ({error})",
                    where=str(folder),
                    hint=f"the run's {' and '.join(_FILES)} belong together",
                )
            ) from error
        if len(self.idf) != self.size:
            raise CheckpointError(
                Problem(
                    f"{_FILES[0]} names {self.size} features, {_FILES[1]} has {len(self.idf)}", str(folder)
                )
            )
        return self

    @cached_property
    def _places(self) -> dict[str, int]:
        return {word: at for at, word in enumerate(self.words)}

    def _levels(self, ids: NDArray[np.int64], of: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        """Of runs of 1, 2 ... words: the feature that begins at each word, -1 for none."""
        grams = ids
        yield grams
        for level, keys in enumerate(self._keys):
            grams = _look_up(keys, _extend(grams, ids, of, level + 2, len(self.words)))
            yield np.where(grams >= 0, grams + self._ends[level], -1)

    def _count(
        self, ids: NDArray[np.int64], of: NDArray[np.int64], texts: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
        """Features [K] of the texts in order, how often each occurs [K], and where each text starts."""
        levels = list(self._levels(ids, of))
        features = np.concatenate(levels)
        owners = np.concatenate([of[: len(level)] for level in levels])
        joined = (owners * self.size + features)[features >= 0]
        found, counts = np.unique(joined, return_counts=True)
        owners, features = np.divmod(found, self.size)
        return features, counts.astype(np.float64), np.searchsorted(owners, np.arange(texts + 1))


def bag_batches(bags: Bags, targets: NDArray, *, batch: int, seed: int) -> EpochBatches:
    """Training batches; the model's arguments are ``features`` and ``weights``, see :func:`_collate`."""
    return EpochBatches(_rows(bags, targets, batch, shuffle=True), seed)


def bag_evaluation_batches(bags: Bags, targets: NDArray | None, *, batch: int) -> EvaluationBatches:
    """Every text once; without ``targets`` the batches have no labels."""
    return EvaluationBatches(_rows(bags, targets, batch, shuffle=False), seed=0)


def _rows(bags: Bags, targets: NDArray | None, batch: int, shuffle: bool) -> Rows:
    def collate(chosen: NDArray[np.int64], rng: np.random.Generator) -> Batch:
        return _collate(bags, targets, chosen)

    return Rows(np.diff(bags.starts), collate, batch=batch, shuffle=shuffle)


def _collate(bags: Bags, targets: NDArray | None, chosen: NDArray[np.int64]) -> Batch:
    """``features`` int64 [B, F'] and ``weights`` float32 [B, F'], 0 in the padding; labels and index [B]."""
    spans = [slice(bags.starts[at], bags.starts[at + 1]) for at in chosen]
    features = pad([bags.features[span] for span in spans], 0)
    weights = np.zeros(features.shape, np.float32)
    for at, span in enumerate(spans):
        weights[at, : span.stop - span.start] = bags.weights[span]
    batch = {"features": torch.from_numpy(features), "weights": torch.from_numpy(weights)}
    if targets is not None:
        batch["labels"] = torch.from_numpy(targets[chosen])
    return batch | {"index": torch.from_numpy(chosen.astype(np.int64))}


def _read(texts, pairs, number) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The number [M] of each word of the texts, and which text [M] it is of."""
    ids: list[int] = []
    lengths: list[int] = []
    for at, text in enumerate(texts):
        before = len(ids)
        ids += map(number, _WORD.findall(text.lower()))
        if pairs is not None:
            ids += (number(_SECOND + word) for word in _WORD.findall(pairs[at].lower()))
        lengths.append(len(ids) - before)
    return np.array(ids, np.int64), np.repeat(np.arange(len(lengths)), lengths)


def _extend(
    grams: NDArray[np.int64], ids: NDArray[np.int64], of: NDArray[np.int64], length: int, words: int
) -> NDArray[np.int64]:
    """Keys of the runs of ``length`` words, from the runs one shorter at each place; -1 for none."""
    count = max(len(ids) - length + 1, 0)
    first, last = grams[:count], ids[length - 1 :]
    real = (first >= 0) & (last >= 0) & (of[:count] == of[length - 1 :])
    return np.where(real, first * words + last, -1)


def _look_up(keys: NDArray[np.int64], found: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each of ``found`` among sorted ``keys``, -1 where it is none of them."""
    if not len(keys):
        return np.full(len(found), -1)
    at = np.minimum(np.searchsorted(keys, found), len(keys) - 1)
    return np.where(keys[at] == found, at, -1)


def _document_counts(ids: NDArray[np.int64], of: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """In how many texts each of ``size`` ids occurs."""
    pairs = np.unique(of * max(size, 1) + ids)
    return np.bincount(pairs % max(size, 1), minlength=size)


def _owners(starts: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.repeat(np.arange(len(starts) - 1), np.diff(starts))


def _one_hot(targets: NDArray, labels: int) -> NDArray[np.bool_]:
    """[N, L], whether a text has a label."""
    return targets > 0.5 if targets.ndim == 2 else targets[:, None] == np.arange(labels)


def _ratios(
    features: NDArray[np.int64], starts: NDArray[np.int64], has: NDArray[np.bool_], size: int
) -> NDArray[np.float32]:
    """Log of how much more likely a feature is with a label than without it, [F, L]; add-one smoothed."""
    owners = _owners(starts)
    out = np.empty((size, has.shape[1]), np.float32)
    for label in range(has.shape[1]):
        inside = 1 + np.bincount(features, has[owners, label].astype(np.float64), size)
        outside = 1 + np.bincount(features, ~has[owners, label], size)
        out[:, label] = np.log(inside / inside.sum()) - np.log(outside / outside.sum())
    return out

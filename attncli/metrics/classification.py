"""Metrics of classifiers: accuracy, F1, agreement beyond chance, calibration; of numbers, correlations.

All from the whole set's predictions at once: nothing is averaged over batches.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

BINS = 15
"""Equal-width bins of the calibration error (Guo et al. 2017, https://arxiv.org/abs/1706.04599)."""

Array = NDArray[Any]


def score(kind: str, probabilities: Array, targets: Array) -> dict[str, float]:
    """Metrics of one set.

    Args:
        kind: single, multi or regression.
        probabilities: [N, L]; of regression the numbers themselves, [N, 1].
        targets: int [N] (single), 0 and 1 [N, L] (multi), or numbers [N].
    """
    return {"single": _single, "multi": _multi, "regression": _regression}[kind](probabilities, targets)


def _single(probabilities: Array, targets: Array) -> dict[str, float]:
    counts = confusion(targets, probabilities.argmax(1), probabilities.shape[1])
    right = float(counts.trace())
    total = float(counts.sum())
    five = {}
    if probabilities.shape[1] > 5:
        five["top5_accuracy"] = top_accuracy(probabilities, targets, 5)
    return {
        "accuracy": right / total if total else math.nan,
        **five,
        "f1_macro": macro_f1(counts),
        "f1_micro": right / total if total else math.nan,
        "matthews": matthews(counts),
        "calibration_error": calibration(probabilities, targets).error,
    }


def top_accuracy(probabilities: Array, targets: Array, most: int) -> float:
    """Share of the examples whose label is among the ``most`` likeliest; of equal ones the first count."""
    if not len(targets):
        return math.nan
    ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, :most]
    return float((ranked == targets[:, None]).any(1).mean())


def confusion(targets: Array, predicted: Array, labels: int) -> NDArray[np.int64]:
    """How often each label (row) was taken for each (column), [L, L]."""
    cells = np.bincount(targets.astype(np.int64) * labels + predicted, minlength=labels * labels)
    return cells.reshape(labels, labels)


def macro_f1(counts: NDArray[np.int64]) -> float:
    """Mean F1 of the labels that occur, in the targets or among the predictions."""
    both, gold, found = counts.diagonal(), counts.sum(1), counts.sum(0)
    occurs = (gold + found) > 0
    return float((2 * both[occurs] / (gold + found)[occurs]).mean()) if occurs.any() else math.nan


def matthews(counts: NDArray[np.int64]) -> float:
    """Matthews' correlation, for any number of labels (Gorodkin 2004); 0 where one side is constant."""
    gold, found = counts.sum(1).astype(float), counts.sum(0).astype(float)
    total, right = float(counts.sum()), float(counts.trace())
    spread = (total**2 - (found**2).sum()) * (total**2 - (gold**2).sum())
    return float((right * total - (gold * found).sum()) / math.sqrt(spread)) if spread > 0 else 0.0


class Calibration(NamedTuple):
    """Predictions by the probability that they were made with."""

    error: float
    """Mean distance of confidence and accuracy over the bins, weighted by their predictions."""
    confidence: Array
    """Mean of each bin [K]; NaN where it is empty."""
    accuracy: Array
    counts: Array


def calibration(probabilities: Array, targets: Array, bins: int = BINS) -> Calibration:
    """Of the likeliest label: probabilities [N, L], targets int [N]."""
    if not len(targets):
        empty = np.full(bins, np.nan)
        return Calibration(math.nan, empty, empty, np.zeros(bins, np.int64))
    top = probabilities.max(1)
    return _binned(top, (probabilities.argmax(1) == targets).astype(float), bins)


def _binned(confidence: Array, right: Array, bins: int) -> Calibration:
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    counts = np.bincount(place, minlength=bins)
    sums = [np.bincount(place, values, minlength=bins) for values in (confidence, right)]
    with np.errstate(invalid="ignore"):
        means = [total / counts for total in sums]
    error = float(np.abs(sums[0] - sums[1]).sum() / len(confidence))
    return Calibration(error, means[0], means[1], counts)


def _multi(probabilities: Array, targets: Array) -> dict[str, float]:
    found, gold = probabilities >= 0.5, targets > 0.5
    both = (found & gold).sum(0)
    sums = found.sum(0) + gold.sum(0)
    occurs = sums > 0
    total = int(sums.sum())
    return {
        "f1_micro": 2 * int(both.sum()) / total if total else math.nan,
        "f1_macro": float((2 * both[occurs] / sums[occurs]).mean()) if occurs.any() else math.nan,
        "subset_accuracy": float((found == gold).all(1).mean()) if len(gold) else math.nan,
        "average_precision": _average_precision(probabilities, gold),
        "calibration_error": _binned(probabilities.ravel(), gold.ravel().astype(float), BINS).error
        if gold.size
        else math.nan,
    }


def _average_precision(probabilities: Array, gold: Array) -> float:
    """Mean over the labels that some text has."""
    from sklearn.metrics import average_precision_score

    present = gold.any(0)
    if not present.any():
        return math.nan
    return float(average_precision_score(gold[:, present], probabilities[:, present], average="macro"))


def _regression(predicted: Array, targets: Array) -> dict[str, float]:
    found, gold = predicted.reshape(-1).astype(float), targets.astype(float)
    if not len(gold):
        return dict.fromkeys(("spearman", "pearson", "mse", "mae"), math.nan)
    apart = found - gold
    return {
        "spearman": _correlation(_ranks(found), _ranks(gold)),
        "pearson": _correlation(found, gold),
        "mse": float((apart**2).mean()),
        "mae": float(np.abs(apart).mean()),
    }


def _ranks(values: Array) -> Array:
    """Ranks from 1, equal values sharing the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = counts.cumsum()
    return (ends - (counts - 1) / 2)[place]


def _correlation(a: Array, b: Array) -> float:
    """Pearson's; 0 where one of the two does not vary."""
    if len(a) < 2 or a.std() == 0 or b.std() == 0:
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(np.corrcoef(a, b)[0, 1])


class LabelRow(NamedTuple):
    """How one label is found."""

    label: str
    precision: float
    recall: float
    f1: float
    support: int
    """Examples that have it."""


def label_report(kind: str, probabilities: Array, targets: Array, names: list[str]) -> list[LabelRow]:
    """Precision, recall and F1 of each label; 0 where there is nothing to divide by."""
    if kind == "multi":
        found, gold = probabilities >= 0.5, targets > 0.5
        both, taken, there = (found & gold).sum(0), found.sum(0), gold.sum(0)
    else:
        counts = confusion(targets, probabilities.argmax(1), len(names))
        both, taken, there = counts.diagonal(), counts.sum(0), counts.sum(1)
    return [
        LabelRow(name, _ratio(b, t), _ratio(b, g), _ratio(2 * b, t + g), int(g))
        for name, b, t, g in zip(names, both, taken, there, strict=True)
    ]


def _ratio(part: int, whole: int) -> float:
    return float(part) / float(whole) if whole else 0.0

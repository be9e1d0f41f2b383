"""Metrics of tagging: entities found whole, as conlleval counts them, and words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from attncli.metrics.schemes import spans

Tags = Sequence[Sequence[str]]


class TypeRow(NamedTuple):
    """How entities of one type are found."""

    type: str
    precision: float
    recall: float
    f1: float
    support: int
    """Entities of it in the gold tags."""


def score(predicted: Tags, gold: Tags, scheme: str) -> dict[str, float]:
    """Precision, recall and F1 of entities over the whole set (micro), and the share of words tagged right.

    An entity counts where its type, its first and its last word are right. Without a scheme there are no
    entities: then the F1 is macro F1 of the tags.

    Raises ValueError where the sentences differ in number or length.
    """
    words, right = _words(predicted, gold)
    accuracy = right / words if words else 0.0
    if scheme == "none":
        rows = _tag_rows(predicted, gold)
        count = max(len(rows), 1)
        means = {
            name: sum(getattr(row, name) for row in rows) / count for name in ("f1", "precision", "recall")
        }
        return means | {"accuracy": accuracy}
    both, found, there = (sum(counts.values()) for counts in _counts(predicted, gold, scheme))
    return {
        "f1": _ratio(2 * both, found + there),
        "precision": _ratio(both, found),
        "recall": _ratio(both, there),
        "accuracy": accuracy,
    }


def by_type(predicted: Tags, gold: Tags, scheme: str) -> list[TypeRow]:
    """The same for each entity type, or for each tag without a scheme; by name."""
    if scheme == "none":
        return _tag_rows(predicted, gold)
    return _rows(*_counts(predicted, gold, scheme))


def _counts(predicted: Tags, gold: Tags, scheme: str) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """Entities of each type that are in both, predicted, and gold."""
    both: Counter[str] = Counter()
    found: Counter[str] = Counter()
    there: Counter[str] = Counter()
    for one, other in zip(predicted, gold, strict=True):
        a, b = spans(one, scheme), spans(other, scheme)
        found.update(kind for kind, *_ in a)
        there.update(kind for kind, *_ in b)
        both.update(kind for kind, *_ in set(a) & set(b))
    return both, found, there


def _tag_rows(predicted: Tags, gold: Tags) -> list[TypeRow]:
    both: Counter[str] = Counter()
    found: Counter[str] = Counter()
    there: Counter[str] = Counter()
    for one, other in zip(predicted, gold, strict=True):
        found.update(one)
        there.update(other)
        both.update(a for a, b in zip(one, other, strict=True) if a == b)
    return _rows(both, found, there)


def _rows(both: Counter[str], found: Counter[str], there: Counter[str]) -> list[TypeRow]:
    return [
        TypeRow(
            kind,
            _ratio(both[kind], found[kind]),
            _ratio(both[kind], there[kind]),
            _ratio(2 * both[kind], found[kind] + there[kind]),
            there[kind],
        )
        for kind in sorted({*found, *there})
    ]


def _words(predicted: Tags, gold: Tags) -> tuple[int, int]:
    words = right = 0
    for one, other in zip(predicted, gold, strict=True):
        words += len(other)
        right += sum(a == b for a, b in zip(one, other, strict=True))
    return words, right


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0

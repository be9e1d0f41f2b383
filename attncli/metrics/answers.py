"""Metrics of question answering as SQuAD's own scripts count them: exact match and F1 of words.

Rajpurkar et al. 2016 (https://arxiv.org/abs/1606.05250) and, for questions without an answer, 2018
(https://arxiv.org/abs/1806.03822). All values are shares of 1.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_MARKS = set(string.punctuation)

Gold = Mapping[str, Sequence[str]]
"""Question id to its answers; none where the question has no answer."""


def normalise(text: str) -> str:
    """Lower case, without ASCII punctuation, English articles and superfluous blanks."""
    kept = "".join(char for char in text.lower() if char not in _MARKS)
    return " ".join(_ARTICLES.sub(" ", kept).split())


def exact_match(predicted: str, answers: Sequence[str]) -> float:
    """1 where the prediction is one of the answers, after normalisation."""
    found = normalise(predicted)
    return float(any(found == normalise(answer) for answer in _given(answers)))


def f1(predicted: str, answers: Sequence[str]) -> float:
    """Best F1 of the words that prediction and an answer have in common."""
    return max(_f1(normalise(predicted).split(), normalise(answer).split()) for answer in _given(answers))


def _given(answers: Sequence[str]) -> Sequence[str]:
    """What a prediction may be: an answer that is nothing after normalisation counts only if all are."""
    kept = [answer for answer in answers if normalise(answer)]
    return kept or [""]


def _f1(found: list[str], gold: list[str]) -> float:
    if not found or not gold:
        return float(found == gold)
    both = sum((Counter(found) & Counter(gold)).values())
    return 2 * both / (len(found) + len(gold)) if both else 0.0


def score(predicted: Mapping[str, str], gold: Gold) -> dict[str, float]:
    """Means over all questions; where some have no answer, also over each kind.

    A question that nothing was predicted for counts as wrong.
    """
    rows = [
        (bool(any(map(normalise, answers))), exact_match(text, answers), f1(text, answers))
        if (text := predicted.get(name)) is not None
        else (bool(answers), 0.0, 0.0)
        for name, answers in gold.items()
    ]
    found = {"exact_match": _mean(row[1] for row in rows), "f1": _mean(row[2] for row in rows)}
    has, none = ([row for row in rows if row[0] == kind] for kind in (True, False))
    if none:
        found |= {
            "has_answer_exact_match": _mean(row[1] for row in has),
            "has_answer_f1": _mean(row[2] for row in has),
            "no_answer_accuracy": _mean(row[1] for row in none),
        }
    return found


def _mean(values) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0


def best_threshold(predicted: Mapping[str, str], none_scores: Mapping[str, float], gold: Gold) -> float:
    """By how much 'no answer' must be better than the best answer to be taken: the best F1 over ``gold``.

    Args:
        predicted: best answer that is not empty, of each question.
        none_scores: score of no answer less that of the best answer.
    """
    gains = []
    total = 0.0
    for name, answers in gold.items():
        if not any(map(normalise, answers)):
            total += 1.0
            gain = -1.0
        else:
            gain = f1(predicted.get(name, ""), answers)
        gains.append((none_scores[name], gain))
    gains.sort()
    best, threshold = total, gains[0][0] - 1.0 if gains else 0.0
    for at, (value, gain) in enumerate(gains):
        total += gain
        last = at + 1 == len(gains) or gains[at + 1][0] > value
        if last and total > best:
            best, threshold = total, value
    return threshold

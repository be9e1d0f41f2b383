"""The part of ``attn runs compare`` on translations: do two runs differ by more than chance? No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attncli import console
from attncli.errors import CheckpointError, Problem, RecipeError
from attncli.training.translations import Translations, read_translations, stored_translations

COMPARED = ("bleu", "bleu_lowercase", "chrf")


@dataclass
class Compared:
    """Runs on one test set with the same references."""

    test_set: str
    sentences: int
    scores: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """By metric, one of each run: run, value, difference (to the first run's) and p_value."""


def compare_translations(
    paths: Sequence[Path], languages: Mapping[Path, str]
) -> tuple[list[Compared], list[str]]:
    """Every test set that two or more of the runs hold, and sentences on what cannot be compared.

    Args:
        paths: run folders, in order; the first that holds a set is what the others are compared to.
        languages: the target language of each run that has one.

    Raises:
        CheckpointError: stored translations are damaged; all of them are named.
    """
    held = _read(paths)
    compared, notes = [], []
    for name, runs in held.items():
        groups: dict[tuple[str, ...], list[Path]] = {}
        for path, translations in runs.items():
            groups.setdefault(tuple(translations.references), []).append(path)
        first, *others = groups.values()
        notes += [
            f"{name}: the references of {path} are not those of {first[0]}; these two are not compared"
            for group in others
            for path in group
        ]
        for group in groups.values():
            if len(group) < 2:
                continue
            try:
                language = languages.get(group[0], "")
                compared.append(_compare(name, {path: runs[path] for path in group}, language))
            except RecipeError as error:  # a tokeniser is not installed
                mend = f" ({error.then})" if error.then else ""
                notes.append(f"{name}: not compared: {error}{mend}")
    return compared, notes


def show_translations(compared: Sequence[Compared]) -> None:
    """A table for each test set."""
    from attncli.metrics.translation import SAMPLES

    for each in compared:
        rows = [
            (
                metric if number == 0 else "",
                row["run"],
                f"{row['value']:.2f}",
                None if number == 0 else f"{row['difference']:+.2f}",
                None if number == 0 else f"{row['p_value']:.3f}",
            )
            for metric, scores in each.scores.items()
            for number, row in enumerate(scores)
        ]
        told = f"{each.test_set}: {each.sentences:,} sentences; p by paired bootstrap, {SAMPLES:,} resamples"
        console.result(told)
        columns = ["metric", "run", "value", "difference", "p"]
        console.table(columns, rows, right=columns[2:])


def _read(paths: Sequence[Path]) -> dict[str, dict[Path, Translations]]:
    """Stored translations by test set and run, of the sets that two or more runs hold."""
    holders: dict[str, list[Path]] = {}
    for path in dict.fromkeys(paths):
        for name in stored_translations(path):
            holders.setdefault(name, []).append(path)
    held: dict[str, dict[Path, Translations]] = {}
    problems: list[Problem] = []
    then = None
    for name, runs in holders.items():
        for path in runs if len(runs) > 1 else []:
            try:
                held.setdefault(name, {})[path] = read_translations(path, name)
            except CheckpointError as error:
                problems += error.problems
                then = error.then
    if problems:
        raise CheckpointError(*problems, then=then)
    return held


def _compare(name: str, runs: Mapping[Path, Translations], language: str) -> Compared:
    from attncli.metrics.translation import paired, score

    (first, basis), *others = runs.items()
    references = basis.references
    compared = Compared(name, len(references))
    values = score(basis.hypotheses, references, language=language, metrics=COMPARED)
    for metric in COMPARED:
        row = {"run": str(first), "value": values[metric], "difference": None, "p_value": None}
        compared.scores[metric] = [row]
        for path, other in others:
            found = paired(basis.hypotheses, other.hypotheses, references, metric=metric, language=language)
            row = {"value": found.second, "difference": found.difference, "p_value": found.p_value}
            compared.scores[metric].append({"run": str(path), **row})
    return compared

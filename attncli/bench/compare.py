"""Whether a benchmark has become slower than an earlier one, noise aside.

Each row's time is taken relative to the fastest direct call of the same run and shape, so that a machine
that is slower today as a whole changes nothing. A case is slower when the mean of its rows, in logarithms, is
slower by more than the tolerance and stands clear of the rows' own scatter and of the errors measured in
both runs.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any

TOLERANCE = 0.1
"""A change smaller than this share is never reported."""


@dataclass(frozen=True)
class Change:
    """A case in two runs."""

    case: str
    rows: int
    ratio: float
    """Time now over time then, the geometric mean of the rows."""
    noise: float
    """How far the ratio may be off, as a share: two standard errors."""
    verdict: str
    """slower, faster, or the same."""


def compare(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[Change]:
    """Case by case, those that both runs have at the same shapes."""
    then = {_key(row): row for row in before}
    pairs: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {}
    for row in after:
        if _key(row) in then:
            pairs.setdefault(row["case"], []).append((then[_key(row)], row))
    return [_change(case, rows) for case, rows in pairs.items()]


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("case", "precision", "direction", "length", "batch"))


def _error(row: dict[str, Any]) -> float:
    """Standard error of a row's ratio, as a share."""
    known = row.get("ratio_error")
    # Of results without it: a quartile scatters by about its spread over the root of some ten rounds.
    return row["spread"] / 3 if known is None else known


def _change(case: str, rows: list[tuple[dict[str, Any], dict[str, Any]]]) -> Change:
    logs = [math.log(now["ratio"] / then["ratio"]) for then, now in rows]
    mean = statistics.fmean(logs)
    measured = math.sqrt(sum(_error(row) ** 2 for pair in rows for row in pair)) / len(rows)
    scatter = statistics.stdev(logs) / math.sqrt(len(logs)) if len(logs) > 2 else 0.0
    noise = 2 * max(measured, scatter)
    verdict = "the same"
    if abs(mean) > math.log1p(TOLERANCE) and abs(mean) > noise:
        verdict = "slower" if mean > 0 else "faster"
    return Change(case, len(rows), math.exp(mean), noise, verdict)

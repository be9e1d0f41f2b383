"""Whether a benchmark has become slower than an earlier one, noise aside.

Each row's time is taken relative to the fastest direct call of the same run and shape, so that a machine
that is slower today as a whole changes nothing. A case is slower when the mean of its rows, in logarithms, is
slower by more than the tolerance and stands clear of the rows' own scatter and of the spreads measured in
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


def _change(case: str, rows: list[tuple[dict[str, Any], dict[str, Any]]]) -> Change:
    logs = [math.log(now["ratio"] / then["ratio"]) for then, now in rows]
    mean = statistics.fmean(logs)
    # A quartile of n rounds scatters by about its spread over the root of n; rounds are some ten.
    measured = math.sqrt(sum(then["spread"] ** 2 + now["spread"] ** 2 for then, now in rows)) / len(rows) / 3
    scatter = statistics.stdev(logs) / math.sqrt(len(logs)) if len(logs) > 2 else 0.0
    noise = 2 * max(measured, scatter)
    verdict = "the same"
    if abs(mean) > math.log1p(TOLERANCE) and abs(mean) > noise:
        verdict = "slower" if mean > 0 else "faster"
    return Change(case, len(rows), math.exp(mean), noise, verdict)

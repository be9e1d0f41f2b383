"""What differs between two runs on one input, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import numpy as np

from attncli.reports.heads import HeadFigures, apart, likest
from attncli.reports.inspection import Seen, Table

_WORDS = 10
_SCALE = "Jensen-Shannon divergence, nats: 0 alike, 0.69 disjoint"


def differences(first: Seen, second: Seen) -> list[Table]:
    """Figures of both, layers, heads that look alike, and words that weigh otherwise."""
    tables = [_figures(first, second), _layers(first, second), _alike(first, second), *_words(first, second)]
    return [table for table in tables if table.rows]


def _figures(first: Seen, second: Seen) -> Table:
    rows: list[list] = []
    for name in dict.fromkeys([*first.figures, *second.figures]):
        a, b = first.figures.get(name), second.figures.get(name)
        rows.append([name, a, b, None if a is None or b is None else b - a])
    for name, field in (("mean entropy of a head, nats", "entropy"), ("mean span of a head, tokens", "span")):
        a, b = _mean(first.heads, field), _mean(second.heads, field)
        if a is not None or b is not None:
            rows.append([name, a, b, None if a is None or b is None else b - a])
    note = ""
    found = [_rollout(one) for one in (first, second)]
    if None not in found and len(found[0][1]) == len(found[1][1]) and found[0][0] == found[1][0]:
        distance = apart(found[0][1], found[1][1])
        note = f"The rollouts of the two are {distance:.3f} apart ({_SCALE})."
    return Table("Side by side", ["", first.name, second.name, "difference"], rows, note)


def _rollout(one: Seen) -> tuple[list[str], np.ndarray] | None:
    layer = next((layer for layer in one.layers if layer.name == "rollout"), None)
    return None if layer is None else (list(layer.rows), layer.weights[0])


def _mean(heads: Sequence[HeadFigures], field: str) -> float | None:
    values = [value for head in heads if (value := getattr(head, field)) is not None]
    return fmean(values) if values else None


def _layers(first: Seen, second: Seen) -> Table:
    """Entropy and span of each layer's heads on average, of layers of the same name."""
    rows = []
    names = [
        list(dict.fromkeys(one.layers[head.layer].name for head in one.heads)) for one in (first, second)
    ]
    spans = False
    for name in dict.fromkeys(names[0] + names[1]):
        row: list = [name]
        for field in ("entropy", "span"):
            a, b = (
                _mean([h for h in one.heads if one.layers[h.layer].name == name], field)
                for one in (first, second)
            )
            spans = spans or (field == "span" and a is not None)
            row += [a, b, None if a is None or b is None else b - a]
        rows.append(row)
    columns = ["layer"]
    for field in ("entropy", "span"):
        columns += [f"{field}: {first.name}", second.name, "difference"]
    keep = len(columns) if spans else 4
    return Table("Layer by layer", columns[:keep], [row[:keep] for row in rows])


def _alike(first: Seen, second: Seen) -> Table:
    """For each head of the first run the one of the second that looks most as it does."""
    found = likest(*([one.layers[at] for at in _with_heads(one)] for one in (first, second)))
    rows = []
    for like in sorted(found, key=lambda like: like.apart):
        a, b = like.first, like.second
        names = first.layers[_with_heads(first)[a[0]]].name, second.layers[_with_heads(second)[b[0]]].name
        rows.append([f"{names[0]}, head {a[1] + 1}", f"{names[1]}, head {b[1] + 1}", like.apart])
    note = f"Each head of the first run and the head of the second that looks most as it does ({_SCALE})."
    return Table("Heads that look alike", [first.name, second.name, "apart"], rows, note)


def _with_heads(one: Seen) -> list[int]:
    return sorted({head.layer for head in one.heads})


def _words(first: Seen, second: Seen) -> list[Table]:
    """Of each way to weigh words, those that weigh most otherwise; where both read the same pieces."""
    tables = []
    others = {shading.name: shading for shading in second.shadings}
    for shading in first.shadings:
        if shading.name not in others:
            continue
        mine, theirs = (
            [piece for line in one.lines for piece in line.pieces] for one in (shading, others[shading.name])
        )
        if [piece.text for piece in mine] != [piece.text for piece in theirs]:
            continue
        rows = [[a.text, a.weight, b.weight, b.weight - a.weight] for a, b in zip(mine, theirs, strict=True)]
        rows = sorted(rows, key=lambda row: -abs(row[3]))[:_WORDS]
        columns = ["word", first.name, second.name, "difference"]
        tables.append(Table(f"Words by {shading.name}: the largest differences", columns, rows))
    return tables

"""What is said of texts: one label, several labels, or a number."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attncli.data.faults import Faults, choices_hint, quoted
from attncli.errors import CheckpointError, Problem
from attncli.recipe.text import LabelledText

_FILE = "labels.json"
_MOST = 1000
"""Labels beyond which a column is no label column."""


@dataclass(frozen=True)
class Labels:
    """The labels of a run: their kind, and their names in the order of the model's outputs."""

    kind: str
    """single, multi or regression."""
    names: list[str]
    """Empty for numbers."""
    pairs: bool = False
    """Whether they are of pairs of texts."""

    def describe(self) -> str:
        """Words for the console."""
        if self.kind == "regression":
            return "a number each"
        what = f"{len(self.names)} labels ({quoted(self.names, 6)})"
        return what if self.kind == "single" else f"any of {what}"

    def written(self, target: Any) -> Any:
        """A target for people: a name, a list of names, or a number."""
        if self.kind == "regression":
            return float(target)
        if self.kind == "multi":
            return [name for name, on in zip(self.names, target, strict=True) if on]
        return self.names[int(target)]

    def blank(self, count: int) -> NDArray[Any]:
        """Targets of texts that have none."""
        shape = (count, len(self.names)) if self.kind == "multi" else (count,)
        return np.zeros(shape, np.int64 if self.kind == "single" else np.float32)

    def save(self, folder: Path) -> None:
        """Write ``labels.json``."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False)
        (folder / _FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Labels:
        """What :meth:`save` wrote; CheckpointError where it is missing or damaged."""
        path = folder / _FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            names = [str(name) for name in values["names"]]
            return cls(str(values["kind"]), names, bool(values.get("pairs", False)))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(Problem(f"cannot be read: {error}", where=str(path))) from None


Raw = Sequence[tuple[Any, str]]
"""Values of the label column with their places."""


def as_name(value: Any) -> str | None:
    """A label as text; None where there is none."""
    if value is None or isinstance(value, list | dict):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value == int(value):
        return str(int(value))
    return str(value).strip() or None


def as_names(value: Any) -> list[str] | None:
    """Several labels: a list, a list in JSON, or text with ``|`` or commas between; None for else."""
    if value is None:
        return []
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("["):
            try:
                value = json.loads(text)
            except ValueError:
                value = None
        if isinstance(value, str):
            mark = "|" if "|" in text else ","
            return [part.strip() for part in text.split(mark) if part.strip()]
    if isinstance(value, list):
        names = [as_name(one) for one in value]
        return None if None in names else names  # type: ignore[return-value]
    one = as_name(value)
    return None if one is None else [one]


def as_number(value: Any) -> float | None:
    """A number, or text that is one; None for anything else, not-a-numbers and infinities too."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if abs(number) < float("inf") else None


def find_labels(section: LabelledText, rows: Iterable[Any], faults: Faults) -> Labels:
    """The labels of training rows, sorted: numbers by value, names by letter; or those that are listed."""
    values = [row.label for row in rows]
    kind = section.kind if section.kind != "auto" else guess_kind(values)
    if kind == "regression":
        if section.labels:
            faults.add("data.labels lists labels, but the labels are numbers", hint="set data.kind=single")
        return Labels(kind, [])
    if section.labels:
        double = sorted({name for name in section.labels if section.labels.count(name) > 1})
        if double:
            faults.add(f"data.labels names {quoted(double)} more than once")
        return Labels(kind, list(section.labels))
    if kind == "multi":
        found = {name for value in values for name in as_names(value) or ()}
    else:
        found = {name for value in values if (name := as_name(value)) is not None}
    if len(found) > _MOST:
        faults.add(
            f"{len(found):,} different labels in {len(values):,} examples",
            hint="is data.label the right column? Numbers are data.kind=regression",
        )
    return Labels(kind, sorted(found, key=_order))


def _order(name: str) -> tuple[int, float, str]:
    number = as_number(name)
    return (1, 0.0, name) if number is None else (0, number, name)


def guess_kind(values: Sequence[Any]) -> str:
    """Lists are several labels; numbers with fractions are regression; the rest is one label each."""
    known = [value for value in values if value not in (None, "")]
    if any(
        isinstance(value, list) or (isinstance(value, str) and value.strip().startswith("["))
        for value in known
    ):
        return "multi"
    numbers = [as_number(value) for value in known]
    if known and None not in numbers and any(number != int(number) for number in numbers):  # type: ignore[arg-type]
        return "regression"
    return "single"


def targets_of(values: Raw, labels: Labels, faults: Faults, part: str) -> NDArray[Any]:
    """Targets as the model's loss reads them; what is none is a fault with its place.

    int64 [N] (single), float32 [N, L] of 0 and 1 (multi), or float32 [N] (regression).
    """
    place = {name: at for at, name in enumerate(labels.names)}
    targets = labels.blank(len(values))
    for row, (value, where) in enumerate(values):
        if labels.kind == "regression":
            number = as_number(value)
            if number is None:
                faults.add(f"{_shown(value)} is no number", where, "one label a text is data.kind=single")
            else:
                targets[row] = number
        elif labels.kind == "multi":
            names = as_names(value)
            if names is None:
                faults.add(f"{_shown(value)} is no list of labels", where)
            for name in names or ():
                if name in place:
                    targets[row, place[name]] = 1.0
                else:
                    _unknown(name, labels, where, part, faults)
        else:
            name = as_name(value)
            if name is None:
                faults.add(
                    "no label" if value in (None, "") else f"{_shown(value)} is no single label", where
                )
            elif name in place:
                targets[row] = place[name]
            else:
                _unknown(name, labels, where, part, faults)
    return targets


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _unknown(name: str, labels: Labels, where: str, part: str, faults: Faults) -> None:
    source = "data.labels" if part == "train" else "the training part"
    hint = choices_hint(name, labels.names, "it has", "data.labels").partition("; did you mean")[0]
    faults.add(f"label {name!r} is not among those of {source}", where, hint)

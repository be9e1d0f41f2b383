"""What an annotated picture is, and how boxes are brought inside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from attncli.data.boxes.classes import Classes
from attncli.data.faults import Faults
from attncli.data.images.store import Encoded, Pictures

Boxes = NDArray[np.float32]
"""[N, 4]: x0, y0, x1, y1 in pixels."""


@dataclass(frozen=True)
class Thing:
    """One annotated object."""

    box: tuple[float, float, float, float]
    name: str
    where: str
    """Its file, with a line or number where it has one."""
    ignored: bool = False
    """Neither finding nor missing it counts: crowds, difficult objects."""
    area: float | None = None
    """Square pixels, where the annotation tells them: those of its outline, not of its box."""


@dataclass
class Scene:
    """A picture and what is in it."""

    picture: Path | None
    """Its file; None where the pictures are kept apart, in the order of the scenes."""
    where: str
    """Where it is annotated."""
    things: list[Thing] = field(default_factory=list)
    size: tuple[int, int] | None = None
    """Height and width as the annotation has them."""
    number: int | None = None
    """Its number in the annotation, which results name."""
    shares: bool = False
    """Whether boxes are in shares of the picture's sides, not pixels."""

    @property
    def name(self) -> str:
        """The picture in words."""
        return self.where if self.picture is None else str(self.picture)


class Raw(NamedTuple):
    """A part as its files tell it."""

    scenes: list[Scene]
    numbers: dict[str, int]
    """Classes and their numbers, where the format lists them."""
    pictures: Encoded | None
    """Where they are kept apart from the scenes."""


@dataclass
class BoxSet:
    """Pictures with their boxes."""

    name: str
    pictures: Pictures
    sizes: NDArray[np.int64]
    """[N, 2]: height and width of each."""
    boxes: list[Boxes]
    labels: list[NDArray[np.int64]]
    """Class numbers [n] of each picture's boxes."""
    ignored: list[NDArray[np.bool_]]
    truth: list[NDArray[np.float64]]
    """Boxes [n, 4] as annotated, by which results are measured."""
    areas: list[NDArray[np.float64]]
    """Square pixels [n], by which objects are small or large."""
    numbers: list[int]
    """What results call each picture."""
    names: list[str]
    """File names, for people."""

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, chosen: NDArray[np.int64], name: str | None = None) -> BoxSet:
        """Some of the pictures."""
        return BoxSet(
            name or self.name,
            self.pictures.take(chosen),  # type: ignore[attr-defined]
            self.sizes[chosen],
            *([whole[at] for at in chosen] for whole in self._lists()),  # type: ignore[arg-type]
        )

    def _lists(self) -> tuple[list, ...]:
        return (
            self.boxes,
            self.labels,
            self.ignored,
            self.truth,
            self.areas,
            self.numbers,
            self.names,
        )

    @property
    def objects(self) -> int:
        """Boxes that count."""
        return int(sum((~ignored).sum() for ignored in self.ignored))


@dataclass
class BoxSets:
    """What a detector learns from and is measured on."""

    train: BoxSet
    validation: BoxSet
    tests: list[BoxSet]
    classes: Classes
    where: str
    notes: list[str] = field(default_factory=list)
    """What was mended."""

    def describe(self) -> str:
        """One line for the console."""
        parts = [(self.train, "training"), (self.validation, "validation")]
        parts += [(test, test.name) for test in self.tests]
        counts = ", ".join(f"{len(one):,} {name}" for one, name in parts)
        return f"{self.where}: {counts} pictures with {self.train.objects:,} boxes to learn from"


@dataclass
class Mended:
    """What was done about bad boxes, counted, with the first places."""

    cut: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    skipped: int = 0
    """Pictures that cannot be decoded."""

    def notes(self) -> list[str]:
        """Sentences for the console."""
        found = []
        for places, what in (
            (self.cut, "reached out of their picture and were cut at its edges"),
            (self.left_out, "have no area inside their picture and were left out"),
        ):
            if places:
                shown = ", ".join(places[:2]) + (", ..." if len(places) > 2 else "")
                found.append(f"{len(places)} boxes {what}: {shown}")
        if self.skipped:
            found.append(f"{self.skipped} pictures cannot be decoded and were left out")
        return found


_SLACK = 1.0
"""Pixels over an edge that are rounding, or counting from 1, and not worth a word."""
_THIN = 1e-3
"""Pixels below which a side has no length."""


def boxes_inside(
    things: Sequence[Thing], size: tuple[int, int], how: str, faults: Faults, mended: Mended
) -> tuple[Boxes, list[Thing]]:
    """Boxes cut at the edges of a picture of ``size`` (height, width), and the things they are of.

    ``how``: mend, or refuse, which makes every such box a fault.
    """
    height, width = size
    boxes: list[tuple[float, ...]] = []
    kept: list[Thing] = []
    for thing in things:
        x0, y0, x1, y1 = thing.box
        inside = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
        flat = inside[2] - inside[0] < _THIN or inside[3] - inside[1] < _THIN
        out = x0 < -_SLACK or y0 < -_SLACK or x1 > width + _SLACK or y1 > height + _SLACK
        if how == "refuse" and (flat or out):
            text = ", ".join(f"{side:g}" for side in thing.box)
            what = "has no area" if flat and not out else "reaches out of its picture"
            faults.add(
                f"box ({text}) {what}, which is {width}x{height}" if out else f"box ({text}) {what}",
                thing.where,
                "data.boxes=mend cuts such boxes and leaves out those without an area",
            )
        elif flat:
            mended.left_out.append(thing.where)
        else:
            if out:
                mended.cut.append(thing.where)
            boxes.append(inside)
            kept.append(thing)
    return np.array(boxes, np.float32).reshape(-1, 4), kept


def ragged(items: Sequence[Any], fill: Any, shape: tuple[int, ...], dtype: Any, least: int = 1) -> NDArray:
    """Rows of different number as one array [B, M, ...], filled up at the end."""
    most = max([least, *(len(item) for item in items)])
    out = np.full((len(items), most, *shape), fill, dtype)
    for at, item in enumerate(items):
        out[at, : len(item)] = item
    return out

"""Masks: which number or colour in a file is which class, and masks read as class numbers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attncli.data.faults import Faults, quoted
from attncli.data.images.geometry import IGNORED
from attncli.errors import CheckpointError, DataError, Problem, nearest

_FILE = "classes.json"
_MOST = 254
"""Classes there can be: 255 is what is ignored."""

Mask = NDArray[np.uint8]
"""Class numbers [H, W]; 255 is ignored."""


@dataclass(frozen=True)
class MaskClasses:
    """The classes of a run in the order of the model's outputs, and how masks write them."""

    names: list[str]
    values: list[list[int]]
    """What a mask's file writes for each class: one number, or red, green and blue."""
    ignored: list[list[int]]
    """What it writes for pixels that do not count; 255 too, unless that is a class."""

    @property
    def coloured(self) -> bool:
        """Whether masks are colours."""
        return len(self.values[0]) == 3

    def describe(self) -> str:
        """Words for the console."""
        return f"{len(self.names)} classes ({quoted(self.names, 6)})"

    def read(self, raw: NDArray[Any]) -> tuple[Mask, list[str]]:
        """A mask of a file as class numbers uint8 [H, W], and in words what in it is no class.

        ``raw``: numbers [H, W] or colours uint8 [H, W, 3]. Unknown pixels become ignored.
        """
        if raw.ndim == 3:
            if not self.coloured:
                grey = bool((raw[..., 0] == raw[..., 1]).all() and (raw[..., 1] == raw[..., 2]).all())
                if not grey:
                    return np.full(raw.shape[:2], IGNORED, np.uint8), [
                        "is coloured, and the classes have numbers only: name their colours in classes.txt"
                    ]
                raw = raw[..., 0]
        elif self.coloured:
            # A palette or grey file beside classes with colours: numbers in the classes' order.
            return self._looked_up(raw, self._in_order)
        return self._looked_up(_packed(raw), self._by_value)

    @cached_property
    def _by_value(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        known = {_number(value): at for at, value in enumerate(self.values)}
        for value in self.ignored:
            known.setdefault(_number(value), IGNORED)
        if not self.coloured:
            known.setdefault(255, IGNORED)
        return _table(known)

    @cached_property
    def _in_order(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        return _table({at: at for at in range(len(self.names))} | {255: IGNORED})

    def _looked_up(
        self, packed: NDArray[Any], table: tuple[NDArray[np.int64], NDArray[np.uint8]]
    ) -> tuple[Mask, list[str]]:
        numbers, classes = table
        if packed.dtype == np.uint8:
            direct = np.full(256, 254, np.uint8)
            direct[numbers[(numbers >= 0) & (numbers < 256)]] = classes[(numbers >= 0) & (numbers < 256)]
            mask = direct[packed]
            unknown = mask == 254
        else:
            at = np.searchsorted(numbers, packed).clip(max=len(numbers) - 1)
            unknown = numbers[at] != packed
            mask = classes[at]
        if not unknown.any():
            return mask, []
        mask[unknown] = IGNORED
        values, first, counts = np.unique(packed[unknown], return_index=True, return_counts=True)
        rows, columns = np.nonzero(unknown)
        told = []
        for value, where, count in list(zip(values.tolist(), first.tolist(), counts.tolist(), strict=True))[
            :4
        ]:
            text = f"({value >> 16}, {value >> 8 & 255}, {value & 255})" if self._colours(packed) else value
            place = f"first at row {rows[where]}, column {columns[where]}"
            told.append(f"value {text} of {count:,} pixels, {place}")
        more = f" and {len(values) - 4} more values" if len(values) > 4 else ""
        return mask, ["; ".join(told) + more + ": no class"]

    def _colours(self, packed: NDArray[Any]) -> bool:
        return self.coloured and packed.dtype == np.int64

    def palette(self) -> list[tuple[int, int, int]]:
        """A colour for each class: its own where masks are colours, else VOC's."""
        if self.coloured:
            return [(r, g, b) for r, g, b in self.values]
        return [voc_colour(at + 1 if self.names[0] != "background" else at) for at in range(len(self.names))]

    def save(self, folder: Path) -> None:
        """Write ``classes.json``."""
        text = json.dumps(asdict(self), ensure_ascii=False)
        (folder / _FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> MaskClasses:
        """What :meth:`save` wrote; CheckpointError where it is missing or damaged."""
        path = folder / _FILE
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            names = [str(name) for name in told["names"]]
            values, ignored = (
                [[int(part) for part in value] for value in told[key]] for key in ("values", "ignored")
            )
            if not names or len(values) != len(names) or not all(len(v) in (1, 3) for v in values):
                raise ValueError("names and values do not belong together")
            return cls(names, values, ignored)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(Problem(f"cannot be read: {error}", where=str(path))) from None


def _number(value: Sequence[int]) -> int:
    return value[0] if len(value) == 1 else value[0] << 16 | value[1] << 8 | value[2]


def _packed(raw: NDArray[Any]) -> NDArray[Any]:
    """Numbers as they are, colours as one number each."""
    if raw.ndim == 2:
        return raw
    wide = raw.astype(np.int64)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def _table(known: dict[int, int]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    numbers = np.array(sorted(known), np.int64)
    return numbers, np.array([known[number] for number in numbers.tolist()], np.uint8)


def voc_colour(number: int) -> tuple[int, int, int]:
    """The colour of a class in Pascal VOC's palette: the bits of its number, spread."""
    red = green = blue = 0
    for bit in range(8):
        red |= (number >> 0 & 1) << 7 - bit
        green |= (number >> 1 & 1) << 7 - bit
        blue |= (number >> 2 & 1) << 7 - bit
        number >>= 3
    return red, green, blue


def parse_classes(lines: Iterable[tuple[str, str]], ignored: Sequence[str], where: str) -> MaskClasses:
    """Classes of lines ``name``, ``name number`` or ``name red green blue``, each with its place.

    A line without numbers is the next number; commas may stand for spaces, ``#`` begins a comment.

    Raises:
        DataError: all lines that are not so, and names in ``ignored`` that are no class.
    """
    faults = Faults()
    names: list[str] = []
    values: list[list[int]] = []
    for text, place in lines:
        fields = text.partition("#")[0].replace(",", " ").replace("\t", " ").split()
        if not fields:
            continue
        numbers: list[int] = []
        while len(fields) > 1 and len(numbers) < 3 and fields[-1].isdigit():
            numbers.insert(0, int(fields.pop()))
        if len(numbers) == 2:
            faults.add(
                f"{text!r}: a class has a name, and behind it one number or red, green and blue", place
            )
            continue
        if any(number > (255 if len(numbers) == 3 else 65535) for number in numbers):
            faults.add(f"{text!r}: colours are from 0 to 255, numbers to 65535", place)
            continue
        names.append(" ".join(fields))
        values.append(numbers or [len(values)])
    kinds = {len(value) for value in values}
    if len(kinds) > 1:
        faults.add("some classes have colours and others have none", where)
    for what, found in (("name", names), ("value", [tuple(v) for v in values])):
        twice = sorted({str(one) for one in found if found.count(one) > 1})
        if twice:
            faults.add(f"the {what} {quoted(twice)} stands for several classes", where)
    faults.check()
    return without(MaskClasses(names, values, []), ignored, where)


def without(classes: MaskClasses, ignored: Sequence[str], where: str) -> MaskClasses:
    """The classes but for those, by name or number, that are ignored.

    Raises:
        DataError: a name that is no class, none left, or too many.
    """
    problems, out = [], set()
    for name in map(str, ignored):
        numbers = [str(value[0]) if len(value) == 1 else "" for value in classes.values]
        if name in classes.names:
            out.add(classes.names.index(name))
        elif name in numbers:
            out.add(numbers.index(name))
        elif name != "255":
            near = nearest(name, classes.names)
            hint = f"did you mean {near}?" if near else f"there are {quoted(classes.names, 12)}"
            problems.append(Problem(f"data.ignored: there is no class {name!r}", hint=hint))
    kept = [at for at in range(len(classes.names)) if at not in out]
    if not problems and len(kept) < 2:
        problems.append(
            Problem(
                f"{where}: {len(kept)} class{'es' * (not kept)} to tell apart", hint="segmentation needs two"
            )
        )
    if len(kept) > _MOST:
        problems.append(Problem(f"{where}: {len(kept)} classes; there can be {_MOST}"))
    if problems:
        raise DataError(*problems)
    return MaskClasses(
        [classes.names[at] for at in kept],
        [classes.values[at] for at in kept],
        [*classes.ignored, *(classes.values[at] for at in sorted(out))],
    )


def read_classes_file(path: Path) -> list[tuple[str, str]]:
    """The lines of a ``classes.txt`` with their places."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(Problem("is not UTF-8 text", str(path))) from None
    return [(line, f"{path}:{number}") for number, line in enumerate(text.splitlines(), 1)]

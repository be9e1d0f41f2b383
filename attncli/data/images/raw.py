"""Labelled pictures as they stand in folders, tables and hub data, by part, before any is decoded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attncli.data.cache import cache_folder, key_of
from attncli.data.example_parts import Part, Parts, held_out, open_parts, usable
from attncli.data.faults import Faults, quoted
from attncli.data.images.builtin import digits
from attncli.data.images.folders import class_folders, open_folder
from attncli.data.images.packed import is_embedded, pack
from attncli.data.images.store import ArrayPictures, Encoded, FilePictures
from attncli.data.images.tables import Row, read_rows
from attncli.data.sources import Progress
from attncli.errors import DataError, Problem
from attncli.recipe.vision import LabelledPictures

_SPLITS = {"training": "train", "val": "validation", "valid": "validation", "dev": "validation"}
COMMAND = "attn classify vit --data {path}"


@dataclass(frozen=True)
class Raw:
    """Pictures of a part with their labels."""

    name: str
    pictures: Encoded | ArrayPictures
    labels: list[Any]
    places: list[str]
    """Where the label of each stands; the file itself where its folder is the label."""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, chosen: NDArray[np.int64], name: str = "") -> Raw:
        """Some of them, by their numbers."""
        labels, places = ([values[at] for at in chosen] for values in (self.labels, self.places))
        return Raw(name or self.name, self.pictures.take(chosen), labels, places)

    def place(self, at: int) -> str:
        """Where one is found: its file, and the line of the table that names it."""
        path = self.pictures.paths[at] if isinstance(self.pictures, FilePictures) else self.places[at]
        return path if path == self.places[at] else f"{path} ({self.places[at]})"


@dataclass(frozen=True)
class RawSets:
    """The parts of a data set: train, validation and test sets, in this order."""

    by_name: dict[str, Raw]
    where: str
    held: bool
    """Whether validation was held out of the training part."""


def open_raw(section: LabelledPictures, faults: Faults, progress: Progress | None = None) -> RawSets:
    """All parts that ``data`` names.

    Raises:
        DataError: a path that is not there, or no pictures in it. What is wrong with single rows goes to
            ``faults``.
    """
    if section.path == "builtin":
        found = {name: _builtin(name) for name in digits()}
        found["train"] = _limited(found["train"], section.limit)
        return RawSets(found, "built-in digits", False)
    parts = open_parts(section, COMMAND.format(path="PATH"), folders=open_folder)
    train, splits = read_part(section, parts.train, faults, progress)
    tests = parts.tests
    found = {"train": train}
    if any(splits):
        if parts.validation is None and not tests:
            found = _by_split(train, splits, faults)
        else:
            told = parts.train.describe()
            faults.add(
                "has a column of splits, and there are other parts beside it", told, "keep one of them"
            )
    if parts.validation is not None:
        found["validation"], _ = read_part(section, parts.validation, faults, progress)
    for test in tests:
        found[test.name], _ = read_part(section, test, faults, progress)
    found["train"] = _limited(found["train"], section.limit)
    held = "validation" not in found
    where = parts.describe()
    if held:
        found |= _hold_out(found["train"], parts, faults)
    elif parts.validation is None:
        where = where.replace(f", {parts.share:.3g} of it held out", ", split by a column")
    order = ["train", "validation", *(name for name in found if name not in ("train", "validation"))]
    return RawSets({name: found[name] for name in order}, where, held)


def read_part(
    section: LabelledPictures, part: Part, faults: Faults, progress: Progress | None = None
) -> tuple[Raw, list[str | None]]:
    """A part's pictures, and the split that each row names."""
    before = len(faults.problems)
    if part.folder is not None:
        found = class_folders(part.folder, faults)
        paths = [str(path) for path, _ in found]
        raw = Raw(part.name, FilePictures(paths), [label for _, label in found], paths)
        splits: list[str | None] = []
    else:
        raw, splits = _read_table(section, part, faults, progress)
    if len(faults.problems) == before:
        usable(faults, len(raw), part)
    return raw, splits


def _read_table(
    section: LabelledPictures, part: Part, faults: Faults, progress: Progress | None
) -> tuple[Raw, list[str | None]]:
    rows = read_rows(section, part, faults)
    first = next(rows, None)
    if first is None:
        return Raw(part.name, FilePictures([]), [], []), []
    if is_embedded(first.image):
        identity = part.hub.identity() if part.hub is not None else [file.identity() for file in part.files]
        key = key_of(1, identity, part.split, section.image, section.label, section.split)
        folder = cache_folder(section.cache) / "pictures"
        found = pack(chain([first], rows), faults, folder, key, progress)
        return Raw(part.name, found.pictures, found.labels, found.places), found.splits
    return _read_paths(part.name, chain([first], rows), faults, progress)


def _read_paths(
    name: str, rows: Iterator[Row], faults: Faults, progress: Progress | None
) -> tuple[Raw, list[str | None]]:
    paths: list[str] = []
    labels: list[Any] = []
    places: list[str] = []
    splits: list[str | None] = []
    for row in rows:
        path = row.image.strip() if isinstance(row.image, str) else ""
        if not path:
            what = (
                f"a {type(row.image).__name__} where a path belongs" if row.image else "no path of a picture"
            )
            faults.add(what, row.where)
            continue
        if "://" in path:
            faults.add(f"{path} is an address", row.where, "download the pictures and give their paths")
            continue
        place = Path(path).expanduser()
        paths.append(str(place if row.folder is None else row.folder / place))
        labels.append(row.label)
        places.append(row.where)
        splits.append(row.split)
        if progress:
            progress("reading", len(paths), 0)
    return Raw(name, FilePictures(paths), labels, places), splits


def _by_split(raw: Raw, splits: list[str | None], faults: Faults) -> dict[str, Raw]:
    """Rows by the split that each names."""
    numbers: dict[str, list[int]] = {}
    for at, split in enumerate(splits):
        name = (split or "").strip().lower()
        name = _SPLITS.get(name, name)
        if name not in ("train", "validation") and not name.startswith("test"):
            faults.add(f"split {split!r} is none", raw.places[at], "there are train, validation and test")
        else:
            numbers.setdefault(name, []).append(at)
    if "train" not in numbers:
        names = quoted(sorted(numbers))
        raise DataError(Problem(f"{raw.places[0]}: the column of splits names {names}, none for training"))
    return {name: raw.take(np.array(chosen), name) for name, chosen in numbers.items()}


def _limited(raw: Raw, limit: int) -> Raw:
    """At most ``limit``, spread evenly: neighbours in folders and tables often share their label."""
    if not limit or len(raw) <= limit:
        return raw
    return raw.take(np.arange(limit) * len(raw) // limit)


def _hold_out(raw: Raw, parts: Parts, faults: Faults) -> dict[str, Raw]:
    held = np.array(held_out(parts.share, len(raw)), bool)
    if held.all():
        faults.check()
        what = f"{parts.root}: {len(raw)} pictures only, so none can be held out for validation"
        raise DataError(Problem(what, hint="set data.validation=PATH"))
    return {
        "train": raw.take(np.flatnonzero(~held)),
        "validation": raw.take(np.flatnonzero(held), "validation"),
    }


def _builtin(name: str) -> Raw:
    pictures, shown, numbers = digits()[name]
    return Raw(name, ArrayPictures(pictures), shown.tolist(), [f"digit {number}" for number in numbers])

"""Labelled videos as they stand in folders and lists, by part, before any is decoded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attncli.data.clips.folders import class_folders, open_folder
from attncli.data.clips.folds import hold_out
from attncli.data.clips.lists import Row, read_list
from attncli.data.example_parts import Part, Parts, open_parts, usable
from attncli.data.faults import Faults, quoted
from attncli.data.sources import Progress
from attncli.errors import DataError, Problem
from attncli.recipe.video import VideoData

_SPLITS = {"training": "train", "val": "validation", "valid": "validation", "dev": "validation"}
COMMAND = "attn classify video --data {path}"


@dataclass(frozen=True)
class RawSets:
    """Rows by part: train, validation and test sets, in this order."""

    by_name: dict[str, list[Row]]
    where: str
    held: bool
    """Whether validation was held out of the training part."""


def open_raw(section: VideoData, faults: Faults, progress: Progress | None = None) -> RawSets:
    """All parts that ``data`` names.

    Raises:
        DataError: a path that is not there, no video in it, a fold that there is not. What is wrong with
            single rows goes to ``faults``.
    """
    parts = open_parts(section, COMMAND.format(path="PATH"), folders=open_folder)
    rows = read_part(section, parts.train, faults)
    where = parts.root
    found = {"train": rows}
    split = any(row.split for row in rows)
    if section.fold is not None:
        found = _by_fold(rows, section.fold, parts, faults)
        where += f", fold {section.fold} is the test set"
    elif split and parts.validation is None and not parts.tests:
        found = _by_split(rows, faults)
    elif split:
        what = "has a column of splits, and there are other parts beside it"
        faults.add(what, parts.train.describe(), "keep one of them")
    if parts.validation is not None:
        found["validation"] = read_part(section, parts.validation, faults)
    if section.fold is None or section.tests:
        found |= {test.name: read_part(section, test, faults) for test in parts.tests}
    found["train"] = _limited(found["train"], section.limit)
    held = "validation" not in found
    if held and found["train"]:
        found |= _hold_out(found["train"], parts, faults)
    if parts.ignored:
        where += f"; not read: {quoted([path.name for path in parts.ignored], 3)}"
    order = ["train", "validation", *(name for name in found if name not in ("train", "validation"))]
    return RawSets({name: found.get(name, []) for name in order}, where, held)


def folds_of(section: VideoData) -> list[int]:
    """The folds that can be tested, in order.

    Raises:
        DataError: there are none, or the list is wrong.
    """
    if section.path == "builtin":
        raise DataError(Problem("data.cross_validate: the built-in clips have no folds", hint="give --data"))
    faults = Faults()
    parts = open_parts(section, COMMAND.format(path="PATH"), folders=open_folder)
    rows = read_part(section, parts.train, faults)
    faults.check()
    folds = sorted({row.fold for row in rows if row.fold is not None and row.fold >= 0})
    if len(folds) < 2:
        hint = "a list with a column fold has some"
        raise DataError(Problem(f"{parts.root}: there are no folds to go round", hint=hint))
    return folds


def read_part(section: VideoData, part: Part, faults: Faults) -> list[Row]:
    """The rows of a part."""
    before = len(faults.problems)
    if part.folder is not None:
        found = class_folders(part.folder, faults)
        rows = [Row(path, label, str(path)) for path, label in found]
    elif part.hub is not None:
        what = f"{part.hub.name} is the name of a hub data set; videos are read from folders and lists"
        raise DataError(Problem(what, hint="download it and give its path"))
    else:
        rows = list(read_list(section, part, faults))
    if len(faults.problems) == before:
        usable(faults, len(rows), part)
    return rows


def shared_groups(sets: RawSets) -> list[str]:
    """Groups that stand in more than one part, which makes test figures too good."""
    where: dict[str, set[str]] = {}
    for name, rows in sets.by_name.items():
        for row in rows:
            if row.group is not None and (row.fold is None or row.fold >= 0):
                where.setdefault(row.group, set()).add(name)
    return sorted(group for group, names in where.items() if len(names) > 1)


def _by_fold(rows: list[Row], fold: int, parts: Parts, faults: Faults) -> dict[str, list[Row]]:
    folds = sorted({row.fold for row in rows if row.fold is not None and row.fold >= 0})
    if fold not in folds:
        faults.check()
        known = f"it has {', '.join(map(str, folds))}" if folds else "a list with a column fold has some"
        raise DataError(Problem(f"{parts.root}: there is no fold {fold}", hint=known))
    tested = {row.group for row in rows if row.fold == fold and row.group is not None}
    train = [row for row in rows if row.fold != fold]
    for row in train:
        if row.group in tested and row.fold is not None and row.fold >= 0:
            what = f"group {row.group} stands in fold {fold} and in fold {row.fold}"
            faults.add(what, row.where, "a group belongs into one fold")
    return {"train": train, "test": [row for row in rows if row.fold == fold]}


def _by_split(rows: list[Row], faults: Faults) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        name = (row.split or "").lower()
        name = _SPLITS.get(name, name)
        if name not in ("train", "validation") and not name.startswith("test"):
            faults.add(f"split {row.split!r} is none", row.where, "there are train, validation and test")
        else:
            found.setdefault(name, []).append(row)
    if "train" not in found:
        faults.check()
        raise DataError(
            Problem(f"{rows[0].where}: the column of splits names {quoted(sorted(found))}, none for training")
        )
    return found


def _limited(rows: list[Row], limit: int) -> list[Row]:
    """At most ``limit``, spread evenly: neighbours in folders and lists often share their label."""
    if not limit or len(rows) <= limit:
        return rows
    return [rows[at * len(rows) // limit] for at in range(limit)]


def _hold_out(rows: list[Row], parts: Parts, faults: Faults) -> dict[str, list[Row]]:
    held = held_out(rows, parts.share)
    if not held.any():
        faults.check()
        count = "1 video only" if len(rows) == 1 else f"{len(rows)} videos of one group"
        what = f"{parts.root}: {count}, so none can be held out for validation"
        raise DataError(Problem(what, hint="set data.validation=PATH"))
    return {
        "train": [row for row, out in zip(rows, held, strict=True) if not out],
        "validation": [row for row, out in zip(rows, held, strict=True) if out],
    }


def held_out(rows: list[Row], share: float) -> NDArray[np.bool_]:
    """Which rows are validation: whole groups, or single videos where they have none; no fold below 0."""
    groups = [row.group if row.group is not None else f"video {at}" for at, row in enumerate(rows)]
    tested = [row.fold is None or row.fold >= 0 for row in rows]
    # a group of unknown source, marked by its fold, does not bar a known one of the same name
    groups = [
        group if known else f"fold {row.fold}: {group}"
        for group, known, row in zip(groups, tested, rows, strict=True)
    ]
    return hold_out([str(row.label) for row in rows], groups, share, tested)

"""Folders that are named as parts: train, validation (val, dev), test and test_NAME."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from attncli.data.example_parts import Part
from attncli.errors import DataError, Problem

_SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
_TEST = re.compile(r"test[-_ .]\w.*", re.I)


def split_parts(path: Path, folders: Mapping[str, Path], setting: str) -> dict[str, Part]:
    """The parts that ``folders`` in ``path`` are named as; none unless one is the training part.

    Several test folders go by their own names. Raises DataError where two are the same part.
    """
    splits = {name: split for name in folders if (split := _split(name)) is not None}
    if "train" not in splits.values():
        return {}
    several = list(splits.values()).count("test") > 1
    parts: dict[str, Part] = {}
    for name, split in splits.items():
        called = name if split == "test" and several else split
        if called in parts:
            first = parts[called].folder
            what = f"{setting}={path}: {first.name if first else ''} and {name} are both the {split} part"
            raise DataError(Problem(what, hint="rename or move one of them"))
        parts[called] = Part(called, folder=folders[name])
    return parts


def _split(name: str) -> str | None:
    return _SPLITS.get(name.lower()) or ("test" if _TEST.fullmatch(name) else None)

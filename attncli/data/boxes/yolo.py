"""YOLO's text: a file a picture, a line an object, ``class x y width height`` in shares of the picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attncli.data.boxes.scenes import Scene, Thing
from attncli.data.faults import Faults
from attncli.errors import RecipeError
from attncli.recipe.reading import Mapping, Scalar, read_file

_FAR = 2.0
"""Shares beyond which a number is one of pixels."""


def read_yolo(pictures: Sequence[Path], names: Sequence[str], faults: Faults) -> list[Scene]:
    """A scene for each picture; without a text file beside it, one without objects.

    ``names``: of the classes by number; without any, numbers are names.
    """
    found = []
    for path in pictures:
        labels = labels_of(path)
        scene = Scene(path, str(labels), shares=True)
        if labels.is_file():
            scene.things = _lines(labels, names, faults)
        found.append(scene)
    return found


def labels_of(picture: Path) -> Path:
    """The text file of a picture: beside it, or under ``labels`` where the picture is under ``images``."""
    beside = picture.with_suffix(".txt")
    folders = picture.parts[:-1]
    if "images" in folders:
        last = len(folders) - 1 - folders[::-1].index("images")
        there = Path(*folders[:last], "labels", *folders[last + 1 :], beside.name)
        if there.is_file() or not beside.is_file():
            return there
    return beside


def _lines(path: Path, names: Sequence[str], faults: Faults) -> list[Thing]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        faults.add("is not UTF-8 text", str(path))
        return []
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        values = _numbers(line.split())
        if values is None or len(values) < 5 or (len(values) > 6 and len(values) % 2 == 0):
            faults.add(f"{line.strip()[:60]!r} is not: class x y width height", where)
            continue
        kind, sides = values[0], values[1:]
        if kind != int(kind) or kind < 0 or (names and kind >= len(names)):
            known = f"there are 0 to {len(names) - 1}" if names else "classes are whole numbers from 0"
            faults.add(f"class {line.split()[0]} is unknown", where, known)
            continue
        if max(map(abs, sides[:4])) > _FAR:
            faults.add(f"{line.strip()[:60]!r}: shares of the picture are between 0 and 1", where)
            continue
        if len(sides) > 5:  # an outline: its hull
            xs, ys = sides[::2], sides[1::2]
            box = min(xs), min(ys), max(xs), max(ys)
        else:
            x, y, width, height = sides[:4]
            box = x - width / 2, y - height / 2, x + width / 2, y + height / 2
        name = names[int(kind)] if names else str(int(kind))
        found.append(Thing(box, name, where))
    return found


def _numbers(words: Sequence[str]) -> list[float] | None:
    try:
        values = [float(word) for word in words]
    except ValueError:
        return None
    return values if all(map(math.isfinite, values)) else None


def read_names(folder: Path, faults: Faults) -> tuple[dict[str, Any], list[str]]:
    """What the .yaml file of a folder says (its scalar settings), and the names of the classes.

    Without one, ``classes.txt`` or ``obj.names`` may name them.
    """
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        try:
            tree = read_file(path)
        except RecipeError:
            continue
        if "names" in tree.entries:
            told = {key: item.value for key, item in tree.entries.items() if isinstance(item, Scalar)}
            return told, _names(tree.entries["names"], path, faults)
    for name in ("classes.txt", "obj.names", "labels/classes.txt"):
        if (folder / name).is_file():
            lines = (folder / name).read_text(encoding="utf-8-sig", errors="replace").splitlines()
            return {}, [line.strip() for line in lines if line.strip()]
    return {}, []


def _names(item: Any, path: Path, faults: Faults) -> list[str]:
    if isinstance(item, Mapping):
        pairs = [(key, one.value) for key, one in item.entries.items() if isinstance(one, Scalar)]
        if [key for key, _ in pairs] == [str(at) for at in range(len(pairs))]:
            return [str(name) for _, name in pairs]
    elif isinstance(item.value, list):
        return [str(name) for name in item.value]
    faults.add("names is neither a list nor numbers from 0 with a name each", str(path))
    return []

"""COCO's JSON: pictures, boxes and classes in one file (https://cocodataset.org/#format-data)."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attncli.data.boxes.scenes import Scene, Thing
from attncli.data.faults import Faults


def read_coco(path: Path, folders: Sequence[Path], faults: Faults) -> tuple[list[Scene], dict[str, int]]:
    """Scenes of a file, in its order, and the numbers of its classes by name.

    ``folders``: where its pictures may be, the likeliest first. What is wrong is noted in ``faults``.
    """
    text = str(path)
    try:
        told = json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        faults.add("is not UTF-8 text", text)
        return [], {}
    except (ValueError, RecursionError) as error:
        faults.add(f"is not JSON: {error}", text)
        return [], {}
    except OSError as error:
        faults.add(f"cannot be read: {error.strerror}", text)
        return [], {}
    if not isinstance(told, dict) or not isinstance(told.get("images"), list):
        what = "is no COCO annotation: it has no list of images"
        if isinstance(told, list):
            what += "; it looks like results, which have no pictures"
        faults.add(what, text)
        return [], {}
    for key in ("annotations", "categories"):
        if not isinstance(told.get(key), list):
            faults.add(f"has no list of {key}", text)
            return [], {}
    names = _classes(told["categories"], text, faults)
    scenes = _pictures(told["images"], folders, text, faults)
    _things(told["annotations"], scenes, names, text, faults)
    return list(scenes.values()), {name: number for number, name in names.items()}


def _classes(rows: list[Any], text: str, faults: Faults) -> dict[Any, str]:
    names: dict[Any, str] = {}
    for number, row in enumerate(rows):
        where = f"{text}: categories[{number}]"
        if not isinstance(row, dict) or "id" not in row or not isinstance(row.get("name"), str):
            faults.add("has no id and name", where)
        elif not _whole(row["id"]):
            faults.add(f"id {row['id']!r} is no whole number", where)
        elif row["id"] in names:
            faults.add(f"id {row['id']} is already that of {names[row['id']]!r}", where)
        elif row["name"] in names.values():
            faults.add(f"name {row['name']!r} occurs twice", where)
        else:
            names[row["id"]] = row["name"]
    return names


def _pictures(rows: list[Any], folders: Sequence[Path], text: str, faults: Faults) -> dict[Any, Scene]:
    scenes: dict[Any, Scene] = {}
    for number, row in enumerate(rows):
        where = f"{text}: images[{number}]"
        if not isinstance(row, dict) or not _whole(row.get("id")):
            faults.add("has no id that is a whole number", where)
            continue
        file = row.get("file_name")
        if not isinstance(file, str) or not file:
            faults.add(f"picture {row['id']} has no file_name", where)
            continue
        if row["id"] in scenes:
            faults.add(f"id {row['id']} is already that of {scenes[row['id']].name}", where)
            continue
        sides = row.get("height"), row.get("width")
        size = (sides[0], sides[1]) if all(_whole(side) and side > 0 for side in sides) else None
        scenes[row["id"]] = Scene(locate(file, folders), where, size=size, number=row["id"])
    return scenes


def _things(
    rows: list[Any], scenes: dict[Any, Scene], names: dict[Any, str], text: str, faults: Faults
) -> None:
    seen: set[Any] = set()
    for number, row in enumerate(rows):
        where = f"{text}: annotations[{number}]"
        if not isinstance(row, dict):
            faults.add("is no object", where)
            continue
        own, image, category, box = (row.get(key) for key in ("id", "image_id", "category_id", "bbox"))
        if own is not None and _whole(own):
            where = f"{where} (id {own})"
            if own in seen:
                faults.add(f"id {own} occurs twice", where)
                continue
            seen.add(own)
        if not _whole(image) or image not in scenes:
            faults.add(f"image_id {image!r} is no picture of the file", where)
            continue
        if not _whole(category) or category not in names:
            known = ", ".join(f"{key} {name}" for key, name in list(names.items())[:8])
            faults.add(f"category_id {category!r} is no class of the file", where, f"there are {known}")
            continue
        sides = numbers(box, 4)
        if sides is None:
            faults.add(f"bbox {box!r} is not four numbers x, y, width, height", where)
            continue
        x, y, width, height = sides
        area = numbers([row.get("area")], 1)
        crowd = bool(row.get("iscrowd", 0))
        thing = Thing((x, y, x + width, y + height), names[category], where, crowd, area and area[0])
        scenes[image].things.append(thing)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def numbers(values: Any, count: int) -> list[float] | None:
    """``count`` finite numbers; None for anything else."""
    if not isinstance(values, list | tuple) or len(values) != count:
        return None
    try:
        found = [float(value) for value in values if not isinstance(value, bool)]
    except (TypeError, ValueError, OverflowError):
        return None
    return found if len(found) == count and all(map(math.isfinite, found)) else None


def locate(file: str, folders: Sequence[Path]) -> Path:
    """A picture's file in the first folder that has it; its bare name counts where its path leads nowhere."""
    for name in dict.fromkeys((file, Path(file).name)):
        for folder in folders:
            path = folder / name
            if path.is_file():
                return path
    return folders[0] / file if folders else Path(file)

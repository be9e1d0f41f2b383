"""Pascal VOC's XML: a file a picture (http://host.robots.ox.ac.uk/pascal/VOC/).

Coordinates are taken as written. The challenge's own files count pixels from 1 and include the last; most
others count from 0, and half a pixel lies within what annotators agree on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from attncli.data.boxes.coco import locate
from attncli.data.boxes.scenes import Scene, Thing
from attncli.data.faults import Faults
from attncli.data.images.reading import ENDINGS


def read_voc(files: Sequence[Path], folders: Sequence[Path], difficult: str, faults: Faults) -> list[Scene]:
    """A scene for each annotation file. ``difficult``: ignore, use or drop what is marked so."""
    found = []
    for path in files:
        scene = _read(path, folders, difficult, faults)
        if scene is not None:
            found.append(scene)
    return found


def _read(path: Path, folders: Sequence[Path], difficult: str, faults: Faults) -> Scene | None:
    where = str(path)
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        faults.add(f"is not XML: {error}", where)
        return None
    except (OSError, ValueError, LookupError) as error:  # an encoding that there is not
        faults.add(f"cannot be read: {getattr(error, 'strerror', None) or error}", where)
        return None
    if root.tag != "annotation":
        faults.add(f"is no annotation: its root is <{root.tag[:40]}>", where)
        return None
    scene = Scene(_picture(path, root, folders), where, size=_size(root))
    for number, item in enumerate(root.findall("object"), 1):
        place = f"{where}: object {number}"
        name = (item.findtext("name") or "").strip()
        if not name:
            faults.add("has no name", place)
            continue
        box = _box(item.find("bndbox"))
        if box is None:
            faults.add(f"{name} has no bndbox of four numbers xmin, ymin, xmax, ymax", place)
            continue
        hard = (item.findtext("difficult") or "0").strip() == "1"
        if hard and difficult == "drop":
            continue
        scene.things.append(Thing(box, name, place, hard and difficult == "ignore"))
    return scene


def _picture(path: Path, root: ElementTree.Element, folders: Sequence[Path]) -> Path:
    """By the annotation's own name, which is the rule; else by the name it tells."""
    for folder in folders:
        for ending in ENDINGS:
            for candidate in (folder / f"{path.stem}{ending}", folder / f"{path.stem}{ending.upper()}"):
                if candidate.is_file():
                    return candidate
    told = (root.findtext("filename") or "").strip()
    return locate(told or f"{path.stem}.jpg", folders)


def _number(text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError:
        return math.nan


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    """None where it is missing, 0 or nonsense: the picture itself knows."""
    sides = _number(root.findtext("size/height")), _number(root.findtext("size/width"))
    if not all(math.isfinite(side) and side >= 1 for side in sides):
        return None
    return int(sides[0]), int(sides[1])


def _box(node: ElementTree.Element | None) -> tuple[float, float, float, float] | None:
    if node is None:
        return None
    sides = tuple(_number(node.findtext(key)) for key in ("xmin", "ymin", "xmax", "ymax"))
    return sides if all(map(math.isfinite, sides)) else None  # type: ignore[return-value]


def read_list(path: Path, faults: Faults) -> list[str]:
    """Names of a file in ``ImageSets/Main``; of ``name 1`` and ``name -1`` the first word."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        faults.add(f"cannot be read: {error}", str(path))
        return []
    names = [line.split()[0] for line in lines if line.strip()]
    double = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if double:
        faults.add(f"names {', '.join(double[:3])} more than once", str(path))
    return names

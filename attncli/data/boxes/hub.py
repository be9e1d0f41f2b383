"""Hub data sets and parquet files of pictures with boxes, in the layout that most of them have.

A row has the picture in ``image`` and ``objects``: a box and a class each, as a mapping of lists or a list of
mappings, under the names below. Boxes are x, y, width, height, as in COCO, or corners where the recipe says
so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attncli.data.boxes.coco import numbers
from attncli.data.boxes.scenes import Raw, Scene, Thing
from attncli.data.cache import cache_folder, key_of
from attncli.data.faults import Faults, choices_hint, quoted
from attncli.data.hub import HubText
from attncli.data.images.packed import pack
from attncli.data.images.tables import IMAGES, Row
from attncli.data.sources import Progress
from attncli.recipe.detect import BoxData

_OBJECTS = ("objects", "annotations", "annotation", "labels", "boxes", "bboxes", "ground_truth")
_BOXES = ("bbox", "bboxes", "box", "boxes")
_KINDS = ("category", "categories", "category_id", "label", "labels", "class", "class_id", "name")
_VERSION = 1


def read_hub(hub: HubText, split: str, section: BoxData, faults: Faults, progress: Progress | None) -> Raw:
    """A split of hub data; its pictures are copied once into the cache."""
    data = hub.part(split)
    features = dict(getattr(data, "features", None) or {})
    if not features:
        features = dict.fromkeys(next(iter(data), {}))
    names = _class_names(features)
    image = _column(features, IMAGES, f"{hub.name} ({split})", "pictures", faults)
    if image is None:
        return Raw([], {}, None)

    def rows() -> Iterator[Row]:
        import datasets

        told = data
        if isinstance(features[image], datasets.Image):
            told = data.cast_column(image, datasets.Image(decode=False))
        for number, row in enumerate(told, 1):
            picture = row.pop(image)
            yield Row(picture, row, None, f"{hub.name} ({split}): row {number}", None)

    key = key_of("boxes", _VERSION, hub.identity(), split)
    return _packed(rows(), key, names, section, faults, progress)


def read_parquet(files: list[Path], section: BoxData, faults: Faults, progress: Progress | None) -> Raw:
    """Parquet files with the same rows."""
    import pyarrow
    import pyarrow.parquet as pq

    names: list[str] = []
    try:
        schema = pq.read_schema(files[0])
        noted = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = _class_names(noted.get("info", {}).get("features", {}))
        columns = dict.fromkeys(schema.names)
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        faults.add(f"cannot be read as parquet: {error}", str(files[0]))
        return Raw([], {}, None)
    image = _column(columns, IMAGES, str(files[0]), "pictures", faults)
    if image is None:
        return Raw([], {}, None)

    def rows() -> Iterator[Row]:
        for path in files:
            number = 0
            try:
                for batch in pq.ParquetFile(path).iter_batches(batch_size=64):
                    for row in batch.to_pylist():
                        number += 1
                        yield Row(row.pop(image, None), row, None, f"{path}: row {number}", path.parent)
            except (OSError, pyarrow.ArrowException) as error:
                faults.add(f"reading stopped after row {number}: {error}", str(path))

    stats = [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    return _packed(rows(), key_of("boxes", _VERSION, stats), names, section, faults, progress)


def _packed(
    rows: Iterator[Row],
    key: str,
    names: list[str],
    section: BoxData,
    faults: Faults,
    progress: Progress | None,
) -> Raw:
    packed = pack(rows, faults, cache_folder(section.cache) / "pictures", key, progress)
    scenes = []
    for row, where in zip(packed.labels, packed.places, strict=True):
        number = row.get("image_id") if isinstance(row, dict) else None
        scene = Scene(None, where, number=number if isinstance(number, int) else None)
        scene.things = _things(row, where, names, section, faults)
        scenes.append(scene)
    taken = [scene.number for scene in scenes if scene.number is not None]
    if len(set(taken)) < len(taken):  # numbers that are none
        for scene in scenes:
            scene.number = None
    return Raw(scenes, {name: at for at, name in enumerate(names, 1)}, packed.pictures)


def _column(columns: Any, known: tuple[str, ...], where: str, what: str, faults: Faults) -> str | None:
    found = next((name for name in known if name in columns), None)
    if found is None:
        faults.add(f"no column of {what}: it is called {quoted(known)}", where, f"it has {quoted(columns)}")
    return found


def _things(row: Any, where: str, names: list[str], section: BoxData, faults: Faults) -> list[Thing]:
    objects = row
    name = next((name for name in _OBJECTS if isinstance(row.get(name), dict | list)), None)
    if name is not None and not _flat(row[name]):
        objects = row[name]
    if isinstance(objects, list):
        if not objects:
            return []
        objects = {key: [one.get(key) for one in objects] for key in objects[0]}
    box_key = next((key for key in _BOXES if isinstance(objects.get(key), list)), None)
    kind_key = next((key for key in _KINDS if isinstance(objects.get(key), list)), None)
    if box_key is None or kind_key is None:
        what = f"no lists of boxes ({quoted(_BOXES)}) and classes ({quoted(_KINDS)})"
        faults.add(what, where, choices_hint("", objects, "it has", ""))
        return []
    boxes, kinds = objects[box_key], objects[kind_key]
    if len(boxes) != len(kinds):
        faults.add(f"{len(boxes)} boxes and {len(kinds)} classes", where)
        return []
    areas = objects.get("area") if isinstance(objects.get("area"), list) else []
    crowds = objects.get("iscrowd") or objects.get("is_crowd") or []
    found = []
    for at, (box, kind) in enumerate(zip(boxes, kinds, strict=True)):
        place = f"{where}: object {at + 1}"
        sides = numbers(box, 4)
        if sides is None:
            faults.add(f"{box!r} is not four numbers", place)
            continue
        x, y, a, b = sides
        corners = (x, y, a, b) if section.box == "corners" else (x, y, x + a, y + b)
        label = _name(kind, names)
        if label is None:
            faults.add(f"class {kind!r} is unknown", place, f"there are {quoted(names)}")
            continue
        crowd = bool(crowds[at]) if at < len(crowds) else False
        area = numbers([areas[at]], 1) if at < len(areas) else None
        found.append(Thing(corners, label, place, crowd, area and area[0]))
    return found


def _flat(values: Any) -> bool:
    """Whether it is a list of boxes or classes itself, not of objects."""
    return isinstance(values, list) and not (values and isinstance(values[0], dict))


def _name(kind: Any, names: list[str]) -> str | None:
    if isinstance(kind, bool) or kind is None:
        return None
    if isinstance(kind, int) and names:
        return names[kind] if 0 <= kind < len(names) else None
    return str(kind)


def _class_names(features: Any) -> list[str]:
    """The names of a ``ClassLabel`` anywhere in the features, which are objects or their JSON."""
    names = getattr(features, "names", None)
    if isinstance(names, list):
        return [str(name) for name in names]
    if isinstance(features, dict):
        if isinstance(features.get("names"), list) and features.get("_type") == "ClassLabel":
            return [str(name) for name in features["names"]]
        inner: Any = features.values()
    elif isinstance(features, list | tuple):
        inner = features
    else:
        inner = [getattr(features, "feature", None)]
    for one in inner:
        if one is not None and not isinstance(one, str | int | float | bool):
            found = _class_names(one)
            if found:
                return found
    return []


def open_hub(name: str, setting: str, near: str) -> HubText:
    """Hub data by its name. DataError where it cannot be loaded."""
    return HubText(name, "", near, setting, "attn detect faster_rcnn --data PATH")

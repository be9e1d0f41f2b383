"""Which parts a folder of annotated pictures has, and in which of the field's formats.

coco   annotations/instances_train2017.json beside train2017/, or train/_annotations.coco.json
voc    JPEGImages, Annotations and ImageSets/Main, or .xml files beside the pictures of train, valid, test
yolo   data.yaml, images/train beside labels/train, or train/images beside train/labels
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from attncli.data.boxes.coco import read_coco
from attncli.data.boxes.hub import open_hub, read_hub, read_parquet
from attncli.data.boxes.scenes import Raw
from attncli.data.boxes.voc import read_list, read_voc
from attncli.data.boxes.yolo import labels_of, read_names, read_yolo
from attncli.data.faults import Faults, quoted
from attncli.data.files import missing, near_path
from attncli.data.hub import is_saved, may_be_hub_name
from attncli.data.images.reading import ENDINGS
from attncli.data.sources import Progress
from attncli.errors import DataError, Problem
from attncli.recipe.detect import BoxData

PARTS = ("train", "validation", "test")
_WORDS = {
    "train": "train", "training": "train", "trainval": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """A part of a data set, and how it is read."""

    name: str
    read: Callable[[Faults, Progress | None], Raw]


@dataclass(frozen=True)
class Found:
    """The parts of a path, the format, and a note for the console."""

    layout: str
    parts: dict[str, Part]


def part_of(name: str) -> str | None:
    """train, validation or test where a file or folder name says so: ``instances_val2017``."""
    for word in re.split(r"[^a-z]+", name.lower()):
        if word in _WORDS:
            return _WORDS[word]
    return None


def find_parts(section: BoxData, name: str, setting: str, faults: Faults) -> Found:
    """What is at the path ``name``, which ``setting`` gives.

    Raises:
        DataError: nothing is there, or it has no known layout.
    """
    path = Path(name).expanduser()
    if not path.exists() or (path.is_dir() and is_saved(path)):
        return _hub(section, name, path, setting)
    folders = [Path(section.images).expanduser()] if section.images else []
    if folders and not folders[0].is_dir():
        raise DataError(missing(folders[0], "data.images"))
    if path.is_file():
        if section.layout in ("auto", "coco") and path.suffix == ".json":
            return Found("coco", {"train": _coco_part("train", path, folders)})
        if section.layout in ("auto", "yolo") and path.suffix in (".yaml", ".yml"):
            path = path.parent
        elif section.layout in ("auto", "parquet") and path.suffix == ".parquet":
            return Found("parquet", {"train": _parquet_part("train", [path], section)})
        else:
            what = f"{setting}={name}: is neither a COCO .json, a YOLO .yaml or a .parquet file nor a folder"
            raise DataError(Problem(what, hint="a layout of Pascal VOC is a folder"))
    path = _single_folder(path)
    finders = {"coco": _coco, "voc": _voc, "yolo": _yolo, "parquet": _parquet}
    wanted = list(finders) if section.layout == "auto" else [section.layout]
    for layout in wanted:
        parts = finders[layout](path, folders, section, faults)
        if parts:
            return Found(layout, {key: parts[key] for key in PARTS if key in parts})
    inside = quoted(sorted(child.name for child in path.iterdir())) or "nothing"
    raise DataError(
        Problem(
            f"{setting}={name}: no annotations of {' or '.join(wanted)} are in it; it has {inside}",
            hint="annotations/*.json; Annotations/*.xml beside JPEGImages; images beside labels/*.txt",
        )
    )


def _single_folder(path: Path) -> Path:
    """Into folders that hold one folder only, as VOCdevkit/VOC2012 does."""
    for _ in range(3):
        inside = [child for child in path.iterdir() if not child.name.startswith(".")]
        if len(inside) != 1 or not inside[0].is_dir() or part_of(inside[0].name):
            break
        path = inside[0]
    return path


def pictures_in(folder: Path) -> list[Path]:
    """Every picture below a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())


# Hub data, and the files that it is made of


def _hub(section: BoxData, name: str, path: Path, setting: str) -> Found:
    looks_like_path = name.startswith((".", "~", "/")) or name.count("/") > 1 or bool(path.suffix)
    if not path.exists() and (looks_like_path or setting != "data.path" or not may_be_hub_name(name)):
        raise DataError(missing(path, setting))
    near = near_path(path)
    hub = open_hub(name, setting, f"did you mean {near}? Or " if near and not path.exists() else "")

    def part(split: str) -> Part:
        return Part(split, lambda faults, progress: read_hub(hub, split, section, faults, progress))

    return Found("hub", {split: part(split) for split in hub.splits})


def _parquet(path: Path, folders: list[Path], section: BoxData, faults: Faults) -> dict[str, Part]:
    files = sorted(path.glob("*.parquet")) or sorted(path.glob("*/*.parquet"))
    found: dict[str, list[Path]] = {}
    for file in files:
        found.setdefault(part_of(file.stem) or part_of(file.parent.name) or "train", []).append(file)
    return {name: _parquet_part(name, several, section) for name, several in found.items()}


def _parquet_part(name: str, files: list[Path], section: BoxData) -> Part:
    return Part(name, lambda faults, progress: read_parquet(files, section, faults, progress))


# COCO


def _coco_part(name: str, path: Path, folders: list[Path]) -> Part:
    above = path.parent.parent if path.parent.name == "annotations" else path.parent
    stem = re.sub(r"^(instances|_annotations\.?|annotations)_?", "", path.stem)
    near = [above / "images" / stem, above / stem, path.parent, above / "images", above]
    places = [*folders, *(folder for folder in dict.fromkeys(near) if folder.is_dir())]
    return Part(name, lambda faults, _: Raw(*read_coco(path, places, faults), None))


def _coco(path: Path, folders: list[Path], section: BoxData, faults: Faults) -> dict[str, Part]:
    files = sorted(path.glob("annotations/*.json")) or sorted(path.glob("*.json"))
    files = files or sorted(path.glob("*/_annotations.coco.json")) or sorted(path.glob("*/*.json"))
    instances = [file for file in files if file.stem.startswith("instances")]
    found: dict[str, list[Path]] = {}
    for file in instances or files:
        name = part_of(file.stem) or part_of(file.parent.name)
        if name or len(files) == 1:
            found.setdefault(name or "train", []).append(file)
    for name, several in found.items():
        if len(several) > 1:
            what = f"several annotations could be the {name} part: {quoted([f.name for f in several])}"
            faults.add(what, str(path), "give one of them as data.path, data.validation and data.tests")
    return {name: _coco_part(name, several[0], folders) for name, several in found.items()}


# Pascal VOC


def _voc(path: Path, folders: list[Path], section: BoxData, faults: Faults) -> dict[str, Part]:
    marks = path / "Annotations"
    if not marks.is_dir():
        return _voc_beside(path, folders, section)
    places = [*folders, path / "JPEGImages", path / "images", path]
    lists = {file.stem: file for file in sorted((path / "ImageSets" / "Main").glob("*.txt"))}
    chosen = {name: lists[name] for name in ("train", "val", "validation", "test") if name in lists}
    if "train" not in chosen and "trainval" in lists:
        chosen = {"train": lists["trainval"], **{k: v for k, v in chosen.items() if k == "test"}}
    if not chosen:
        files = sorted(marks.rglob("*.xml"))
        return {"train": _voc_part("train", files, places, section)} if files else {}
    parts = {}
    for name, file in chosen.items():
        stems = read_list(file, faults)
        files = [marks / f"{stem}.xml" for stem in stems]
        for stem, one in zip(stems, files, strict=True):
            if not one.is_file():
                faults.add(f"names {stem}, and there is no {one}", str(file))
        key = _WORDS[name]
        parts[key] = _voc_part(key, files, places, section)
    return parts


def _voc_beside(path: Path, folders: list[Path], section: BoxData) -> dict[str, Part]:
    parts = {}
    for folder in sorted(child for child in path.iterdir() if child.is_dir()):
        name, files = part_of(folder.name), sorted(folder.rglob("*.xml"))
        if name and files and name not in parts:
            near = sorted({file.parent for file in files})
            parts[name] = _voc_part(name, files, [*folders, *near, folder / "images", folder], section)
    files = [] if parts else sorted(path.glob("*.xml"))
    return parts or ({"train": _voc_part("train", files, [*folders, path], section)} if files else {})


def _voc_part(name: str, files: list[Path], folders: list[Path], section: BoxData) -> Part:
    return Part(name, lambda faults, _: Raw(read_voc(files, folders, section.difficult, faults), {}, None))


# YOLO


def _yolo(path: Path, folders: list[Path], section: BoxData, faults: Faults) -> dict[str, Part]:
    told, names = read_names(path, faults)
    names = names or list(section.classes)
    found: dict[str, list[Path]] = {}
    base = path / str(told.get("path") or "")
    for key in ("train", "val", "test"):
        if told.get(key):
            several = told[key] if isinstance(told[key], list) else [told[key]]
            found[_WORDS[key]] = _yolo_pictures([str(one) for one in several], [path, base], faults)
    if not found:
        for folder in sorted(path.glob("images/*/")) + sorted(path.glob("*/images/")):
            name = part_of(folder.name) or part_of(folder.parent.name)
            if name and name not in found:
                found[name] = pictures_in(folder)
    if not found and (path / "labels").is_dir():
        found["train"] = pictures_in(folders[0] if folders else path / "images")
    if not found and (told or any(labels_of(one).is_file() for one in pictures_in(path)[:50])):
        found["train"] = pictures_in(path)
    found = {name: files for name, files in found.items() if files}
    if found and not any(labels_of(one).is_file() for files in found.values() for one in files):
        return {}
    numbers = {one: at for at, one in enumerate(names, 1)}
    return {
        name: Part(name, lambda faults, _, files=files: Raw(read_yolo(files, names, faults), numbers, None))
        for name, files in found.items()
    }


def _yolo_pictures(several: list[str], bases: list[Path], faults: Faults) -> list[Path]:
    """Pictures of folders and of lists of files, relative to the .yaml or to its ``path``."""
    found: list[Path] = []
    for text in several:
        tries = [base / text for base in bases]
        tries += [base / text.removeprefix("../") for base in bases]  # Roboflow's are one folder off
        place = next((one for one in tries if one.exists()), None)
        if place is None:
            faults.add(f"there is no {tries[0]}", str(bases[0]))
        elif place.is_dir():
            found += pictures_in(place)
        else:
            lines = place.read_text(encoding="utf-8-sig", errors="replace").splitlines()
            found += [place.parent / line.strip() for line in lines if line.strip()]
    return found

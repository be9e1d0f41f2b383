"""Everything that a detector learns from and is measured on, read and checked before anything is trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from attncli.data.boxes.builtin import builtin_scenes
from attncli.data.boxes.classes import Classes
from attncli.data.boxes.layouts import Found, Part, find_parts
from attncli.data.boxes.scenes import BoxSet, BoxSets, Mended, Raw, Scene, Thing, boxes_inside
from attncli.data.cache import cache_folder
from attncli.data.example_parts import held_out
from attncli.data.faults import Faults, choices_hint, quoted
from attncli.data.images.store import Encoded, FilePictures
from attncli.data.images.survey import survey
from attncli.data.sources import Progress
from attncli.errors import DataError, Problem
from attncli.recipe.detect import BoxData

THEN = "attn detect faster_rcnn --data PATH"


def prepare_boxes(
    section: BoxData, progress: Progress | None = None, classes: Classes | None = None
) -> BoxSets:
    """The parts of ``data``.

    Args:
        section: the ``data`` section.
        progress: called with what is being done, pictures and bytes.
        classes: of a run that goes on or is measured; found in the data where it is None.

    Raises:
        DataError: all that is wrong with the data, up to a cap, each with its file and reason.
    """
    if section.path == "builtin":
        return _builtin(section, classes)
    faults, notes = Faults(), []
    found = find_parts(section, section.path, "data.path", faults)
    read = {name: part.read(faults, progress) for name, part in found.parts.items()}
    _others(section, found, read, faults, progress)
    faults.check()
    if "train" not in read:
        what = f"data.path={section.path}: no training part; it has {', '.join(read)}"
        raise DataError(Problem(what), then=THEN)
    if section.limit:
        read["train"] = _first(read["train"], section.limit)
    if classes is None:
        numbers = read["train"].numbers
        listed = section.classes or list(numbers) or _classes(read["train"].scenes)
        classes = Classes.of(listed, numbers)
    share = _share(section)
    mended = Mended()
    sets = {
        name: box_set(name, raw, section, classes, faults, mended, progress) for name, raw in read.items()
    }
    faults.check()
    where = f"{section.path} ({found.layout})"
    if "validation" not in sets:
        whole = sets["train"]
        out = np.array(held_out(share, len(whole)))
        if not 0 < out.sum() < len(out):
            what = f"{section.path}: {len(whole)} pictures only, so none can be held out for validation"
            raise DataError(Problem(what, hint="set data.validation=PATH"))
        sets["train"] = whole.take(np.flatnonzero(~out))
        sets["validation"] = whole.take(np.flatnonzero(out), "validation")
        where += f", {share:.3g} of it held out"
    if not sets["train"].objects:
        raise DataError(Problem(f"{where}: no box in the training part to learn from"), then=THEN)
    notes += mended.notes()
    tests = [one for name, one in sets.items() if name not in ("train", "validation")]
    return BoxSets(sets["train"], sets["validation"], tests, classes, where, notes)


def _builtin(section: BoxData, classes: Classes | None) -> BoxSets:
    parts, names = builtin_scenes()
    train = parts["train"]
    if section.limit:
        train = train.take(np.arange(min(section.limit, len(train))))
    classes = classes or Classes.of(names)
    return BoxSets(train, parts["validation"], [parts["test"]], classes, "built-in digits in scenes")


def _share(section: BoxData) -> float:
    try:
        share = float(section.validation)
    except ValueError:
        return 0.0
    if not 0 < share < 1:
        raise DataError(Problem(f"data.validation={section.validation}: a share must be between 0 and 1"))
    return share


def _first(raw: Raw, count: int) -> Raw:
    pictures = None if raw.pictures is None else raw.pictures.take(np.arange(len(raw.scenes))[:count])
    return Raw(raw.scenes[:count], raw.numbers, pictures)


def _others(
    section: BoxData, found: Found, read: dict[str, Raw], faults: Faults, progress: Progress | None
) -> None:
    """Put the parts in place that ``data.validation`` and ``data.tests`` name."""
    try:
        float(section.validation)
    except ValueError:
        read["validation"] = _named(
            section, found, str(section.validation), "data.validation", faults, progress
        )
    if section.tests:
        for name in [name for name in read if name not in ("train", "validation")]:
            del read[name]
        for name in section.tests:
            free = _free(Path(name).stem or name, read)
            read[free] = _named(section, found, name, "data.tests", faults, progress)


def _named(
    section: BoxData, found: Found, name: str, setting: str, faults: Faults, progress: Progress | None
) -> Raw:
    if name in found.parts:
        return found.parts[name].read(faults, progress)
    beside = Path(section.path).expanduser() / name
    other = find_parts(section, str(beside if beside.exists() else name), setting, faults)
    return _only(other).read(faults, progress)


def _only(found: Found) -> Part:
    """Of other data, what one would measure on: its test part, else validation, else all there is."""
    return next(found.parts[name] for name in ("test", "validation", "train") if name in found.parts)


def _free(name: str, taken: dict[str, Raw]) -> str:
    number, free = 2, name
    while free in taken:
        free, number = f"{name}-{number}", number + 1
    return free


def _classes(scenes: list[Scene]) -> list[str]:
    """Classes that occur, by letter (numbers by value)."""
    names = {thing.name for scene in scenes for thing in scene.things}
    return sorted(names, key=lambda name: (0, int(name), "") if name.isdigit() else (1, 0, name))


def box_set(
    name: str,
    raw: Raw,
    section: BoxData,
    classes: Classes,
    faults: Faults,
    mended: Mended,
    progress: Progress | None = None,
) -> BoxSet:
    """Scenes with their pictures looked at, their boxes inside them and their classes known."""
    place = {one: at for at, one in enumerate(classes.names)}
    pictures, chosen = _pictures(raw, faults)
    looked = survey(pictures, cache_folder(section.cache) / "pictures", progress)
    kept: list[int] = []
    sizes, boxes, kinds, ignored, truth, areas = [], [], [], [], [], []
    for at, scene in enumerate(chosen):
        if at in looked.unreadable:
            if section.corrupt == "skip":
                mended.skipped += 1
            else:
                hint = "data.corrupt=skip leaves such pictures out"
                faults.add(f"{looked.unreadable[at]} (annotated in {scene.where})", scene.name, hint)
            continue
        size = (int(looked.sizes[at, 0]), int(looked.sizes[at, 1]))
        if scene.size is not None and scene.size != size:
            told, real = (f"{width}x{height}" for height, width in (scene.size, size))
            turned = scene.size == size[::-1]
            why = "; its EXIF note turns it, and boxes are of the upright picture" if turned else ""
            faults.add(f"is {real} pixels, annotated as {told}{why}", scene.name, f"in {scene.where}")
            continue
        things = scene.things
        if scene.shares:
            things = [_pixels(thing, size) for thing in things]
        things = _known(things, place, classes, faults)
        found, of = boxes_inside(things, size, section.boxes, faults, mended)
        kept.append(at)
        sizes.append(size)
        boxes.append(found)
        kinds.append(np.array([place[thing.name] for thing in of], np.int64))
        ignored.append(np.array([thing.ignored for thing in of], bool))
        truth.append(np.array([thing.box for thing in of], np.float64).reshape(-1, 4))
        areas.append(np.array([_area(thing) for thing in of], np.float64))
    if not kept and not faults.problems:
        faults.add(f"the {name} part of {section.path} has no picture")
    scenes = [chosen[at] for at in kept]
    return BoxSet(
        name,
        pictures.take(np.array(kept, np.int64)),
        np.array(sizes, np.int64).reshape(-1, 2),
        boxes,
        kinds,
        ignored,
        truth,
        areas,
        [at if scene.number is None else scene.number for at, scene in enumerate(scenes, 1)],
        [scene.where if scene.picture is None else scene.picture.name for scene in scenes],
    )


def _pictures(raw: Raw, faults: Faults) -> tuple[Encoded, list[Scene]]:
    """The pictures, and the scenes in their order; a picture that is annotated twice is a fault."""
    if raw.pictures is not None:
        return raw.pictures, raw.scenes
    first: dict[str, str] = {}
    scenes = []
    for scene in raw.scenes:
        other = first.setdefault(str(scene.picture), scene.where)
        if other != scene.where:
            faults.add(f"is annotated twice: in {other} and in {scene.where}", str(scene.picture))
        else:
            scenes.append(scene)
    return FilePictures([str(scene.picture) for scene in scenes]), scenes


def _area(thing: Thing) -> float:
    x0, y0, x1, y1 = thing.box
    return (x1 - x0) * (y1 - y0) if thing.area is None else thing.area


def _pixels(thing: Thing, size: tuple[int, int]) -> Thing:
    height, width = size
    x0, y0, x1, y1 = thing.box
    return Thing((x0 * width, y0 * height, x1 * width, y1 * height), thing.name, thing.where, thing.ignored)


def _known(things: list[Thing], place: dict[str, int], classes: Classes, faults: Faults) -> list[Thing]:
    known = []
    for thing in things:
        if thing.name in place:
            known.append(thing)
        else:
            hint = choices_hint(thing.name, classes.names, "there are", "").partition("; did you mean")[0]
            what = f"class {thing.name!r} is not among those that are learnt"
            faults.add(what, thing.where, f"{hint}; data.classes lists them all")
    return known


def read_box_set(section: BoxData, classes: Classes, name: str, *, part: bool) -> tuple[BoxSet, list[str]]:
    """Pictures to measure a finished model on, and what was mended: a ``part`` of its data, or other data.

    Raises:
        DataError: no such part or path, or bad data.
    """
    ours = ("train", "validation", "val", "valid", "dev")
    if part and (name in ours or section.path == "builtin"):
        sets = prepare_boxes(section, classes=classes)
        known = {"train": sets.train, "validation": sets.validation} | {one.name: one for one in sets.tests}
        name = {"val": "validation", "valid": "validation", "dev": "validation"}.get(name, name)
        if name not in known:
            hint = choices_hint(name, known, "it has", "--split")
            raise DataError(Problem(f"{sets.where}: there is no part {name!r}", hint=hint))
        return known[name], sets.notes
    faults, mended = Faults(), Mended()
    if part:
        found = find_parts(section, section.path, "data.path", faults)
        read = {key: Raw([], {}, None) for key in found.parts}
        if section.tests:
            _others(section, found, read, faults, None)
        elif name in found.parts:
            read[name] = found.parts[name].read(faults, None)
        if name not in read:
            hint = choices_hint(name, read, "it has", "--split")
            raise DataError(Problem(f"{section.path}: there is no part {name!r}", hint=hint))
        raw = read[name]
    else:
        plain = section.model_copy(update={"images": "", "layout": "auto"})
        raw = _only(find_parts(plain, name, "--data", faults)).read(faults, None)
        name = Path(name).stem or quoted([name])
    faults.check()
    found_set = box_set(name, raw, section, classes, faults, mended)
    faults.check()
    return found_set, mended.notes()

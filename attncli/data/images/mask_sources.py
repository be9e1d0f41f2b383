"""Where pictures with masks come from: the parts of a folder, whatever its layout, and their classes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attncli.data.faults import Faults, choices_hint
from attncli.data.files import missing
from attncli.data.images.coco_masks import coco_files, coco_parts, read_categories
from attncli.data.images.mask_folders import VOC_NAMES, Pair, folder_parts, is_voc, voc_parts
from attncli.data.images.masks import MaskClasses, parse_classes, read_classes_file, without
from attncli.data.images.paired import FilePairs, Paired, PairLook
from attncli.data.images.reading import Unreadable, read_mask
from attncli.errors import DataError, Problem
from attncli.recipe.segment import SegmentData

_THEN = "attn segment unet --data FOLDER"


@dataclass(frozen=True)
class MaskParts:
    """The parts of a folder by name, and the classes of its masks."""

    root: str
    layout: str
    parts: dict[str, Paired]
    classes: MaskClasses

    @property
    def tests(self) -> list[str]:
        """Names of the test sets."""
        return [name for name in self.parts if name.startswith("test")]


def open_masks(
    section: SegmentData,
    path: str,
    setting: str,
    faults: Faults,
    classes: MaskClasses | None = None,
) -> MaskParts:
    """The parts of the folder ``path``, which ``setting`` names. Files are listed, pictures not decoded.

    ``classes``: those of a run; found here where it is None.

    Raises:
        DataError: no such folder, no known layout, or classes that cannot be found.
    """
    root = Path(path).expanduser()
    if not root.exists():
        raise DataError(missing(root, setting), then=_THEN)
    if not root.is_dir():
        raise DataError(
            Problem(f"{setting}={path} is a file", hint="give the folder that holds images and masks"),
            then=_THEN,
        )
    layout = section.layout if section.layout != "auto" else _layout(root)
    look = PairLook()
    if layout == "coco":
        files = coco_files(root)
        if not files:
            raise DataError(Problem(f"{root}: no COCO annotation file (.json) in it"), then=_THEN)
        categories = read_categories(files)
        if classes is None:
            names = [section.background] * bool(section.background) + [name for _, name in categories]
            listed = parse_classes([(f"{n} {at}", str(root)) for at, n in enumerate(names)], [], str(root))
            classes = without(listed, section.ignored, str(root))
        return MaskParts(
            path, layout, coco_parts(root, files, categories, section.background, classes, faults), classes
        )
    pairs = voc_parts(root, faults) if layout == "voc" else folder_parts(root, faults)
    if not any(pairs.values()):
        faults.check()
    if classes is None:
        classes = _classes(section, root, layout, pairs)
    return MaskParts(path, layout, {n: FilePairs(p, classes, look) for n, p in pairs.items()}, classes)


def _layout(root: Path) -> str:
    if is_voc(root):
        return "voc"
    return "coco" if coco_files(root) else "folders"


def _classes(section: SegmentData, root: Path, layout: str, parts: dict[str, list[Pair]]) -> MaskClasses:
    if section.classes:
        lines: Iterable[tuple[str, str]] = [(text, "data.classes") for text in section.classes]
        return parse_classes(lines, section.ignored, "data.classes")
    for name in ("classes.txt", "label_colors.txt", "labels.txt"):
        if (root / name).is_file():
            return parse_classes(read_classes_file(root / name), section.ignored, str(root / name))
    if layout == "voc":
        return parse_classes([(name, str(root)) for name in VOC_NAMES], section.ignored, str(root))
    return _found(section, root, [pair for part in parts.values() for pair in part])


def _found(section: SegmentData, root: Path, pairs: list[Pair]) -> MaskClasses:
    """A class for each number that the masks hold; of 0 and 255 alone, both."""
    values: set[int] = set()
    for pair in pairs:
        try:
            raw = read_mask(pair.mask)
        except Unreadable:
            continue  # told when all is read
        if raw.ndim == 3:
            colours = [tuple(colour) for colour in np.unique(raw.reshape(-1, 3), axis=0)[:6].tolist()]
            what = f"{pair.mask} is coloured ({', '.join(map(str, colours))}, ...), but no file names classes"
            hint = f"write {root / 'classes.txt'}: a name and its red, green and blue a line"
            raise DataError(Problem(what, hint=hint))
        values.update(np.unique(raw).tolist())
        if len(values) > 256:
            raise DataError(
                Problem(
                    f"the masks of {root} hold more than 256 numbers: they are no classes", str(pair.mask)
                )
            )
    if values != {0, 255}:
        values.discard(255)
    lines = [(f"{number} {number}", str(root)) for number in sorted(values)]
    return parse_classes(lines, section.ignored, f"the masks of {root}")


def part_of(parts: MaskParts, name: str) -> Paired:
    """A part by its name; :class:`DataError` names those there are."""
    if name not in parts.parts:
        hint = choices_hint(name, parts.parts, "it has", "--split")
        raise DataError(Problem(f"{parts.root}: there is no part {name!r}", hint=hint))
    return parts.parts[name]

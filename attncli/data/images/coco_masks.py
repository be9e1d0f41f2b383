"""COCO's annotations as masks: polygons and run lengths drawn into class numbers.

Lin et al. 2014, https://arxiv.org/abs/1405.0312. Objects are drawn from the largest to the smallest, so
that what lies on something else is seen; pixels outside all of them are background, or ignored.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attncli.data.faults import Faults
from attncli.data.files import split_of
from attncli.data.images.geometry import IGNORED
from attncli.data.images.masks import Mask, MaskClasses
from attncli.data.images.paired import Paired, PairLook, files_identity
from attncli.data.images.reading import Pixels, Unreadable, read_image
from attncli.errors import DataError, Problem

Category = tuple[int, str]


@dataclass(frozen=True)
class Annotated:
    """A picture and its objects: category and segmentation of each."""

    image: Path
    height: int
    width: int
    objects: list[tuple[int, Any]]
    where: str


def coco_files(root: Path) -> list[Path]:
    """The annotation files of a folder: those with images, annotations and categories."""
    found = [p for p in sorted([*root.glob("*.json"), *root.glob("*/*.json")]) if not p.name.startswith(".")]
    instances = [p for p in found if p.name.startswith("instances")]
    return [p for p in instances or found if _looks_so(p)]


def _looks_so(path: Path) -> bool:
    try:
        with path.open("rb") as handle:
            head = handle.read(1 << 16)
        return path.name.startswith("instances") or b'"annotations"' in head or b'"images"' in head
    except OSError:
        return False


def _load(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(Problem(f"is not JSON: {error}", str(path))) from None
    if not isinstance(told, dict):
        raise DataError(Problem("is no object with images, annotations and categories", str(path)))
    for key in ("images", "annotations", "categories"):
        if not isinstance(told.get(key), list):
            raise DataError(Problem(f"has no list {key!r}", str(path), "COCO's instances have three lists"))
    return told


def read_categories(files: Sequence[Path]) -> list[Category]:
    """Numbers and names of all files' categories, by number."""
    faults, found = Faults(), {}
    for path in files:
        for entry in _load(path)["categories"]:
            if not isinstance(entry, dict) or type(entry.get("id")) is not int:
                faults.add(f"a category is no object with a number id: {str(entry)[:60]}", str(path))
                continue
            name = str(entry.get("name", entry["id"]))
            if found.setdefault(entry["id"], name) != name:
                faults.add(
                    f"category {entry['id']} is {name!r} here and {found[entry['id']]!r} elsewhere", str(path)
                )
    faults.check()
    if not found:
        raise DataError(Problem("there is no category", str(files[0])))
    return sorted(found.items())


def coco_parts(
    root: Path,
    files: Sequence[Path],
    categories: Sequence[Category],
    background: str,
    classes: MaskClasses,
    faults: Faults,
) -> dict[str, Paired]:
    """Annotated pictures by part; a file's split is in its name or its folder's."""
    number = {value[0]: at for at, value in enumerate(classes.values)}
    first = 1 if background else 0
    known = {}
    for place, (category, _) in enumerate(categories):
        known[category] = number.get(place + first, IGNORED)
    outside = number.get(0, IGNORED) if background else IGNORED
    parts: dict[str, list[Annotated]] = {}
    for path in files:
        name = split_of(Path(path.name)) or split_of(path.parent.relative_to(root)) or "train"
        parts.setdefault(name, []).extend(_annotated(root, path, known, faults))
    return {name: CocoPairs(found, known, outside, PairLook()) for name, found in parts.items()}


def _annotated(root: Path, path: Path, known: dict[int, int], faults: Faults) -> list[Annotated]:
    told = _load(path)
    places = _places(root, path)
    found: dict[Any, Annotated] = {}
    for entry in told["images"]:
        if not isinstance(entry, dict) or not isinstance(entry.get("file_name"), str) or "id" not in entry:
            faults.add(f"an image is no object with id and file_name: {str(entry)[:60]}", str(path))
            continue
        name = entry["file_name"]
        image = next((place / name for place in places if (place / name).is_file()), None)
        if image is None:
            faults.add(
                f"image {entry['id']}: there is no file {name}",
                str(path),
                f"looked in {places[0]} and others",
            )
            continue
        height, width = entry.get("height"), entry.get("width")
        if not all(type(side) is int and 0 < side < 1 << 16 for side in (height, width)):
            faults.add(f"image {entry['id']}: height and width are no sizes: {height}, {width}", str(path))
            continue
        found[entry["id"]] = Annotated(image, height, width, [], f"{path}: image {entry['id']}")
    for at, entry in enumerate(told["annotations"]):
        where = f"{path}: annotation {entry.get('id', at) if isinstance(entry, dict) else at}"
        if not isinstance(entry, dict) or "image_id" not in entry:
            faults.add("is no object with image_id, category_id and segmentation", where)
        elif not isinstance(entry["image_id"], int | str) or entry["image_id"] not in found:
            if not faults.problems:
                faults.add(f"there is no image {entry['image_id']!r}", where)
        elif entry.get("category_id") not in known:
            faults.add(f"there is no category {entry.get('category_id')!r}", where)
        elif entry.get("segmentation"):
            found[entry["image_id"]].objects.append((entry["category_id"], entry["segmentation"]))
    return list(found.values())


def _places(root: Path, path: Path) -> list[Path]:
    """Folders in which the pictures of an annotation file may be."""
    stem = path.stem.removeprefix("instances_").strip("_")
    bases = [path.parent, root, root / "images", root.parent]
    return [place for base in bases for place in (base / stem, base, base / "images")]


class CocoPairs:
    """Pictures whose masks are drawn when they are read."""

    def __init__(
        self, annotated: Sequence[Annotated], known: dict[int, int], outside: int, look: PairLook
    ) -> None:
        self.annotated, self.known, self.outside, self.look = list(annotated), known, outside, look

    def __len__(self) -> int:
        return len(self.annotated)

    def read(self, at: int) -> tuple[Pixels, Mask]:
        """uint8 [H, W, C] and uint8 [H, W]."""
        one = self.annotated[at]
        image = read_image(one.image, self.look.channels)
        if image.shape[:2] != (one.height, one.width):
            raise Unreadable(
                f"is {image.shape[0]}x{image.shape[1]} pixels high and wide, "
                f"and annotated as {one.height}x{one.width}"
            )
        return self.look.shape(image, self.drawn(one))

    def drawn(self, one: Annotated) -> Mask:
        """The mask of a picture, uint8 [H, W]."""
        mask = np.full((one.height, one.width), self.outside, np.uint8)
        shapes = []
        for category, segmentation in one.objects:
            try:
                shapes.append((category, object_mask(segmentation, one.height, one.width)))
            except ValueError as error:
                raise Unreadable(f"is annotated ({one.where}) with {error}") from None
        shapes.sort(key=lambda shape: -int(shape[1].sum()))
        for category, inside in shapes:
            mask[inside] = self.known[category]
        return mask

    def place(self, at: int) -> str:
        """The picture's path."""
        return str(self.annotated[at].image)

    def take(self, chosen: Sequence[int]) -> CocoPairs:
        """Some of them."""
        return CocoPairs([self.annotated[at] for at in chosen], self.known, self.outside, self.look)

    def seen(self, look: PairLook) -> CocoPairs:
        """The same, read in another way."""
        return CocoPairs(self.annotated, self.known, self.outside, look)

    def identity(self) -> list[Any]:
        """Files with their sizes and times, objects, classes and look."""
        files = files_identity([one.image for one in self.annotated])
        objects = [[one.height, one.width, one.objects] for one in self.annotated]
        return [files, objects, sorted(self.known.items()), self.outside, asdict(self.look)]


def object_mask(segmentation: Any, height: int, width: int) -> NDArray[np.bool_]:
    """The pixels of an object, bool [H, W]: polygons, or run lengths as numbers or as COCO's text.

    Raises ValueError in words for what is none of them.
    """
    if isinstance(segmentation, dict):
        return _run_lengths(segmentation, height, width)
    if not isinstance(segmentation, list) or not segmentation:
        raise ValueError("a segmentation that is neither polygons nor run lengths")
    polygons = [segmentation] if not isinstance(segmentation[0], list) else segmentation
    for polygon in polygons:
        numbers = isinstance(polygon, list) and all(type(n) in (int, float) for n in polygon)
        if not numbers or len(polygon) < 6 or len(polygon) % 2:
            raise ValueError("a polygon that is no list of three or more pairs x, y")
        if not np.isfinite(polygon).all() or np.abs(polygon).max() > 1 << 20:
            raise ValueError("a polygon that leaves the picture far behind")
    from pycocotools import mask as coco

    drawn = coco.decode(
        coco.frPyObjects([[float(n) for n in polygon] for polygon in polygons], height, width)
    )
    return drawn.any(2)


def _run_lengths(told: dict[str, Any], height: int, width: int) -> NDArray[np.bool_]:
    counts, size = told.get("counts"), told.get("size")
    if size != [height, width]:
        raise ValueError(f"run lengths of size {size}, where the picture is {[height, width]}")
    counts = _unpacked(counts) if isinstance(counts, str) else counts
    if not isinstance(counts, list) or not all(type(n) is int and n >= 0 for n in counts):
        raise ValueError("run lengths that are no list of numbers")
    if sum(counts) != height * width:
        raise ValueError(f"run lengths of {sum(counts)} pixels, where the picture has {height * width}")
    inside = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return inside.reshape(width, height).T


def _unpacked(text: str) -> list[int]:
    """COCO's compressed run lengths: 5 bits a character, signed, from the third on added to the last but
    one."""
    counts: list[int] = []
    at = 0
    while at < len(text):
        value, shift, more = 0, 0, True
        while more:
            if at == len(text) or shift > 60:
                raise ValueError("run lengths whose text is cut off")
            code = ord(text[at]) - 48
            if not 0 <= code < 64:
                raise ValueError("run lengths whose text holds other characters than COCO's")
            value |= (code & 31) << shift
            more = bool(code & 32)
            shift, at = shift + 5, at + 1
            if not more and code & 16:
                value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
    return counts

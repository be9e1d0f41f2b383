"""Folders of pictures with a mask each: which files belong together, and to which part.

images/ masks/                        one part; validation is held out
train/images/ train/masks/ ...        split folders above
images/train/ masks/train/ ...        or below
JPEGImages/ SegmentationClass/ ImageSets/Segmentation/train.txt     Pascal VOC's
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from attncli.data.faults import Faults, quoted
from attncli.data.files import split_of
from attncli.data.images.reading import ENDINGS
from attncli.errors import DataError, Problem

_IMAGES = ("images", "image", "imgs", "jpegimages")
_MASKS = ("masks", "mask", "labels", "annotations", "annot", "segmentationclass", "segmentation")
_MASK_ENDINGS = ("_mask", "_label", "_labels", "_gt", "_l", "_segmentation", "-mask")

VOC_NAMES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """A picture and its mask."""

    image: Path
    mask: Path


def is_voc(root: Path) -> bool:
    """Whether a folder is laid out as Pascal VOC's."""
    return (root / "ImageSets" / "Segmentation").is_dir() and (root / "SegmentationClass").is_dir()


def voc_parts(root: Path, faults: Faults) -> dict[str, list[Pair]]:
    """The pairs of each list in ``ImageSets/Segmentation``; trainval only where there is no train."""
    lists = {p.stem.lower(): p for p in sorted((root / "ImageSets" / "Segmentation").glob("*.txt"))}
    if "train" in lists:
        lists.pop("trainval", None)
    images = _by_stem(root / "JPEGImages", faults)
    masks = _by_stem(root / "SegmentationClass", faults)
    parts: dict[str, list[Pair]] = {}
    for name, path in lists.items():
        split = "train" if name == "trainval" else split_of(Path(name)) or name
        if split == "test":
            split = name
        pairs = parts.setdefault(split, [])
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            stem = line.strip().split()[0] if line.strip() else ""
            if not stem:
                continue
            lacking = [
                f"{folder}/{stem}{ending}"
                for folder, ending, there in (
                    ("JPEGImages", ".jpg", images),
                    ("SegmentationClass", ".png", masks),
                )
                if stem not in there
            ]
            if lacking:
                faults.add(f"{stem}: there is no {' and no '.join(lacking)}", f"{path}:{number}")
            else:
                pairs.append(Pair(images[stem], masks[stem]))
    return parts


def folder_parts(root: Path, faults: Faults) -> dict[str, list[Pair]]:
    """Pairs by part. Files without a partner are faults.

    Raises:
        DataError: no folder of images and masks.
    """
    couples = [*_couples(root)]
    for folder in sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")):
        couples += [(split_of(Path(folder.name)) or folder.name, *rest) for _, *rest in _couples(folder)]
    if not couples:
        there = quoted(sorted(p.name for p in root.iterdir()), 8) or "nothing"
        what = f"{root}: no folders images and masks in it, nor in split folders; it holds {there}"
        raise DataError(
            Problem(what, hint="train/images/a.jpg with train/masks/a.png, or VOC's or COCO's layout")
        )
    parts: dict[str, list[Pair]] = {}
    for name, images, masks in couples:
        parts.setdefault(name, []).extend(_pairs(images, masks, faults))
    return parts


def _couples(root: Path) -> list[tuple[str, Path, Path]]:
    """(part, images, masks) of a folder that holds both: one part, or their subfolders."""
    inner = {p.name.lower(): p for p in sorted(root.iterdir()) if p.is_dir()}
    images = next((inner[name] for name in _IMAGES if name in inner), None)
    masks = next((inner[name] for name in _MASKS if name in inner), None)
    if images is None or masks is None:
        return []
    splits = sorted(p.name for p in images.iterdir() if p.is_dir() and (masks / p.name).is_dir())
    if splits:
        return [(split_of(Path(name)) or name, images / name, masks / name) for name in splits]
    return [("train", images, masks)]


def _pairs(images: Path, masks: Path, faults: Faults) -> list[Pair]:
    found, partners = _by_stem(images, faults), _by_stem(masks, faults)
    for ending in _MASK_ENDINGS:
        if partners and found and not set(found) & set(partners):
            partners = {stem.removesuffix(ending): path for stem, path in partners.items()}
    if found and masks.is_dir() and not set(found) & set(partners):
        holds = sorted(p.name for p in masks.rglob("*") if p.is_file())
        held = quoted(holds, 3) or "nothing"
        named = f"named as the pictures of {images} ({quoted(sorted(p.name for p in found.values()), 3)})"
        faults.add(f"no mask in this folder is {named}; it holds {held}", str(masks))
        return []
    for stem in sorted(set(found) - set(partners)):
        faults.add(f"no mask named {stem} in {masks}", str(found[stem]))
    for stem in sorted(set(partners) - set(found)):
        faults.add(f"no picture named {stem} in {images}", str(partners[stem]))
    return [Pair(found[stem], partners[stem]) for stem in sorted(found) if stem in partners]


def _by_stem(folder: Path, faults: Faults) -> dict[str, Path]:
    """The pictures below a folder by their path without the ending."""
    found: dict[str, Path] = {}
    if not folder.is_dir():
        faults.add("there is no such folder", str(folder))
        return found
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in ENDINGS and not path.name.startswith("."):
            stem = path.relative_to(folder).with_suffix("").as_posix()
            if stem in found:
                faults.add(f"is the same picture as {found[stem].name}: both are named {stem}", str(path))
            found[stem] = path
    return found

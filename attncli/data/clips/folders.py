"""What a folder of videos is: lists of them, or a folder for each label with files or folders of frames."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from attncli.data.clips.decoding import ENDINGS, PICTURES, natural
from attncli.data.clips.lists import file_column
from attncli.data.example_parts import Part
from attncli.data.faults import Faults, quoted
from attncli.data.files import TextFile, kind_of, split_of
from attncli.data.split_folders import split_parts
from attncli.errors import DataError, Problem

LAYOUT = (
    "a folder for each label (with train, validation and test folders above them or not) that holds video "
    "files or folders of frames, or a .csv, .tsv or .jsonl list of their paths with labels"
)
_FRAMES = tuple(ending for ending in PICTURES if ending != ".gif")


def open_folder(path: Path, setting: str) -> tuple[dict[str, Part], tuple[Path, ...]]:
    """The parts of a folder of videos, and the lists or folders in it that are not read.

    Raises:
        DataError: neither a video nor a list of them in it.
    """
    lists, others = _lists(path)
    if lists:
        return _by_split(path, lists, setting), tuple(others)
    folders = {entry.name: entry for entry in _entries(path) if entry.is_dir()}
    parts = split_parts(path, folders, setting) or {"train": Part("train", folder=path)}
    read = {part.folder for part in parts.values()}
    ignored = [folder for folder in folders.values() if folder not in read and path not in read]
    train = parts["train"].folder or path
    if next(videos_below(train), None) is None:
        raise _nothing(train, setting)
    return parts, tuple(others + ignored)


def class_folders(root: Path, faults: Faults) -> list[tuple[Path, str]]:
    """The videos below ``root`` with their labels: the names of the folders that stand in it, sorted."""
    found: list[tuple[Path, str]] = []
    for entry in _entries(root):
        if not entry.is_dir():
            continue
        if is_frames(entry):
            what = "is a folder of pictures where a folder of a label belongs"
            faults.add(what, str(entry), f"labelled videos are {LAYOUT}")
            continue
        videos = sorted(videos_below(entry), key=lambda path: natural(str(path)))
        if not videos:
            holds = quoted(sorted(p.name for p in _entries(entry)), 3) or "nothing"
            hint = f"videos end in {' '.join(ENDINGS[:6])} or the like, or are folders of pictures"
            faults.add(f"no video in this folder of a label; it holds {holds}", str(entry), hint)
        found += [(video, entry.name) for video in videos]
    loose = [entry for entry in _entries(root) if entry.is_file() and entry.suffix.lower() in ENDINGS]
    if loose:
        what = f"{len(loose):,} videos stand in no folder of a label, the first is {loose[0].name}"
        faults.add(what, str(root), f"labelled videos are {LAYOUT}")
    return found


def videos_below(folder: Path) -> Iterator[Path]:
    """Video files and folders of frames at any depth; hidden ones are left out, links are followed once."""
    seen: set[str] = set()
    left = [folder]
    while left:
        here = left.pop()
        real = os.path.realpath(here)
        if real in seen:
            continue
        seen.add(real)
        for entry in _entries(here):
            if entry.is_dir():
                if is_frames(entry):
                    yield entry
                else:
                    left.append(entry)
            elif entry.suffix.lower() in ENDINGS:
                yield entry


def is_frames(folder: Path) -> bool:
    """Whether a folder holds pictures and neither videos nor folders."""
    pictures = False
    for entry in _entries(folder):
        if entry.is_dir() or entry.suffix.lower() in ENDINGS:
            return False
        pictures = pictures or entry.suffix.lower() in _FRAMES
    return pictures


def _entries(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if not p.name.startswith((".", "__MACOSX")))


def _lists(path: Path) -> tuple[list[TextFile], list[Path]]:
    usable, others = [], []
    for entry in _entries(path):
        kind = kind_of(entry)
        if kind not in ("csv", "json", "parquet") or not entry.is_file():
            continue
        table = TextFile(entry, kind)
        (usable if file_column(table) else others).append(table)
    return usable, [table.path for table in others]


def _by_split(path: Path, lists: list[TextFile], setting: str) -> dict[str, Part]:
    found: dict[str, list[TextFile]] = {}
    for table in lists:
        found.setdefault(split_of(Path(table.path.name)) or "", []).append(table)
    unnamed = found.pop("", [])
    if "train" not in found:
        found["train"] = unnamed
    if not found["train"]:
        names = quoted(sorted(set(found) - {"train"}))
        raise DataError(
            Problem(f"{setting}={path}: every list is named as a {names} part, none for training")
        )
    return {split: Part(split, tuple(files)) for split, files in found.items()}


def _nothing(path: Path, setting: str) -> DataError:
    holds = quoted(sorted(p.name for p in _entries(path)))
    told = f"it holds {holds}" if holds else "it is empty"
    return DataError(
        Problem(f"{setting}={path}: no video in this folder; {told}", hint=f"labelled videos are {LAYOUT}")
    )

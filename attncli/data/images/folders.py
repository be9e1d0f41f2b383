"""What a folder of pictures is: tables beside them, or a folder for each label, by split."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from attncli.data.example_parts import Part
from attncli.data.faults import Faults, quoted
from attncli.data.files import TextFile, kind_of, split_of
from attncli.data.images.reading import ENDINGS
from attncli.data.images.tables import image_column
from attncli.data.split_folders import split_parts
from attncli.errors import DataError, Problem

LAYOUT = (
    "a folder of pictures for each label (with train, validation and test folders above them or not), or a "
    ".csv, .tsv, .jsonl or .parquet table of paths or pictures with labels"
)


def open_folder(path: Path, setting: str) -> tuple[dict[str, Part], tuple[Path, ...]]:
    """The parts of a folder of pictures, and the tables or folders in it that are not read.

    Raises:
        DataError: neither a picture nor a table of them in it.
    """
    tables, others = _tables(path)
    folders = {entry.name: entry for entry in sorted(path.iterdir()) if _is_folder(entry)}
    if others and not tables and len(folders) < 2:  # no folders of labels: the tables tell what they lack
        tables, others = others, []
    if tables:
        return _by_split(path, tables), tuple(table.path for table in others)
    parts = split_parts(path, folders, setting) or {"train": Part("train", folder=path)}
    read = {part.folder for part in parts.values()}
    ignored = [table.path for table in others]
    ignored += [folder for folder in folders.values() if folder not in read and path not in read]
    train = parts["train"].folder or path
    if next(picture_files(train), None) is None:
        raise _nothing(train, setting)
    return parts, tuple(ignored)


def class_folders(root: Path, faults: Faults) -> list[tuple[Path, str]]:
    """The pictures below ``root`` with their labels: the names of the folders that stand in it, sorted."""
    found: list[tuple[Path, str]] = []
    for entry in sorted(root.iterdir()):
        if not _is_folder(entry):
            continue
        pictures = sorted(picture_files(entry))
        if not pictures:
            holds = sorted(p.name for p in entry.iterdir() if not p.name.startswith("."))
            faults.add(
                f"no picture in this folder of a label; it holds {quoted(holds, 3) or 'nothing'}",
                str(entry),
                f"pictures end in {' '.join(ENDINGS[:8])} or the like",
            )
        found += [(picture, entry.name) for picture in pictures]
    loose = sorted(p for p in root.iterdir() if p.suffix.lower() in ENDINGS and p.is_file())
    if loose:
        faults.add(
            f"no folder of a label holds {len(loose):,} of the pictures here, the first is {loose[0].name}",
            str(root),
            f"labelled pictures are {LAYOUT}",
        )
    return found


def picture_files(folder: Path) -> Iterator[Path]:
    """Files below a folder whose ending is a picture's; hidden ones are left out, links are followed once."""
    seen: set[str] = set()
    left = [str(folder)]
    while left:
        here = left.pop()
        real = os.path.realpath(here)
        if real in seen:
            continue
        seen.add(real)
        with os.scandir(here) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    left.append(entry.path)
                elif os.path.splitext(entry.name)[1].lower() in ENDINGS:
                    yield Path(entry.path)


def _tables(path: Path) -> tuple[list[TextFile], list[TextFile]]:
    """Tables with a column of pictures at the top or in ``data``, and those without."""
    usable, others = [], []
    for folder in (path, path / "data"):
        for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
            kind = kind_of(entry)
            if entry.name.startswith(".") or kind in (None, "text") or not entry.is_file():
                continue
            table = TextFile(entry, kind)  # type: ignore[arg-type]
            (usable if image_column(table) else others).append(table)
    return usable, others


def _by_split(path: Path, tables: list[TextFile]) -> dict[str, Part]:
    found: dict[str, list[TextFile]] = {}
    for table in tables:
        found.setdefault(split_of(Path(table.path.name)) or "", []).append(table)
    unnamed = found.pop("", [])
    if "train" not in found:
        found["train"] = unnamed
    if not found["train"]:
        names = quoted(sorted(set(found) - {"train"}))
        what = f"data.path={path}: every table is named as a {names} part, none for training"
        raise DataError(Problem(what))
    return {split: Part(split, tuple(files)) for split, files in found.items()}


def _is_folder(entry: Path) -> bool:
    return entry.is_dir() and not entry.name.startswith((".", "__MACOSX"))


def _nothing(path: Path, setting: str) -> DataError:
    holds = quoted(sorted(p.name for p in path.iterdir() if not p.name.startswith(".")))
    told = f"it holds {holds}" if holds else "it is empty"
    what = f"{setting}={path}: no picture in this folder; {told}"
    return DataError(Problem(what, hint=f"labelled pictures are {LAYOUT}"))

"""Lists of videos: CSV, TSV, JSON lines or parquet with a path and a label in each row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from attncli.data.example_parts import Part
from attncli.data.faults import Faults, choices_hint, quoted
from attncli.data.files import TextFile
from attncli.data.labelled_records import LABELS
from attncli.data.records import Fields, field_names, read_records
from attncli.recipe.video import VideoData

FILES = (
    "path", "file", "video", "clip", "file_name", "filename", "filepath", "file_path", "video_path",
    "clip_path", "videos", "frames", "folder",
)  # fmt: skip
_LABELS = (*LABELS, "action", "activity", "class_name", "label_name")
_SPLITS = ("split", "subset", "partition", "set")
_GROUPS = ("group", "source", "subject", "scene")
_FOLDS = ("fold",)


class Row(NamedTuple):
    """One video, and where it stands."""

    path: Path
    label: Any
    where: str
    split: str | None = None
    group: str | None = None
    fold: int | None = None


def file_column(table: TextFile) -> str | None:
    """The column that would be taken for the paths."""
    return _known(field_names(table), FILES)


def read_list(section: VideoData, part: Part, faults: Faults) -> Iterator[Row]:
    """The rows of a part's lists; what is wrong with them goes to ``faults``."""
    for table in part.files:
        names = field_names(table)
        if table.kind == "text":
            hint = (
                "a list is .csv, .tsv or .jsonl with columns path and label; videos stand in folders by label"
            )
            faults.add("is no list of videos", str(table.path), hint)
        elif not names:  # what is wrong with the file is told by its reader
            for _ in read_records(table, Fields(("path", "label"), ("data.file", "data.label")), faults):
                pass
        else:
            yield from _rows(section, table, names, faults)


def _known(names: Sequence[str], known: Sequence[str]) -> str | None:
    folded = {name.strip().lower(): name for name in names}
    return next((folded[name] for name in known if name in folded), None)


def _columns(section: VideoData, names: Sequence[str], where: str, faults: Faults) -> dict[str, str] | None:
    """Column of file, label and, where there are such, split, group and fold."""
    before = len(faults.problems)
    found = {}
    for what, given, known, needed in (
        ("file", section.file, FILES, "paths"),
        ("label", section.label, _LABELS, "labels"),
        ("split", "", _SPLITS, ""),
        ("group", "", _GROUPS, ""),
        ("fold", "", _FOLDS, ""),
    ):
        if given and given not in names:
            faults.add(f"no column {given!r}", where, choices_hint(given, names, "there are", f"data.{what}"))
            continue
        left = [name for name in names if name not in found.values()]
        column = given or _known(left, known)
        if column:
            found[what] = column
        elif needed:
            fits = f"a column of {needed} is called {', '.join(known[:5])} or the like"
            told = f"no column of {needed} among {quoted(list(names), 8)}"
            faults.add(told, where, f"set data.{what}=COLUMN; {fits}")
    return found if len(faults.problems) == before else None


def _rows(section: VideoData, table: TextFile, names: Sequence[str], faults: Faults) -> Iterator[Row]:
    columns = _columns(section, names, str(table.path), faults)
    if columns is None:
        return
    chosen = tuple(columns.values())
    settings = tuple(f"data.{what}" for what in columns)
    fields = Fields(chosen, settings, typed=frozenset(chosen))
    for where, values in read_records(table, fields, faults):
        told = dict(zip(columns, values, strict=True))
        name = told["file"].strip() if isinstance(told["file"], str) else ""
        if not name:
            faults.add("no path of a video", where)
        elif "://" in name:
            faults.add(f"{name} is an address", where, "download the videos and give their paths")
        else:
            fold = _fold(told.get("fold"), where, faults)
            split, group = (_text(told.get(what)) for what in ("split", "group"))
            path = table.path.parent / Path(name).expanduser()
            yield Row(path, told["label"], where, split, group, fold)


def _fold(value: Any, where: str, faults: Faults) -> int | None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        number = float(value)
        if number == int(number):
            return int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    faults.add(f"fold {value!r} is no whole number", where)
    return None


def _text(value: Any) -> str | None:
    return None if value is None or not str(value).strip() else str(value).strip()

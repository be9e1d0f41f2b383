"""Tables of pictures: CSV, JSON lines, parquet and hub data with a path or the picture itself in a column."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from attncli.data.example_parts import Part, class_names, named_label
from attncli.data.faults import Faults, choices_hint, quoted
from attncli.data.files import TextFile
from attncli.data.labelled_records import LABELS
from attncli.data.records import Fields, field_names, read_records
from attncli.recipe.vision import LabelledPictures

IMAGES = (
    "image", "img", "picture", "photo", "path", "file", "file_name", "filename", "filepath", "file_path",
    "image_path", "image_file", "img_path", "images",
)  # fmt: skip
_LABELS = (*LABELS, "fine_label", "labels_fine", "breed", "species", "type")
_SPLIT_COLUMNS = ("split", "subset", "partition", "set")


class Row(NamedTuple):
    """One example, and where it stands."""

    image: Any
    """A path in its table's words, bytes, or ``{"bytes": ..., "path": ...}``."""
    label: Any
    split: str | None
    where: str
    folder: Path | None
    """What its path is relative to."""


@dataclass(frozen=True)
class Columns:
    """Which columns hold what; ``split`` None where there is none."""

    image: str
    label: str
    split: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """Those that are read."""
        return (self.image, self.label) if self.split is None else (self.image, self.label, self.split)


def image_column(file: TextFile) -> str | None:
    """The column that would be taken for the pictures or their paths."""
    return _known(field_names(file), IMAGES)


def _known(names: Sequence[str], known: Sequence[str]) -> str | None:
    folded = {name.strip().lower(): name for name in names}
    return next((folded[name] for name in known if name in folded), None)


def choose_columns(
    section: LabelledPictures, names: Sequence[str], where: str, faults: Faults
) -> Columns | None:
    """The columns of picture, label and split; None with faults where they cannot be told."""
    before = len(faults.problems)
    for setting, given in (("image", section.image), ("label", section.label), ("split", section.split)):
        if given and given not in names:
            hint = choices_hint(given, names, "there are", f"data.{setting}")
            faults.add(f"no column {given!r}", where, hint)
    image = section.image or _known([name for name in names if name != section.label], IMAGES)
    label = section.label or _known([name for name in names if name != image], _LABELS)
    if image and not label and len(names) == 2:
        label = next((name for name in names if name != image), None)
    for found, what, setting, known in (
        (image, "pictures or paths", "data.image", IMAGES),
        (label, "labels", "data.label", _LABELS),
    ):
        if not found:
            fits = f"a column of {what} is called {', '.join(known[:6])} or the like"
            faults.add(
                f"no column of {what} among {quoted(list(names), 8)}", where, f"set {setting}=COLUMN; {fits}"
            )
    if image and image == label:
        faults.add(f"picture and label are both column {image!r}", where, "set data.image and data.label")
    split = section.split or _known([name for name in names if name not in (image, label)], _SPLIT_COLUMNS)
    return Columns(image or "", label or "", split) if len(faults.problems) == before else None


def read_rows(section: LabelledPictures, part: Part, faults: Faults) -> Iterator[Row]:
    """The rows of a part's tables or hub data; what is wrong with them goes to ``faults``."""
    if part.hub is not None:
        yield from _hub_rows(section, part, faults)
    for file in part.files:
        names = field_names(file)
        if file.kind == "text":
            faults.add(
                "is no table of pictures",
                str(file.path),
                "give a folder of pictures, or a .csv, .tsv, .jsonl or .parquet table of paths with labels",
            )
            continue
        if not names:  # what is wrong with the file is told by its reader
            for _ in read_records(file, Fields(("image", "label"), ("data.image", "data.label")), faults):
                pass
            continue
        columns = choose_columns(section, names, str(file.path), faults)
        if columns is not None:
            yield from _file_rows(file, columns, faults)


def _file_rows(file: TextFile, columns: Columns, faults: Faults) -> Iterator[Row]:
    settings = ("data.image", "data.label", "data.split")[: len(columns.names)]
    fields = Fields(columns.names, settings, typed=frozenset(columns.names))
    named = _parquet_names(file).get(columns.label)
    folder = file.path.parent
    for where, (image, label, *split) in read_records(file, fields, faults):
        label = label if named is None else named_label(label, named)
        yield Row(image, label, _text(split[0]) if split else None, where, folder)


def _hub_rows(section: LabelledPictures, part: Part, faults: Faults) -> Iterator[Row]:
    import datasets

    hub: Any = part.hub
    data = hub.part(part.split)
    features = getattr(data, "features", None) or {}
    pictures = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    names = list(features) or list(next(iter(data), {}))
    if len(pictures) == 1 and not section.image:
        names = [*pictures, *(name for name in names if name not in IMAGES and name not in pictures)]
        section = section.model_copy(update={"image": pictures[0]})
    columns = choose_columns(section, names, part.describe(), faults)
    if columns is None:
        return

    def undecoded(data: Any) -> Any:
        return data.cast_column(columns.image, datasets.Image(decode=False))

    named = class_names(features).get(columns.label)
    change = undecoded if columns.image in pictures else None
    for number, row in enumerate(hub.rows(part.split, change), 1):
        split = _text(row.get(columns.split)) if columns.split else None
        label = row.get(columns.label)
        label = label if named is None else named_label(label, named)
        yield Row(row.get(columns.image), label, split, f"{hub.name}: row {number}", None)


def _parquet_names(file: TextFile) -> dict[str, list[str]]:
    """Names of the labels that the ``datasets`` library notes in a parquet file, by column."""
    if file.kind != "parquet":
        return {}
    import pyarrow.parquet as pq

    try:
        with file.open() as handle:
            noted = (pq.read_schema(handle).metadata or {}).get(b"huggingface", b"{}")
        features = json.loads(noted)["info"]["features"]
    except Exception:  # notes of others; the reader of the file tells what is wrong with it
        return {}
    found = {}
    for column, feature in features.items() if isinstance(features, dict) else ():
        while isinstance(feature, dict) and isinstance(feature.get("feature"), dict):
            feature = feature["feature"]
        names = feature.get("names") if isinstance(feature, dict) else None
        if isinstance(names, list):
            found[column] = [str(name) for name in names]
    return found


def _text(value: Any) -> str | None:
    return None if value is None else str(value)

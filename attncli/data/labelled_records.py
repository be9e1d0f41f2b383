"""Records with a text and a label: which columns they are, and the rows of each part."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attncli.data.example_parts import Part, hub_rows
from attncli.data.faults import Faults, choices_hint, quoted
from attncli.data.files import TextFile, split_of
from attncli.data.lines import chunks, unix
from attncli.data.records import Fields, field_names, read_records
from attncli.recipe.text import LabelledText

TEXTS = (
    "text", "sentence", "sentence1", "premise", "question1", "question", "review", "content", "document",
    "tweet", "comment", "body", "article", "description", "utterance",
)  # fmt: skip
PAIRS = {
    "sentence1": ("sentence2",),
    "premise": ("hypothesis",),
    "question1": ("question2",),
    "question": ("sentence", "passage", "context", "question2"),
    "text": ("text2", "text_pair", "pair"),
    "text1": ("text2",),
    "sentence": ("sentence2",),
}
LABELS = (
    "label", "labels", "class", "category", "target", "score", "sentiment", "rating", "emotion", "intent",
    "stars", "topic", "y",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One example, and where it stands."""

    text: str
    pair: str | None
    label: Any
    where: str


def choose_columns(
    section: LabelledText, names: Sequence[str], where: str, faults: Faults
) -> tuple[str, str | None, str] | None:
    """The columns of text, second text and label; None with faults where they cannot be told."""
    before = len(faults.problems)
    folded = {name.strip().lower(): name for name in names}

    def column(given: str, known: Sequence[str], what: str, setting: str) -> str:
        if given:
            if given not in names:
                faults.add(f"no column {given!r}", where, choices_hint(given, names, "there are", setting))
            return given
        found = next((folded[name] for name in known if name in folded), None)
        if found is None:
            fits = f"; a column of {what} is called {', '.join(known[:6])} or the like"
            hint = f"set {setting}=COLUMN{fits}"
            faults.add(f"no column of {what} among {quoted(list(names), 8)}", where, hint)
        return found or ""

    label = column(section.label, LABELS, "labels", "data.label")
    texts = ("text1", *TEXTS) if "text1" in folded else TEXTS
    text = column(section.text, [name for name in texts if folded.get(name) != label], "texts", "data.text")
    pair = section.pair or None
    if pair is not None and pair not in names:
        faults.add(f"no column {pair!r}", where, choices_hint(pair, names, "there are", "data.pair"))
    if pair is None and not section.text and text:
        known = PAIRS.get(text.strip().lower(), ())
        pair = next((folded[name] for name in known if name in folded and folded[name] != label), None)
    double = sorted({name for name in (text, pair, label) if name and list(names).count(name) > 1})
    if double:
        faults.add(f"several columns are called {quoted(double)}", where, "rename all but one")
    if text and text == label:
        faults.add(f"text and label are both column {text!r}", where, "set data.text and data.label")
    return None if len(faults.problems) > before else (text, pair, label)


def read_part(section: LabelledText, part: Part, faults: Faults) -> Iterator[Row]:
    """The rows of a part, empty texts treated as ``data.empty`` says."""
    rows = _hub_rows(section, part, faults) if part.hub is not None else _file_rows(section, part, faults)
    for row in rows:
        blank = [name for name, text in (("text", row.text), ("second text", row.pair)) if text == ""]
        if blank and section.empty == "refuse":
            faults.add(
                f"the {blank[0]} is empty",
                row.where,
                "data.empty=skip leaves such examples out, keep keeps them",
            )
        elif blank and section.empty == "skip":
            continue
        yield row


def _file_rows(section: LabelledText, part: Part, faults: Faults) -> Iterator[Row]:
    if part.files and all(file.kind == "text" for file in part.files):
        yield from _class_folders(part.files, faults)
        return
    for file in part.files:
        if file.kind == "text":
            faults.add(
                "is plain text without labels",
                str(file.path),
                "labelled texts are .csv, .tsv, .jsonl or .parquet, or .txt files in a folder for each label",
            )
            continue
        names = field_names(file)
        chosen = choose_columns(section, names, str(file.path), faults) if names else None
        if chosen is None:
            if not names:  # what is wrong with the file is told by its reader
                yield from _rows(file, ("text", None, "label"), faults)
            continue
        yield from _rows(file, chosen, faults)


def _rows(file: TextFile, columns: tuple[str, str | None, str], faults: Faults) -> Iterator[Row]:
    text, pair, label = columns
    names = (text, label) if pair is None else (text, pair, label)
    settings = ("data.text", "data.label") if pair is None else ("data.text", "data.pair", "data.label")
    fields = Fields(names, settings, typed=frozenset((label,)))
    for where, values in read_records(file, fields, faults):
        yield _row(values, pair is not None, names, where, faults)


def _hub_rows(section: LabelledText, part: Part, faults: Faults) -> Iterator[Row]:
    chosen: tuple[str, str | None, str] | None = None
    for where, record in hub_rows(part):
        if chosen is None:
            chosen = choose_columns(section, list(record), part.describe(), faults)
            if chosen is None:
                return
        names = tuple(name for name in chosen if name is not None)
        yield _row(tuple(record.get(name) for name in names), chosen[1] is not None, names, where, faults)


def _row(values: tuple[Any, ...], paired: bool, names: tuple[str, ...], where: str, faults: Faults) -> Row:
    *given, label = values
    texts = [_clean(value, name, where, faults) for value, name in zip(given, names, strict=False)]
    return Row(texts[0], texts[1] if paired else None, label, where)


def _clean(value: Any, name: str, where: str, faults: Faults) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        faults.add(f"{name} is {type(value).__name__}, not text", where)
        return ""
    text = value if value.isascii() else value.encode("utf-8", "replace").decode()
    return text.strip()


_SHARED = re.compile(r"^(unsup|unlabel+ed)$", re.I)


def _class_folders(files: Sequence[TextFile], faults: Faults) -> Iterator[Row]:
    """A text a file, its label the name of the folder that it is in: ``train/pos/1.txt``."""
    if len({file.path.parent for file in files}) < 2 or any(_names_split(file.path.parent) for file in files):
        where = str(files[0].path if len(files) == 1 else files[0].path.parent)
        faults.add(
            "is plain text without labels",
            where,
            "labelled texts are .csv, .tsv, .jsonl or .parquet, or .txt files in a folder for each label",
        )
        return
    for file in files:
        label = file.path.parent.name
        if _SHARED.match(label):
            continue
        text = "".join(unix(chunks(file, faults))).strip()
        yield Row(text, None, label, str(file.path))


def _names_split(folder: Path) -> bool:
    return split_of(Path(folder.name)) is not None

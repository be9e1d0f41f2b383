"""Tagged sentences as they are stored: CoNLL's columns, JSON lines, parquet and hub data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from attncli.data.example_parts import Part, hub_rows
from attncli.data.faults import Faults, choices_hint, quoted
from attncli.data.files import Kind, TextFile
from attncli.data.lines import lines
from attncli.data.records import Fields, field_names, read_records
from attncli.recipe.text import TaggedText

ENDINGS: dict[str, Kind] = dict.fromkeys(
    (".conll", ".conllu", ".bio", ".iob", ".iob2", ".bioes", ".tags", ".col"), "text"
)
_TOKENS = ("tokens", "words", "text", "sentence")
_TAGS = ("tags", "ner_tags", "labels", "ner", "pos_tags", "upos", "label")
_DOCUMENT = "-DOCSTART-"


@dataclass(frozen=True)
class Sentence:
    """Words with their tags, and where the first stands."""

    words: list[str]
    tags: list[str]
    where: str


def read_part(section: TaggedText, part: Part, faults: Faults) -> Iterator[Sentence]:
    """The sentences of a part; what is wrong goes to ``faults``."""
    if part.hub is not None:
        chosen: tuple[str, str] | None = None
        for where, record in hub_rows(part):
            if chosen is None:
                chosen = _choose(section, list(record), part.describe(), faults)
                if chosen is None:
                    return
            yield from _sentence(record.get(chosen[0]), record.get(chosen[1]), chosen, where, faults)
        return
    for file in part.files:
        if file.kind == "text" or (file.kind == "csv" and file.path.suffix == ".tsv"):
            yield from _columns(section, file, faults)
        else:
            yield from _records(section, file, faults)


def _choose(section: TaggedText, names: list[str], where: str, faults: Faults) -> tuple[str, str] | None:
    found = []
    for given, known, what, setting in (
        (section.tokens, _TOKENS, "words", "data.tokens"),
        (section.tags, _TAGS, "tags", "data.tags"),
    ):
        name = given or next((name for name in known if name in names), "")
        if name not in names:
            told = f"no field {given!r}" if given else f"no field of {what} among {quoted(names, 8)}"
            hint = choices_hint(given, names, "there are", setting) if given else f"set {setting}=FIELD"
            faults.add(told, where, hint)
        else:
            found.append(name)
    return (found[0], found[1]) if len(found) == 2 else None


def _records(section: TaggedText, file: TextFile, faults: Faults) -> Iterator[Sentence]:
    names = field_names(file)
    chosen = _choose(section, names, str(file.path), faults) if names else ("tokens", "tags")
    if chosen is None:
        return
    fields = Fields(chosen, ("data.tokens", "data.tags"), typed=frozenset(chosen))
    for where, (words, tags) in read_records(file, fields, faults):
        yield from _sentence(words, tags, chosen, where, faults)


def _sentence(
    words: Any, tags: Any, names: tuple[str, str], where: str, faults: Faults
) -> Iterator[Sentence]:
    if isinstance(words, str):
        words = words.split()
    if isinstance(tags, str):
        tags = tags.split()
    for value, name in zip((words, tags), names, strict=True):
        if not isinstance(value, list):
            faults.add(f"{name} is {type(value).__name__}, where a list belongs", where)
            return
    bad = [word for word in words if not isinstance(word, str)]
    if bad:
        faults.add(f"{names[0]} has {bad[0]!r}, which is no text", where)
        return
    if any(tag is None or isinstance(tag, list | dict | float) for tag in tags):
        faults.add(f"{names[1]} has a tag that is none: {tags!r:.60}", where)
        return
    if len(words) != len(tags):
        faults.add(f"{len(words)} words and {len(tags)} tags", where)
        return
    if words:
        yield Sentence(
            [word if word.strip() else "\N{REPLACEMENT CHARACTER}" for word in words],
            [str(tag) for tag in tags],
            where,
        )


def _columns(section: TaggedText, file: TextFile, faults: Faults) -> Iterator[Sentence]:
    """CoNLL: a word a line with its columns, a blank line after each sentence."""
    word_at, tag_at = (
        _number(section.tokens, 0, "data.tokens", faults),
        _number(section.tags, -1, "data.tags", faults),
    )
    if word_at is None or tag_at is None:
        return
    words: list[str] = []
    tags: list[str] = []
    where, width = "", 0
    for number, line in enumerate(lines(file, faults), 1):
        line = line.rstrip("\r\n")
        if not line.strip():
            if words:
                yield Sentence(words, tags, where)
            words, tags = [], []
            continue
        fields = line.split("\t") if "\t" in line else line.split()
        place = f"{file.path}:{number}"
        if fields[0] == _DOCUMENT:
            continue
        if line.startswith("#") and not words and (not width or len(fields) != width or " = " in line):
            continue  # a comment, as CoNLL-U has them
        if not width:
            width = len(fields)
            if width < 2:
                faults.add("one column, where a word and its tag belong", place)
                return
            beyond = [at for at in (word_at, tag_at) if not -width <= at < width]
            if beyond:
                faults.add(
                    f"{width} columns, so none is number {beyond[0]}", place, "columns are counted from 0"
                )
                return
        if len(fields) != width:
            faults.add(f"{len(fields)} columns, where the lines before have {width}", place)
            continue
        if "-" in fields[0] and fields[0].replace("-", "").isdigit() and width == 10:
            continue  # CoNLL-U's ranges of words
        word, tag = fields[word_at].strip(), fields[tag_at].strip()
        if not tag:
            faults.add("no tag", place)
            continue
        if not words:
            where = place
        words.append(word or "\N{REPLACEMENT CHARACTER}")
        tags.append(tag)
    if words:
        yield Sentence(words, tags, where)


def _number(text: str, default: int, setting: str, faults: Faults) -> int | None:
    if not text:
        return default
    try:
        return int(text)
    except ValueError:
        faults.add(f"{setting}={text}: in CoNLL files columns are numbers, from 0", hint="-1 is the last")
        return None

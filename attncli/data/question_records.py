"""Questions as they are stored: SQuAD's JSON of both versions, the same as flat records, hub data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from attncli.data.example_parts import Part, hub_rows
from attncli.data.faults import Faults, quoted
from attncli.data.files import TextFile
from attncli.data.lines import chunks
from attncli.data.records import Fields, read_records

_FLAT = ("id", "question", "context", "answers")


@dataclass(frozen=True)
class Question:
    """A question on a text, and its answers: each with the character of the text where it starts."""

    id: str
    question: str
    context: str
    answers: tuple[tuple[str, int], ...]
    """None where the text does not say."""
    where: str


def read_part(part: Part, faults: Faults) -> Iterator[Question]:
    """The questions of a part; what is wrong goes to ``faults``."""
    if part.hub is not None:
        for where, record in hub_rows(part):
            found = _flat(record, where, faults)
            if found is not None:
                yield found
        return
    for file in part.files:
        if file.kind == "json":
            yield from _json(file, faults)
        elif file.kind == "parquet":
            fields = Fields(_FLAT, _FLAT, typed=frozenset(_FLAT))
            for where, values in read_records(file, fields, faults):
                found = _flat(dict(zip(_FLAT, values, strict=True)), where, faults)
                if found is not None:
                    yield found
        else:
            faults.add("is no JSON", str(file.path), "questions are SQuAD's JSON, JSON lines or parquet")


def _json(file: TextFile, faults: Faults) -> Iterator[Question]:
    before = len(faults.problems)
    text = "".join(chunks(file, faults))
    if len(faults.problems) > before:
        return
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError) as error:
        if text.lstrip()[:1] == "{" and "\n{" in text.strip():
            yield from _lines(file, text, faults)
            return
        reason = f"{error.msg}" if isinstance(error, json.JSONDecodeError) else str(error)
        line = error.lineno if isinstance(error, json.JSONDecodeError) else 1
        faults.add(f"not JSON: {reason}", f"{file.path}:{line}")
        return
    if isinstance(whole, dict) and "data" not in whole and _is_flat(whole):
        yield from _lines(file, text, faults)
        return
    if isinstance(whole, list):
        for number, record in enumerate(whole, 1):
            found = _flat(record, f"{file.path}: record {number}", faults)
            if found is not None:
                yield found
        return
    data = whole.get("data") if isinstance(whole, dict) else None
    if not isinstance(data, list):
        there = quoted(list(whole), 6) if isinstance(whole, dict) else type(whole).__name__
        faults.add('no list under "data", as SQuAD has it', str(file.path), f"there is {there or 'nothing'}")
        return
    for article in data:
        if isinstance(article, dict) and "paragraphs" not in article and _is_flat(article):
            found = _flat(article, str(file.path), faults)
            if found is not None:
                yield found
            continue
        title = article.get("title", "?") if isinstance(article, dict) else "?"
        paragraphs = article.get("paragraphs") if isinstance(article, dict) else None
        if not isinstance(paragraphs, list):
            faults.add(f'article {title!r} has no list of "paragraphs"', str(file.path))
            continue
        for number, paragraph in enumerate(paragraphs, 1):
            yield from _paragraph(paragraph, f"{file.path}: {title}, paragraph {number}", faults)


def _is_flat(record: Mapping[str, Any]) -> bool:
    return "question" in record and "context" in record


def _lines(file: TextFile, text: str, faults: Faults) -> Iterator[Question]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{file.path}:{number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            faults.add(f"not JSON: {getattr(error, 'msg', error)}", where)
            continue
        found = _flat(record, where, faults)
        if found is not None:
            yield found


def _paragraph(paragraph: Any, where: str, faults: Faults) -> Iterator[Question]:
    context = paragraph.get("context") if isinstance(paragraph, dict) else None
    questions = paragraph.get("qas") if isinstance(paragraph, dict) else None
    if not isinstance(context, str) or not isinstance(questions, list):
        lacking = '"context"' if not isinstance(context, str) else '"qas"'
        faults.add(f"no {lacking}", where)
        return
    for one in questions:
        if not isinstance(one, dict):
            faults.add("a question that is no object", where)
            continue
        found = _question(one, context, where, faults)
        if found is not None:
            yield found


def _flat(record: Any, where: str, faults: Faults) -> Question | None:
    if not isinstance(record, dict) or not isinstance(record.get("context"), str):
        there = quoted(list(record), 6) if isinstance(record, dict) else type(record).__name__
        faults.add('no "context"', where, f"there is {there}")
        return None
    answers = record.get("answers")
    if isinstance(answers, dict):  # columns, as the hub has them
        texts, starts = answers.get("text", []), answers.get("answer_start", [])
        if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
            faults.add("answers are not as many texts as places", where)
            return None
        answers = [{"text": t, "answer_start": s} for t, s in zip(texts, starts, strict=True)]
    record = {"id": where, **record, "answers": answers}
    return _question(record, record["context"], where, faults)


def _question(one: dict[str, Any], context: str, where: str, faults: Faults) -> Question | None:
    name = one.get("id")
    place = where if name is None or name == where else f"{where}, question {name}"
    if not isinstance(name, str | int):
        faults.add('a question without an "id"', place)
        return None
    text = one.get("question")
    if not isinstance(text, str) or not text.strip():
        faults.add("the question is empty" if isinstance(text, str) else 'no "question"', place)
        return None
    if not context.strip():
        faults.add("the text of the question is empty", place)
        return None
    given = one.get("answers")
    if given is None:
        given = []
        if not one.get("is_impossible"):
            faults.add('no "answers"', place, "a question without an answer has an empty list")
            return None
    if not isinstance(given, list):
        faults.add('"answers" is no list', place)
        return None
    answers = []
    if one.get("is_impossible") and given:
        given = []  # what stands there is only plausible
    for answer in given:
        found = _answer(answer, context, place, faults)
        if found is not None:
            answers.append(found)
    return Question(str(name), text.strip(), context, tuple(answers), place)


def _answer(answer: Any, context: str, place: str, faults: Faults) -> tuple[str, int] | None:
    text = answer.get("text") if isinstance(answer, dict) else None
    start = answer.get("answer_start") if isinstance(answer, dict) else None
    if not isinstance(text, str) or not isinstance(start, int) or isinstance(start, bool):
        faults.add("an answer has a text and an answer_start, a whole number", place)
        return None
    if not text.strip():
        faults.add("an answer is empty", place)
        return None
    there = context[max(start, 0) : max(start, 0) + len(text)]
    if start < 0 or there != text:
        at = context.find(text)
        hint = f"it stands at {at}" if at >= 0 else "it is nowhere in the text"
        faults.add(
            f"answer {_short(text)} is not at character {start}, where {_short(there)} stands", place, hint
        )
        return None
    stripped = text.lstrip()
    return stripped.rstrip(), start + len(text) - len(stripped)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:39]}…")

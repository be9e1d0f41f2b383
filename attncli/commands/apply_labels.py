"""``attn classify RUN INPUT...``: label texts, tag words, answer questions, in order, as they come."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attncli import console
from attncli.commands.trained import load_task
from attncli.data.labelled_records import PAIRS, TEXTS
from attncli.errors import DataError, Problem, RecipeError
from attncli.recipe.finetune import AnswerRecipe, TagRecipe
from attncli.recipe.loading import LoadedRecipe

if TYPE_CHECKING:
    from attncli.tasks.answer import AnswerTask
    from attncli.tasks.tag import TagTask
    from attncli.tasks.text_classify import TextClassifyTask
    from attncli.training import RunFolder

CHUNK = 4096
"""Texts that are sorted by length among themselves; written in their order."""


def apply(
    command: str,
    run: RunFolder,
    loaded: LoadedRecipe,
    inputs: list[str],
    *,
    context: str | None = None,
    nbest: int | None = None,
) -> None:
    """Apply a run to texts, files (a text a line, or JSON lines), or standard input."""
    path = run.path
    answering = isinstance(loaded.recipe, AnswerRecipe)
    if context is not None and not answering:
        raise RecipeError("--context is of question answering; this run labels texts")
    if answering and command == "classify":
        raise RecipeError(
            f"{path} answers questions", then=f"attn finetune {path} 'A question?' --context FILE"
        )
    if not inputs and not sys.stdin.isatty():
        inputs = ["-"]
    if not inputs:
        example = f"attn {command} {path} 'A text.'"
        raise RecipeError(
            "an input is missing: a text in quotes, a file, or - for standard input", then=example
        )
    records = read_records(inputs, "question" if answering else "text")
    shown = _long(inputs)
    from attncli.training import measuring

    task, _ = load_task(run, loaded, data=False)
    told: list[dict[str, Any]] = []
    with (
        console.Progress("reading", unit="texts", total=0 if shown else None) as bar,
        measuring(task.model, run),
    ):
        if answering:
            records = _with_context(records, context, path)
        for chunk in _chunks(records):
            if answering:
                found = _answer(task, chunk, nbest or 1)
            elif isinstance(loaded.recipe, TagRecipe):
                found = _tag(task, chunk)
            else:
                found = _classify(task, chunk, nbest)
            if console.json_mode():
                told += found
            elif shown:
                for one in found:
                    console.result(json.dumps(one, ensure_ascii=False))
            else:
                for one in found:
                    _show(one)
            bar.advance(len(chunk), units=len(chunk))
            sys.stdout.flush()
    console.document({"run": str(run.path), "results": told})


def _long(inputs: list[str]) -> bool:
    """Whether more may come than one would read in a table."""
    return any(text == "-" or Path(text).is_file() for text in inputs)


Record = tuple[str, dict[str, Any]]
"""The place of a record, empty for an argument, and its fields."""


def read_records(inputs: list[str], field: str) -> Iterator[Record]:
    """Each text with its place: arguments, lines of files and of standard input; JSON lines as they are."""
    for given in inputs:
        if given == "-":
            yield from _lines("standard input", sys.stdin, field)
        elif len(given) < 4096 and Path(given).is_file():
            try:
                with Path(given).open(encoding="utf-8-sig") as file:
                    yield from _lines(given, file, field)
            except UnicodeDecodeError as error:
                raise DataError(Problem("is not UTF-8 text", given)) from error
        else:
            yield "", {field: given}


def _lines(name: str, lines: Any, field: str) -> Iterator[Record]:
    structured = Path(name).suffix in (".jsonl", ".json", ".ndjson")
    for number, line in enumerate(lines, 1):
        line = line.rstrip("\r\n")
        place = f"{name}:{number}"
        if not structured:
            yield place, {field: line}
            continue
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise DataError(Problem(f"is not JSON: {error}", place)) from None
        if isinstance(record, str):
            record = {field: record}
        if not isinstance(record, dict):
            raise DataError(Problem(f"is neither an object nor a text, but {type(record).__name__}", place))
        yield place, record


def _chunks(records: Iterator[Record]) -> Iterator[list[Record]]:
    first = list(itertools.islice(records, 64))  # something to read soon
    if first:
        yield first
    while chunk := list(itertools.islice(records, CHUNK)):
        yield chunk


def _field(records: list[Record], *names: str) -> list[str]:
    """A field of each record under the first of ``names`` that it has; all that lack it are named."""
    found, problems = [], []
    for place, record in records:
        name = next((name for name in names if name in record), None)
        if name is None:
            there = ", ".join(record) or "nothing"
            problems.append(Problem(f"no field {' or '.join(names[:3])}; there is {there}", place or None))
        elif not isinstance(record[name], str):
            problems.append(Problem(f"{name} is no text: {record[name]!r}", place or None))
        else:
            found.append(record[name])
    if problems:
        raise DataError(*problems[:20])
    return found


def _classify(task: TextClassifyTask, chunk: list[Record], nbest: int | None) -> list[dict[str, Any]]:
    texts, pairs = texts_of(task, chunk)
    shares = task.apply(texts, pairs)
    rows = []
    for number, text in enumerate(texts):
        answer = task.answer(shares[number])
        if "probabilities" in answer:
            ranked = sorted(answer["probabilities"].items(), key=lambda item: -item[1])[:nbest]
            answer["probabilities"] = dict(ranked)
        pair = {} if pairs is None else {"pair": pairs[number]}
        rows.append({"text": text, **pair, **answer})
    return rows


def texts_of(task: TextClassifyTask, chunk: list[Record]) -> tuple[list[str], list[str] | None]:
    """The texts of records, and their second texts where the run labels pairs."""
    data = task.recipe.data
    if task.labels.pairs and not chunk[0][0]:
        raise RecipeError(
            "this run labels pairs of texts: give a file of JSON lines",
            then="""echo '{"text": "One.", "pair": "Other."}' > pairs.jsonl""",
        )
    texts = _field(chunk, *filter(None, (data.text,)), "text", *PAIRS, *TEXTS)
    if not task.labels.pairs:
        return texts, None
    seconds = dict.fromkeys(name for names in PAIRS.values() for name in names)
    return texts, _field(chunk, *filter(None, (data.pair,)), "pair", *seconds)


def _tag(task: TagTask, chunk: list[Record]) -> list[dict[str, Any]]:
    sentences = []
    for place, record in chunk:
        words = record.get("tokens", record.get("words"))
        if words is None:
            words = task.words(_field([(place, record)], "text")[0])
        elif not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise DataError(Problem(f"tokens is no list of words: {words!r}", place or None))
        sentences.append(words)
    tags = task.apply(sentences)
    return [
        {"tokens": words, "tags": found, "entities": task.entities(words, found)}
        for words, found in zip(sentences, tags, strict=True)
    ]


def _with_context(records: Iterator[Record], context: str | None, path: Path) -> Iterator[Record]:
    context = None if context is None else read_context(context)
    for place, record in records:
        if "context" not in record:
            if context is None:
                raise RecipeError(
                    f"{place or 'the question'} comes without a text that answers it",
                    then=f"attn finetune {path} 'A question?' --context FILE",
                )
            record = {**record, "context": context}
        yield place, record


def read_context(context: str) -> str:
    """The text of ``--context``, which may name a file of it."""
    if len(context) >= 4096 or not Path(context).is_file():
        return context
    try:
        return Path(context).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(Problem("is not UTF-8 text", context)) from error


def _answer(task: AnswerTask, chunk: list[Record], nbest: int) -> list[dict[str, Any]]:
    questions, contexts = _field(chunk, "question"), _field(chunk, "context")
    found = task.apply(questions, contexts)
    return [
        {"question": question, "answer": task.chosen(answers), "answers": answers_told(answers[:nbest])}
        for question, answers in zip(questions, found, strict=True)
    ]


def answers_told(answers: list[Any]) -> list[dict[str, Any]]:
    """Answers as plain values."""
    return [{"text": one.text, "score": one.score, "start": one.start, "end": one.end} for one in answers]


def _show(one: dict[str, Any]) -> None:
    """A result for people: the text, and below it what was found."""
    if "tags" in one:
        console.result(" ".join(one["tokens"]))
        if one["entities"]:
            rows = [(entity["text"], entity["type"]) for entity in one["entities"]]
            console.table(["entity", "type"], rows)
        else:
            console.table(["word", "tag"], list(zip(one["tokens"], one["tags"], strict=True)))
    elif "answers" in one:
        console.result(one["question"])
        rows = [(answer["text"], answer["score"]) for answer in one["answers"]]
        if not one["answer"]:
            rows.insert(0, ("(no answer)", ""))
        console.table(["answer", "score"], rows, right=["score"])
    else:
        console.result(" / ".join(filter(None, (one["text"], one.get("pair")))))
        if "probabilities" in one:
            several = isinstance(one["predicted"], list)
            rows = [
                (name, f"{100 * share:.1f} %", *(["yes" if name in one["predicted"] else ""] * several))
                for name, share in one["probabilities"].items()
            ]
            columns = ["label", "probability", *["predicted"] * several]
            console.table(columns, rows, right=["probability"])
        else:
            console.table(["predicted"], [(one["predicted"],)])

"""``attn translate RUN INPUT...``: translate lines, in order, as they come."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attncli import console
from attncli.commands.trained import load_task, open_run
from attncli.errors import DataError, Problem, RecipeError
from attncli.recipe.loading import LoadedRecipe

if TYPE_CHECKING:
    from attncli.tasks.translator import Translation, Translator
    from attncli.training import RunFolder

CHUNK = 2048
"""Lines translated together: sorted by length among themselves, written in their order."""

Line = tuple[str, str]
"""The place of a text, empty for an argument, and the text."""


def apply(
    command: str,
    run: RunFolder,
    loaded: LoadedRecipe,
    inputs: list[str],
    *,
    nbest: int | None = None,
    scores: bool = False,
    align: bool = False,
    beam: int | None = None,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int | None = None,
) -> None:
    """Translate texts, files of a text a line, or standard input: a line for a line."""
    if beam is not None:
        run, loaded = open_run(command, run.path, [f"evaluate.search.beam={beam}"])
    count = nbest or 1
    sampling = _sampling(temperature, top_k, top_p, seed, beam)
    if not sampling and count > loaded.recipe.evaluate.search.beam:
        width = loaded.recipe.evaluate.search.beam
        raise RecipeError(
            f"--nbest {count} needs a beam as wide; it is {width}",
            then=f"attn {command} {run.path} --nbest {count} --beam {count}",
        )
    lines = _lines(inputs, run.path)
    task, _ = load_task(run, loaded, data=False)
    translator = task.translator(final=True, **sampling)
    told: list[dict[str, Any]] = []
    total = None if console.json_mode() or not _long(inputs) else 0
    with console.Progress("translating", unit="sentences", total=total) as bar:
        for chunk in _chunks(lines):
            found = _translate(translator, chunk, count)
            for (_, text), translations in zip(chunk, found, strict=True):
                shown = [_shown(translator, text, t, scores, align) for t in translations]
                if console.json_mode():
                    told.append({"source": text, "translations": shown})
                else:
                    _write(shown, nbest is not None)
            bar.advance(len(chunk), units=len(chunk))
            sys.stdout.flush()
    console.document({"run": str(run.path), "translations": told})


def _sampling(
    temperature: float | None, top_k: int | None, top_p: float | None, seed: int | None, beam: int | None
) -> dict[str, Any]:
    """Arguments of a translator that draws; none where nothing is drawn."""
    if (temperature, top_k, top_p) == (None, None, None):
        if seed is not None:
            raise RecipeError("--seed is of sampling: give --temperature, --top-k or --top-p with it")
        return {}
    if beam is not None:
        raise RecipeError("--beam searches, --temperature, --top-k and --top-p sample: one or the other")
    from attncli.decoding import Sampling

    try:
        drawn = Sampling(
            1.0 if temperature is None else temperature, top_k or 0, 1.0 if top_p is None else top_p
        )
    except ValueError as error:
        raise RecipeError(str(error)) from None
    return {"sampling": drawn, "seed": seed or 0}


def _translate(translator: Translator, chunk: list[Line], count: int) -> list[list[Translation]]:
    sources = translator.encode([text for _, text in chunk])
    problems = [
        Problem(f"the sentence has {len(ids)} tokens; the model takes {translator.longest}", place or None)
        for (place, _), ids in zip(chunk, sources, strict=True)
        if len(ids) > translator.longest
    ]
    if problems:
        raise DataError(*problems[:20], then="split long lines into sentences")
    return translator.translate_encoded(sources, count=count)


def _shown(
    translator: Translator, text: str, found: Translation, scores: bool, align: bool
) -> dict[str, Any]:
    """What is told of one translation."""
    shown: dict[str, Any] = {"text": found.text}
    if scores:
        shown["score"] = found.score
    if align:
        shown["alignment"] = word_links(translator, text, found)
    return shown


def word_links(translator: Translator, text: str, found: Translation) -> str:
    """Which source word each target word comes from, as ``0-0 1-2`` (source-target, from 0)."""
    from attncli.reports.alignment import pharaoh, word_alignment
    from attncli.tasks.translator import one_map

    if not found.tokens:
        return ""
    source = translator.encode([text])[0]
    tokenizer = translator.tokenizer
    links = word_alignment(
        one_map([weights for _, weights in translator.maps(source, found.tokens)]),
        tokenizer.target_tokens([*found.tokens, tokenizer.eos_id]),
        tokenizer.source_tokens(source),
    )
    return pharaoh(links)


def _write(shown: list[dict[str, Any]], ranked: bool) -> None:
    """Lines of one input: its translation, or with ``--nbest`` one a rank; further columns behind tabs."""
    for rank, one in enumerate(shown, 1):
        columns = [str(rank)] if ranked else []
        columns.append(one["text"])
        if "score" in one:
            columns.append(f"{one['score']:.4f}")
        if "alignment" in one:
            columns.append(one["alignment"])
        console.result("\t".join(columns))


def _long(inputs: list[str]) -> bool:
    return not inputs or any(given == "-" or Path(given).is_file() for given in inputs)


def _lines(inputs: list[str], run: Path) -> Iterator[Line]:
    """Each line with its place, empty ones too. Files are looked at before anything is translated."""
    if not inputs:
        if sys.stdin is None or sys.stdin.isatty():
            raise RecipeError(
                "nothing to translate: give a text in quotes, a file, or text on standard input",
                then=f"attn translate {run} 'A sentence.'",
            )
        inputs = ["-"]
    for given in inputs:
        looks = given != "-" and not Path(given).exists() and _like_file(given)
        if looks:
            raise DataError(Problem(f"there is no file {given}"))
        if Path(given).is_dir():
            raise DataError(Problem(f"{given} is a folder; name the files in it"))

    def read() -> Iterator[Line]:
        for given in inputs:
            if given == "-":
                yield from _decoded("standard input", sys.stdin.buffer)
            elif Path(given).is_file():
                with Path(given).open("rb") as file:
                    yield from _decoded(given, file)
            else:
                yield "", given

    return read()


def _like_file(text: str) -> bool:
    """Whether a text without blanks ends like a file's name."""
    return " " not in text and Path(text).suffix in (".txt", ".en", ".de", ".fr", ".src", ".tok", ".gz")


def _decoded(name: str, file: Any) -> Iterator[Line]:
    """Lines end at ``\\n`` alone: what else breaks lines stands inside sentences."""
    for number, raw in enumerate(file, 1):
        place = f"{name}:{number}"
        try:
            text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            what = f"is not UTF-8: byte {error.object[error.start]:#04x} at column {error.start + 1}"
            raise DataError(Problem(what, place)) from None
        yield place, text.removesuffix("\n").removesuffix("\r")


def _chunks(lines: Iterator[Line]) -> Iterator[list[Line]]:
    """The first one is short, so that somebody who types sees something soon."""
    size = 1 if sys.stdin is not None and sys.stdin.isatty() else CHUNK
    while chunk := list(itertools.islice(lines, size)):
        yield chunk

"""Translations of a test set in the run folder: three text files of one line a sentence. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from attncli.errors import CheckpointError, Problem
from attncli.training.files import disk_errors, write_text

_PARTS = ("source", "reference", "hypothesis")


@dataclass(frozen=True)
class Translations:
    """A test set and what a run made of it, sentence by sentence."""

    name: str
    """The test set's name, as its files have it."""
    sources: list[str]
    references: list[str]
    hypotheses: list[str]


def write_translations(
    run: Path, name: str, sources: Sequence[str], references: Sequence[str], hypotheses: Sequence[str]
) -> Path:
    """Store them as ``run/translations/<name>.{source,reference,hypothesis}.txt``; the hypotheses' path.

    A set is there with all three files or, after a crash, not at all or as it was before. Line breaks inside
    a sentence become spaces, and characters of the name that no file name should have become hyphens.
    """
    if not len(sources) == len(references) == len(hypotheses):
        raise ValueError(
            f"{len(sources)} sources, {len(references)} references, {len(hypotheses)} hypotheses"
        )
    if not sources:
        raise ValueError(f"{name}: no sentence to store")
    files = _files(run, re.sub(r"[^\w.-]+", "-", name).strip("-.") or "test")
    with disk_errors(f"translations of {name} in {run}"):
        files["hypothesis"].parent.mkdir(exist_ok=True)
        texts = {"source": _text(sources), "reference": _text(references)}
        if any(_content(files[part]) != text.encode() for part, text in texts.items()):
            files["hypothesis"].unlink(missing_ok=True)  # never another set's beside these
            for part, text in texts.items():
                write_text(files[part], text)
        write_text(files["hypothesis"], _text(hypotheses))
    return files["hypothesis"]


def stored_translations(run: Path) -> list[str]:
    """Names of the test sets whose translations a run folder holds."""
    ending = ".hypothesis.txt"
    found = (run / "translations").glob(f"*{ending}")
    return sorted(path.name.removesuffix(ending) for path in found if not path.name.startswith("."))


def read_translations(run: Path, name: str) -> Translations:
    """What :func:`write_translations` stored. :class:`CheckpointError` where a file is missing or damaged."""
    files = _files(run, name)
    lines: dict[str, list[str]] = {}
    problems = []
    for part, path in files.items():
        try:
            lines[part] = path.read_bytes().decode("utf-8").removesuffix("\n").split("\n")
        except OSError as error:
            problems.append(Problem(f"{path} cannot be read: {error.strerror}"))
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            problems.append(Problem("is damaged: not UTF-8", where=f"{path}:{line}"))
    if not problems and len({len(each) for each in lines.values()}) > 1:
        told = ", ".join(f"{files[part].name} has {len(each):,}" for part, each in lines.items())
        problems.append(Problem(f"{files['hypothesis'].parent}: the numbers of lines differ: {told}"))
    if problems:
        raise CheckpointError(*problems, then=f"attn evaluate {run} --split {name}")
    return Translations(name, lines["source"], lines["reference"], lines["hypothesis"])


def _files(run: Path, name: str) -> dict[str, Path]:
    return {part: run / "translations" / f"{name}.{part}.txt" for part in _PARTS}


def _text(sentences: Iterable[str]) -> str:
    """One line each; what UTF-8 cannot hold becomes a question mark."""
    lines = (" ".join(sentence.splitlines()) + "\n" for sentence in sentences)
    return "".join(lines).encode("utf-8", "replace").decode()


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None

"""Labelled texts: read, checked, their labels found, and made into batches."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attncli.data.builtin_labelled import builtin_sets
from attncli.data.documents import DocumentTokenizer, encode_documents
from attncli.data.example_parts import Part, no_part, open_parts, read_parts, single_part, usable
from attncli.data.faults import Faults
from attncli.data.labelled_records import Row, read_part
from attncli.data.labels import Labels, find_labels, targets_of
from attncli.data.order import Batch, EpochBatches, EvaluationBatches
from attncli.data.rows import Rows, pad
from attncli.data.sources import Progress
from attncli.data.text_tokenizer import EncoderTokenizer
from attncli.data.tokenizers import train_tokenizer
from attncli.errors import DataError, Problem
from attncli.recipe.classify import WordTokenizer as WordSection
from attncli.recipe.pretrain import TextTokenizer
from attncli.recipe.text import Documents, LabelledText

TextSection = LabelledText | Documents
Reader = EncoderTokenizer | DocumentTokenizer
"""What turns texts into tokens."""


@dataclass
class TextSet:
    """Texts, or pairs of texts, with what is to be said of them."""

    name: str
    texts: list[str]
    pairs: list[str] | None
    targets: NDArray[Any]
    """int64 [N], float32 [N, L] of 0 and 1, or float32 [N]."""
    places: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.texts)


@dataclass
class LabelledSets:
    """What a classifier learns from and is measured on."""

    train: TextSet
    validation: TextSet
    tests: list[TextSet]
    labels: Labels
    tokenizer: Any
    """Turns texts into tokens; None where features are made otherwise."""
    where: str

    def describe(self) -> str:
        """One line for the console."""
        counts = f"{len(self.train):,} training and {len(self.validation):,} validation"
        tests = "".join(f", {len(test):,} {test.name}" for test in self.tests)
        kind = "pairs" if self.train.pairs is not None else "texts"
        return f"{self.where}: {counts}{tests} {kind}; {self.labels.describe()}"


def prepare_labelled(
    section: TextSection,
    tokenizer: EncoderTokenizer | DocumentTokenizer | TextTokenizer | WordSection | None,
    progress: Progress | None = None,
    labels: Labels | None = None,
) -> LabelledSets:
    """Everything that a classifier learns from.

    Args:
        section: the ``data`` section.
        tokenizer: one that exists, the section that says how one is trained on the training texts, or None.
        progress: called with what is being done, examples and bytes.
        labels: of a run that goes on or is measured; found in the training part where it is None.

    Raises:
        DataError: all that is wrong with the data, up to a cap, each with file, line and reason.
    """
    faults = Faults()
    rows, where, held = _rows(section, faults, progress)
    if labels is None:
        paired = rows["train"][0].pair is not None
        whole = rows["train"] + (rows["validation"] if held else [])  # a rare label may be held out
        labels = replace(find_labels(section, whole, faults), pairs=paired)
    sets = {name: _as_set(name, found, labels, faults) for name, found in rows.items()}
    faults.check()
    if labels.kind == "single" and len(labels.names) < 2:
        what = f"{where}: the training part has one label only, {labels.names[0]!r}"
        raise DataError(Problem(what, hint="a classifier needs two or more"))
    train, validation = sets.pop("train"), sets.pop("validation")
    reader = _reader(tokenizer, train)
    return LabelledSets(train, validation, list(sets.values()), labels, reader, where)


def _rows(
    section: TextSection, faults: Faults, progress: Progress | None
) -> tuple[dict[str, list[Row]], str, bool]:
    """Rows by part (train, validation, test sets), where they are, and whether validation is held out."""
    if section.path == "builtin":
        rows = builtin_sets(isinstance(section, Documents))
        if section.limit:
            rows["train"] = rows["train"][: section.limit]
        kind = "documents" if isinstance(section, Documents) else "sentences"
        return rows, f"built-in {kind}", False
    parts = open_parts(section, f"attn finetune classify --data {section.path}")
    rows = read_parts(
        parts,
        lambda part, limit: _read(section, part, faults, progress, limit),
        section.limit,
        "examples",
        faults,
    )
    return rows, parts.describe(), parts.validation is None


def _read(
    section: TextSection, part: Part, faults: Faults, progress: Progress | None, limit: int = 0
) -> list[Row]:
    rows: list[Row] = []
    size = 0
    for row in read_part(section, part, faults):
        rows.append(row)
        size += len(row.text)
        if progress:
            progress("reading", len(rows), size)
        if limit and len(rows) >= limit:
            break
    usable(faults, len(rows), part)
    return rows


def _as_set(name: str, rows: list[Row], labels: Labels, faults: Faults) -> TextSet:
    pairs = [row.pair or "" for row in rows] if labels.pairs else None
    if labels.pairs and rows and rows[0].pair is None:
        faults.add("has one text a record where the model reads pairs", rows[0].where)
    targets = targets_of([(row.label, row.where) for row in rows], labels, faults, name)
    return TextSet(name, [row.text for row in rows], pairs, targets, [row.where for row in rows])


def read_set(section: TextSection, labels: Labels, name: str, *, part: bool) -> TextSet:
    """Texts to measure a finished model on: a ``part`` of its own data, or other data by its path.

    Raises:
        DataError: no such part or path, or bad data.
    """
    faults = Faults()
    if section.path == "builtin" and part:
        rows = builtin_sets(isinstance(section, Documents))
        if name not in rows:
            raise DataError(
                Problem(f"the built-in set has no part {name!r}", hint=f"it has {', '.join(rows)}")
            )
        found = rows[name]
    elif part:
        parts = open_parts(section, "")
        chosen = parts.by_name(name)
        if (chosen is None and name == "validation") or (name == "train" and parts.validation is None):
            found = _rows(section, faults, None)[0][name]
        elif chosen is None:
            raise no_part(parts, name)
        else:
            found = _read(section, chosen, faults, None)
    else:
        other = single_part(name, "--data", section.path)
        name = other.name
        found = _read(section, other, faults, None)
    examples = _as_set(name, found, labels, faults)
    faults.check()
    return examples


def unlabelled(texts: list[str], pairs: list[str] | None, labels: Labels) -> TextSet:
    """Texts that are to be labelled."""
    return TextSet("input", texts, pairs, labels.blank(len(texts)))


def _reader(tokenizer: Any, train: TextSet) -> Any:
    if isinstance(tokenizer, TextTokenizer):
        texts = train.texts if train.pairs is None else [*train.texts, *train.pairs]
        return EncoderTokenizer(train_tokenizer(tokenizer, texts))
    if isinstance(tokenizer, WordSection):
        return DocumentTokenizer.train(tokenizer, train.texts)
    return tokenizer


# Batches


def _examples(
    examples: TextSet,
    tokenizer: Reader,
    *,
    batch: int,
    shuffle: bool,
    max_length: int,
    max_sentences: int | None,
) -> Rows:
    targets = torch.from_numpy(examples.targets)

    def labelled(chosen: NDArray[np.int64], made: Batch) -> Batch:
        index = torch.from_numpy(chosen)
        return made | {"labels": targets[index], "index": index}

    if isinstance(tokenizer, DocumentTokenizer):
        documents = encode_documents(examples.texts, tokenizer, max_length, max_sentences or 60)
        return Rows(
            documents.lengths,
            lambda chosen, _: labelled(chosen, documents.batch(chosen)),
            batch=batch,
            shuffle=shuffle,
        )
    encoded = tokenizer.encode(examples.texts, examples.pairs, max_length=max_length)
    lengths = np.array([len(ids) for ids in encoded.ids], np.int64)
    segments = any(part.any() for part in encoded.segments)

    def collate(chosen: NDArray[np.int64], _: np.random.Generator) -> Batch:
        tokens = pad([encoded.ids[at] for at in chosen], tokenizer.pad_id)  # [B, T]
        keep = np.arange(tokens.shape[1]) < lengths[chosen][:, None]
        made = {"tokens": torch.from_numpy(tokens), "keep": torch.from_numpy(keep)}
        if segments:
            made["segments"] = torch.from_numpy(pad([encoded.segments[at] for at in chosen], 0))
        return labelled(chosen, made)

    return Rows(lengths, collate, batch=batch, shuffle=shuffle)


def training_batches(
    examples: TextSet,
    tokenizer: Reader,
    *,
    batch: int,
    seed: int,
    max_length: int,
    max_sentences: int | None = None,
) -> EpochBatches:
    """An endless stream of batches of like length, each epoch in its own order."""
    made = _examples(
        examples,
        tokenizer,
        batch=batch,
        shuffle=True,
        max_length=max_length,
        max_sentences=max_sentences,
    )
    return EpochBatches(made, seed)


def evaluation_batches(
    examples: TextSet,
    tokenizer: Reader,
    *,
    batch: int,
    max_length: int,
    max_sentences: int | None = None,
) -> EvaluationBatches:
    """Every example once, the longest first."""
    made = _examples(
        examples,
        tokenizer,
        batch=batch,
        shuffle=False,
        max_length=max_length,
        max_sentences=max_sentences,
    )
    return EvaluationBatches(made, 0)

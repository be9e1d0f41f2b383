"""Tagged words: read, checked, cut into windows that an encoder can take, and made into batches."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from attncli.data.builtin_tagged import builtin_sentences
from attncli.data.example_parts import Part, no_part, open_parts, read_parts, single_part, usable
from attncli.data.faults import Faults, quoted
from attncli.data.order import Batch, EpochBatches, EvaluationBatches
from attncli.data.rows import Rows, pad
from attncli.data.sources import Progress
from attncli.data.tagged_records import ENDINGS, Sentence, read_part
from attncli.data.text_tokenizer import EncoderTokenizer
from attncli.data.tokenizers import train_tokenizer
from attncli.errors import CheckpointError, DataError, Problem
from attncli.metrics import schemes
from attncli.recipe.pretrain import TextTokenizer
from attncli.recipe.text import TaggedText

_FILE = "labels.json"


@dataclass(frozen=True)
class TagLabels:
    """The tags of a run: what the data has, and what the model learns."""

    names: list[str]
    """Of the model's outputs."""
    scheme: str
    """Of the data; none where tags stand alone."""
    learned: str
    """Of ``names``."""

    def ids(self, tags: Sequence[str]) -> list[int]:
        """Outputs of a sentence's tags."""
        place = {name: at for at, name in enumerate(self.names)}
        return [place[tag] for tag in schemes.convert(tags, self.scheme, self.learned)]

    def tags(self, ids: Sequence[int]) -> list[str]:
        """A sentence's tags, in the scheme of the data, from the model's outputs."""
        found = [self.names[at] for at in ids]
        return (
            found
            if self.scheme == "none"
            else schemes.tags_of(schemes.spans(found, self.learned), len(found), self.scheme)
        )

    def allowed(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
        """Which tags may begin a sentence [L], end it [L], and follow each other [L, L] (from, to)."""
        names, scheme = self.names, self.learned
        start = np.array([schemes.allowed(None, name, scheme) for name in names])
        end = np.array([schemes.allowed(name, None, scheme) for name in names])
        step = np.array([[schemes.allowed(a, b, scheme) for b in names] for a in names])
        return start, end, step

    def save(self, folder: Path) -> None:
        """Write ``labels.json``."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False)
        (folder / _FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> TagLabels:
        """What :meth:`save` wrote; CheckpointError where it is missing or damaged."""
        path = folder / _FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return cls([str(name) for name in values["names"]], str(values["scheme"]), str(values["learned"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(Problem(f"cannot be read: {error}", where=str(path))) from None


@dataclass
class WordSet:
    """Sentences as words, with a tag for each."""

    name: str
    sentences: list[list[str]]
    tags: list[list[str]]
    places: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.sentences)


@dataclass
class TaggedSets:
    """What a tagger learns from and is measured on."""

    train: WordSet
    validation: WordSet
    tests: list[WordSet]
    labels: TagLabels
    tokenizer: EncoderTokenizer
    where: str

    def describe(self) -> str:
        """One line for the console."""
        counts = f"{len(self.train):,} training and {len(self.validation):,} validation"
        tests = "".join(f", {len(test):,} {test.name}" for test in self.tests)
        if self.labels.scheme == "none":
            what = f"{len(self.labels.names)} tags ({quoted(self.labels.names, 6)})"
        else:
            kinds = sorted({schemes.split(name)[1] for name in self.labels.names} - {""})
            types = f"{len(kinds)} types of entities" if kinds else "entities without types"
            what = f"{types} in {self.labels.scheme}" + (f" ({quoted(kinds, 6)})" if kinds else "")
            if self.labels.learned != self.labels.scheme:
                what += f", learnt in {self.labels.learned}"
        return f"{self.where}: {counts}{tests} sentences; {what}"


def prepare_tagged(
    section: TaggedText,
    tokenizer: EncoderTokenizer | TextTokenizer,
    progress: Progress | None = None,
    labels: TagLabels | None = None,
) -> TaggedSets:
    """Everything that a tagger learns from.

    Args:
        section: the ``data`` section.
        tokenizer: one that exists, or the section that says how one is trained on the training sentences.
        progress: called with what is being done, sentences and bytes.
        labels: of a run that goes on or is measured; found in the training part where it is None.

    Raises:
        DataError: all that is wrong with the data, up to a cap, each with file, line and reason.
    """
    faults = Faults()
    found, where, held = _sentences(section, faults, progress)
    faults.check()
    sets = {name: _as_set(name, sentences) for name, sentences in found.items()}
    if labels is None:
        whole = sets["train"].tags + (sets["validation"].tags if held else [])  # a rare tag may be held out
        labels = find_tags(section, whole)
    for one in sets.values():
        _check_tags(one, labels, faults)
    faults.check()
    train, validation = sets.pop("train"), sets.pop("validation")
    if isinstance(tokenizer, TextTokenizer):
        tokenizer = EncoderTokenizer(
            train_tokenizer(tokenizer, [" ".join(words) for words in train.sentences])
        )
    return TaggedSets(train, validation, list(sets.values()), labels, tokenizer, where)


def _as_set(name: str, sentences: list[Sentence]) -> WordSet:
    return WordSet(
        name,
        [sentence.words for sentence in sentences],
        [sentence.tags for sentence in sentences],
        [sentence.where for sentence in sentences],
    )


def _sentences(
    section: TaggedText, faults: Faults, progress: Progress | None
) -> tuple[dict[str, list[Sentence]], str, bool]:
    if section.path == "builtin":
        sentences = builtin_sentences()
        if section.limit:
            sentences["train"] = sentences["train"][: section.limit]
        return sentences, "built-in sentences", False
    parts = open_parts(section, f"attn finetune ner --data {section.path}", ENDINGS)
    sentences = read_parts(
        parts,
        lambda part, limit: _read(section, part, faults, progress, limit),
        section.limit,
        "sentences",
        faults,
    )
    return sentences, parts.describe(), parts.validation is None


def _read(
    section: TaggedText, part: Part, faults: Faults, progress: Progress | None, limit: int = 0
) -> list[Sentence]:
    found: list[Sentence] = []
    size = 0
    for sentence in read_part(section, part, faults):
        found.append(sentence)
        size += sum(map(len, sentence.words))
        if progress:
            progress("reading", len(found), size)
        if limit and len(found) >= limit:
            break
    usable(faults, len(found), part)
    return found


def find_tags(section: TaggedText, sentences: list[list[str]]) -> TagLabels:
    """The tags of the training part, and their scheme where the recipe leaves it open."""
    scheme = section.scheme if section.scheme != "auto" else schemes.detect(sentences)
    found = {tag for tags in sentences for tag in tags}
    if scheme == "none":
        if section.train_scheme != "same":
            raise DataError(
                Problem(
                    f"data.train_scheme={section.train_scheme}: these tags are of no scheme: "
                    f"{quoted(sorted(found), 6)}"
                )
            )
        names = sorted(found)
        if len(names) < 2:
            raise DataError(Problem(f"{section.path}: the training part has one tag only, {names[0]!r}"))
        return TagLabels(names, scheme, scheme)
    learned = scheme if section.train_scheme == "same" else section.train_scheme
    kinds = {schemes.split(tag)[1] for tag in found if schemes.split(tag)[0] not in ("O", "")}
    return TagLabels(schemes.label_set(kinds, learned), scheme, learned)


def _check_tags(examples: WordSet, labels: TagLabels, faults: Faults) -> None:
    """Tags that are none of the scheme, and entity types or tags that the training part lacks."""
    kinds = {schemes.split(name)[1] for name in labels.names} - {""}
    known = set(labels.names)
    told: set[str] = set()
    for tags, where in zip(examples.tags, examples.places, strict=True):
        for tag in tags:
            if tag in told:
                continue
            if labels.scheme == "none":
                if tag not in known:
                    told.add(tag)
                    faults.add(
                        f"tag {tag!r} is not in the training part", where, f"it has {quoted(labels.names, 8)}"
                    )
                continue
            prefix, kind = schemes.split(tag)
            if prefix == "O" and not kind:
                continue
            if not prefix or bool(kind) != bool(kinds) or prefix not in "BIESLUMW":
                told.add(tag)
                faults.add(
                    f"tag {tag!r} is none of {labels.scheme}",
                    where,
                    "data.scheme=none for tags that stand alone",
                )
            elif kinds and kind not in kinds:
                told.add(tag)
                faults.add(
                    f"type {kind!r} is not in the training part", where, f"it has {quoted(sorted(kinds), 8)}"
                )


def read_words(section: TaggedText, labels: TagLabels, name: str, *, part: bool) -> WordSet:
    """Sentences to measure a finished model on: a ``part`` of its own data, or other data by its path.

    Raises:
        DataError: no such part or path, or bad data.
    """
    faults = Faults()
    if section.path == "builtin" and part:
        sentences = builtin_sentences()
        if name not in sentences:
            raise DataError(
                Problem(f"the built-in set has no part {name!r}", hint=f"it has {', '.join(sentences)}")
            )
        found = sentences[name]
    elif part:
        parts = open_parts(section, "", ENDINGS)
        chosen = parts.by_name(name)
        if name in ("train", "validation") and parts.validation is None:
            found = _sentences(section, faults, None)[0][name]
        elif chosen is None:
            raise no_part(parts, name)
        else:
            found = _read(section, chosen, faults, None)
    else:
        other = single_part(name, "--data", section.path, more=ENDINGS)
        name, found = other.name, _read(section, other, faults, None)
    examples = _as_set(name, found)
    _check_tags(examples, labels, faults)
    faults.check()
    return examples


# Windows and batches


@dataclass(frozen=True)
class _Window:
    """A stretch of a sentence's words, and which of them are scored in it."""

    sentence: int
    first: int
    ids: NDArray[np.int32]
    """With the special tokens around."""
    words: NDArray[np.int64]
    """Place in ``ids`` of each word's first piece."""
    scored: tuple[int, int]
    """First and end of the scored words, counted within the window."""


class TagWindows(Rows):
    """Sentences as rows of tokens; one that is too long as several, each word scored where it sees most.

    A word of more pieces than half a window is cut to that.
    """

    def __init__(
        self,
        examples: WordSet,
        tokenizer: EncoderTokenizer,
        labels: TagLabels,
        *,
        batch: int,
        max_length: int,
        shuffle: bool,
    ) -> None:
        self.windows: list[_Window] = []
        self._pad = tokenizer.pad_id
        self._labels = [np.array(labels.ids(tags), np.int64) for tags in examples.tags]
        room = max_length - tokenizer.special()
        encoded = tokenizer.encode_words(examples.sentences)
        for number, (ids, words) in enumerate(encoded):
            if len(examples.sentences[number]):
                self._cut(number, ids, words, len(examples.sentences[number]), room, tokenizer)
        lengths = np.array([len(window.ids) for window in self.windows], np.int64)
        super().__init__(lengths, self._collate, batch=batch, shuffle=shuffle)

    def _cut(
        self,
        number: int,
        ids: NDArray[np.int32],
        words: NDArray[np.int32],
        count: int,
        room: int,
        tokenizer: EncoderTokenizer,
    ) -> None:
        starts = np.searchsorted(words, np.arange(count + 1))
        pieces = [ids[a:b][: max(1, room // 2)] for a, b in itertools.pairwise(starts)]
        sizes = np.array([len(piece) for piece in pieces])
        for first, end, scored in stretches(sizes, room):
            around, _, begins = tokenizer.around(np.concatenate(pieces[first:end]))
            places = begins + np.concatenate(([0], sizes[first : end - 1].cumsum()))
            window = _Window(number, first, around, places.astype(np.int64), scored)
            self.windows.append(window)

    def _collate(self, chosen: NDArray[np.int64], _: np.random.Generator) -> Batch:
        windows = [self.windows[at] for at in chosen]
        tokens = pad([window.ids for window in windows], self._pad)  # [B, T]
        lengths = self.lengths[chosen]
        counts = np.array([len(window.words) for window in windows])
        words = pad([window.words for window in windows], 0)  # [B, W]
        words_keep = np.arange(words.shape[1]) < counts[:, None]
        labels = np.zeros_like(words)
        for row, window in enumerate(windows):
            first, end = window.scored
            known = self._labels[window.sentence][window.first : window.first + len(window.words)].copy()
            known[:first] = -100
            known[end:] = -100
            labels[row, : len(known)] = known
        made = {
            "tokens": tokens,
            "keep": np.arange(tokens.shape[1]) < lengths[:, None],
            "words": words,
            "words_keep": words_keep,
            "labels": labels,
            "index": chosen,
        }
        return {name: torch.from_numpy(value) for name, value in made.items()}


def stretches(sizes: NDArray[np.int64], room: int) -> list[tuple[int, int, tuple[int, int]]]:
    """Words of ``sizes`` pieces as stretches of at most ``room``: first, end, and the scored part within.

    Neighbours overlap by half where there is more than one. Each word is scored once, in the stretch where
    the nearer end of what is left out is farthest away.
    """
    count = len(sizes)
    ends = np.concatenate(([0], sizes.cumsum()))
    found: list[tuple[int, int]] = []
    first = 0
    while True:
        end = int(np.searchsorted(ends, ends[first] + room, side="right")) - 1
        end = max(end, first + 1)
        found.append((first, end))
        if end >= count:
            break
        half = int(np.searchsorted(ends, ends[end] - room // 2))
        first = min(max(half, first + 1), end)
    bounds = [0]
    for (_, before), (after, _) in itertools.pairwise(found):
        bounds.append((before + after + 1) // 2)
    bounds.append(count)
    return [
        (first, end, (low - first, high - first))
        for (first, end), low, high in zip(found, bounds[:-1], bounds[1:], strict=True)
    ]


def training_batches(
    examples: WordSet,
    tokenizer: EncoderTokenizer,
    labels: TagLabels,
    *,
    batch: int,
    seed: int,
    max_length: int,
) -> EpochBatches:
    """An endless stream of windows of like length, each epoch in its own order."""
    windows = TagWindows(examples, tokenizer, labels, batch=batch, max_length=max_length, shuffle=True)
    return EpochBatches(windows, seed)


def evaluation_batches(
    examples: WordSet, tokenizer: EncoderTokenizer, labels: TagLabels, *, batch: int, max_length: int
) -> EvaluationBatches:
    """Every window once, the longest first."""
    windows = TagWindows(examples, tokenizer, labels, batch=batch, max_length=max_length, shuffle=False)
    return EvaluationBatches(windows, 0)


def restore(
    examples: WordSet, windows: TagWindows, found: Mapping[int, Sequence[int]], labels: TagLabels
) -> list[list[str]]:
    """Tags of each sentence from the labels of all words of each window."""
    ids: list[list[int]] = [[] for _ in examples.sentences]
    for number, window in enumerate(windows.windows):
        first, end = window.scored
        ids[window.sentence] += list(found[number])[first:end]
    return [labels.tags(one) for one in ids]


def untagged(sentences: list[list[str]], labels: TagLabels) -> WordSet:
    """Sentences that are to be tagged."""
    blank = "O" if labels.scheme != "none" else labels.names[0]
    return WordSet("input", sentences, [[blank] * len(words) for words in sentences])

"""Questions on texts: read, checked, and made into batches of windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from attncli.data.builtin_questions import builtin_questions
from attncli.data.example_parts import Part, held_out, no_part, open_parts, single_part, usable
from attncli.data.faults import Faults
from attncli.data.order import EpochBatches, EvaluationBatches
from attncli.data.question_records import Question, read_part
from attncli.data.question_windows import QuestionWindows
from attncli.data.sources import Progress
from attncli.data.text_tokenizer import EncoderTokenizer
from attncli.data.tokenizers import train_tokenizer
from attncli.errors import DataError, Problem
from attncli.recipe.pretrain import TextTokenizer
from attncli.recipe.text import QuestionData


@dataclass
class QuestionSet:
    """Questions, each on a text."""

    name: str
    questions: list[Question]

    def __len__(self) -> int:
        return len(self.questions)

    @property
    def gold(self) -> dict[str, list[str]]:
        """Answers by question id."""
        return {one.id: [text for text, _ in one.answers] for one in self.questions}

    @property
    def unanswerable(self) -> bool:
        """Whether some question has no answer."""
        return any(not one.answers for one in self.questions)


@dataclass
class QuestionSets:
    """What a model learns to answer from and is measured on."""

    train: QuestionSet
    validation: QuestionSet
    tests: list[QuestionSet]
    tokenizer: EncoderTokenizer
    where: str
    unanswerable: bool

    def describe(self) -> str:
        """One line for the console."""
        counts = f"{len(self.train):,} training and {len(self.validation):,} validation"
        tests = "".join(f", {len(test):,} {test.name}" for test in self.tests)
        some = sum(not one.answers for one in self.train.questions)
        text = f"{self.where}: {counts}{tests} questions"
        return text + (f"; {some / max(len(self.train), 1):.0%} have no answer" if self.unanswerable else "")


def prepare_questions(
    section: QuestionData, tokenizer: EncoderTokenizer | TextTokenizer, progress: Progress | None = None
) -> QuestionSets:
    """Everything that a model learns to answer from.

    Args:
        section: the ``data`` section.
        tokenizer: one that exists, or the section that says how one is trained on the training texts.
        progress: called with what is being done, questions and bytes.

    Raises:
        DataError: all that is wrong with the data, up to a cap, each with its file and question.
    """
    faults = Faults()
    found, where = _questions(section, faults, progress)
    faults.check()
    sets = {name: QuestionSet(name, questions) for name, questions in found.items()}
    train, validation = sets.pop("train"), sets.pop("validation")
    unanswerable = section.unanswerable == "yes" or (section.unanswerable == "auto" and train.unanswerable)
    if section.unanswerable == "no" and train.unanswerable:
        number = sum(not one.answers for one in train.questions)
        raise DataError(
            Problem(
                f"data.unanswerable=no: {number:,} training questions have no answer",
                hint="data.unanswerable=yes",
            )
        )
    if isinstance(tokenizer, TextTokenizer):
        contexts = dict.fromkeys(one.context for one in train.questions)
        texts = [*contexts, *(one.question for one in train.questions)]
        tokenizer = EncoderTokenizer(train_tokenizer(tokenizer, texts))
    return QuestionSets(train, validation, list(sets.values()), tokenizer, where, unanswerable)


def _questions(
    section: QuestionData, faults: Faults, progress: Progress | None
) -> tuple[dict[str, list[Question]], str]:
    if section.path == "builtin":
        found = builtin_questions(section.unanswerable != "no")
        if section.limit:
            found["train"] = found["train"][: section.limit]
        return found, "built-in questions"
    parts = open_parts(section, f"attn finetune qa --data {section.path}")
    found = {"train": _read(parts.train, faults, progress, section.limit)}
    if parts.validation is not None:
        found["validation"] = _read(parts.validation, faults, progress)
    for test in parts.tests:
        found[test.name] = _read(test, faults, progress)
    faults.check()
    if parts.validation is None:
        contexts = {text: at for at, text in enumerate(dict.fromkeys(q.context for q in found["train"]))}
        held = held_out(parts.share, len(contexts))
        whole = found["train"]
        found["train"] = [one for one in whole if not held[contexts[one.context]]]
        found["validation"] = [one for one in whole if held[contexts[one.context]]]
        if not found["train"]:
            what = f"{parts.root}: all questions are on one text, so none can be held out for validation"
            raise DataError(Problem(what, hint="set data.validation=PATH"))
    order = ["train", "validation", *(test.name for test in parts.tests)]
    return {name: found[name] for name in order}, parts.describe()


def _read(part: Part, faults: Faults, progress: Progress | None, limit: int = 0) -> list[Question]:
    found: list[Question] = []
    seen: dict[str, str] = {}
    size = 0
    for one in read_part(part, faults):
        if one.id in seen:
            faults.add(f"question id {one.id!r} comes twice; first at {seen[one.id]}", one.where)
        seen[one.id] = one.where
        found.append(one)
        size += len(one.question)
        if progress:
            progress("reading", len(found), size)
        if limit and len(found) >= limit:
            break
    usable(faults, len(found), part)
    return found


def read_questions(section: QuestionData, name: str, *, part: bool) -> QuestionSet:
    """Questions to measure a finished model on: a ``part`` of its own data, or other data by its path.

    Raises:
        DataError: no such part or path, or bad data.
    """
    faults = Faults()
    if part:
        if section.path == "builtin":
            sets = builtin_questions(section.unanswerable != "no")
            if name not in sets:
                what = f"the built-in set has no part {name!r}"
                raise DataError(Problem(what, hint=f"it has {', '.join(sets)}"))
            return QuestionSet(name, sets[name])
        parts = open_parts(section, "")
        chosen = parts.by_name(name)
        if name in ("train", "validation") and parts.validation is None:
            found = _questions(section, faults, None)[0][name]
        elif chosen is None:
            raise no_part(parts, name)
        else:
            found = _read(chosen, faults, None)
    else:
        other = single_part(name, "--data", section.path)
        name, found = other.name, _read(other, faults, None)
    faults.check()
    return QuestionSet(name, found)


def asked(questions: Sequence[str], contexts: Sequence[str]) -> QuestionSet:
    """Questions that are to be answered."""
    pairs = enumerate(zip(questions, contexts, strict=True))
    return QuestionSet("input", [Question(str(at), one, text, (), "") for at, (one, text) in pairs])


def training_batches(
    examples: QuestionSet,
    tokenizer: EncoderTokenizer,
    *,
    batch: int,
    seed: int,
    max_length: int,
    stride: int,
    max_question: int,
) -> EpochBatches:
    """An endless stream of windows of like length, each epoch in its own order.

    A question with several answers is learnt with the first.
    """
    windows = QuestionWindows(
        examples.questions,
        tokenizer,
        batch=batch,
        shuffle=True,
        max_length=max_length,
        stride=stride,
        max_question=max_question,
    )
    return EpochBatches(windows, seed)


def evaluation_batches(
    examples: QuestionSet,
    tokenizer: EncoderTokenizer,
    *,
    batch: int,
    max_length: int,
    stride: int,
    max_question: int,
) -> EvaluationBatches:
    """Every window once, the longest first."""
    windows = QuestionWindows(
        examples.questions,
        tokenizer,
        batch=batch,
        shuffle=False,
        max_length=max_length,
        stride=stride,
        max_question=max_question,
    )
    return EvaluationBatches(windows, 0)


class Answer(NamedTuple):
    """A stretch of a text that may answer a question."""

    text: str
    score: float
    """Logit of its start plus that of its end."""
    start: int
    """First character in the text."""
    end: int
    """Behind its last character."""
    none_score: float
    """What no answer scores for this question: the least over the windows."""


def best_answers(
    examples: QuestionSet,
    windows: QuestionWindows,
    starts: Sequence[NDArray[np.floating]],
    ends: Sequence[NDArray[np.floating]],
    *,
    max_answer: int,
    nbest: int,
) -> list[list[Answer]]:
    """The ``nbest`` answers to each question over all its windows, best first, none of them empty.

    ``starts`` and ``ends`` hold the logits of each window, as long as its tokens. An answer starts in the
    window where its first token has most around it, so that overlapping windows do not count twice.
    """
    found: list[list[tuple[float, int, int]]] = [[] for _ in examples.questions]
    none = np.full(len(examples), np.inf)
    for window, start, end in zip(windows.windows, starts, ends, strict=True):
        number = window.question
        none[number] = min(none[number], float(start[0] + end[0]))
        first, last = window.begins, window.begins + len(window.offsets)
        start, end = start[first:last], end[first:last]
        start = np.where(window.scored, start, -np.inf)
        a, b = (np.argsort(-side, kind="stable")[:nbest] for side in (start, end))
        total = start[a][:, None] + end[b][None, :]  # [n, n]
        fits = (b[None, :] >= a[:, None]) & (b[None, :] < a[:, None] + max_answer) & np.isfinite(total)
        rows, columns = np.nonzero(fits)
        scores = total[rows, columns]
        for at in np.argsort(-scores, kind="stable")[:nbest]:
            low, high = window.offsets[a[rows[at]], 0], window.offsets[b[columns[at]], 1]
            found[number].append((float(scores[at]), int(low), int(high)))
    return [
        _ranked(one.context, candidates, float(least), nbest)
        for one, candidates, least in zip(examples.questions, found, none, strict=True)
    ]


def _ranked(
    context: str, candidates: list[tuple[float, int, int]], none_score: float, nbest: int
) -> list[Answer]:
    answers: dict[str, Answer] = {}
    for score, low, high in sorted(candidates, key=lambda one: (-one[0], one[1], one[2])):
        while low < high and context[low].isspace():
            low += 1
        while high > low and context[high - 1].isspace():
            high -= 1
        text = context[low:high]
        if text and text not in answers:
            answers[text] = Answer(text, score, low, high, none_score)
        if len(answers) == nbest:
            break
    return list(answers.values())

"""Windows of a question and a part of its text, which overlap where the text is long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from attncli.data.order import Batch
from attncli.data.question_records import Question
from attncli.data.rows import Rows, pad
from attncli.data.text_tokenizer import EncoderTokenizer
from attncli.errors import Problem, RecipeError


@dataclass(frozen=True)
class Window:
    """A question and a stretch of its text."""

    question: int
    ids: NDArray[np.int32]
    segments: NDArray[np.int32]
    begins: int
    """Where the text begins in ``ids``."""
    offsets: NDArray[np.int64]
    """Characters of the text that each of its tokens is of, [N, 2]."""
    scored: NDArray[np.bool_]
    """[N]: tokens that have more around them here than in any other window."""
    start: int
    """First token of the answer in ``ids``; 0 where there is none in this window."""
    end: int


class QuestionWindows(Rows):
    """Windows of questions as rows of tokens."""

    def __init__(
        self,
        questions: Sequence[Question],
        tokenizer: EncoderTokenizer,
        *,
        batch: int,
        shuffle: bool,
        max_length: int,
        stride: int,
        max_question: int,
    ) -> None:
        room = max_length - tokenizer.special(pair=True) - max_question
        if room <= stride:
            raise RecipeError(
                Problem(
                    f"data.max_length={max_length}: beside a question of data.max_question={max_question} "
                    f"tokens and the special ones there is room for {room} of the text, and windows share "
                    f"data.stride={stride}",
                    hint="a larger max_length, a smaller stride or max_question",
                )
            )
        self.windows: list[Window] = []
        self._pad = tokenizer.pad_id
        contexts = list(dict.fromkeys(one.context for one in questions))
        encoded = dict(zip(contexts, tokenizer.encode_with_offsets(contexts), strict=True))
        asked = tokenizer.encode_with_offsets([one.question for one in questions])
        for number, (one, (ids, _)) in enumerate(zip(questions, asked, strict=True)):
            question = ids[:max_question]
            text, offsets = encoded[one.context]
            room = max_length - tokenizer.special(pair=True) - len(question)
            answer = answer_tokens(one, offsets)
            cuts = _cuts(len(text), room, stride)
            for first, end in cuts:
                row, segments, begins = tokenizer.around(question, text[first:end])
                inside = answer is not None and first <= answer[0] and answer[1] < end
                start, last = (begins + answer[0] - first, begins + answer[1] - first) if inside else (0, 0)
                scored = _most_around(first, end, cuts)
                self.windows.append(
                    Window(number, row, segments, begins, offsets[first:end], scored, start, last)
                )
        self.segments = any(window.segments.any() for window in self.windows)
        lengths = np.array([len(window.ids) for window in self.windows], np.int64)
        super().__init__(lengths, self._collate, batch=batch, shuffle=shuffle)

    def _collate(self, chosen: NDArray[np.int64], _: np.random.Generator) -> Batch:
        windows = [self.windows[at] for at in chosen]
        tokens = pad([window.ids for window in windows], self._pad)  # [B, T]
        place = np.arange(tokens.shape[1])
        begins = np.array([window.begins for window in windows])
        counts = np.array([len(window.offsets) for window in windows])
        made = {
            "tokens": tokens,
            "keep": place < self.lengths[chosen][:, None],
            "context": (place >= begins[:, None]) & (place < (begins + counts)[:, None]),
            "start": np.array([window.start for window in windows], np.int64),
            "end": np.array([window.end for window in windows], np.int64),
            "index": chosen,
        }
        if self.segments:
            made["segments"] = pad([window.segments for window in windows], 0)
        return {name: torch.from_numpy(value) for name, value in made.items()}


def answer_tokens(question: Question, offsets: NDArray[np.int64]) -> tuple[int, int] | None:
    """First and last token that the first answer touches; None where there is none."""
    if not question.answers or not len(offsets):
        return None
    text, low = question.answers[0]
    high = low + len(text)
    touched = np.flatnonzero((offsets[:, 0] < high) & (offsets[:, 1] > low))
    return (int(touched[0]), int(touched[-1])) if len(touched) else None


def _cuts(count: int, room: int, stride: int) -> list[tuple[int, int]]:
    """Stretches of at most ``room`` tokens, neighbours sharing ``stride``; one for a text of none."""
    found = [(0, min(room, count))]
    while found[-1][1] < count:
        first = found[-1][1] - stride
        found.append((first, min(first + room, count)))
    return found


def _most_around(first: int, end: int, cuts: list[tuple[int, int]]) -> NDArray[np.bool_]:
    """Tokens of a stretch whose nearer end is farther away than in other stretches; the first one wins."""
    place = np.arange(first, end)
    own = np.minimum(place - first, end - 1 - place)
    best = np.ones(len(place), bool)
    for other in cuts:
        if other == (first, end):
            continue
        there = (place >= other[0]) & (place < other[1])
        theirs = np.minimum(place - other[0], other[1] - 1 - place)
        best &= ~there | (own > theirs if other < (first, end) else own >= theirs)
    return best

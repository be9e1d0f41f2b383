"""Why a run answers a question as it does: attention, rollout and gradients, token by token."""

from __future__ import annotations

import numpy as np
import torch

from attncli.attention import record
from attncli.data.question_windows import Window
from attncli.data.questions import Answer, asked
from attncli.tasks.answer import AnswerTask
from attncli.tasks.explaining import Explained, Tokens, maps_of
from attncli.tasks.pruning import Prediction, heads_of


def explain_answer(task: AnswerTask, question: str, context: str) -> Explained:
    """Everything that ``inspect`` shows of a question and its text: of the window with the best answer.

    ValueError for a question or a text without a token.
    """
    examples = asked([question], [context])
    windows = task.evaluation_batches(examples).examples.windows
    if not len(windows[0].offsets):
        raise ValueError("the text has no token")
    with torch.no_grad():
        answers = task.apply([question], [context])[0]
    at = next((n for n, window in enumerate(windows) if answers and _within(window, answers[0])), 0)
    window = windows[at]
    device = next(task.model.parameters()).device
    inputs = {"tokens": torch.from_numpy(window.ids.astype(np.int64))[None].to(device)}
    if window.segments.any():
        inputs["segments"] = torch.from_numpy(window.segments.astype(np.int64))[None].to(device)
    with torch.no_grad(), record(task.model) as recorded:
        task.model(**inputs)
    first, last = _tokens(window, answers[0]) if answers else (0, 0)
    allowed = torch.zeros(len(window.ids), dtype=torch.bool, device=device)
    allowed[0] = True  # no answer
    allowed[window.begins : window.begins + len(window.offsets)] = True

    def predict() -> Prediction:
        start, end = (logits[0, allowed] for logits in task.model(**inputs))
        return Prediction.of(torch.stack([start, end]))

    def score() -> torch.Tensor:
        start, end = task.model(**inputs)
        return start.float()[0, first] + end.float()[0, last]

    chosen = task.chosen(answers)
    rows = [(answer.text, f"{answer.score:.3f}") for answer in answers[:5]]
    return Explained(
        rows if chosen else [("no answer", ""), *rows],
        f"the answer {answers[0].text!r}" if answers else "no answer",
        _shown(task, window, context),
        maps_of(recorded.weights),
        score,
        predict,
        heads_of(recorded.weights),
        task.model.encoder.embeddings.word,
        np.arange(len(window.ids)),
        shares={"score of the best answer": answers[0].score} if answers else {},
    )


def _within(window: Window, answer: Answer) -> bool:
    return window.offsets[0, 0] <= answer.start and answer.end <= window.offsets[-1, 1]


def _tokens(window: Window, answer: Answer) -> tuple[int, int]:
    """First and last token of an answer in the window's row."""
    touched = np.flatnonzero((window.offsets[:, 0] < answer.end) & (window.offsets[:, 1] > answer.start))
    return (window.begins + int(touched[0]), window.begins + int(touched[-1])) if len(touched) else (0, 0)


def _shown(task: AnswerTask, window: Window, context: str) -> Tokens:
    """The question as its tokens, the text as its own characters."""
    tokenizer = task.tokenizer.tokenizer
    texts, blanks, special = [], [], []
    before = None
    for at, token in enumerate(window.ids.tolist()):
        place = at - window.begins
        inside = 0 <= place < len(window.offsets)
        if inside:
            first, end = window.offsets[place]
            blank = before is None or first > before or context[first : first + 1].isspace()
            text, before = context[first:end].strip(), end
        else:
            written = tokenizer.tokens[token]
            text, blank = written.removeprefix("##").lstrip("▁Ġ"), not written.startswith("##")
        texts.append(text)
        blanks.append(bool(blank))
        special.append(token in tokenizer.special_ids)
    return Tokens([texts], [blanks], [special])

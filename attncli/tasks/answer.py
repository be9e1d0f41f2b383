"""Question answering: the span of a text that answers a question, or none."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from attncli.data.order import EpochBatches, EvaluationBatches
from attncli.data.questions import (
    Answer,
    QuestionSet,
    QuestionSets,
    asked,
    best_answers,
    evaluation_batches,
    prepare_questions,
    read_questions,
    training_batches,
)
from attncli.data.text_tokenizer import EncoderTokenizer
from attncli.metrics.answers import best_threshold, score
from attncli.models.text import SpanModel
from attncli.recipe.finetune import AnswerRecipe
from attncli.tasks.encoders import Adapted, begin
from attncli.tasks.label_losses import disagreement, doubled
from attncli.tasks.labelled import LabelTask
from attncli.tasks.watch import Watch
from attncli.training.task import Batch, Goal, Shard

_INPUTS = ("tokens", "segments", "keep")
_THRESHOLD = "threshold.json"


class AnswerTask(Adapted, LabelTask):
    """An encoder that points at where an answer starts and ends."""

    name = "answer"
    unit = "windows"
    model: SpanModel
    updates, passes = 1000, 2.0

    def __init__(
        self, recipe: AnswerRecipe, tokenizer: EncoderTokenizer, sets: QuestionSets | None, model: SpanModel
    ) -> None:
        """``sets`` None gives a task that can be applied, not trained or evaluated."""
        self.recipe, self.tokenizer, self.sets, self.model = recipe, tokenizer, sets, model
        self.goal = Goal(recipe.train.goal, higher=recipe.train.goal != "loss")
        self.threshold = recipe.evaluate.no_answer_threshold
        self.measured: QuestionSet | None = None

    @classmethod
    def build(cls, recipe: AnswerRecipe, run: Path | None = None) -> AnswerTask:
        """The task of ``recipe``: data read, the base's weights or fresh ones.

        With ``run``, the tokeniser and the shape of the model stored there.
        """
        start = begin(recipe, run)
        with Watch() as watch:
            sets = prepare_questions(recipe.data, start.tokenizer or recipe.tokenizer, watch)
        task = cls(recipe, sets.tokenizer, sets, start.model(recipe, "span", 2, sets.tokenizer))
        task._load_threshold(run)
        return task

    @classmethod
    def opened(cls, recipe: AnswerRecipe, run: Path) -> AnswerTask:
        """The task of a finished run, to be applied: without its data."""
        start = begin(recipe, run)
        task = cls(recipe, start.tokenizer, None, start.stored(recipe.model))
        task._load_threshold(run)
        return task

    def save(self, run: Path) -> None:
        """Store beside the recipe what a run needs besides its weights."""
        self.tokenizer.save(run)
        self.save_model(run)

    def _load_threshold(self, run: Path | None) -> None:
        if self.threshold is None and run is not None and (run / _THRESHOLD).is_file():
            self.threshold = float(json.loads((run / _THRESHOLD).read_text(encoding="utf-8"))["threshold"])

    # Training

    def _shape(self) -> dict[str, Any]:
        data = self.recipe.data
        return {"max_length": data.max_length, "stride": data.stride, "max_question": data.max_question}

    def steps_an_epoch(self, batch: int) -> int:
        """Updates of a pass over the windows of the training part."""
        return -(-len(self.batches().examples.lengths) // batch)  # type: ignore[attr-defined]

    def batches(self) -> EpochBatches:
        """The training stream: windows of texts."""
        settings = self.recipe.train
        return training_batches(
            self.sets.train, self.tokenizer, batch=settings.batch, seed=settings.seed, **self._shape()
        )

    def evaluation_batches(self, examples: QuestionSet) -> EvaluationBatches:
        """The longest windows first."""
        return evaluation_batches(examples, self.tokenizer, batch=self.recipe.evaluate.batch, **self._shape())

    def counts(self, batch: Batch) -> dict[str, float]:
        """Windows."""
        counts = {"windows": float(len(batch["index"]))}
        return counts | ({"agreement": float(len(batch["index"]))} if self.recipe.train.r_drop else {})

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Mean of the cross-entropies of start and end, summed over windows; with R-Drop, of two passes."""
        inputs, weight = self._inputs(batch), self.recipe.train.r_drop
        if not weight:
            return {"windows": _loss(self._logits(inputs, batch["context"]), batch)}
        logits = self._logits(doubled(inputs), torch.cat((batch["context"], batch["context"])))
        first, second = zip(*(side.chunk(2) for side in logits), strict=True)
        apart = sum(disagreement(a, b, "single") for a, b in zip(first, second, strict=True)) / 2
        return {"windows": (_loss(first, batch) + _loss(second, batch)) / 2, "agreement": weight * apart}

    def _inputs(self, batch: Batch) -> dict[str, Tensor]:
        return {name: batch[name] for name in _INPUTS if name in batch}

    def _logits(self, inputs: dict[str, Tensor], context: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of start and end [B, T], float32; far below zero where nothing may start or end."""
        allowed = context.clone()
        allowed[:, 0] = True  # no answer
        start, end = self.model(**inputs)
        return start.float().masked_fill(~allowed, -1e4), end.float().masked_fill(~allowed, -1e4)

    def size(self, batch: Batch) -> int:
        """Windows."""
        return len(batch["index"])

    # Evaluation

    def predict(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """Logits of start and end, [B, T] each."""
        start, end = self._logits(self._inputs(batch), batch["context"])
        return start.cpu().numpy(), end.cpu().numpy()

    def answers(
        self, examples: QuestionSet, shard: Shard | None = None, what: str | None = None
    ) -> tuple[list[list[Answer]], float]:
        """The best answers to each question, and the loss of the windows."""
        found: dict[int, tuple[Any, Any]] = {}
        total = 0.0
        for batch, (start, end) in self.predictions(examples, shard, what):
            lengths = batch["keep"].sum(1).tolist()
            rows = zip(batch["index"].tolist(), start, end, lengths, strict=True)
            found |= {index: (one[:length], other[:length]) for index, one, other, length in rows}
            if "start" in batch:
                total += float(_loss((torch.from_numpy(start), torch.from_numpy(end)), _on_cpu(batch)))
        if shard is not None:
            told = [[index, one.tolist(), other.tolist()] for index, (one, other) in found.items()]
            found = {i: (np.array(one), np.array(other)) for i, one, other in shard.gather(told)}
            total = shard.sum({"loss": total})["loss"]
        windows = self.evaluation_batches(examples).examples
        settings = self.recipe.evaluate
        order = range(len(found))
        answers = best_answers(
            examples,
            windows,
            [found[index][0] for index in order],
            [found[index][1] for index in order],
            max_answer=settings.max_answer,
            nbest=settings.nbest,
        )
        return answers, total / max(len(found), 1)

    def chosen(self, answers: list[Answer]) -> str:
        """The best answer's text, empty where 'none' is better by the threshold."""
        if not answers:
            return ""
        best = answers[0]
        none = self.allows_none and best.none_score - best.score > (self.threshold or 0.0)
        return "" if none else best.text

    @property
    def allows_none(self) -> bool:
        """Whether a question may have no answer."""
        known = self.recipe.data.unanswerable
        if known != "auto":
            return known == "yes"
        return self.sets.unanswerable if self.sets is not None else self.threshold is not None

    def evaluate(self, shard: Shard) -> dict[str, float]:
        """Loss a window, exact match and F1 of the validation part.

        Where questions may have no answer, the threshold that is best there is found on the way.
        """
        examples = self.measured or self.sets.validation
        answers, loss = self.answers(examples, shard)
        if self.measured is None and self.allows_none and self.recipe.evaluate.no_answer_threshold is None:
            self.threshold = self._best_threshold(examples, answers)
        return {"loss": loss, **self._score(examples, answers)}

    def _best_threshold(self, examples: QuestionSet, answers: list[list[Answer]]) -> float:
        ids = [one.id for one in examples.questions]
        pairs = [(name, found[0]) for name, found in zip(ids, answers, strict=True) if found]
        texts = {name: best.text for name, best in pairs}
        apart = {name: best.none_score - best.score for name, best in pairs}
        return best_threshold(texts, apart, {name: examples.gold[name] for name in apart})

    def _score(self, examples: QuestionSet, answers: list[list[Answer]]) -> dict[str, float]:
        ids = [one.id for one in examples.questions]
        return score(dict(zip(ids, map(self.chosen, answers), strict=True)), examples.gold)

    def finals(self, run: Path) -> dict[str, float]:
        """Metrics of the test sets; answers by question id go into the run folder."""
        if self.measured is not None:
            return {}
        found: dict[str, float] = {}
        if self.allows_none:
            answers, _ = self.answers(self.sets.validation, what="finding the threshold of no answer")
            if self.recipe.evaluate.no_answer_threshold is None:
                self.threshold = self._best_threshold(self.sets.validation, answers)
            text = json.dumps({"threshold": self.threshold})
            (run / _THRESHOLD).write_text(text + "\n", encoding="utf-8")
        folder = run / "predictions"
        folder.mkdir(exist_ok=True)
        for examples in self.sets.tests or [self.sets.validation]:
            answers, loss = self.answers(examples, what=f"answering {examples.name}")
            told = {
                one.id: self.chosen(ranked) for one, ranked in zip(examples.questions, answers, strict=True)
            }
            text = json.dumps(told, indent=1, ensure_ascii=False)
            (folder / f"{examples.name}.json").write_text(text + "\n", encoding="utf-8")
            if self.sets.tests:
                scores = {"loss": loss, **self._score(examples, answers)}
                found |= {f"{examples.name}.{name}": value for name, value in scores.items()}
        return found

    def apply(self, questions: Sequence[str], contexts: Sequence[str]) -> list[list[Answer]]:
        """The best answers to questions on texts."""
        return self.answers(asked(questions, contexts))[0]

    def measure_on(self, *, split: str | None = None, source: str | None = None) -> None:
        """Evaluate on a test set of the run's data, or on other data, from now on."""
        self.measured = read_questions(self.recipe.data, split or source or "", part=split is not None)

    # What is said about it

    def describe(self, device: torch.device, dtype: torch.dtype) -> list[str]:
        """Data, model, attention and its backend."""
        return [f"data: {self.sets.describe()}", *self.about(dtype)]

    def facts(self, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
        """What ``--dry-run`` adds of this task."""
        sets = self.sets
        told: dict[str, Any] = {
            "training questions": len(sets.train),
            "validation questions": len(sets.validation),
        }
        told |= {f"{test.name} questions": len(test) for test in sets.tests}
        return told | {
            "no answer possible": self.allows_none,
            "attention backend": ": ".join(self.backend(dtype)),
        }

    def next_commands(self, run: Path) -> list[str]:
        """What to type after training."""
        one = self.sets.validation.questions[0]
        words = " ".join(one.context.split()[:30])
        example = f"{shlex.quote(one.question)} --context {shlex.quote(words)}"
        return [f"attn finetune {run} {example}", f"attn evaluate {run}"]


def _loss(logits: tuple[Tensor, Tensor], batch: Batch) -> Tensor:
    start, end = logits
    first = F.cross_entropy(start, batch["start"], reduction="sum")
    return (first + F.cross_entropy(end, batch["end"], reduction="sum")) / 2


def _on_cpu(batch: Batch) -> Batch:
    return {name: batch[name].cpu() for name in ("start", "end")}

"""Question answering: the span of a text that answers a question, or none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attncli.data.order import EpochBatches, EvaluationBatches
from attncli.data.questions import (
    QuestionSet,
    QuestionSets,
    best_answers,
    evaluation_batches,
    prepare_questions,
    training_batches,
)
from attncli.data.text_tokenizer import EncoderTokenizer
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
    ) -> tuple[list[list[Any]], float]:
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
        windows = self.evaluation_batches(examples)
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

    def chosen(self, answers: list[Any], threshold: float | None = None) -> str:
        """The best answer's text, empty where 'none' is better by the threshold."""
        if not answers:
            return ""
        best = answers[0]
        return "" if self.allows_none and best.none_score - best.score > (threshold or 0.0) else best.text

    @property
    def allows_none(self) -> bool:
        """Whether a question may have no answer."""
        known = self.recipe.data.unanswerable
        if known != "auto":
            return known == "yes"
        return self.sets.unanswerable if self.sets is not None else self.threshold is not None

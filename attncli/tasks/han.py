"""Classification of whole documents by attention over words, then over sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attncli.data.documents import DocumentTokenizer
from attncli.data.labelled import (
    LabelledSets,
    evaluation_batches,
    prepare_labelled,
    training_batches,
)
from attncli.data.labels import Labels
from attncli.data.order import EpochBatches, EvaluationBatches
from attncli.models.han import HanModel
from attncli.models.han_config import resolve_han
from attncli.recipe.classify import HanRecipe
from attncli.tasks.text_classify import TextClassifyTask
from attncli.tasks.watch import Watch
from attncli.training.task import Batch


class HanTask(TextClassifyTask):
    """The hierarchical attention network."""

    model: HanModel

    def __init__(
        self, recipe: HanRecipe, tokenizer: DocumentTokenizer, labels: Labels, sets: LabelledSets | None
    ) -> None:
        """``sets`` None gives a task that can be applied, not trained or evaluated."""
        super().__init__(recipe, labels, sets)
        self.tokenizer = tokenizer
        self.config = resolve_han(
            recipe.model,
            vocabulary=tokenizer.vocabulary,
            labels=self.outputs,
            pad_id=tokenizer.pad_id,
            unk_id=tokenizer.unk_id,
        )
        torch.manual_seed(recipe.train.seed)
        self.model = HanModel(self.config)

    @classmethod
    def build(cls, recipe: HanRecipe, run: Path | None = None) -> HanTask:
        """The task of ``recipe``: data read, fresh weights; with ``run``, its words and labels."""
        tokenizer = recipe.tokenizer if run is None else DocumentTokenizer.load(run)
        with Watch() as watch:
            labels = None if run is None else Labels.load(run)
            sets = prepare_labelled(recipe.data, tokenizer, watch, labels)
        return cls(recipe, sets.tokenizer, sets.labels, sets)

    @classmethod
    def opened(cls, recipe: HanRecipe, run: Path) -> HanTask:
        """The task of a finished run, to be applied: without its data."""
        return cls(recipe, DocumentTokenizer.load(run), Labels.load(run), None)

    def save(self, run: Path) -> None:
        """Store beside the recipe what a run needs besides its weights."""
        super().save(run)
        self.tokenizer.save(run)

    def inputs(self, batch: Batch) -> dict[str, Tensor]:
        """Words of sentences of documents."""
        return {"tokens": batch["tokens"], "keep": batch["keep"]}

    def _shape(self) -> dict[str, Any]:
        data = self.recipe.data
        return {"max_length": data.max_length, "max_sentences": data.max_sentences}

    def batches(self) -> EpochBatches:
        """The training stream."""
        settings = self.recipe.train
        return training_batches(
            self.sets.train, self.tokenizer, batch=settings.batch, seed=settings.seed, **self._shape()
        )

    def evaluation_batches(self, examples: Any) -> EvaluationBatches:
        """The longest documents first."""
        return evaluation_batches(examples, self.tokenizer, batch=self.recipe.evaluate.batch, **self._shape())

    def describe(self, device: torch.device, dtype: torch.dtype) -> list[str]:
        """Data and model."""
        parameters = sum(p.numel() for p in self.model.parameters())
        return [
            f"data: {self.sets.describe()}; {self.tokenizer.vocabulary:,} words known",
            f"model: {self.config.describe()}, {parameters:,} parameters",
        ]

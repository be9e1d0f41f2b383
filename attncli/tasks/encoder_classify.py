"""Classification of texts, or pairs of texts, with an encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attncli.data.labelled import (
    LabelledSets,
    Labels,
    evaluation_batches,
    prepare_labelled,
    training_batches,
)
from attncli.data.order import EpochBatches, EvaluationBatches
from attncli.data.text_tokenizer import EncoderTokenizer
from attncli.models.text import SequenceModel
from attncli.recipe.finetune import ClassifyRecipe
from attncli.tasks.encoders import Adapted, begin
from attncli.tasks.text_classify import TextClassifyTask
from attncli.tasks.watch import Watch
from attncli.training.task import Batch

_INPUTS = ("tokens", "segments", "keep")


class EncoderClassifyTask(Adapted, TextClassifyTask):
    """An encoder with a head on the whole text (BERT's family)."""

    model: SequenceModel

    def __init__(
        self,
        recipe: ClassifyRecipe,
        tokenizer: EncoderTokenizer,
        labels: Labels,
        sets: LabelledSets | None,
        model: SequenceModel,
    ) -> None:
        """``sets`` None gives a task that can be applied, not trained or evaluated."""
        super().__init__(recipe, labels, sets)
        self.tokenizer, self.model = tokenizer, model

    @classmethod
    def build(cls, recipe: ClassifyRecipe, run: Path | None = None) -> EncoderClassifyTask:
        """The task of ``recipe``: data read, the base's weights or fresh ones.

        With ``run``, the tokeniser, the labels and the shape of the model stored there.
        """
        start = begin(recipe, run)
        with Watch() as watch:
            labels = None if run is None else Labels.load(run)
            sets = prepare_labelled(recipe.data, start.tokenizer or recipe.tokenizer, watch, labels)
        outputs = 1 if sets.labels.kind == "regression" else len(sets.labels.names)
        model = start.model(recipe, "sequence", outputs, sets.tokenizer)
        return cls(recipe, sets.tokenizer, sets.labels, sets, model)

    @classmethod
    def opened(cls, recipe: ClassifyRecipe, run: Path) -> EncoderClassifyTask:
        """The task of a finished run, to be applied: without its data."""
        start = begin(recipe, run)
        return cls(recipe, start.tokenizer, Labels.load(run), None, start.stored(recipe.model))

    def save(self, run: Path) -> None:
        """Store beside the recipe what a run needs besides its weights."""
        super().save(run)
        self.tokenizer.save(run)
        self.save_model(run)

    def inputs(self, batch: Batch) -> dict[str, Tensor]:
        """Tokens, segments where there are some, and what is no padding."""
        return {name: batch[name] for name in _INPUTS if name in batch}

    def batches(self) -> EpochBatches:
        """The training stream."""
        settings = self.recipe.train
        return training_batches(
            self.sets.train,
            self.tokenizer,
            batch=settings.batch,
            seed=settings.seed,
            max_length=self.recipe.data.max_length,
        )

    def evaluation_batches(self, examples: Any) -> EvaluationBatches:
        """The longest texts first."""
        return evaluation_batches(
            examples,
            self.tokenizer,
            batch=self.recipe.evaluate.batch,
            max_length=self.recipe.data.max_length,
        )

    def describe(self, device: torch.device, dtype: torch.dtype) -> list[str]:
        """Data, model, attention and its backend."""
        return [f"data: {self.sets.describe()}", *self.about(dtype)]

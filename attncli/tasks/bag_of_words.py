"""Classification of texts by their words alone: the baseline that attention has to beat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attncli.data.bag import BagFeatures, bag_batches, bag_evaluation_batches
from attncli.data.labelled import LabelledSets, TextSet, prepare_labelled
from attncli.data.labels import Labels
from attncli.data.order import EpochBatches, EvaluationBatches
from attncli.models.bag_of_words import BagConfig, BagOfWords
from attncli.recipe.classify import BagRecipe
from attncli.tasks.text_classify import TextClassifyTask
from attncli.tasks.watch import Watch
from attncli.training.task import Batch


class BagTask(TextClassifyTask):
    """A linear model on words and runs of words."""

    model: BagOfWords

    def __init__(
        self, recipe: BagRecipe, features: BagFeatures, labels: Labels, sets: LabelledSets | None
    ) -> None:
        """``sets`` None gives a task that can be applied, not trained or evaluated."""
        super().__init__(recipe, labels, sets)
        self.features = features
        config = BagConfig(features=features.size, labels=self.outputs, kind=features.kind)
        ratios = None if features.ratios is None else torch.from_numpy(features.ratios)
        self.model = BagOfWords(config, ratios)

    @classmethod
    def build(cls, recipe: BagRecipe, run: Path | None = None) -> BagTask:
        """The task of ``recipe``: data read, features found; with ``run``, its features and labels."""
        with Watch() as watch:
            labels = None if run is None else Labels.load(run)
            sets = prepare_labelled(recipe.data, None, watch, labels)
        if run is not None:
            features = BagFeatures.load(run)
        else:
            train = sets.train
            count = len(sets.labels.names)
            features = BagFeatures.fit(recipe.model, train.texts, train.targets, count, train.pairs)
        return cls(recipe, features, sets.labels, sets)

    @classmethod
    def opened(cls, recipe: BagRecipe, run: Path) -> BagTask:
        """The task of a finished run, to be applied: without its data."""
        return cls(recipe, BagFeatures.load(run), Labels.load(run), None)

    def save(self, run: Path) -> None:
        """Store beside the recipe what a run needs besides its weights."""
        super().save(run)
        self.features.save(run)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """One group; the bias is not pulled to 0."""
        return [{"params": [self.model.weight]}, {"params": [self.model.bias], "weight_decay": 0.0}]

    def inputs(self, batch: Batch) -> dict[str, Tensor]:
        """Features and their weights."""
        return {"features": batch["features"], "weights": batch["weights"]}

    def batches(self) -> EpochBatches:
        """The training stream."""
        train, settings = self.sets.train, self.recipe.train
        bags = self.features.encode(train.texts, train.pairs)
        return bag_batches(bags, train.targets, batch=settings.batch, seed=settings.seed)

    def evaluation_batches(self, examples: TextSet) -> EvaluationBatches:
        """Every text once."""
        bags = self.features.encode(examples.texts, examples.pairs)
        return bag_evaluation_batches(bags, examples.targets, batch=self.recipe.evaluate.batch)

    def describe(self, device: torch.device, dtype: torch.dtype) -> list[str]:
        """Data and model."""
        return [f"data: {self.sets.describe()}", f"model: {self.model.config.describe()}"]

    def next_commands(self, run: Path) -> list[str]:
        """What to type after training."""
        return super().next_commands(run)[::2]

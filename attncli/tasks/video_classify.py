"""Classification of video: clips through a model of space and time, their probabilities averaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attncli.data.clips.labelled import (
    VideoSet,
    VideoSets,
    evaluation_batches,
    prepare_videos,
    training_batches,
)
from attncli.data.labels import Labels
from attncli.data.order import EpochBatches, EvaluationBatches
from attncli.models.vision.video import VideoModel
from attncli.models.vision.video_config import resolve_video
from attncli.recipe.video import VideoRecipe
from attncli.tasks.classify import ClassifyTask, probabilities
from attncli.tasks.labelled import trainable
from attncli.tasks.watch import Watch
from attncli.training.task import Batch, Shard


class VideoTask(ClassifyTask):
    """A Transformer over space and time."""

    model: VideoModel
    unit = "clips"

    def __init__(self, recipe: VideoRecipe, labels: Labels, sets: VideoSets | None) -> None:
        super().__init__(recipe, labels, sets)
        self.config = resolve_video(recipe, labels=self.outputs, channels=sets.channels, image=sets.size)
        torch.manual_seed(recipe.train.seed)
        self.model = VideoModel(self.config)
        self.model.mean.copy_(torch.tensor(sets.mean))
        self.model.deviation.copy_(torch.tensor(sets.deviation))

    @classmethod
    def build(cls, recipe: VideoRecipe, run: Path | None = None) -> VideoTask:
        with Watch() as watch:
            labels = None if run is None else Labels.load(run)
            sets = prepare_videos(recipe.data, recipe.clip, watch, labels)
        return cls(recipe, sets.labels, sets)

    def inputs(self, batch: Batch) -> dict[str, Tensor]:
        return {name: batch[name] for name in ("clips", "keep") if name in batch}

    def batches(self) -> EpochBatches:
        settings = self.recipe.train
        return training_batches(self.sets.train, self.recipe.clip, batch=settings.batch, seed=settings.seed)

    def evaluation_batches(self, examples: VideoSet) -> EvaluationBatches:
        settings = self.recipe.evaluate
        return evaluation_batches(examples, self.recipe.clip, batch=settings.batch, clips=settings.clips)

    def evaluate(self, shard: Shard) -> dict[str, float]:
        examples = self.measured or self.sets.validation
        return self._measures(*self._clips(examples, shard), examples)

    def _clips(self, examples: VideoSet, shard: Shard | None = None, what: str | None = None):
        """Logits [M, L] of all clips in order, and the video of each [M]."""
        rows: list[list[Any]] = []
        for batch, logits in self.predictions(examples, shard, what):
            columns = batch["row"].tolist(), batch["index"].tolist(), logits.tolist()
            rows += [list(row) for row in zip(*columns, strict=True)]
        if shard is not None:
            rows = shard.gather(rows)
        rows.sort(key=lambda row: row[0])
        return np.array([row[2] for row in rows]), np.array([row[1] for row in rows])

    def _measures(self, logits, videos, examples) -> dict[str, float]:
        shares = averaged(probabilities(logits, self.labels.kind), videos, len(examples))
        found = self._score(np.log(np.maximum(shares, 1e-12)), examples.targets)
        of_clips = self._score(logits, examples.targets[videos])
        return found | {"clip_accuracy": of_clips["accuracy"]}

    def finals(self, run: Path) -> dict[str, float]:
        found: dict[str, float] = {}
        for examples in self.sets.tests:
            scores = self._measures(*self._clips(examples, what=f"measuring {examples.name}"), examples)
            found |= {f"{examples.name}.{name}": value for name, value in scores.items()}
        return found

    def describe(self, device: torch.device, dtype: torch.dtype) -> list[str]:
        return [f"data: {self.sets.describe()}", f"model: {self.config.describe()}, {trainable(self.model)}"]

    def next_commands(self, run: Path) -> list[str]:
        return [f"attn evaluate {run}"]


def averaged(shares: np.ndarray, videos: np.ndarray, count: int) -> np.ndarray:
    """Mean probabilities [N, L] of the clips [M, L] of each of ``count`` videos."""
    sums = np.zeros((count, shares.shape[1]))
    np.add.at(sums, videos, shares)
    return sums / np.maximum(np.bincount(videos, minlength=count), 1)[:, None]

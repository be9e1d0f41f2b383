"""Classification of video: clips through a model of space and time, their probabilities averaged."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attncli.data.clips.batches import evaluation_batches, training_batches
from attncli.data.clips.labelled import prepare_videos, read_video_set, unlabelled_videos
from attncli.data.clips.sets import VideoSet, VideoSets, write_examples
from attncli.data.images.augment import Augmentation
from attncli.data.images.format import PictureFormat
from attncli.data.labels import Labels
from attncli.data.order import EpochBatches, EvaluationBatches
from attncli.errors import CheckpointError, Problem
from attncli.layers.pictures import Normalise
from attncli.models.vision.video import VideoModel
from attncli.models.vision.video_config import VideoConfig, resolve_video, video_config
from attncli.models.vision.video_flops import video_flops
from attncli.recipe.video import VideoRecipe
from attncli.tasks.classify import ClassifyTask, probabilities
from attncli.tasks.label_metrics import CLIPS
from attncli.tasks.labelled import trainable
from attncli.tasks.watch import Watch
from attncli.training.task import Batch, Shard

_CONFIG = "model.json"
_EXAMPLES = "examples"


class VideoTask(ClassifyTask):
    """Labels of whole videos, by clips of them."""

    unit = "clips"
    model: VideoModel
    sets: VideoSets | None

    def __init__(
        self,
        recipe: VideoRecipe,
        labels: Labels,
        form: PictureFormat,
        sets: VideoSets | None,
        config: VideoConfig | None = None,
    ) -> None:
        """``sets`` None gives a task that can be applied, not trained or evaluated."""
        super().__init__(recipe, labels, sets)
        self.form = form
        self.normalise = Normalise(form.mean, form.std)
        config = config or resolve_video(recipe, labels=self.outputs, channels=form.channels, image=form.size)
        torch.manual_seed(recipe.train.seed)
        self.model = VideoModel(config)
        self.clip_logits: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    @classmethod
    def build(cls, recipe: VideoRecipe, run: Path | None = None) -> VideoTask:
        """The task of ``recipe``: data read, fresh weights.

        With ``run``, the labels, the format of the frames and the shape of the model stored there.
        """
        labels = None if run is None else Labels.load(run)
        form = None if run is None else PictureFormat.load(run)
        with Watch() as watch:
            sets = prepare_videos(recipe.data, recipe.clip, watch, labels, form=form)
        return cls(recipe, labels or sets.labels, sets.format, sets, None if run is None else _load(run))

    @classmethod
    def opened(cls, recipe: VideoRecipe, run: Path) -> VideoTask:
        """The task of a finished run, to be applied: without its data."""
        return cls(recipe, Labels.load(run), PictureFormat.load(run), None, _load(run))

    def save(self, run: Path) -> None:
        """Store beside the recipe what a run needs besides its weights."""
        super().save(run)
        self.form.save(run)
        text = json.dumps(self.model.config.plain(), indent=2)
        (run / _CONFIG).write_text(text + "\n", encoding="utf-8")
        if self.recipe.data.path == "builtin":  # so that there is something to apply the run to
            write_examples(self.sets.tests[0], self.labels, run / _EXAMPLES)

    def to(self, device: torch.device) -> None:
        """Move the model, and what frames are normalised with."""
        super().to(device)
        self.normalise.to(device)

    # Batches

    def batches(self) -> EpochBatches:
        """The training stream: a clip of each video in an epoch."""
        settings, data = self.recipe.train, self.recipe.data
        how = Augmentation.of(settings.augment)
        return training_batches(
            self.sets.train,
            self.recipe.clip,
            self.form,
            how,
            batch=settings.batch,
            seed=settings.seed,
            workers=data.workers,
        )

    def evaluation_batches(self, examples: VideoSet) -> EvaluationBatches:
        """Every video's clips, in order."""
        settings = self.recipe.evaluate
        return evaluation_batches(
            examples, self.recipe.clip, self.form, batch=settings.batch, clips=settings.clips
        )

    def inputs(self, batch: Batch) -> dict[str, Tensor]:
        """Clips brought to mean 0 and deviation 1, and which frames are there."""
        found = {"clips": self.normalise(batch["clips"])}
        return found | ({"keep": batch["keep"]} if "keep" in batch else {})

    # Evaluation

    def _logits(
        self, examples: VideoSet, shard: Shard | None = None, what: str | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Outputs [N, L] whose probabilities are the means over each video's clips, and targets.

        Those of the single clips stay in :attr:`clip_logits`, with the video of each.
        """
        rows: list[list[Any]] = []
        for batch, logits in self.predictions(examples, shard, what):
            columns = batch["row"].tolist(), batch["index"].tolist(), logits.tolist()
            rows += [list(row) for row in zip(*columns, strict=True)]
        if shard is not None:
            rows = shard.gather(rows)
        rows.sort(key=lambda row: row[0])
        logits, videos = np.array([row[2] for row in rows]), np.array([row[1] for row in rows])
        self.clip_logits[examples.name] = logits, videos
        shares = averaged(probabilities(logits, self.labels.kind), videos, len(examples))
        return _as_logits(shares, self.labels.kind), examples.targets

    def evaluate(self, shard: Shard) -> dict[str, float]:
        """Metrics by video, and those of single clips."""
        examples = self.measured or self.sets.validation
        logits, targets = self._logits(examples, shard)
        return self._score(logits, targets) | self._of_clips(examples)

    def finals(self, run: Path) -> dict[str, float]:
        """Metrics of the test sets by video and by clip; predictions and pictures go into the run folder."""
        found = super().finals(run)
        for examples in self.sets.tests if found else ():
            found |= {f"{examples.name}.{name}": v for name, v in self._of_clips(examples).items()}
        return found

    def _of_clips(self, examples: VideoSet) -> dict[str, float]:
        logits, videos = self.clip_logits[examples.name]
        found = self._score(logits, examples.targets[videos])
        return {name: found[name.removeprefix("clip_")] for name in CLIPS[self.labels.kind]}

    def read(self, paths: Sequence[Path]) -> tuple[VideoSet, dict[int, str]]:
        """Videos in files and folders, and why others, by their number, cannot be read."""
        return unlabelled_videos(paths, self.labels, self.recipe.clip, self.form)

    def apply(self, examples: VideoSet) -> np.ndarray:
        """Probabilities [N, L] of videos, or the numbers [N, 1]; in their order."""
        if not len(examples):
            return np.zeros((0, self.outputs))
        logits, _ = self._logits(examples)
        return probabilities(logits, self.labels.kind)

    def named(self, examples: VideoSet, number: int) -> dict[str, Any]:
        """Where the video is."""
        return {"video": examples.places[number] if examples.places else number}

    def other_set(self, name: str, *, part: bool) -> VideoSet:
        """Videos to be measured on."""
        recipe = self.recipe
        with Watch() as watch:
            return read_video_set(
                recipe.data, recipe.clip, self.labels, self.form, name, part=part, progress=watch
            )

    # What is said about it

    def flops_a_step(self) -> float:
        """Model FLOPs of one update."""
        return float(self.recipe.train.batch * video_flops(self.model.config).step)

    def describe(self, device: torch.device, dtype: torch.dtype) -> list[str]:
        """Data, model, attention."""
        encoder, clip = self.model.config.encoder, self.recipe.clip
        strides = " and ".join("spread over the video" if s == 0 else str(s) for s in clip.stride)
        lines = [
            f"data: {self.sets.describe()}",
            f"model: {self.model.config.describe()}, stride {strides}, {trainable(self.model)}",
            f"attention: {encoder.mechanism}, {encoder.position} positions, {encoder.heads} heads",
        ]
        if short := self.sets.shorter(clip):
            lines[0] += f"; {short:,} training videos are shorter than a clip and are filled up"
        return lines

    def facts(self, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
        """What ``--dry-run`` adds of this task."""
        config = self.model.config
        told = {
            "frames": self.form.describe(),
            "model": config.describe(),
            "GFLOPs a clip, forward": round(video_flops(config).forward / 1e9, 4),
        }
        return super().facts(device, dtype) | told

    def next_commands(self, run: Path) -> list[str]:
        """What to type after training."""
        places = [*self.sets.validation.places, *map(str, sorted(run.glob(f"{_EXAMPLES}/*")))]
        shown = shlex.quote(next((place for place in places if Path(place).exists()), "CLIP"))
        return [f"attn classify {run} {shown}", f"attn inspect {run} {shown}", f"attn evaluate {run}"]


def averaged(shares: np.ndarray, videos: np.ndarray, count: int) -> np.ndarray:
    """Means [N, L] over the clips [M, L] of each of ``count`` videos, given the video of each clip [M]."""
    sums = np.zeros((count, shares.shape[1]))
    np.add.at(sums, videos, shares)
    return sums / np.maximum(np.bincount(videos, minlength=count), 1)[:, None]


def _as_logits(shares: np.ndarray, kind: str) -> np.ndarray:
    """What has these probabilities."""
    if kind == "regression":
        return shares
    shares = np.clip(shares, 1e-12, 1.0)
    if kind == "multi":
        return np.log(shares) - np.log(np.clip(1.0 - shares, 1e-12, 1.0))
    return np.log(shares)


def _load(run: Path) -> VideoConfig:
    path = run / _CONFIG
    try:
        return video_config(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise CheckpointError(Problem(f"cannot be read: {error}", where=str(path))) from None

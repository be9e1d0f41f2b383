"""Segmentation: every pixel of a picture gets a class, whatever model reads it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attncli.data.images.masks import MaskClasses
from attncli.data.images.segmentation import (
    PixelFacts,
    SegmentSet,
    SegmentSets,
    prepare_segments,
    read_segment_set,
    training_pieces,
    whole_pictures,
)
from attncli.data.order import EpochBatches, EvaluationBatches
from attncli.errors import CheckpointError, Problem
from attncli.metrics.segmentation import BoundaryScore, boundary_f1, confusion, overlap, tolerance_of
from attncli.models.vision.segmenters import build_segmenter, fixed_size, start_from
from attncli.recipe.segment import SegmentRecipe
from attncli.tasks.labelled import LabelTask
from attncli.tasks.segment_losses import chosen_terms, class_weights, mask_counts, mask_losses
from attncli.tasks.segment_metrics import class_metric
from attncli.tasks.segmenting import LARGE, class_logits
from attncli.tasks.watch import Watch
from attncli.training.task import Batch, Goal, Shard

_PIXELS = "pixels.json"
_SHOWN = 6
"""Pictures that are kept to be shown after training."""
_NAMED = 40
"""Classes up to which each one's IoU is a metric of its own."""


@dataclass
class Outcome:
    """What was measured on a set, for pictures."""

    matrix: NDArray[np.int64]
    examples: list[tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]]
    """Picture [H, W, C], true and found mask [H, W]."""


class SegmentTask(LabelTask):
    """Classes of pixels."""

    name = "segment"
    unit = "images"
    recipe: SegmentRecipe
    sets: SegmentSets

    def __init__(
        self,
        recipe: SegmentRecipe,
        classes: MaskClasses,
        pixels: PixelFacts,
        sets: SegmentSets | None,
    ) -> None:
        """``sets`` None gives a task that can be applied, not trained or evaluated."""
        self.recipe, self.classes, self.pixels = recipe, classes, pixels
        self.sets = sets  # type: ignore[assignment]
        goal = recipe.train.goal
        self.goal = Goal(goal, higher=goal != "loss")
        self.weights: Tensor | None = None
        if sets is not None:
            self.weights = class_weights(recipe.train.loss.class_weights, sets.counts)
        self.measured: SegmentSet | None = None
        self.outcomes: dict[str, Outcome] = {}
        torch.manual_seed(recipe.train.seed)
        self.model: nn.Module = build_segmenter(
            recipe.model,
            channels=pixels.channels,
            classes=len(classes.names),
            size=pixels.size,
            mean=torch.tensor(pixels.mean),
            std=torch.tensor(pixels.std),
        )
        if sets is not None:
            shares = torch.from_numpy(sets.counts.sum(0)).double()
            start_from(self.model, shares if self.weights is None else shares * self.weights)

    @classmethod
    def build(cls, recipe: SegmentRecipe, run: Path | None = None) -> SegmentTask:
        """The task of ``recipe``: data read, fresh weights; with ``run``, its classes and sizes."""
        classes = pixels = None
        if run is not None:
            classes, pixels = MaskClasses.load(run), _load_pixels(run)
        with Watch() as watch:
            sets = prepare_segments(recipe.data, recipe.image, recipe.train.augment, watch, classes, pixels)
        return cls(recipe, sets.classes, sets.pixels, sets)

    @classmethod
    def opened(cls, recipe: SegmentRecipe, run: Path) -> SegmentTask:
        """The task of a finished run, to be applied: without its data."""
        return cls(recipe, MaskClasses.load(run), _load_pixels(run), None)

    def save(self, run: Path) -> None:
        """Store beside the recipe what a run needs besides its weights."""
        self.classes.save(run)
        (run / _PIXELS).write_text(json.dumps(asdict(self.pixels)) + "\n", encoding="utf-8")

    @property
    def names(self) -> list[str]:
        """The classes' names."""
        return self.classes.names

    # Training

    def batches(self) -> EpochBatches:
        """The training stream."""
        recipe, settings = self.recipe, self.recipe.train
        return training_pieces(
            self.sets,
            settings.augment,
            recipe.image.size,
            settings.batch,
            settings.seed,
            recipe.data.workers,
        )

    def _outputs(self) -> int:
        """Outputs that learn: one, and with deep supervision those of the lower levels."""
        return 1 + len(getattr(self.model, "auxiliary", ()))

    def counts(self, batch: Batch) -> dict[str, float]:
        """Weights of pixels, and pairs of a picture and a class, of each output."""
        found = {}
        for level in range(self._outputs()):
            masks = batch["masks"][:, :: 2**level, :: 2**level]
            part = mask_counts(masks, self.recipe.train.loss, self.weights, len(self.names))
            found |= {_named(name, level): count for name, count in part.items()}
        return found

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Summed losses of each output."""
        found = {}
        section = self.recipe.train.loss
        for level, logits in enumerate(self.model(batch["images"])):
            masks = batch["masks"][:, :: 2**level, :: 2**level]
            part = mask_losses(logits, masks, section, self._weights(logits.device))
            share = section.auxiliary if level else 1.0
            found |= {_named(name, level): share * loss for name, loss in part.items()}
        return found

    def _weights(self, device: torch.device) -> Tensor | None:
        return None if self.weights is None else self.weights.to(device)

    # Evaluation

    def evaluation_batches(self, examples: SegmentSet) -> EvaluationBatches:
        """Pictures of one size together."""
        return whole_pictures(examples, self.recipe.evaluate.batch)

    def predict(self, batch: Batch) -> Tensor:
        """Logits [B, L, H, W], float32."""
        return self.logits(batch["images"])

    def logits(self, images: Tensor) -> Tensor:
        """Logits float32 [B, L, H, W] of pictures [B, C, H, W], as ``evaluate`` of the recipe says."""
        section = self.recipe.evaluate
        height, width = images.shape[2:]
        windows = section.window == "always" or fixed_size(self.model)
        windows = windows or (section.window == "auto" and height * width > LARGE)
        return class_logits(
            lambda pieces: self.model(pieces)[0],
            images,
            size=self.pixels.size,
            windows=windows,
            overlap=section.overlap,
            batch=section.batch,
            flip=section.flip,
        )

    def evaluate(self, shard: Shard) -> dict[str, float]:
        """Loss and metrics of the validation part, or of what :meth:`measure_on` chose."""
        examples = self.measured or self.sets.validation
        metrics, _ = self._measure(examples, shard)
        return metrics

    def _measure(
        self, examples: SegmentSet, shard: Shard | None, what: str | None = None
    ) -> tuple[dict[str, float], Outcome]:
        """Metrics over the whole set, and what pictures are drawn from."""
        classes, section = len(self.names), self.recipe.train.loss
        matrix = np.zeros((classes, classes), np.int64)
        borders = BoundaryScore(np.zeros(classes), np.zeros(classes))
        sums: dict[str, float] = {}
        chosen = set(
            np.linspace(0, len(examples) - 1, min(_SHOWN, len(examples))).round().astype(int).tolist()
        )
        shown = {}
        for batch, logits in self.predictions(examples, shard, what):
            masks = batch["masks"]
            counts = mask_counts(masks, section, self.weights, classes)
            losses = mask_losses(logits, masks, section, self._weights(logits.device))
            for name, count in counts.items():
                sums[f"{name} count"] = sums.get(f"{name} count", 0.0) + count
                sums[name] = sums.get(name, 0.0) + float(losses[name])
            truth, found = masks.cpu().numpy(), logits.argmax(1).to(torch.uint8).cpu().numpy()
            matrix += confusion(truth, found, classes)
            for number, at in enumerate(batch["index"].tolist()):
                tolerance = self.recipe.evaluate.boundary or tolerance_of(truth[number].shape)
                borders += boundary_f1(truth[number], found[number], classes, tolerance)
                if at in chosen:
                    image = batch["images"][number].permute(1, 2, 0).cpu().numpy()
                    shown[at] = (image, truth[number], found[number])
        if shard is not None:
            matrix, borders, sums = self._summed(shard, matrix, borders, sums)
        loss = sum(
            sums.get(name, 0.0) / max(sums.get(f"{name} count", 0.0), 1e-12) for name in chosen_terms(section)
        )
        measured = overlap(matrix)
        metrics = {
            "loss": loss,
            "mean_iou": measured.mean_iou,
            "mean_dice": measured.mean_dice,
            "pixel_accuracy": measured.pixel_accuracy,
            "mean_accuracy": measured.mean_accuracy,
            "boundary_f1": borders.mean,
        }
        if what is not None or self.measured is not None:
            metrics |= self._by_class(measured.iou)
        return metrics, Outcome(matrix, [shown[at] for at in sorted(shown)])

    def _by_class(self, iou: NDArray[np.float64]) -> dict[str, float]:
        if len(self.names) > _NAMED:
            return {}
        return {class_metric(name): float(value) for name, value in zip(self.names, iou, strict=True)}

    def _summed(
        self, shard: Shard, matrix: NDArray[np.int64], borders: BoundaryScore, sums: dict[str, float]
    ) -> tuple[NDArray[np.int64], BoundaryScore, dict[str, float]]:
        """The same over all processes."""
        totals = {f"m{at}": float(n) for at, n in enumerate(matrix.ravel())}
        totals |= {f"t{at}": float(n) for at, n in enumerate(borders.total)}
        totals |= {f"i{at}": float(n) for at, n in enumerate(borders.images)}
        for name in chosen_terms(
            self.recipe.train.loss
        ):  # every process has the same keys, even without a picture
            totals[name] = sums.get(name, 0.0)
            totals[f"{name} count"] = sums.get(f"{name} count", 0.0)
        summed = shard.sum(totals)
        classes = len(self.names)

        def of(kind: str, count: int) -> NDArray[np.float64]:
            return np.array([summed[f"{kind}{at}"] for at in range(count)])

        whole = of("m", classes * classes).round().astype(np.int64).reshape(classes, classes)
        return whole, BoundaryScore(of("t", classes), of("i", classes)), summed

    def finals(self, run: Path) -> dict[str, float]:
        """Metrics of the test sets; what pictures are drawn from is kept in :attr:`outcomes`."""
        if self.measured is not None:
            return {}
        found: dict[str, float] = {}
        for examples in self.sets.tests or [self.sets.validation]:
            metrics, outcome = self._measure(examples, None, f"measuring {examples.name}")
            self.outcomes[examples.name] = outcome
            if self.sets.tests:
                found |= {f"{examples.name}.{name}": value for name, value in metrics.items()}
            else:
                found |= {name: value for name, value in metrics.items() if name.endswith(".iou")}
        return found

    def measure_on(self, *, split: str | None = None, source: str | None = None) -> None:
        """Let :meth:`evaluate` measure another part of the data, or other data."""
        data, image = self.recipe.data, self.recipe.image
        name = split or source or ""
        self.measured = read_segment_set(data, image, self.classes, self.pixels, name, part=split is not None)

    # What is said of it

    def describe(self, device: torch.device, dtype: torch.dtype) -> list[str]:
        """Data and model."""
        parameters = sum(p.numel() for p in self.model.parameters())
        return [
            f"data: {self.sets.describe()}",
            f"model: {self.model.config.describe()}, {parameters:,} parameters",
        ]

    def flops_a_step(self) -> float:
        """Three times those of a forward pass, counted on one picture."""
        from torch.utils.flop_counter import FlopCounterMode

        device = next(self.model.parameters()).device
        image = torch.zeros(1, self.pixels.channels, *self.pixels.size, device=device)
        counter = FlopCounterMode(display=False)
        training = self.model.training
        self.model.eval()
        with torch.no_grad(), counter:
            self.model(image)
        self.model.train(training)
        return 3.0 * counter.get_total_flops() * self.recipe.train.batch

    def next_commands(self, run: Path) -> list[str]:
        """What to type after training."""
        return [
            f"attn evaluate {run}",
            f"attn segment {run} IMAGE",
            f"attn inspect {run} IMAGE",
        ]


def _named(term: str, level: int) -> str:
    return f"{term}_{2**level}" if level else term


def _load_pixels(run: Path) -> PixelFacts:
    path = run / _PIXELS
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        height, width = map(int, told["size"])
        mean, std = ([float(value) for value in told[key]] for key in ("mean", "std"))
        channels = int(told["channels"])
        if channels not in (1, 3) or len(mean) != channels or len(std) != channels or min(height, width) < 1:
            raise ValueError("its values do not belong together")
        return PixelFacts(channels, (height, width), mean, std)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(Problem(f"cannot be read: {error}", where=str(path))) from None

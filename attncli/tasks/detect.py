"""Detection: boxes around things in pictures, measured by COCO's mAP."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attncli import console
from attncli.attention import choices, restore_choices
from attncli.data.boxes.augment import Size, View, plain
from attncli.data.boxes.batches import batch_of, evaluation_batches, mean_colour, rgb, training_batches
from attncli.data.boxes.classes import Classes
from attncli.data.boxes.frame import frame_of, load_frame, save_frame
from attncli.data.boxes.prepare import prepare_boxes, read_box_set
from attncli.data.boxes.scenes import BoxSet, BoxSets
from attncli.data.images.reading import Pixels
from attncli.data.order import EpochBatches
from attncli.data.rows import batches_an_epoch
from attncli.metrics.detection import Found, Scores, Truth, coco_scores
from attncli.models.vision.detection.detections import Objects
from attncli.models.vision.detection.detr import Detr
from attncli.models.vision.detection.faster_rcnn import FasterRcnn
from attncli.models.vision.detection.resnet import load_backbone
from attncli.recipe.detect import DetrRecipe, FasterRcnnRecipe
from attncli.recipe.text import LabelTrain
from attncli.tasks.detect_results import found_of, unscaled, write_results
from attncli.tasks.labelled import trainable
from attncli.tasks.watch import Watch
from attncli.training.task import Batch, Goal, Shard, Task

_UPDATES = 1000
"""Of the weights, where neither epochs nor steps are given."""
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class DetectTask(Task):
    """A detector of either family."""

    name = "detect"
    unit = "pictures"

    def __init__(
        self, recipe: FasterRcnnRecipe | DetrRecipe, classes: Classes, frame: Size, sets: BoxSets | None
    ) -> None:
        """``sets`` None gives a task that can be applied, not trained or evaluated."""
        self.recipe, self.classes, self.sets = recipe, classes, sets
        self.goal = Goal(recipe.train.goal, higher=True)
        self.frame = frame
        """Height and width that pictures are scaled to fit in."""
        torch.manual_seed(recipe.train.seed)
        self.model = build_detector(recipe, len(classes.names))
        self.model.to(memory_format=torch.channels_last)
        weights = recipe.model.backbone.weights
        self.loaded = 0
        if sets is not None:
            if weights:
                self.loaded = load_backbone(self.model.backbone, Path(weights))
            self._normalise(sets.train)
        self.measured: BoxSet | None = None
        self.outcomes: dict[str, tuple[list[Truth], list[Found]]] = {}
        """Of each set that was measured last: what is there, and what was found."""
        self.scores: dict[str, Scores] = {}

    @classmethod
    def build(cls, recipe: FasterRcnnRecipe | DetrRecipe, run: Path | None = None) -> DetectTask:
        """The task of ``recipe``: data read, fresh weights; with ``run``, its classes."""
        with Watch() as watch:
            classes = None if run is None else Classes.load(run)
            sets = prepare_boxes(recipe.data, watch, classes)
        for note in sets.notes:
            console.warn(note)
        frame = _asked(recipe) or (frame_of(sets.train) if run is None else load_frame(run))
        return cls(recipe, sets.classes, frame, sets)

    @classmethod
    def opened(cls, recipe: FasterRcnnRecipe | DetrRecipe, run: Path) -> DetectTask:
        """The task of a finished run, to be applied: without its data."""
        return cls(recipe, Classes.load(run), _asked(recipe) or load_frame(run), None)

    def _normalise(self, train: BoxSet) -> None:
        backbone, how = self.model.backbone, self.recipe.image.normalise
        if how == "data":
            mean, deviation = mean_colour(train)
        elif how == "imagenet":
            mean, deviation = map(np.array, _IMAGENET)
        else:
            mean = deviation = np.full(3, 0.5)
        backbone.mean.copy_(torch.from_numpy(mean))
        backbone.deviation.copy_(torch.from_numpy(deviation).clamp(min=1e-3))

    def save(self, run: Path) -> None:
        """Store beside the recipe what a run needs besides its weights."""
        self.classes.save(run)
        save_frame(run, self.frame)

    # Training

    def settle(self, settings: LabelTrain) -> LabelTrain:
        """Epochs as steps, and an evaluation each twentieth of them unless said otherwise."""
        an_epoch = batches_an_epoch(len(self.sets.train), settings.batch)
        epochs = settings.epochs or _UPDATES / an_epoch
        steps = settings.steps or max(1, round(epochs * an_epoch))
        every = settings.evaluate_every or min(steps, max(an_epoch, -(-steps // 20)))
        return settings.model_copy(update={"steps": steps, "evaluate_every": every})

    def batches(self) -> EpochBatches:
        """The training stream."""
        settings = self.recipe.train
        an_epoch = batches_an_epoch(len(self.sets.train), settings.batch)
        epochs = self.settle(settings).steps / an_epoch
        return training_batches(
            self.sets.train,
            self.frame,
            batch=settings.batch,
            seed=settings.seed,
            augment=settings.augment,
            plain_from=(1 - settings.augment.plain_end) * epochs,
            workers=self.recipe.data.workers,
        )

    def counts(self, batch: Batch) -> dict[str, float]:
        """What each loss is divided by: objects and pictures."""
        return self.model.counts(batch["labels"])

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Summed losses of every part of the detector."""
        objects = Objects(batch["boxes"], batch["labels"])
        return self.model.losses(batch["images"], batch["sizes"], objects)

    def size(self, batch: Batch) -> int:
        """Pictures."""
        return len(batch["index"])

    def parameter_groups(self) -> list[dict[str, Any]]:
        """As everywhere, and the backbone at its own share of the rate."""
        rate = self.recipe.train.backbone_rate
        if rate == 1:
            return super().parameter_groups()
        backbone = list(self.model.backbone.parameters())
        if rate == 0:
            for parameter in backbone:
                parameter.requires_grad_(False)
            return super().parameter_groups()
        own = {id(parameter) for parameter in backbone}
        groups = []
        for group in super().parameter_groups():
            inside = [p for p in group["params"] if id(p) in own]
            groups.append({**group, "params": [p for p in group["params"] if id(p) not in own]})
            groups.append({**group, "params": inside, "scale": rate})
        return groups

    # Measuring

    def evaluate(self, shard: Shard) -> dict[str, float]:
        """Metrics of the validation part, or of what :meth:`measure_on` chose."""
        examples = self.measured or self.sets.validation
        return self._measure(examples, shard)

    def finals(self, run: Path) -> dict[str, float]:
        """Metrics of the test sets; detections go into the run folder as COCO's results."""
        if self.measured is not None:
            self._write(run, self.measured)
            return {}
        found: dict[str, float] = {}
        for examples in self.sets.tests or [self.sets.validation]:
            metrics = self._measure(examples, what=f"measuring {examples.name}")
            self._write(run, examples)
            if self.sets.tests:
                found |= {f"{examples.name}.{name}": value for name, value in metrics.items()}
        return found

    def _measure(
        self, examples: BoxSet, shard: Shard | None = None, what: str | None = None
    ) -> dict[str, float]:
        rows: list[Any] = []
        for index, found in self._detections(examples, shard, what):
            rows.append([index, *(part.tolist() for part in found)])
        if shard is not None:
            rows = shard.gather(rows)
        order = {row[0]: row[1:] for row in rows}
        found_all = [found_of(*order[at]) for at in range(len(examples))]
        truths = [
            Truth(*parts)
            for parts in zip(examples.truth, examples.labels, examples.ignored, examples.areas, strict=True)
        ]
        settings = self.recipe.evaluate
        scores = coco_scores(truths, found_all, self.classes.names, settings.most)
        self.outcomes[examples.name] = truths, found_all
        self.scores[examples.name] = scores
        return scores.metrics

    def _detections(
        self, examples: BoxSet, shard: Shard | None, what: str | None
    ) -> Iterator[tuple[int, Found]]:
        """What is found in each picture, in its own pixels."""
        device = next(self.model.parameters()).device
        batches = evaluation_batches(examples, self.frame, batch=self.recipe.evaluate.batch)
        mine = range(len(batches)) if shard is None else shard.mine(range(len(batches)))
        shown = console.Progress(what, total=len(examples), unit=self.unit) if what else nullcontext()
        with shown as bar:
            for number in mine:
                batch = batches[number]
                detected = self.detect(batch, device)
                yield from zip(batch["index"].tolist(), detected, strict=True)
                if bar is not None:
                    bar.advance(len(detected), units=len(detected))

    def detect(self, batch: Batch, device: torch.device) -> list[Found]:
        """What is found in each picture of a batch, in its own pixels, the surest first."""
        images, sizes = batch["images"].to(device), batch["sizes"].to(device)
        found = self.model.detect(images, sizes, self.recipe.evaluate)
        return [unscaled(one, float(scale)) for one, scale in zip(found, batch["scales"], strict=True)]

    def prepared(self, images: Sequence[Pixels]) -> Batch:
        """Pictures that are to be looked at, as a batch."""
        shown = []
        for image in images:
            none = np.zeros((0, 4), np.float32)
            view = View(rgb(image), none, np.zeros(0, np.int64), np.zeros(0, bool))
            shown.append(plain(view, self.frame))
        return batch_of([view for view, _ in shown], range(len(shown)), [scale for _, scale in shown])

    def measure_on(self, *, split: str | None = None, source: str | None = None) -> None:
        """Evaluate on a test set of the run's data, or on other data, from now on."""
        wanted = split or source or ""
        self.measured, notes = read_box_set(self.recipe.data, self.classes, wanted, part=split is not None)
        for note in notes:
            console.warn(note)

    def _write(self, run: Path, examples: BoxSet) -> None:
        _, found = self.outcomes[examples.name]
        scores = self.scores[examples.name]
        write_results(run / "predictions", examples, found, scores, self.classes)

    # What is said about it

    def choices(self) -> dict[str, Any]:
        """Attention backends measured on this machine."""
        return choices()

    def restore_choices(self, choices: dict[str, Any]) -> None:
        """Compute with the backends that the run was begun with."""
        restore_choices(choices)

    def describe(self, device: torch.device, dtype: torch.dtype) -> list[str]:
        """Data and model."""
        backbone = self.recipe.model.backbone
        told = f"{backbone.kind}, {backbone.width} wide, {backbone.norm} norm"
        told += f" ({self.loaded} tensors of {backbone.weights})" if self.loaded else ""
        return [
            f"data: {self.sets.describe()}; {self.classes.describe()}",
            f"model: {self.recipe.model.family} on {told}, {trainable(self.model)}, "
            f"frames of {self.frame[1]}x{self.frame[0]} pixels",
        ]

    def facts(self, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
        """What ``--dry-run`` adds of this task."""
        sets = self.sets
        told: dict[str, Any] = {
            "training pictures": len(sets.train),
            "training boxes": sets.train.objects,
            "validation pictures": len(sets.validation),
        }
        told |= {f"{test.name} pictures": len(test) for test in sets.tests}
        return told | {"classes": ", ".join(self.classes.names), "frame": f"{self.frame[1]}x{self.frame[0]}"}

    def flops_a_step(self) -> float:
        """Three times those of a forward pass, counted on one picture."""
        from torch.utils.flop_counter import FlopCounterMode

        device = next(self.model.parameters()).device
        frame = [-(-side // 32) * 32 for side in self.frame]
        image = torch.zeros(1, 3, *frame, dtype=torch.uint8, device=device)
        counter = FlopCounterMode(display=False)
        training = self.model.training
        self.model.eval()
        with torch.no_grad(), counter:
            self.model.detect(image, torch.tensor([self.frame], device=device), self.recipe.evaluate)
        self.model.train(training)
        return 3.0 * counter.get_total_flops() * self.recipe.train.batch

    def notes(self) -> dict[str, Any]:
        """Average precision of each class of what was measured last."""
        if not self.scores:
            return {}
        name, scores = list(self.scores.items())[-1]
        return {"classes": {name: scores.classes}}

    def next_commands(self, run: Path) -> list[str]:
        """What to type after training."""
        return [f"attn detect {run} PICTURE", f"attn inspect {run} PICTURE", f"attn evaluate {run}"]


def _asked(recipe: FasterRcnnRecipe | DetrRecipe) -> Size | None:
    """The frame that a recipe asks for."""
    size = recipe.image.size
    return (size[0], size[-1]) if size else None


def build_detector(recipe: FasterRcnnRecipe | DetrRecipe, classes: int) -> Any:
    """The model of a recipe."""
    return (Detr if isinstance(recipe, DetrRecipe) else FasterRcnn)(recipe.model, classes)  # type: ignore[arg-type]

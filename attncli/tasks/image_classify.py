"""Classification of images."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attncli.attention import explain_choice
from attncli.data.images.augment import Augmentation
from attncli.data.images.batches import evaluation_batches, training_batches
from attncli.data.images.format import PictureFormat
from attncli.data.images.labelled import (
    ImageSet,
    ImageSets,
    prepare_images,
    read_image_set,
    unlabelled_images,
)
from attncli.data.images.reading import Unreadable
from attncli.data.images.store import ArrayPictures
from attncli.data.images.survey import in_order
from attncli.data.labels import Labels
from attncli.data.order import EpochBatches, EvaluationBatches
from attncli.errors import RecipeError
from attncli.layers.pictures import Normalise
from attncli.models.adaptation import parameter_groups
from attncli.models.flops import image_flops
from attncli.models.parts import mechanism_options
from attncli.models.vision.swin_config import SwinConfig
from attncli.recipe.image import ImageRecipe
from attncli.tasks.classify import ClassifyTask, probabilities
from attncli.tasks.image_models import Model, build, load_config, new_model, open_base, save_config
from attncli.tasks.labelled import trainable
from attncli.tasks.watch import Watch
from attncli.training.task import Batch, hidden_matrices


class ImageClassifyTask(ClassifyTask):
    """Labels of whole pictures."""

    unit = "images"
    model: Model
    sets: ImageSets | None

    def __init__(
        self,
        recipe: ImageRecipe,
        labels: Labels,
        form: PictureFormat,
        sets: ImageSets | None,
        model: Model,
    ) -> None:
        """``sets`` None gives a task that can be applied, not trained or evaluated."""
        super().__init__(recipe, labels, sets)
        self.form, self.model = form, model
        self.normalise = Normalise(form.mean, form.std)

    @classmethod
    def build(cls, recipe: ImageRecipe, run: Path | None = None) -> ImageClassifyTask:
        """The task of ``recipe``: data read, the base's weights or fresh ones.

        With ``run``, the labels, the format of the pictures and the shape of the model stored there.
        """
        base = None if run is not None else open_base(recipe.model)
        labels = None if run is None else Labels.load(run)
        form = PictureFormat.load(run) if run is not None else base and base.format(recipe)
        with Watch() as watch:
            sets = prepare_images(
                recipe.data, recipe.image, watch, labels, form=form, scale=recipe.train.augment.scale
            )
        if run is not None:
            model = build(load_config(run))
        else:
            model = new_model(recipe, base, sets.format, sets.labels)
        return cls(recipe, sets.labels, sets.format, sets, model)

    @classmethod
    def opened(cls, recipe: ImageRecipe, run: Path) -> ImageClassifyTask:
        """The task of a finished run, to be applied: without its data."""
        return cls(recipe, Labels.load(run), PictureFormat.load(run), None, build(load_config(run)))

    def save(self, run: Path) -> None:
        """Store beside the recipe what a run needs besides its weights."""
        super().save(run)
        self.form.save(run)
        save_config(self.model.config, run)

    def to(self, device: torch.device) -> None:
        """Move the model, and what pictures are normalised with."""
        super().to(device)
        self.normalise.to(device)

    # Batches

    def batches(self) -> EpochBatches:
        """The training stream."""
        settings, data = self.recipe.train, self.recipe.data
        return training_batches(
            self.sets.train,
            self.form,
            Augmentation.of(settings.augment),
            batch=settings.batch,
            seed=settings.seed,
            workers=data.workers,
            skip=data.corrupt == "skip",
        )

    def evaluation_batches(self, examples: ImageSet) -> EvaluationBatches:
        """Every picture once, in order."""
        return evaluation_batches(
            examples,
            self.form,
            batch=self.recipe.evaluate.batch,
            skip=self.recipe.data.corrupt == "skip",
        )

    def inputs(self, batch: Batch) -> dict[str, Tensor]:
        """Pictures brought to mean 0 and deviation 1."""
        return {"images": self.normalise(batch["images"])}

    def predict(self, batch: Batch) -> Tensor:
        """Logits [B, L], float32; with ``evaluate.flip`` the mean of those of a picture and its mirror
        image."""
        (images,) = self.inputs(batch).values()
        logits = self.model(images).float()
        return (
            torch.lerp(logits, self.model(images.flip(-1)).float(), 0.5)
            if self.recipe.evaluate.flip
            else logits
        )

    def read(self, paths: Sequence[Path]) -> tuple[ImageSet, dict[int, str]]:
        """Pictures in files as the model sees them, and why others, by their number, cannot be read."""
        given = unlabelled_images(paths, self.labels, self.form).pictures
        found: list[np.ndarray] = []
        places: list[str] = []
        wrong: dict[int, str] = {}

        def take(at: int, one: Any) -> None:
            if isinstance(one, Unreadable):
                wrong[at] = one.reason
            else:
                found.append(one)
                places.append(str(paths[at]))

        in_order(given.read, len(paths), take, "reading", None)
        blank = np.zeros((0, *self.form.size, self.form.channels), np.uint8)
        pictures = ArrayPictures(np.stack(found) if found else blank)
        return ImageSet("input", pictures, self.labels.blank(len(found)), places), wrong

    def apply(self, examples: ImageSet) -> np.ndarray:
        """Probabilities [N, L] of pictures, or the numbers [N, 1]; in their order."""
        if not len(examples):
            return np.zeros((0, self.outputs))
        logits, _ = self._logits(examples)
        return probabilities(logits, self.labels.kind)

    def named(self, examples: ImageSet, number: int) -> dict[str, Any]:
        """Where the picture is."""
        return {"image": examples.places[number] if examples.places else number}

    def other_set(self, name: str, *, part: bool) -> ImageSet:
        """Pictures to be measured on."""
        with Watch() as watch:
            return read_image_set(self.recipe.data, self.labels, self.form, name, part=part, progress=watch)

    # What is said about it

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups with rates by layer, what is frozen left out."""
        settings = self.recipe.train
        if isinstance(self.model.config, SwinConfig):
            if (settings.layer_decay, settings.head_rate) != (1.0, 1.0):
                what = "train.layer_decay and train.head_rate are of models of one stack, not of family=swin"
                raise RecipeError(what)
            return super().parameter_groups()
        return parameter_groups(
            self.model,
            layer_decay=settings.layer_decay,
            head_rate=settings.head_rate,
            hidden=hidden_matrices(self.model),
        )

    def flops_a_step(self) -> float:
        """Model FLOPs of one update."""
        return float(self.recipe.train.batch * image_flops(self.model.config).step)

    def backend(self, dtype: torch.dtype) -> tuple[str, str]:
        """The attention backend of a training step, of swin in its first stage, and why."""
        config, settings = self.model.config, self.recipe.train
        batch = -(-settings.batch // settings.accumulate)
        if isinstance(config, SwinConfig):
            core = config
            rows, columns = (-(-side // config.window) for side in config.grids[0])
            batch, length, heads = batch * rows * columns, config.window**2, config.heads
            width, kv_heads, options = config.width // heads, None, config.mechanism_options
        else:
            core = config.encoder
            length, heads, kv_heads, width = core.length, core.heads, core.kv_heads, core.head_dim
            options = mechanism_options(core)
        return explain_choice(
            batch,
            heads,
            length,
            kv_heads=kv_heads,
            head_dim=width,
            dtype=dtype,
            device=next(self.model.parameters()).device,
            dropout=core.attention_dropout,
            grad=True,
            mechanism=core.mechanism,
            backend=core.backend,
            **options,
        )

    def describe(self, device: torch.device, dtype: torch.dtype) -> list[str]:
        """Data, model, attention and its backend."""
        config = self.model.config
        core = config if isinstance(config, SwinConfig) else config.encoder
        name, reason = self.backend(dtype)
        source = f"{base}: " if (base := getattr(self.recipe.model, "base", "")) else ""
        how = f"{core.mechanism}, {core.position} positions, {core.heads} heads"
        return [
            f"data: {self.sets.describe()}",
            f"model: {source}{config.describe()}, {trainable(self.model)}",
            f"attention: {how}; {name}: {reason}",
        ]

    def facts(self, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
        """What ``--dry-run`` adds of this task."""
        name, reason = self.backend(dtype)
        config = self.model.config
        return super().facts(device, dtype) | {
            "pictures": self.form.describe(),
            "model": config.describe(),
            "GFLOPs an image, forward": round(image_flops(config).forward / 1e9, 4),
            "attention backend": f"{name} ({reason})",
        }

    def next_commands(self, run: Path) -> list[str]:
        """What to type after training."""
        place = next((p for p in self.sets.validation.places if Path(p).is_file()), "IMAGE")
        shown = shlex.quote(place)
        return [f"attn classify {run} {shown}", f"attn inspect {run} {shown}", f"attn evaluate {run}"]

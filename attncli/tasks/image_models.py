"""The model of a task on images: fresh, out of a run, or out of a Hugging Face folder."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from attncli.data.images.format import PictureFormat
from attncli.data.labels import Labels
from attncli.errors import CheckpointError, Problem, RecipeError
from attncli.models.adaptation import adapt
from attncli.models.families import broken_rules
from attncli.models.text_config import mechanism_of_base
from attncli.models.vision.huggingface import read_vit
from attncli.models.vision.swin import SwinModel
from attncli.models.vision.swin_config import SwinConfig, resolve_swin, swin_config
from attncli.models.vision.vit import VitModel
from attncli.models.vision.vit_config import VitConfig, resolve_vit, vit_config, with_image
from attncli.recipe.image import FinetuneImageRecipe, ImageModel, ImageRecipe, PretrainedImageModel
from attncli.recipe.loading import load_recipe
from attncli.tasks.encoders import nothing_there
from attncli.training import RunFolder, load_weights

CONFIG = "model.json"
Config = VitConfig | SwinConfig
Model = VitModel | SwinModel


@dataclass(frozen=True)
class ImageBase:
    """What a pre-trained model gives to a task."""

    config: VitConfig
    state: dict[str, Tensor]
    labels: tuple[str, ...]
    """Names of the outputs; empty where its head is of no use."""
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def format(self, recipe: FinetuneImageRecipe) -> PictureFormat | None:
        """How pictures become what the model sees, where the base and the recipe alone decide it."""
        size = recipe.image.size or self.config.image
        if recipe.image.normalise != "base":
            return None
        return PictureFormat(size[0], size[-1], self.config.channels, recipe.image.fit, self.mean, self.std)


def open_base(section: Any) -> ImageBase | None:
    """The base of a recipe; None where the model is to be fresh.

    Raises:
        RecipeError: fine-tuning without a base.
        CheckpointError: neither a run of ours on images nor a folder that can be read as one.
    """
    if isinstance(section, ImageModel):
        return None
    if not section.base:
        what = "model.base is missing: give --from RUN or a Hugging Face folder"
        raise RecipeError(Problem(what, hint="attn classify vit trains from scratch"), then="attn runs list")
    path = Path(section.base).expanduser()
    if (path / "run.json").is_file():
        return _of_run(path)
    if (path / "config.json").is_file():
        found = read_vit(path)
        return ImageBase(found.config, found.state, found.labels, found.mean, found.std)
    raise CheckpointError(nothing_there(path), then="attn runs list")


def _of_run(path: Path) -> ImageBase:
    run = RunFolder.open(path)
    command = run.info["command"]
    if command not in ("classify", "finetune") or not isinstance(
        load_recipe(command, run.recipe_file).recipe, ImageRecipe
    ):
        what = f"{path} is a run of attn {command}; a model of images comes from attn classify vit"
        raise CheckpointError(what, then="attn runs list")
    form, labels = PictureFormat.load(path), Labels.load(path)
    config = load_config(path)
    if isinstance(config, SwinConfig):
        what = f"{path} holds a Swin Transformer; attn finetune vit starts from a ViT"
        raise CheckpointError(what, then="attn classify vit --help")
    return ImageBase(config, load_weights(run), tuple(labels.names), form.mean, form.std)


def new_model(recipe: ImageRecipe, base: ImageBase | None, form: PictureFormat, labels: Labels) -> Model:
    """The model that a recipe describes, with weights of the base or fresh ones from PyTorch's generator.

    The base's head is kept where its outputs are the labels. Raises RecipeError for settings that do not go
    together, all of them at once.
    """
    outputs = 1 if labels.kind == "regression" else len(labels.names)
    torch.manual_seed(recipe.train.seed)
    if base is None:
        assert isinstance(recipe.model, ImageModel)
        resolve = {"vit": resolve_vit, "swin": resolve_swin}[recipe.model.family]
        return build(resolve(recipe.model, image=form.size, channels=form.channels, labels=outputs))
    section = recipe.model
    assert isinstance(section, PretrainedImageModel)
    model = VitModel(adapt_config(section, base.config, form.size, outputs))
    if section.weights == "base":
        state = fitted(base, model)
        if tuple(labels.names) != base.labels:
            state = {name: tensor for name, tensor in state.items() if not name.startswith("head.")}
        model.load_state_dict(model.state_dict() | state)
    adapt(model, section)
    return model


def build(config: Config) -> Model:
    """The model of a configuration, with fresh weights."""
    return SwinModel(config) if isinstance(config, SwinConfig) else VitModel(config)


def adapt_config(
    section: PretrainedImageModel, base: VitConfig, image: tuple[int, int], labels: int
) -> VitConfig:
    """``base`` for images of a size, with the section's dropout and mechanism."""
    found = with_image(base, image)
    changes: dict[str, Any] = {"drop_path": section.drop_path, "backend": section.attention.backend}
    if section.dropout is not None:
        changes["dropout"] = section.dropout
    if section.attention.dropout is not None:
        changes["attention_dropout"] = section.attention.dropout
    if section.attention.mechanism is not None:
        changes["mechanism"] = mechanism_of_base(section.attention.mechanism, base.encoder.mechanism)
        changes["mechanism_options"] = {}
    encoder = replace(found.encoder, **changes)
    if problems := broken_rules(encoder):
        raise RecipeError(*problems)
    return replace(found, encoder=encoder, labels=labels, head_dropout=section.head_dropout)


def fitted(base: ImageBase, model: VitModel) -> dict[str, Tensor]:
    """The base's weights for images of another size: learnt positions are interpolated, as in ViT."""
    state, name = dict(base.state), "encoder.embeddings.position.weight"
    old, new = base.config.encoder, model.config.encoder
    if old.grid == new.grid:
        return state
    if old.position == "learned":
        table = state[name]
        before, cells = table[: old.prefix], table[old.prefix :]
        cells = cells.t().reshape(1, -1, *old.grid)  # [1, C, rows, columns]
        cells = F.interpolate(cells, new.grid, mode="bicubic", align_corners=False)
        state[name] = torch.cat((before, cells[0].flatten(1).t()))
    wanted = model.state_dict()
    if any(wanted[key].shape != tensor.shape for key, tensor in state.items() if not key.startswith("head.")):
        rows, columns = old.grid
        what = f"image.size: model.base has weights for {rows}x{columns} tokens (positions {old.position}, "
        what += f"mechanism {old.mechanism}), which cannot be resized"
        raise RecipeError(Problem(what, hint="leave image.size out"))
    return state


def save_config(config: Config, run: Path) -> None:
    """Store the model's shape: the base is not needed again."""
    (run / CONFIG).write_text(json.dumps(config.plain(), indent=2) + "\n", encoding="utf-8")


def load_config(folder: Path) -> Config:
    """What :func:`save_config` stored; CheckpointError where it is missing or damaged."""
    path = folder / CONFIG
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return (swin_config if raw.get("family") == "swin" else vit_config)(raw)
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(Problem(f"cannot be read: {error}", where=str(path))) from None

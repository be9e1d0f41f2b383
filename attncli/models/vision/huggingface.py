"""Vision Transformers out of Hugging Face folders; huggingface_folder.py writes them.

``config.json``, ``model.safetensors`` and ``preprocessor_config.json`` of ViT (with or without a head) and of
DeiT, whose distillation token is a register here. Nothing is unpickled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from attncli.errors import CheckpointError, Problem, RecipeError
from attncli.models.config import TransformerConfig
from attncli.models.huggingface import Raw, read_activation, read_json, read_safetensors
from attncli.models.huggingface_encoders import shape_of, take
from attncli.models.vision.huggingface_names import FAMILIES, HEAD, as_ours, vit_names
from attncli.models.vision.vit import VitModel
from attncli.models.vision.vit_config import Tokens, VitConfig

_NEVER = ("pooler.", "mask_token")
_SHOWN = 8


@dataclass(frozen=True)
class VitBase:
    """What a pre-trained model gives to another, or to whoever applies it."""

    config: VitConfig
    state: dict[str, Tensor]
    """Of :class:`VitModel`; without the head's where there is none."""
    labels: tuple[str, ...]
    """Names of the outputs; empty without a head."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    """Of each channel, of values between 0 and 1."""

    def model(self) -> VitModel:
        """The model itself, in float32; CheckpointError where the folder has no head."""
        if not self.labels:
            raise CheckpointError("this folder holds a model without a head, which labels nothing")
        model = VitModel(self.config)
        model.load_state_dict(self.state)
        return model


def read_vit(folder: str | Path) -> VitBase:
    """The model of a folder that transformers' ``save_pretrained`` wrote.

    Raises:
        CheckpointError: a missing or damaged file, another architecture, or weights that are missing or of
            another shape, all of them named.
    """
    folder = Path(folder)
    raw = read_json(folder / "config.json")
    config = _read_config(raw, folder)
    tensors = as_ours(read_safetensors(folder), config)
    head = "classifier.weight" in tensors
    labels = _labels(raw, tensors["classifier.weight"].shape[0]) if head else ()
    config = replace(config, labels=len(labels) or config.labels)
    shapes = _shapes(config, folder)
    entries = vit_names(config, raw.get("qkv_bias", True))
    entries = entries if head else entries[:-2]
    state = take(entries, tensors, shapes, folder)
    known = {name for entry in entries for name in entry.theirs}
    extra = [name for name in tensors if name not in known and not any(word in name for word in _NEVER)]
    if extra:
        raise CheckpointError(*(Problem(f"{n} is not part of the model", where=str(folder)) for n in extra))
    if not raw.get("qkv_bias", True):
        for index in range(config.encoder.layers):
            name = f"encoder.stack.blocks.{index}.attention.qkv.bias"
            state[name] = torch.zeros(shapes[name])
    mean, std = _normalisation(folder, config.channels)
    return VitBase(config, state, labels, mean, std)


def _read_config(raw: Raw, folder: Path) -> VitConfig:
    where = str(folder / "config.json")
    family = raw.get("model_type")
    name = str((raw.get("architectures") or ["none"])[0])
    if family not in FAMILIES or name not in (f"{FAMILIES[family]}Model", f"{FAMILIES[family]}{HEAD}"):
        known = ", ".join(f"{prefix}{kind}" for prefix in FAMILIES.values() for kind in ("Model", HEAD))
        what = f"{name} (model_type {family!r}) is no model of images that attn reads"
        raise CheckpointError(Problem(what, where=where, hint=f"there are {known}"), *_what_is_there(folder))
    try:
        image, patch = (
            _pair(raw.get(key, default)) for key, default in (("image_size", 224), ("patch_size", 16))
        )
        if image[0] % patch[0] or image[1] % patch[1]:
            raise CheckpointError(
                Problem(f"image_size={image} is not a multiple of patch_size={patch}", where=where)
            )
        grid = image[0] // patch[0], image[1] // patch[1]
        registers = int(family == "deit")
        encoder = TransformerConfig(
            length=math.prod(grid) + 1 + registers,
            grid=grid,
            prefix=1 + registers,
            layers=raw["num_hidden_layers"],
            width=raw["hidden_size"],
            intermediate=raw["intermediate_size"],
            heads=raw["num_attention_heads"],
            activation=read_activation({"hidden_act": "gelu"} | raw, "hidden_act"),
            dropout=raw.get("hidden_dropout_prob", 0.0),
            attention_dropout=raw.get("attention_probs_dropout_prob", 0.0),
            norm="pre",
            norm_epsilon=raw.get("layer_norm_eps", 1e-12),
            embedding_norm=False,
            init_cutoff=None,
        )
        return VitConfig(
            image=image,
            channels=raw.get("num_channels", 3),
            tokens=Tokens(patch=patch),
            encoder=encoder,
            registers=registers,
            family=str(family),
        )
    except KeyError as error:
        raise CheckpointError(Problem(f"setting {error.args[0]!r} is missing", where=where)) from None
    except (TypeError, AttributeError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(Problem(f"a setting has the wrong type: {error}", where=where)) from None


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    first, last = (value, value) if isinstance(value, int) else value
    return int(first), int(last)


def _what_is_there(folder: Path) -> list[Problem]:
    """Names and shapes of a folder's weights, where they can be read."""
    try:
        tensors = read_safetensors(folder)
    except CheckpointError:
        return []
    shown = [f"{name} {shape_of(tensor)}" for name, tensor in list(tensors.items())[:_SHOWN]]
    rest = f" and {len(tensors) - _SHOWN} more" if len(tensors) > _SHOWN else ""
    return [Problem(f"it holds {', '.join(shown)}{rest}", where=str(folder))]


def _labels(raw: Raw, count: int) -> tuple[str, ...]:
    names = raw.get("id2label") or {}
    return tuple(str(names.get(str(index), f"LABEL_{index}")) for index in range(count))


def _normalisation(folder: Path, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation that ``preprocessor_config.json`` says; 0.5 and 0.5 where it is not there."""
    path = folder / "preprocessor_config.json"
    raw = read_json(path) if path.is_file() else {}
    if not raw.get("do_normalize", True):
        return (0.0,) * channels, (1.0,) * channels
    try:
        found = [
            tuple(float(value) for value in (raw.get(key) or (0.5,) * channels))
            for key in ("image_mean", "image_std")
        ]
        found = [values * channels if len(values) == 1 else values for values in found]
        if any(len(values) != channels for values in found) or not all(value > 0 for value in found[1]):
            raise ValueError(f"there are not {channels} numbers, or a deviation that is not above 0")
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            Problem(f"image_mean and image_std cannot be used: {error}", where=str(path))
        ) from None
    return found[0], found[1]


def _shapes(config: VitConfig, folder: Path) -> dict[str, tuple[int, ...]]:
    try:
        with torch.device("meta"):
            state = VitModel(config).state_dict()
    except (RecipeError, TypeError, RuntimeError, ZeroDivisionError) as error:
        raise CheckpointError(
            Problem(f"its settings make no model: {error}", where=str(folder / "config.json"))
        ) from None
    return {name: tuple(tensor.shape) for name, tensor in state.items()}

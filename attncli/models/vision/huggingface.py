"""Vision Transformers as Hugging Face folders: read from them and written to them.

``config.json``, ``model.safetensors`` and ``preprocessor_config.json`` of ViT (with or without a head) and of
DeiT, whose distillation token is a register here. Nothing is unpickled.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from attncli.errors import CheckpointError, Problem, RecipeError
from attncli.models.config import TransformerConfig
from attncli.models.huggingface import Raw, read_activation, read_json, read_safetensors
from attncli.models.huggingface_encoders import shape_of, take
from attncli.models.huggingface_folder import separate
from attncli.models.huggingface_names import Entry, three_as_one, weight_and_bias
from attncli.models.vision.vit import VitModel
from attncli.models.vision.vit_config import Tokens, VitConfig

_HEAD = "ForImageClassification"
_FAMILIES = {"vit": "ViT", "deit": "DeiT"}
_ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu"}
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
    tensors = _as_ours(read_safetensors(folder), config)
    head = "classifier.weight" in tensors
    labels = _labels(raw, tensors["classifier.weight"].shape[0]) if head else ()
    config = replace(config, labels=len(labels) or config.labels)
    shapes = _shapes(config, folder)
    entries = _names(config, raw.get("qkv_bias", True))
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
    if family not in _FAMILIES or name not in (f"{_FAMILIES[family]}Model", f"{_FAMILIES[family]}{_HEAD}"):
        known = ", ".join(f"{prefix}{kind}" for prefix in _FAMILIES.values() for kind in ("Model", _HEAD))
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


# Names and shapes, theirs and ours


def _names(config: VitConfig, qkv_bias: bool = True) -> list[Entry]:
    """One of our weights each, against theirs in the shapes of :func:`_as_ours`; the head last."""
    root, ours = config.family, "encoder.embeddings"
    tokens = ["cls_token"] + ["distillation_token"] * config.registers
    found = [
        Entry(f"{ours}.prefix", tuple(f"{root}.embeddings.{name}" for name in tokens)),
        Entry(f"{ours}.position.weight", (f"{root}.embeddings.position_embeddings",)),
        *weight_and_bias(f"{ours}.tokens.project", f"{root}.embeddings.patch_embeddings.projection"),
    ]
    for index in range(config.encoder.layers):
        ours, theirs = f"encoder.stack.blocks.{index}", f"{root}.encoder.layer.{index}"
        qkv = three_as_one(f"{ours}.attention.qkv", f"{theirs}.attention.attention")
        found += qkv if qkv_bias else qkv[:1]
        found += weight_and_bias(f"{ours}.attention.out", f"{theirs}.attention.output.dense")
        found += weight_and_bias(f"{ours}.attention_norm", f"{theirs}.layernorm_before")
        found += weight_and_bias(f"{ours}.feed_forward.expand", f"{theirs}.intermediate.dense")
        found += weight_and_bias(f"{ours}.feed_forward.contract", f"{theirs}.output.dense")
        found += weight_and_bias(f"{ours}.feed_forward_norm", f"{theirs}.layernorm_after")
    return [
        *found,
        *weight_and_bias("encoder.stack.norm", f"{root}.layernorm"),
        *weight_and_bias("head", "classifier"),
    ]


_FLAT = {"cls_token": (0, 1), "distillation_token": (0, 1), "position_embeddings": (0, 1)}
_KERNEL = "patch_embeddings.projection.weight"


def _as_ours(tensors: dict[str, Tensor], config: VitConfig) -> dict[str, Tensor]:
    """Their weights with present names and in our shapes: tables [T, C], the patches' matrix [C, K p q]."""
    root = f"{config.family}."
    found = {}
    for name, tensor in tensors.items():
        if not name.startswith((root, "classifier.")):
            name = root + name  # folders without a head leave it out
        if name.endswith(tuple(_FLAT)) and tensor.ndim == 3:
            tensor = tensor.flatten(0, 1)
        elif name.endswith(_KERNEL) and tensor.ndim == 4:
            if tensor.shape[1:] != (config.channels, *config.tokens.patch):
                wanted = "x".join(map(str, (config.channels, *config.tokens.patch)))
                raise CheckpointError(
                    f"{name} is {shape_of(tensor)}, the configuration says {wanted} for each feature"
                )
            tensor = tensor.flatten(1)
        found[name] = tensor
    return found


def _shapes(config: VitConfig, folder: Path) -> dict[str, tuple[int, ...]]:
    try:
        with torch.device("meta"):
            state = VitModel(config).state_dict()
    except (RecipeError, TypeError, RuntimeError, ZeroDivisionError) as error:
        raise CheckpointError(
            Problem(f"its settings make no model: {error}", where=str(folder / "config.json"))
        ) from None
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


# Writing


def vit_problems(config: VitConfig) -> list[Problem]:
    """What neither ViT nor DeiT of transformers has; empty where it can be written."""
    encoder = config.encoder
    wanted: dict[str, tuple[object, object]] = {
        "tokenizer": (config.tokens.kind, "patch"),
        "pooling": (config.pooling, "class"),
        "attention.mechanism": (encoder.mechanism, "scaled_dot"),
        "attention.position": (encoder.position, "learned"),
        "attention.kv_heads": (encoder.kv_heads or encoder.heads, encoder.heads),
        "attention.qk_norm": (encoder.qk_norm, False),
        "norm_kind": (encoder.norm_kind, "layer"),
        "bias": (encoder.bias, True),
        "layer_scale": (encoder.layer_scale, None),
    }
    found = [
        Problem(f"transformers' ViT has no model.{key}={value}", hint=f"it has {known}")
        for key, (value, known) in wanted.items()
        if value != known
    ]
    if config.registers != (config.family == "deit"):
        found.append(Problem(f"transformers' ViT has no model.registers={config.registers}", hint="it has 0"))
    if encoder.activation not in _ACTIVATIONS:
        hint = f"it has {', '.join(_ACTIVATIONS)}"
        found.append(Problem(f"transformers' ViT has no model.activation={encoder.activation}", hint=hint))
    return found


def save_vit(
    model: VitModel,
    state: dict[str, Tensor],
    folder: Path,
    *,
    labels: Sequence[str],
    kind: str = "single",
    mean: Sequence[float],
    std: Sequence[float],
) -> str:
    """Write a folder that ``transformers`` loads; the name of the class that does.

    ``state``: of the model, low-rank updates merged. ``kind``: single, multi or regression.

    Raises:
        RecipeError: settings that it has not, all of them.
    """
    config, encoder = model.config, model.config.encoder
    if problems := vit_problems(config):
        raise RecipeError(*problems)
    name = _FAMILIES[config.family] + _HEAD
    problem = {"single": "single_label_classification", "multi": "multi_label_classification"}
    raw = {
        "architectures": [name],
        "model_type": config.family,
        "hidden_size": encoder.width,
        "num_hidden_layers": encoder.layers,
        "num_attention_heads": encoder.heads,
        "intermediate_size": encoder.intermediate,
        "hidden_act": _ACTIVATIONS[encoder.activation],
        "hidden_dropout_prob": encoder.dropout,
        "attention_probs_dropout_prob": encoder.attention_dropout,
        "layer_norm_eps": encoder.norm_epsilon,
        "image_size": _plain(config.image),
        "patch_size": _plain(config.tokens.patch),
        "num_channels": config.channels,
        "qkv_bias": True,
        "problem_type": problem.get(kind, "regression"),
        "torch_dtype": "float32",
    }
    names = list(labels) or ["LABEL_0"]
    raw["id2label"] = {str(index): label for index, label in enumerate(names)}
    raw["label2id"] = {label: index for index, label in enumerate(names)}
    tensors: dict[str, Tensor] = {}
    third = encoder.width
    for entry in _names(config):
        sizes = (third,) * 3 if len(entry.theirs) == 3 else (1,) * len(entry.theirs)
        tensors |= entry.give(state[entry.ours], sizes)
    for key, tensor in tensors.items():
        if key.endswith(tuple(_FLAT)):
            tensors[key] = tensor.unsqueeze(0)
        elif key.endswith(_KERNEL):
            tensors[key] = tensor.unflatten(1, (config.channels, *config.tokens.patch))
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "config.json", raw)
    _write(folder / "preprocessor_config.json", preprocessor(config.image, mean, std))
    save_file(separate(tensors), folder / "model.safetensors", metadata={"format": "pt"})
    return name


def preprocessor(image: tuple[int, int], mean: Sequence[float], std: Sequence[float]) -> Raw:
    """What ``preprocessor_config.json`` says of pictures."""
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": image[0], "width": image[1]},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(mean),
        "image_std": list(std),
    }


def _plain(size: tuple[int, int]) -> int | list[int]:
    return size[0] if size[0] == size[1] else list(size)


def _write(path: Path, values: Raw) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

"""Vision Transformers as Hugging Face folders, which transformers loads; huggingface.py reads them back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from attncli.errors import Problem, RecipeError
from attncli.models.huggingface import Raw
from attncli.models.huggingface_folder import separate
from attncli.models.vision.huggingface_names import FAMILIES, HEAD, as_theirs, vit_names
from attncli.models.vision.vit import VitModel
from attncli.models.vision.vit_config import VitConfig

_ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu"}


def vit_problems(config: VitConfig) -> list[Problem]:
    """What neither ViT nor DeiT of transformers has; empty where it can be written."""
    encoder = config.encoder
    wanted: dict[str, tuple[object, object]] = {
        "tokenizer": (config.tokens.kind, "patch"),
        "pooling": (config.pooling, "class"),
        "attention.mechanism": (encoder.mechanism, "scaled_dot"),
        "attention.position": (encoder.position, "learned"),
        "attention.kv_heads": (encoder.kv_heads or encoder.heads, encoder.heads),
        "attention.kv_latent": (encoder.kv_latent, None),
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
    name = FAMILIES[config.family] + HEAD
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
    for entry in vit_names(config):
        sizes = (third,) * 3 if len(entry.theirs) == 3 else (1,) * len(entry.theirs)
        tensors |= entry.give(state[entry.ours], sizes)
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "config.json", raw)
    _write(folder / "preprocessor_config.json", preprocessor(config.image, mean, std))
    save_file(separate(as_theirs(tensors, config)), folder / "model.safetensors", metadata={"format": "pt"})
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

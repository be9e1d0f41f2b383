"""Names and shapes of weights in Hugging Face folders of Vision Transformers, against ours: both ways."""

from __future__ import annotations

from torch import Tensor

from attncli.errors import CheckpointError
from attncli.models.huggingface_encoders import shape_of
from attncli.models.huggingface_names import Entry, three_as_one, weight_and_bias
from attncli.models.vision.vit_config import VitConfig

FAMILIES = {"vit": "ViT", "deit": "DeiT"}
"""``model_type`` to how the names of its classes begin."""
HEAD = "ForImageClassification"


def vit_names(config: VitConfig, qkv_bias: bool = True) -> list[Entry]:
    """One of our weights each, against theirs in the shapes of :func:`as_ours`; the head last."""
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


def as_ours(tensors: dict[str, Tensor], config: VitConfig) -> dict[str, Tensor]:
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


def as_theirs(tensors: dict[str, Tensor], config: VitConfig) -> dict[str, Tensor]:
    """The way back: tables [1, T, C], the patches' kernel [C, K, p, q]."""
    found = {}
    for name, tensor in tensors.items():
        if name.endswith(tuple(_FLAT)):
            tensor = tensor.unsqueeze(0)
        elif name.endswith(_KERNEL):
            tensor = tensor.unflatten(1, (config.channels, *config.tokens.patch))
        found[name] = tensor
    return found

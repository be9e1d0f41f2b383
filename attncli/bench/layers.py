"""Whole layers of multi-head attention, projections included: ours and those of other libraries.

All are given the weights of ours, so that all compute the same; the error column of the table says so. A
library that cannot be imported is simply not there.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from attncli.attention import Attention, Causal

TORCH = "torch.nn.MultiheadAttention"
"""What the times of layers are relative to."""
OURS = "attn layer"

Call = Callable[[Tensor], Tensor]
"""[B, T, C] to [B, T, C]."""


def build_layers(
    *,
    heads: int,
    head_dim: int,
    causal: bool,
    kind: torch.dtype,
    device: torch.device,
    peers: bool,
    seed: int,
) -> tuple[Attention, dict[str, tuple[Call, list[Tensor]]], list[str]]:
    """Our layer in float64, whose weights all have; layers with their parameters; what is left out."""
    torch.manual_seed(seed)
    exact = Attention(heads * head_dim, heads=heads, bias=False).double().to(device)
    found: dict[str, tuple[Call, list[Tensor]]] = {}
    left_out: list[str] = []
    for name, (module, build) in (_PEERS if peers else {}).items():
        if importlib.util.find_spec(module) is None:
            continue
        try:
            call, layer = build(exact, causal, kind)
        except Exception as error:  # another version of a library than the one this was written for
            left_out.append(f"{name}: {type(error).__name__}: {str(error).splitlines()[0][:120]}")
            continue
        found[name] = call, list(layer.parameters())
    return exact, found, left_out


def _ours(exact: Attention, causal: bool, kind: torch.dtype) -> tuple[Call, nn.Module]:
    layer = Attention(exact.out.out_features, heads=exact.heads, bias=False).to(exact.out.weight.device, kind)
    layer.load_state_dict(exact.state_dict())
    mask = Causal() if causal else None
    return lambda x: layer(x, mask=mask), layer.eval()


def _torch(exact: Attention, causal: bool, kind: torch.dtype) -> tuple[Call, nn.Module]:
    width, device = exact.out.out_features, exact.out.weight.device
    layer = nn.MultiheadAttention(width, exact.heads, bias=False, batch_first=True, device=device, dtype=kind)
    with torch.no_grad():
        layer.in_proj_weight.copy_(exact.qkv.weight)
        layer.out_proj.weight.copy_(exact.out.weight)
    layer.eval()
    masks: dict[int, Tensor] = {}

    def call(x: Tensor) -> Tensor:
        if not causal:
            return layer(x, x, x, need_weights=False)[0]
        length = x.shape[1]
        if length not in masks:
            masks[length] = nn.Transformer.generate_square_subsequent_mask(length, device=device, dtype=kind)
        return layer(x, x, x, need_weights=False, attn_mask=masks[length], is_causal=True)[0]

    return call, layer


def _x_transformers(exact: Attention, causal: bool, kind: torch.dtype) -> tuple[Call, nn.Module]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from x_transformers.x_transformers import Attention as Other

    width = exact.out.out_features
    layer = Other(width, dim_head=exact.head_dim, heads=exact.heads, causal=causal, flash=True)
    layer.to(exact.out.weight.device, kind).eval()
    with torch.no_grad():
        parts = zip((layer.to_q, layer.to_k, layer.to_v), exact.qkv.weight.chunk(3), strict=True)
        for linear, weight in parts:
            linear.weight.copy_(weight)
        layer.to_out.weight.copy_(exact.out.weight)
    return layer, layer


def _keras(exact: Attention, causal: bool, kind: torch.dtype) -> tuple[Call, nn.Module]:
    os.environ.setdefault("KERAS_BACKEND", "torch")
    logging.getLogger("absl").setLevel(logging.ERROR)
    import keras

    if keras.backend.backend() != "torch":
        raise RuntimeError(f"its backend is {keras.backend.backend()}; KERAS_BACKEND=torch compares")
    device, width, depth = exact.out.weight.device, exact.out.out_features, exact.head_dim
    with keras.device(str(device)):
        layer = keras.layers.MultiHeadAttention(
            exact.heads, depth, use_bias=False, dtype=str(kind).removeprefix("torch.")
        )
        layer.build((1, 2, width), (1, 2, width))
    kernels = [weight.T.unflatten(1, (-1, depth)) for weight in exact.qkv.weight.chunk(3)]  # [C, H, D]
    kernels.append(exact.out.weight.T.unflatten(0, (-1, depth)))  # [H, D, C]
    with torch.no_grad():
        for variable, value in zip(layer.weights, kernels, strict=True):
            variable.value.copy_(value)

    def call(x: Tensor) -> Tensor:
        with keras.device(str(device)):
            return layer(x, x, use_causal_mask=causal, training=False)

    return call, layer


_PEERS: dict[str, tuple[str, Callable[..., tuple[Call, nn.Module]]]] = {
    OURS: ("attncli", _ours),
    TORCH: ("torch", _torch),
    "x-transformers": ("x_transformers", _x_transformers),
    "keras MultiHeadAttention": ("keras", _keras),
}

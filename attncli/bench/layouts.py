"""Head layouts side by side: whole attention layers, and one step of decoding over a full cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from attncli.attention import Attention, Causal, KeyValueCache
from attncli.attention.layouts import LAYOUTS

Call = Callable[[Tensor], Tensor]
"""[B, T, C] to [B, T, C], or of a step to [B, 1, C]."""


def build_layouts(
    names: Sequence[str], *, heads: int, head_width: int, seed: int, device: torch.device
) -> dict[str, Attention]:
    """A layer of each layout, as wide as its heads together, in the published proportions."""
    layers = {}
    for name in dict.fromkeys(names):
        torch.manual_seed(seed)
        options = LAYOUTS[name].options(heads, head_width)
        layer = Attention(heads * head_width, heads=heads, head_dim=head_width, bias=False, **options)
        layers[name] = layer.to(device).eval().requires_grad_(False)
    return layers


def whole(layer: Attention, causal: bool) -> Call:
    """The layer over a sequence, its projections included."""
    mask = Causal() if causal else None
    return lambda x: layer.to(x.dtype)(x, mask=mask)


def one_step(layer: Attention, length: int) -> Call:
    """The last token alone, over a cache of those before it; the first call fills the cache."""
    cache, mask = KeyValueCache(length), Causal()

    def call(x: Tensor) -> Tensor:
        with torch.no_grad():
            own = layer.to(x.dtype)
            if cache.length == 0:
                own(x[:, :-1], mask=mask, cache=cache)
            cache.truncate(length - 1)
            return own(x[:, -1:], mask=mask, cache=cache)

    return call


def held(layers: dict[str, Attention]) -> list[dict[str, int | str]]:
    """Numbers that the cache of each layer holds for a token."""
    found: list[dict[str, int | str]] = []
    for name, layer in layers.items():
        weight = layer.out.weight
        cache = KeyValueCache(1)
        with torch.no_grad():
            layer(weight.new_zeros(1, 1, weight.shape[0]), cache=cache)
        found.append({"layout": name, "held": sum(part.numel() for part in cache.held() or ())})
    return found

"""How heads share keys and values: the layouts of :class:`attncli.attention.Attention`, one table of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from attncli.attention import latent


@dataclass(frozen=True)
class Layout:
    """H query heads of width D, K key/value heads, W features of a latent."""

    text: str
    line: str
    """What a recipe says to have it."""
    held: str
    """Numbers that a cache holds for each token in each layer."""
    use: str
    """When to take it, in a sentence."""
    options: Callable[[int, int], dict[str, Any]]
    """From H and D to what ``Attention`` is given, in the published proportions."""


LAYOUTS: dict[str, Layout] = {
    "multi_head": Layout(
        'Multi-head: every query head has keys and values of its own.\n\n'
        '    head_h = attention(x Wq_h, x Wk_h, x Wv_h),  out = [head_1; ...; head_H] Wo\n\n'
        'Vaswani et al. 2017, "Attention Is All You Need", https://arxiv.org/abs/1706.03762',
        "model.attention.kv_heads=H",
        "2 H D",
        "by default, where the memory of a cache does not matter",
        lambda heads, width: {},
    ),
    "grouped_query": Layout(
        "Grouped-query: H / K query heads share each of K key/value heads.\n\n"
        'Ainslie et al. 2023, "GQA: Training Generalized Multi-Query Transformer Models from Multi-Head '
        'Checkpoints",\nhttps://arxiv.org/abs/2305.13245',
        "model.attention.kv_heads=K",
        "2 K D",
        "long decoding at nearly the quality of all heads; K is commonly a quarter of H",
        lambda heads, width: {"kv_heads": heads // 4 if heads % 4 == 0 else 1},
    ),
    "multi_query": Layout(
        "Multi-query: all query heads share one head of keys and values.\n\n"
        'Shazeer 2019, "Fast Transformer Decoding: One Write-Head is All You Need",\n'
        "https://arxiv.org/abs/1911.02150",
        "model.attention.kv_heads=1",
        "2 D",
        "the smallest cache of those that hold keys and values",
        lambda heads, width: {"kv_heads": 1},
    ),
    "latent": Layout(
        inspect.cleandoc(latent.__doc__),
        "model.attention.kv_latent=W",
        "W, or W + D / 2 with rotary positions",
        "a small cache at the quality of all heads; W was 4 D as published",
        lambda heads, width: {"kv_latent": 4 * width},
    ),
}  # fmt: skip

"""The ideas behind attention, and under which names of this package they are found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Idea:
    """One thought and what stands for it: mechanisms, head layouts, attention of pictures."""

    text: str
    names: tuple[str, ...]
    lines: tuple[str, ...] = ()
    """Recipe lines that stand for it beside these."""


IDEAS: dict[str, Idea] = {
    "score": Idea(
        "how well a query and a key fit: the first of score, rank, weighted sum",
        ("scaled_dot", "dot", "additive", "concat", "bilinear", "cosine"),
    ),
    "rank": Idea(
        "which keys count at all: the best, the near ones, or those of a bucket",
        ("topk", "lsh", "window", "dilated", "longformer", "bigbird", "sparsemax", "entmax15", "entmax",
         "shifted_window"),
    ),
    "weighted_sum": Idea(
        "how scores become weights, and how much of what they sum up goes on",
        ("scaled_dot", "sparsemax", "sigmoid", "sinks", "gated", "squeeze_excite", "eca", "cbam",
         "additive_gate"),
    ),
    "multi_layer": Idea(
        "attention over what attention gave: layer on layer, along one axis after the other, words then "
        "sentences",
        ("axial", "cbam", "shifted_window"),
        ("model.layers=N", "attn classify han"),
    ),
    "adaptive": Idea(
        "the data or the training decide how far, how sharply or how much: spans, exponents, gates, places",
        ("adaptive_span", "entmax", "cosine", "gla", "gated", "additive_gate", "deformable"),
    ),
    "fused": Idea(
        "several attentions, or attention and another operation, joined in one",
        ("global_local", "convolution", "differential", "talking_heads", "longformer", "bigbird", "cbam"),
    ),
    "low_rank": Idea(
        "weights that are products of thin matrices are never formed: the cost grows with the length alone",
        ("linformer", "nystrom", "linear", "performer", "cosformer", "retention", "gla", "latent"),
    ),
    "sharing": Idea(
        "heads, layers or tokens that use the same keys, values or weights",
        ("multi_head", "grouped_query", "multi_query", "latent", "talking_heads"),
        ("model.share_layers=true",),
    ),
}  # fmt: skip


def ideas_of(name: str) -> list[str]:
    """The ideas that ``name`` stands for."""
    return [idea for idea, about in IDEAS.items() if name in about.names]

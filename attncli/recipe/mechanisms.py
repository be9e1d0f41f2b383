"""The mechanisms and their options, named here so that recipes are read without PyTorch.

``attncli.attention.table`` is where they are; a test keeps the two alike.
"""

from __future__ import annotations

from typing import Literal

MechanismName = Literal[
    "scaled_dot", "dot", "additive", "concat", "bilinear", "cosine",
    "topk", "window", "dilated", "longformer", "bigbird", "adaptive_span", "lsh",
    "sparsemax", "entmax15", "entmax",
    "linear", "performer", "cosformer", "retention", "gla", "linformer", "nystrom",
    "sinks", "sigmoid", "talking_heads", "gated", "differential", "global_local", "convolution",
]  # fmt: skip

LayoutName = Literal["multi_head", "grouped_query", "multi_query", "latent"]

TAKES: dict[str, tuple[str, ...]] = {
    "topk": ("topk",),
    "window": ("window",),
    "dilated": ("window", "dilation"),
    "longformer": ("window", "global_tokens"),
    "bigbird": ("block", "global_blocks", "random_blocks"),
    "adaptive_span": ("span", "ramp"),
    "lsh": ("buckets", "rounds", "length"),
    "performer": ("features",),
    "cosformer": ("length",),
    "linformer": ("rank", "length"),
    "nystrom": ("landmarks",),
    "global_local": ("window",),
    "convolution": ("kernel",),
}
"""Options that a mechanism takes; all have defaults."""

OPTIONS = tuple(dict.fromkeys(option for taken in TAKES.values() for option in taken))


def takers(option: str) -> str:
    """The mechanisms that take ``option``, in words."""
    names = [name for name, taken in TAKES.items() if option in taken]
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]

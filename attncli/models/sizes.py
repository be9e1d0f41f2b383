"""Published sizes of the language-model families. No torch.

``tiny mini small medium``: Turc et al. 2019 (https://arxiv.org/abs/1908.08962); ``base large``: BERT (Devlin
et al. 2019, https://arxiv.org/abs/1810.04805). RoBERTa has BERT's. ALBERT (Lan et al. 2020,
https://arxiv.org/abs/1909.11942) has BERT's with embeddings 128 wide. ``gpt`` from small on is GPT-2
(Radford et al. 2019; its smallest, 12 x 768, is both small and base here). ModernBERT (Warner et al. 2024,
https://arxiv.org/abs/2412.13663) publishes base and large; its smaller sizes here have BERT's depth and width
with a gated feed-forward net of as many parameters: 8/3 of the width, in steps of 64.
"""

from __future__ import annotations

from typing import NamedTuple


class Size(NamedTuple):
    """Layers, width, heads and inner width of the feed-forward nets."""

    layers: int
    width: int
    heads: int
    intermediate: int


_BERT = {
    "tiny": Size(2, 128, 2, 512),
    "mini": Size(4, 256, 4, 1024),
    "small": Size(4, 512, 8, 2048),
    "medium": Size(8, 512, 8, 2048),
    "base": Size(12, 768, 12, 3072),
    "large": Size(24, 1024, 16, 4096),
}

SIZES: dict[str, dict[str, Size]] = {
    "bert": _BERT,
    "roberta": _BERT,
    "albert": _BERT,
    "gpt": {
        "tiny": _BERT["tiny"],
        "mini": _BERT["mini"],
        "small": _BERT["base"],
        "base": _BERT["base"],
        "medium": _BERT["large"],
        "large": Size(36, 1280, 20, 5120),
    },
    "modernbert": {
        "tiny": Size(2, 128, 2, 384),
        "mini": Size(4, 256, 4, 704),
        "small": Size(4, 512, 8, 1344),
        "medium": Size(8, 512, 8, 1344),
        "base": Size(22, 768, 12, 1152),
        "large": Size(28, 1024, 16, 2624),
    },
}
"""Family to size name to dimensions."""

"""Parameters and floating-point operations of a model, from its plain values. No torch.

Counted as in PaLM, appendix B (Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311): matrix products at
two operations a multiplication and addition, attention scores and weighted sums over all pairs of tokens that
a layer's window allows (causality halves nothing), nothing else. The backward pass costs twice the forward.
"""

from __future__ import annotations

from dataclasses import dataclass

from attncli.models.config import DecoderConfig, EncoderConfig

_GATED = ("swiglu", "geglu")


@dataclass(frozen=True)
class Parameters:
    """Weights of a model; ``embeddings`` are those of words, positions and segments, within ``total``."""

    total: int
    embeddings: int

    @property
    def body(self) -> int:
        """Without embeddings."""
        return self.total - self.embeddings


@dataclass(frozen=True)
class Flops:
    """Operations of one example's forward pass, by part."""

    projections: int
    """Queries, keys, values and outputs of attention."""
    attention: int
    """Scores and weighted sums."""
    feed_forward: int
    head: int
    """The output layers, and the projection of factorised embeddings."""

    @property
    def forward(self) -> int:
        """All parts."""
        return self.projections + self.attention + self.feed_forward + self.head

    @property
    def step(self) -> int:
        """Forward and backward."""
        return 3 * self.forward


def model_flops(
    config: EncoderConfig | DecoderConfig, *, tokens: int | None = None, predicted: float | None = None
) -> Flops:
    """Operations of a forward pass over one example.

    ``tokens``: of the example; the model's length where it is None. ``predicted``: positions whose logits
    are computed, on average; all of them where it is None.
    """
    tokens = config.length if tokens is None else tokens
    predicted = tokens if predicted is None else predicted
    width, words = config.width, config.word_width
    kv_width = (config.kv_heads or config.heads) * config.head_dim
    layer_projections = 2 * tokens * width * (2 * width + 2 * kv_width)
    layer_feed_forward = 2 * tokens * width * config.intermediate * (3 if config.activation in _GATED else 2)

    causal = isinstance(config, DecoderConfig)
    pairs = 0
    for index in range(config.layers):
        reach = config.local_window if index in config.local_layers else None
        if config.mechanism == "window":
            reach = min(config.window or tokens, tokens if reach is None else reach)
        pairs += tokens * (tokens if reach is None else min(tokens, reach + 1 if causal else 2 * reach + 1))

    head = 2 * predicted * words * config.vocabulary
    if config.embedding_width is not None:
        head += 2 * tokens * words * width
    if isinstance(config, EncoderConfig):
        head += 2 * predicted * width * words
        if config.pair:
            head += 2 * width * width + 2 * width * 2
    elif config.embedding_width is not None and config.tie_embeddings:
        head += 2 * predicted * width * words
    elif config.embedding_width is not None:
        head += 2 * predicted * (width - words) * config.vocabulary
    return Flops(
        projections=config.layers * layer_projections,
        attention=4 * pairs * width,
        feed_forward=config.layers * layer_feed_forward,
        head=round(head),
    )


def count_parameters(config: EncoderConfig | DecoderConfig) -> Parameters:
    """Trainable weights of the model, those of the position scheme and the mechanism included."""
    import torch

    from attncli.models.build import build_model

    with torch.device("meta"):
        model = build_model(config)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    kinds = ("embeddings.word.", "embeddings.position.", "embeddings.segment.")
    return Parameters(
        total=sum(sizes.values()),
        embeddings=sum(size for name, size in sizes.items() if any(kind in name for kind in kinds)),
    )

"""Parameters and floating-point operations of a model, from its plain values. No torch.

Counted as in PaLM, appendix B (Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311): matrix products at
two operations a multiplication and addition, attention scores and weighted sums over all pairs of tokens that
a layer's window allows (causality halves nothing), nothing else. The backward pass costs twice the forward.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from attncli.models.config import DecoderConfig, EncoderConfig, TransformerConfig
from attncli.models.recurrent_config import RecurrentConfig
from attncli.models.translation import Seq2SeqConfig, TranslationConfig, build_translation
from attncli.models.vision.swin_config import SwinConfig
from attncli.models.vision.vit_config import VitConfig

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
    """Feed-forward nets, or recurrent cells."""
    head: int
    """The output layers, and the projection of factorised embeddings."""
    tokens: int = 0
    """What makes tokens of pictures."""

    @property
    def forward(self) -> int:
        """All parts."""
        return self.projections + self.attention + self.feed_forward + self.head + self.tokens

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
    return stack_flops(config, tokens, causal=isinstance(config, DecoderConfig), head=round(head))


def translation_flops(
    config: Seq2SeqConfig | RecurrentConfig, *, source: float, target: float, predicted: float | None = None
) -> Flops:
    """Operations of a forward pass over one pair of ``source`` and ``target`` tokens.

    ``predicted``: positions whose logits are computed, on average; all of the target's where it is None.
    """
    if isinstance(config, RecurrentConfig):
        return _recurrent(config, source, target, target if predicted is None else predicted)
    encoder, decoder = config.encoder, config.decoder
    read = stack_flops(encoder, source, causal=False)
    write = stack_flops(decoder, target, causal=True)
    width = decoder.width
    crossed = 2 * (2 * target * width * width + source * _keys_and_values(decoder, cross=True))
    predicted = target if predicted is None else predicted
    return Flops(
        projections=round(read.projections + write.projections + decoder.layers * crossed),
        attention=round(read.attention + write.attention + decoder.layers * 4 * target * source * width),
        feed_forward=round(read.feed_forward + write.feed_forward),
        head=round(2 * predicted * width * config.target_vocabulary),
    )


def image_flops(config: VitConfig | SwinConfig) -> Flops:
    """Operations of a forward pass over one picture."""
    if isinstance(config, SwinConfig):
        return _swin(config)
    encoder, cut = config.encoder, config.tokens
    found = stack_flops(encoder, encoder.length, causal=False, head=2 * encoder.width * config.labels)
    cells = math.prod(encoder.grid)
    if cut.kind == "patch":
        made = 2 * cells * config.channels * math.prod(cut.patch) * encoder.width
    else:
        made, before, (rows, columns) = 0, config.channels, config.image
        for after, down, across in zip(cut.widths, cut.sizes(rows), cut.sizes(columns), strict=True):
            made += 2 * cut.convolved(rows) * cut.convolved(columns) * before * after * cut.kernel**2
            made += 4 * cut.blocks * down * across * after**2 * cut.kernel**2
            rows, columns, before = down, across, after
    return replace(found, tokens=made)


def _swin(config: SwinConfig) -> Flops:
    """Windows are counted whole, with what a grid is padded by; merging counts as projections."""
    projections = attention = feed_forward = 0
    kinds = 3 if config.activation in _GATED else 2
    for stage, (depth, width, (rows, columns)) in enumerate(
        zip(config.depths, config.widths, config.grids, strict=True)
    ):
        side = config.window
        cells, seen = rows * columns, -(-rows // side) * -(-columns // side) * side**2
        shared = width * (config.kv_heads or config.heads) // config.heads  # features of keys, and of values
        if config.kv_latent is None:
            pair = 2 * width * shared
        else:
            pair = (config.kv_latent << stage) * (width + 2 * shared)
        projections += depth * 2 * seen * (2 * width**2 + pair)
        attention += depth * 4 * seen * side**2 * width
        feed_forward += depth * 2 * cells * width * round(config.ratio * width) * kinds
    for width, (rows, columns) in zip(config.widths, config.grids[1:], strict=False):
        projections += 2 * rows * columns * 4 * width * 2 * width
    made = 2 * math.prod(config.grids[0]) * config.channels * math.prod(config.tokens.patch) * config.width
    return Flops(projections, attention, feed_forward, 2 * config.widths[-1] * config.labels, made)


def _recurrent(config: RecurrentConfig, source: float, target: float, predicted: float) -> Flops:
    """Every place of the source attended to, whatever the scope."""
    width, words = config.width, config.embedding
    before = config.style == "bahdanau"
    gates = 3 if config.cell == "gru" else 4
    fed = width if before else words if config.input_feeding else 0
    read = 2 * (words + width) + (config.encoder_layers - 1) * 2 * (2 * width + width)
    write = words + fed + width + (config.decoder_layers - 1) * 2 * width
    first = config.decoder_layers * (1 if config.cell == "gru" else 2)
    share = width // config.heads
    queries = target * width * share if config.mechanism in ("additive", "bilinear") else 0.0
    keys = source * width * share if config.mechanism == "additive" else 0.0
    place = target * width * (width + config.heads) if config.scope == "local" else 0.0
    output = (2 * width + words) * 2 * words if before else 2 * width * words
    read_out = (target if config.input_feeding else predicted) * output
    return Flops(
        projections=round(2 * (source * 2 * width * width + queries + keys + place + read_out)),
        attention=round(4 * target * source * width),
        feed_forward=round(2 * gates * width * (source * read + target * write) + 4 * width * width * first),
        head=round(2 * predicted * words * config.target_vocabulary),
    )


def stack_flops(config: TransformerConfig, tokens: float, *, causal: bool, head: int = 0) -> Flops:
    """Operations of a stack of blocks over ``tokens``, cross attention left out."""
    width = config.width
    feed_forward = 2 * tokens * width * config.intermediate * (3 if config.activation in _GATED else 2)
    pairs = 0.0
    for index in range(config.layers):
        reach = config.local_window if index in config.local_layers else None
        if config.mechanism == "window":
            window = config.mechanism_options.get("window", 64)
            reach = min(window, tokens if reach is None else reach)
        pairs += tokens * (tokens if reach is None else min(tokens, reach + 1 if causal else 2 * reach + 1))
    return Flops(
        projections=round(config.layers * 2 * tokens * (2 * width * width + _keys_and_values(config))),
        attention=round(4 * pairs * width),
        feed_forward=round(config.layers * feed_forward),
        head=head,
    )


def _keys_and_values(config: TransformerConfig, *, cross: bool = False) -> int:
    """Multiplications that make one token's keys and values; across two sequences nothing turns."""
    heads = config.kv_heads or config.heads
    if config.kv_latent is None:
        return config.width * 2 * heads * config.head_dim
    turned = config.turned_dim if config.position.startswith("rotary") and not cross else 0
    down = config.width * (config.kv_latent + turned)
    return down + config.kv_latent * heads * (2 * config.head_dim - turned)


def count_parameters(config: EncoderConfig | DecoderConfig | TranslationConfig) -> Parameters:
    """Trainable weights of the model, those of the position scheme and the mechanism included."""
    import torch

    from attncli.models.build import build_model

    build = build_translation if isinstance(config, TranslationConfig) else build_model
    with torch.device("meta"):
        model = build(config)
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    kinds = ("embeddings.word.", "embeddings.position.", "embeddings.segment.")
    return Parameters(
        total=sum(sizes.values()),
        embeddings=sum(size for name, size in sizes.items() if any(kind in name for kind in kinds)),
    )

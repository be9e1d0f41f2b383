"""Embeddings, stacks of blocks and output layers from plain values."""

from __future__ import annotations

from torch import Tensor, nn

from attncli.attention import MECHANISMS, Attention, build_position
from attncli.attention.table import options_of, require
from attncli.layers import Block, FeedForward, LayerStack, TokenEmbeddings, build_norm
from attncli.models.config import TransformerConfig

ABSOLUTE = ("sinusoidal", "learned", "sinusoidal_2d", "sinusoidal_3d", "learned_2d", "learned_3d")
"""Positions that are added to the input."""
_OF_EACH_LAYER = (
    "shaw",
    "relative_2d",
)  # tables of the layer's own, as published; the others serve all layers


def norm_of(config: TransformerConfig, width: int) -> nn.Module:
    """The model's norm over ``width`` features."""
    return build_norm(config.norm_kind, width, epsilon=config.norm_epsilon, bias=config.bias)


def position_of(config: TransformerConfig, width: int, **options) -> nn.Module | None:
    """The model's position scheme, for embeddings of ``width``."""
    return build_position(
        config.position,
        width=width,
        heads=config.heads,
        head_dim=config.turned_dim if config.position.startswith("rotary") else config.head_dim,
        max_length=config.length,
        grid=config.grid,
        prefix=config.prefix,
        **options,
    )


def build_embeddings(config: TransformerConfig, *, segments: int = 0) -> TokenEmbeddings:
    """Word, position and segment embeddings; projected to the model's width where they are narrower."""
    width = config.word_width
    halves = {"halves": True} if config.position == "sinusoidal" and config.sinusoidal_halves else {}
    return TokenEmbeddings(
        config.vocabulary,
        width,
        pad_id=config.pad_id,
        position=position_of(config, width, **halves) if config.position in ABSOLUTE else None,
        segments=segments,
        norm=norm_of(config, width) if config.embedding_norm else None,
        dropout=config.dropout,
        project_to=None if config.embedding_width is None else config.width,
        scale=config.embedding_scale,
    )


def acting(config: TransformerConfig, *, causal: bool = False, cross: bool = False) -> str:
    """The mechanism that acts in a translating decoder: scaled dot where the chosen one has no meaning.

    ``causal``: in self attention, which needs causal masks and a cache of several hypotheses. ``cross``:
    between two sequences, where places have no distance.
    """
    support = MECHANISMS[config.mechanism].support
    stepped = support.causal and support.cache and not support.order  # by several hypotheses
    fits = (support.cross or not cross) and (stepped or not causal)
    fits = fits and (support.padding or not cross)
    return config.mechanism if fits else "scaled_dot"


def mechanism_options(config: TransformerConfig) -> dict[str, int]:
    """The mechanism's options as :class:`Attention` takes them: what depends on the longest sequence, set."""
    options = dict(config.mechanism_options)
    if "length" in options_of(config.mechanism):
        options.setdefault("length", config.length)
    return options


def build_stack(config: TransformerConfig, *, causal: bool, cross: bool = False) -> LayerStack:
    """The blocks, and the norm after the last one that a pre-norm stack needs.

    ``causal``: whether the masks will be, so that relative positions have no use for the right side.
    ``cross``: each block attends to a context too, as wide as the model, with the same heads; relative
    positions act in self attention only. :func:`acting` says which mechanism acts where.
    """
    own = acting(config, causal=causal and cross)
    if causal:
        require(MECHANISMS[own], "causal", "causal masks")
    local = frozenset(config.local_layers)
    inside = config.position not in (*ABSOLUTE, "none")
    shared: dict[float, nn.Module] = {}  # rotary base to scheme; the other schemes have one for all layers

    def position(index: int) -> nn.Module | None:
        if not inside:
            return None
        if config.position in _OF_EACH_LAYER:
            return position_of(config, config.width)
        base = config.rotary_base
        if index in local and config.local_rotary_base is not None and not config.share_layers:
            base = config.local_rotary_base
        if base not in shared:
            options = {"rotary": {"base": base}, "t5": {"bidirectional": not causal}}
            shared[base] = position_of(config, config.width, **options.get(config.position, {}))
        return shared[base]

    def attention(mechanism: str, context: int | None = None, position: nn.Module | None = None) -> Attention:
        return Attention(
            config.width,
            context,
            heads=config.heads,
            kv_heads=config.kv_heads,
            kv_latent=config.kv_latent,
            mechanism=mechanism,
            position=position,
            bias=config.bias,
            dropout=config.attention_dropout,
            qk_norm=config.qk_norm,
            backend=config.backend,
            **(mechanism_options(config) if mechanism == config.mechanism else {}),
        )

    def block(index: int) -> Block:
        normed = index == 0 and config.norm == "pre" and not config.first_norm
        return Block(
            attention(own, position=position(index)),
            FeedForward(config.width, config.intermediate, activation=config.activation, bias=config.bias),
            nn.Identity() if normed else norm_of(config, config.width),
            norm_of(config, config.width),
            place=config.norm,
            dropout=config.dropout,
            drop_path=_depth_share(config, index) * config.drop_path,
            layer_scale=config.layer_scale,
            cross_attention=attention(acting(config, cross=True), config.width) if cross else None,
            cross_attention_norm=norm_of(config, config.width) if cross else None,
        )

    blocks = [block(index) for index in range(1 if config.share_layers else config.layers)]
    return LayerStack(
        blocks.__getitem__,
        config.layers,
        share=config.share_layers,
        local=config.local_layers,
        norm=norm_of(config, config.width) if config.norm == "pre" else None,
        positions=list(shared.values()),
    )


def _depth_share(config: TransformerConfig, index: int) -> float:
    """How far down the stack a layer is, 0 to 1; a shared layer stands for the mean of all."""
    return 0.5 if config.share_layers else index / max(config.layers - 1, 1)


class OutputRows:
    """The output layer of a search, whole or its rows of some words; the rows asked for last are kept."""

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight  # [V, C]
        self._last: tuple[Tensor, Tensor] | None = None  # words, and their rows

    def __call__(self, words: Tensor | None) -> Tensor:
        """[V, C], or [W, C] of ``words`` int64 [W]."""
        if words is None:
            return self._weight
        if self._last is None or self._last[0] is not words:
            self._last = words, self._weight.index_select(0, words)
        return self._last[1]

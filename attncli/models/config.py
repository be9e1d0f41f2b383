"""What a language model is made of, as plain values. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Values that encoders and decoders share. All widths are in features, all lengths in tokens."""

    vocabulary: int = 0
    """Words; 0 for models that read none."""
    pad_id: int | None = None
    """Word that fills short rows; its embedding starts as zero."""
    length: int = 128
    """Positions that the model knows."""
    layers: int = 4
    width: int = 256
    intermediate: int = 1024
    grid: tuple[int, ...] = ()
    """Sizes of the grid that the tokens of pictures stand on, rows first; () for text."""
    prefix: int = 0
    """Tokens before the grid's: class and registers."""
    heads: int = 4
    kv_heads: int | None = None
    """Key/value heads; None is as many as heads."""
    kv_latent: int | None = None
    """Features of a latent that keys and values come from; None is none."""
    mechanism: str = "scaled_dot"
    position: str = "learned"
    mechanism_options: dict[str, int] = field(default_factory=dict, hash=False)
    """Options of the mechanism that differ from its defaults."""
    qk_norm: bool = False
    attention_dropout: float = 0.0
    backend: str = "auto"
    rotary_base: float = 10_000.0
    local_rotary_base: float | None = None
    """Base of local layers; None is the same."""
    local_window: int = 0
    """Tokens seen on each side in local layers; 0 has global layers only."""
    global_every: int = 3
    """Layers 0, n, 2n ... are global when there are local ones."""
    dropout: float = 0.1
    drop_path: float = 0.0
    """Stochastic depth of the last layer; it grows evenly from 0 at the first."""
    layer_scale: float | None = None
    """First value of a factor on each sub-layer's output; None has none."""
    norm: str = "post"
    norm_kind: str = "layer"
    norm_epsilon: float = 1e-12
    first_norm: bool = True
    """Whether layer 0 of a pre-norm stack normalises its input before attention."""
    activation: str = "gelu"
    bias: bool = True
    """Of linear layers and LayerNorms; output logits of masked models always have one."""
    tie_embeddings: bool = True
    embedding_width: int | None = None
    """Factorised embeddings of this width, projected to ``width``."""
    embedding_norm: bool = True
    share_layers: bool = False
    embedding_scale: float = 1.0
    """Factor on the word embeddings."""
    sinusoidal_halves: bool = False
    """Sinusoidal positions with all sines before all cosines, not in turn."""
    init_cutoff: float | None = 2.0
    """Standard deviations where initial weights are cut; None is nowhere."""
    init_scale_residual: bool = False

    @property
    def head_dim(self) -> int:
        """Features of one head."""
        return self.width // self.heads

    @property
    def turned_dim(self) -> int:
        """Features of a head that rotary positions turn: all, or half of them beside a latent."""
        return self.head_dim if self.kv_latent is None else self.head_dim // 4 * 2

    @property
    def layout(self) -> str:
        """Heads in words."""
        shared = self.kv_heads not in (None, self.heads)
        text = f"{self.heads} heads" + (f" over {self.kv_heads} key/value heads" if shared else "")
        return text + (f", keys and values from a latent of {self.kv_latent}" if self.kv_latent else "")

    @property
    def local_layers(self) -> tuple[int, ...]:
        """Indices of the layers with local attention."""
        if not self.local_window:
            return ()
        return tuple(index for index in range(self.layers) if index % self.global_every)

    @property
    def word_width(self) -> int:
        """Width of the word embeddings."""
        return self.embedding_width or self.width


@dataclass(frozen=True, kw_only=True)
class EncoderConfig(TransformerConfig):
    """An encoder with a masked-word head, and with a sentence-pair head where ``pair``."""

    segments: int = 2
    """Segment embeddings; 0 for none."""
    pair: bool = False
    head_activation: str = "gelu"
    """Of the masked-word head: gelu or gelu_tanh."""


@dataclass(frozen=True, kw_only=True)
class DecoderConfig(TransformerConfig):
    """A causal decoder."""

    norm: str = "pre"
    norm_epsilon: float = 1e-5
    activation: str = "gelu_tanh"
    embedding_norm: bool = False
    init_cutoff: float | None = None
    init_scale_residual: bool = True

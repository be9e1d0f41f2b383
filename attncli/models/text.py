"""Models that label text: an encoder, pre-trained or fresh, with a head on it.

Legend: B batch, T tokens, W words, C width of the encoder, E of the embeddings, L labels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attncli.errors import CheckpointError, Problem
from attncli.layers import ACTIVATIONS, build_norm, initialise
from attncli.layers.crf import CRF
from attncli.models.encoder import Encoder
from attncli.models.huggingface_encoders import Base
from attncli.models.text_config import TextConfig, resolve_text, text_config
from attncli.ops.dropout import Dropout

__all__ = [
    "CRF",
    "SequenceModel",
    "SpanModel",
    "TextConfig",
    "TextHead",
    "TextModel",
    "TokenModel",
    "build_text",
    "resolve_text",
    "text_config",
]

_HEAD_ACTIVATIONS = {
    "tanh": torch.tanh,
    **{name: ACTIVATIONS[name][0] for name in ("relu", "gelu", "gelu_tanh")},
}


class TextHead(nn.Module):
    """[..., C] to logits [..., L]: linear, activation, dropout, linear, and what else the family has.

    Without an activation there are the dropout and the last layer alone.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        encoder = config.encoder
        width = encoder.width
        bias = encoder.bias if config.family == "modernbert" else True
        self.activation = _HEAD_ACTIVATIONS.get(config.head_activation)
        self.dense = nn.Linear(width, width, bias=bias) if self.activation else None
        self.norm = None
        if config.head_norm:
            self.norm = build_norm(encoder.norm_kind, width, epsilon=encoder.norm_epsilon, bias=encoder.bias)
        self.dropout = Dropout(config.head_dropout)
        self.early_dropout = config.early_dropout and self.dense is not None
        self.out = nn.Linear(width, config.labels)
        self.muon = False  # an output layer, which AdamW trains

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] to [..., L]."""
        if self.early_dropout:
            x = self.dropout(x)
        if self.dense is not None:
            x = self.activation(self.dense(x))
        if self.norm is not None:
            x = self.norm(x)
        return self.out(self.dropout(x))


class TextModel(nn.Module):
    """What the three models share; use one of them. Weights are drawn as the encoder's configuration says."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.encoder)
        self.encoder.embeddings.word.looked_up = True  # and nothing else: gradients may be sparse
        self.head = TextHead(config)

    def draw(self) -> None:
        """Draw all weights."""
        encoder = self.config.encoder
        initialise(self, cutoff=encoder.init_cutoff, scale_residual=encoder.init_scale_residual)

    def load_base(self, base: Base) -> None:
        """Take over a pre-trained encoder and, where head and base have the same one, its pooler.

        Raises:
            CheckpointError: weights of another shape, all of them named; the model is then unchanged.
        """
        own = self.encoder.state_dict()
        problems = [f"{name} is missing" for name in own if name not in base.encoder]
        problems += [
            f"{name} is {_shape(base.encoder[name])}, the model has {_shape(tensor)}"
            for name, tensor in own.items()
            if name in base.encoder and base.encoder[name].shape != tensor.shape
        ]
        if problems:
            raise CheckpointError(*(Problem(what, where="the base's encoder") for what in problems))
        self.encoder.load_state_dict({name: base.encoder[name] for name in own})
        if self.reads_pooler:
            wanted = {f"dense.{k}" for k, _ in self.head.dense.named_parameters()}
            if self.head.norm is not None:
                wanted |= {f"norm.{k}" for k, _ in self.head.norm.named_parameters()}
            if wanted == set(base.pooler):
                self.head.load_state_dict(self.head.state_dict() | base.pooler)

    @property
    def reads_pooler(self) -> bool:
        """Whether the head begins as the base's pooler does: on the first token, or on every one."""
        return self.head.dense is not None and self.config.pooling == "first"

    def gradient_checkpointing(self, on: bool = True) -> None:
        """Whether training recomputes each block's activations in the backward pass."""
        self.encoder.stack.checkpointing = on

    def embed(self, tokens: Tensor) -> Tensor:
        """Word embeddings [B, T, E], for the argument ``embedded`` of the forward pass."""
        return self.encoder.embed(tokens)


class SequenceModel(TextModel):
    """One row of logits for a whole text, or pair of texts."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__(config)
        self.weigh = None
        if config.pooling == "attention":
            self.weigh = nn.Linear(config.encoder.width, 1, bias=False)
            self.weigh.muon = False
        self.draw()

    def forward(
        self,
        tokens: Tensor,
        segments: Tensor | None = None,
        keep: Tensor | None = None,
        embedded: Tensor | None = None,
    ) -> Tensor:
        """Tokens [B, T] to logits [B, L]; arguments as :meth:`attncli.models.Encoder.forward`."""
        first = self.config.pooling == "first"
        hidden = self.encoder(tokens, segments, keep, embedded=embedded, first=first)  # [B, T or 1, C]
        return self.head(hidden[:, 0] if first else self.pool(hidden, keep))

    def pool(self, hidden: Tensor, keep: Tensor | None) -> Tensor:
        """Hidden states [B, T, C] to one of each text [B, C]; padding does not count."""
        real = None if keep is None else keep.unsqueeze(-1)  # [B, T, 1]
        if self.config.pooling == "mean":
            if real is None:
                return hidden.mean(1)
            return hidden.masked_fill(~real, 0.0).sum(1) / real.sum(1).clamp(min=1)
        if self.config.pooling == "max":
            return (hidden if real is None else hidden.masked_fill(~real, -torch.inf)).amax(1)
        score = self.weigh(hidden).float()  # [B, T, 1]
        if real is not None:
            score = score.masked_fill(~real, -torch.inf)
        return (score.softmax(1).to(hidden.dtype) * hidden).sum(1)


class TokenModel(TextModel):
    """Logits for words, each read at its first piece, and a CRF over them where the configuration has one."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__(config)
        self.crf = CRF(config.labels) if config.crf else None
        self.draw()

    def forward(
        self,
        tokens: Tensor,
        words: Tensor | None = None,
        segments: Tensor | None = None,
        keep: Tensor | None = None,
        embedded: Tensor | None = None,
    ) -> Tensor:
        """Tokens [B, T] to logits [B, W, L] at ``words`` int64 [B, W], places in T, or of every token."""
        hidden = self.encoder(tokens, segments, keep, embedded=embedded)  # [B, T, C]
        if words is not None:
            batch, length, width = hidden.shape
            at = words + torch.arange(0, batch * length, length, device=words.device).unsqueeze(1)
            hidden = hidden.reshape(-1, width).index_select(0, at.flatten()).view(*words.shape, width)
        return self.head(hidden)


class SpanModel(TextModel):
    """For each token, how well a span starts and how well one ends there."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__(config)
        self.draw()

    def forward(
        self,
        tokens: Tensor,
        segments: Tensor | None = None,
        keep: Tensor | None = None,
        embedded: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Tokens [B, T] to logits of the start [B, T] and of the end [B, T]."""
        hidden = self.encoder(tokens, segments, keep, embedded=embedded)  # [B, T, C]
        start, end = self.head(hidden).unbind(-1)
        return start, end


_MODELS = {"sequence": SequenceModel, "token": TokenModel, "span": SpanModel}


def build_text(config: TextConfig, base: Base | None = None) -> SequenceModel | TokenModel | SpanModel:
    """The model of ``config`` with fresh weights from PyTorch's generator, or with those of ``base``."""
    model = _MODELS[config.task](config)
    if base is not None:
        model.load_base(base)
    return model


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape))

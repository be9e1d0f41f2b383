"""Encoders with a masked-word head: BERT, RoBERTa, ALBERT, ModernBERT and what lies between them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attncli.attention import Documents, Padding, Window
from attncli.layers import ACTIVATIONS, LayerStack, build_norm, initialise
from attncli.models.config import EncoderConfig
from attncli.models.parts import build_embeddings, build_stack


class MaskedOutput(NamedTuple):
    """``logits`` [N, V] at the asked positions, or [B, T, V]; ``pair`` [B, 2], or None without that head."""

    logits: Tensor
    pair: Tensor | None


class Encoder(nn.Module):
    """Embeddings and blocks that see both sides (Devlin et al. 2019, https://arxiv.org/abs/1810.04805)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = build_embeddings(config, segments=config.segments)
        self.stack: LayerStack = build_stack(config, causal=False)
        window = config.local_window
        self._window = Window(window, window) if self.stack.local else None  # kept: made dense once

    def forward(
        self,
        tokens: Tensor,
        segments: Tensor | None = None,
        keep: Tensor | None = None,
        documents: Tensor | None = None,
        positions: Tensor | None = None,
        embedded: Tensor | None = None,
        first: bool = False,
    ) -> Tensor:
        """Tokens [B, T] to hidden states [B, T, C], or with ``first`` to those of the first token [B, 1, C].

        ``segments`` [B, T]: which sentence each token belongs to; unused without segment embeddings.
        ``keep`` bool [B, T]: False where a row is padded; what stands there changes nothing elsewhere.
        ``documents`` [B, T]: tokens see only those of the same number. ``positions`` [B, T].
        ``embedded`` [B, T, E] stands in for the tokens' word embeddings (see :meth:`embed`): gradients with
        respect to the input are taken there.
        """
        mask = None if keep is None else Padding(keep)
        if documents is not None:
            mask = Documents(documents) if mask is None else mask & Documents(documents)
        local = self._window
        if local is not None and mask is not None:
            local = local & mask
        x = self.embeddings(tokens, segments, positions, embedded=embedded)  # [B, T, C]
        if first and documents is not None:  # a rule of query and key, which one query alone would shift
            return self.stack(x, mask, local, positions=positions)[:, :1]
        return self.stack(x, mask, local, positions=positions, first=first)

    def embed(self, tokens: Tensor) -> Tensor:
        """Word embeddings [B, T, E] of tokens [B, T], before positions, segments and norm."""
        return self.embeddings.word(tokens)


class MaskedLM(nn.Module):
    """An encoder with a head for masked words and, where ``config.pair``, one for a pair of sentences.

    The word head is a linear layer, GELU, a norm and the word embeddings, tied unless the configuration
    says otherwise, with a bias. The pair head reads the first token through a tanh layer (BERT's
    pooler). Weights are drawn as the configuration says.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        width, word_width = config.width, config.word_width
        self.transform = nn.Linear(width, word_width, bias=config.bias)
        self.activation, _ = ACTIVATIONS[config.head_activation]
        self.norm = build_norm(config.norm_kind, word_width, epsilon=config.norm_epsilon, bias=config.bias)
        self.decoder = None if config.tie_embeddings else nn.Linear(word_width, config.vocabulary, bias=False)
        self.bias = nn.Parameter(torch.zeros(config.vocabulary))
        self.pooler = nn.Linear(width, width) if config.pair else None
        self.pair = nn.Linear(width, 2) if config.pair else None
        for head in filter(None, (self.decoder, self.pair)):
            head.muon = False  # an output layer, which AdamW trains
        initialise(self, cutoff=config.init_cutoff, scale_residual=config.init_scale_residual)

    def gradient_checkpointing(self, on: bool = True) -> None:
        """Whether training recomputes each block's activations in the backward pass.

        Less memory for a third more time; the numbers stay the same, dropout included.
        """
        self.encoder.stack.checkpointing = on

    def forward(
        self,
        tokens: Tensor,
        segments: Tensor | None = None,
        keep: Tensor | None = None,
        documents: Tensor | None = None,
        positions: Tensor | None = None,
        labels_at: Tensor | None = None,
    ) -> MaskedOutput:
        """Logits over the vocabulary at ``labels_at`` [N], flat indices into B*T; everywhere if it is None.

        The other arguments as :meth:`Encoder.forward`.
        """
        x = self.encoder(tokens, segments, keep, documents, positions)  # [B, T, C]
        pair = None if self.pair is None else self.pair(torch.tanh(self.pooler(x[:, 0])))  # [B, 2]
        if labels_at is not None:
            x = x.flatten(0, 1).index_select(0, labels_at)  # [N, C]
        return MaskedOutput(self.words(x), pair)

    def words(self, hidden: Tensor) -> Tensor:
        """Hidden states [..., C] to logits [..., V]."""
        x = self.norm(self.activation(self.transform(hidden)))  # [..., E]
        matrix = self.encoder.embeddings.word if self.decoder is None else self.decoder
        return F.linear(x, matrix.weight, self.bias)

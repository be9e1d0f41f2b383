"""Hierarchical attention network: words make sentences, sentences make a document.

    words -> embeddings -> encoder -> attention -> a vector of each sentence
                                                -> encoder -> attention -> a vector of the document -> logits

Yang et al. 2016, "Hierarchical Attention Networks for Document Classification",
https://aclanthology.org/N16-1174, with bidirectional GRUs as encoders and scores against a learnt vector;
LSTMs, Transformer encoders and other pooling stand in their places.

Padding costs and changes nothing: real words alone are embedded and read.

Legend: B documents, S sentences, W words, M of them real, R sentences with a word, E embedding width, C width
of the encoders' states.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attncli.attention import Padding
from attncli.attention.positions.sinusoidal import Sinusoidal
from attncli.attention.recording import recorders
from attncli.layers import initialise_xavier
from attncli.layers.pooling import AttentionPooling, build_pooling, masked_softmax
from attncli.layers.ragged import Ragged
from attncli.layers.recurrent import Bidirectional
from attncli.models.config import TransformerConfig
from attncli.models.han_config import HanConfig
from attncli.models.parts import build_stack
from attncli.ops.dropout import dropout

_EMBEDDING_STD = 0.1
_GROUPS = 8  # of rows of like length, which a Transformer reads one after the other


class HanModel(nn.Module):
    """A classifier of documents; weights are drawn from PyTorch's generator.

    Recorded attention (by ``record(model)``): ``words`` [B, 1, S, W], the weights of each sentence's words,
    and ``sentences`` [B, 1, 1, S]; 0 in the padding. With mean or max pooling there is none.
    """

    def __init__(self, config: HanConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.embedding, padding_idx=config.pad_id)
        self.embedding.looked_up = True  # and nothing else: gradients may be sparse
        self.words = Level(config, config.embedding)
        self.sentences = Level(config, 2 * config.width)
        self.output = nn.Linear(2 * config.width, config.labels)
        self.output.muon = False  # an output layer, which AdamW trains
        initialise_xavier(self, embedding_std=_EMBEDDING_STD)

    def forward(self, tokens: Tensor, keep: Tensor) -> Tensor:
        """``tokens`` int64 [B, S, W], of which ``keep`` bool [B, S, W] are words, to logits [B, labels].

        Sentences without a word are no sentences, and may stand anywhere.
        """
        return self.output(dropout(self.document(tokens, keep), self.config.dropout, self.training))

    def document(self, tokens: Tensor, keep: Tensor) -> Tensor:
        """The vector of each document, [B, C]; the arguments of :meth:`forward`."""
        documents, sentences, _ = tokens.shape
        words = Ragged(keep.flatten(0, 1))
        if not len(words.rows):
            return self.output.weight.new_zeros(documents, self.output.in_features)
        ids = tokens.flatten()[words.flat]  # [M]
        if self.training and self.config.word_dropout:
            dropped = torch.rand(len(ids), device=ids.device) < self.config.word_dropout
            ids = ids.masked_fill(dropped, self.config.unk_id)
        x = self._drop(self.embedding(ids))  # [M, E]
        found, weights = self.words(x, words)  # [R, C]
        self._record(self.words, weights, words, (documents, 1, *tokens.shape[1:]))
        read = Ragged(keep.any(2))
        place = torch.empty(documents * sentences, dtype=torch.int64, device=tokens.device)
        place[words.rows] = torch.arange(len(words.rows), device=tokens.device)
        x = self._drop(found[place[read.flat]])  # [R, C]: sentences in the documents' order
        found, weights = self.sentences(x, read)  # [documents with a sentence, C]
        self._record(self.sentences, weights, read, (documents, 1, 1, sentences))
        return found.new_zeros(documents, found.shape[1]).index_copy(0, read.rows, found)

    def _drop(self, x: Tensor) -> Tensor:
        return dropout(x, self.config.dropout, self.training)

    def _record(self, level: Level, weights: Tensor | None, of: Ragged, shape: tuple[int, ...]) -> None:
        """Give the weights [M] of a level's parts to the open recordings, at their places in ``shape``."""
        if weights is None or not recorders():
            return
        whole = weights.new_zeros(shape).flatten()
        whole[of.flat] = weights.detach()
        for recorded in recorders():
            recorded.add(level, whole.view(shape))


class Level(nn.Module):
    """An encoder of the parts of a row, and the pooling that makes one vector of them."""

    def __init__(self, config: HanConfig, inputs: int) -> None:
        super().__init__()
        self.dropout = config.dropout
        wide = 2 * config.width
        encoder = Transformer if config.encoder == "transformer" else Recurrent
        self.encoder = encoder(config, inputs)
        self.pooling = build_pooling(config.attention, wide)

    def forward(self, x: Tensor, of: Ragged) -> tuple[Tensor, Tensor | None]:
        """Parts [M, I] to a vector of each row [R, C], and the parts' weights [M] where they have some."""
        x = self.encoder(x, of)  # [M, C]
        if not isinstance(self.pooling, AttentionPooling):
            return self.pooling(of.pad(x), of.keep), None
        weights = of.unpad(masked_softmax(of.pad(self.pooling.scores(x)), of.keep))  # [M]
        sums = x.new_zeros(len(of.rows), x.shape[1])
        return sums.index_add(0, of.row, x * weights.to(x.dtype).unsqueeze(1)), weights


class Recurrent(nn.Module):
    """Recurrent layers in both directions."""

    def __init__(self, config: HanConfig, inputs: int) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.layers = nn.ModuleList(
            Bidirectional(config.encoder, 2 * config.width if index else inputs, config.width)
            for index in range(config.layers)
        )

    def forward(self, x: Tensor, of: Ragged) -> Tensor:
        """Parts [M, I] to states [M, C]."""
        with torch.autocast(x.device.type, enabled=False):  # recurrences add up errors of half width
            x = x.to(self.layers[0].forth.net.weight_ih_l0.dtype)
            for index, layer in enumerate(self.layers):
                x = layer.packed(dropout(x, self.dropout, self.training) if index else x, of)
        return x


class Transformer(nn.Module):
    """A pre-norm Transformer encoder with sinusoidal positions, which know no longest row."""

    def __init__(self, config: HanConfig, inputs: int) -> None:
        super().__init__()
        wide = 2 * config.width
        self.project = nn.Linear(inputs, wide)
        self.norm = nn.LayerNorm(wide)  # as large as the codes of positions
        self.position = Sinusoidal(wide)
        self.stack = build_stack(
            TransformerConfig(
                vocabulary=config.vocabulary,
                layers=config.layers,
                width=wide,
                intermediate=4 * wide,
                heads=config.heads,
                position="sinusoidal",
                norm="pre",
                dropout=config.dropout,
            ),
            causal=False,
        )

    def forward(self, x: Tensor, of: Ragged) -> Tensor:
        """Parts [M, I] to states [M, C]."""
        rows = self.position.embed(of.pad(self.norm(self.project(x))))  # [R, L, C], longest first
        out = torch.zeros_like(rows)
        count = len(rows) if recorders() else -(-len(rows) // _GROUPS)
        for at in range(0, len(rows), count):
            length = int(of.lengths[at])
            group = slice(at, at + count), slice(0, length)
            out[group] = self.stack(rows[group], Padding(of.keep[group]))
        return of.unpad(out)

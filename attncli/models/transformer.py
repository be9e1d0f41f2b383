"""The Transformer that translates: encoder, decoder with cross attention, and its step-by-step form.

Vaswani et al. 2017, "Attention Is All You Need", https://arxiv.org/abs/1706.03762

Legend: B sentences, K hypotheses of each, S source tokens, T target tokens, C width, V target words.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attncli.attention import MECHANISMS, Causal, Dense, Padding, new_caches
from attncli.layers import LayerStack, initialise_xavier
from attncli.models.parts import OutputRows, acting, build_embeddings, build_stack
from attncli.models.translation import Seq2SeqConfig

_COUNTED_BY_INDEX = ("none", "sinusoidal", "learned")  # positions that act outside attention


class Transformer(nn.Module):
    """Reads a source sentence and predicts each target word from those before it.

    Embeddings start with a deviation of ``width ** -0.5`` and are scaled by its inverse, so that words and
    positions weigh alike and tied output logits start near 1; matrices are Xavier-uniform.
    """

    def __init__(self, config: Seq2SeqConfig) -> None:
        super().__init__()
        self.config = config
        self.source_embeddings = build_embeddings(config.encoder)
        self.target_embeddings = build_embeddings(config.decoder)
        if config.tie_embeddings == "all":
            self.target_embeddings.word = self.source_embeddings.word
        self.encoder: LayerStack = build_stack(config.encoder, causal=False)
        self.decoder: LayerStack = build_stack(config.decoder, causal=True, cross=True)
        self.output = None
        if config.tie_embeddings == "none":
            self.output = nn.Linear(config.decoder.width, config.target_vocabulary, bias=False)
            self.output.muon = False  # an output layer, which AdamW trains
        self._causal = Causal()  # kept, so that its dense form is made once
        initialise_xavier(self, embedding_std=config.decoder.width**-0.5)

    def gradient_checkpointing(self, on: bool = True) -> None:
        """Whether training recomputes each block's activations in the backward pass.

        Less memory for a third more time; the numbers stay the same, dropout included.
        """
        self.encoder.checkpointing = self.decoder.checkpointing = on

    def forward(
        self,
        source: Tensor,
        tokens: Tensor,
        source_keep: Tensor | None = None,
        labels_at: Tensor | None = None,
    ) -> Tensor:
        """Logits of the word after each of ``tokens`` [B, T], given ``source`` [B, S]: [B, T, V].

        ``source_keep`` bool [B, S]: False where the source is padded. ``tokens`` are padded on the right,
        where causality keeps them out of what is before. With ``labels_at`` int64 [N], flat indices into
        B*T, the logits of those places only: [N, V].
        """
        return F.linear(self.states(source, tokens, source_keep, labels_at), self.output_weight)

    def states(
        self,
        source: Tensor,
        tokens: Tensor,
        source_keep: Tensor | None = None,
        labels_at: Tensor | None = None,
    ) -> Tensor:
        """What the output layer sees, [B, T, C] or [N, C]; the arguments of :meth:`forward`.

        With ``output_weight``, what :func:`attncli.ops.cross_entropy.linear_cross_entropy` trains on.
        """
        context, context_mask = self.encode(source, source_keep)
        x = self.target_embeddings(tokens)  # [B, T, C]
        x = self.decoder(x, self._causal, context=context, context_mask=context_mask)
        return x if labels_at is None else x.flatten(0, 1).index_select(0, labels_at)

    def encode(self, source: Tensor, source_keep: Tensor | None = None) -> tuple[Tensor, Padding | None]:
        """What the decoder attends to, [B, S, C], and the mask of it."""
        mask = None if source_keep is None else Padding(source_keep)
        return self.encoder(self.source_embeddings(source), mask), mask

    @property
    def output_weight(self) -> Tensor:
        """The output layer, [V, C]: its own, or the target embeddings."""
        return (self.target_embeddings.word if self.output is None else self.output).weight

    @torch.inference_mode()
    def decoding(
        self, source: Tensor, source_keep: Tensor | None, beams: int, limit: int
    ) -> TransformerSteps:
        """Start translations of ``source`` [B, S]: ``beams`` hypotheses each, of at most ``limit`` tokens."""
        return TransformerSteps(self, source, source_keep, beams, limit)


class TransformerSteps:
    """Translations of B sentences, K hypotheses of each, token by token; the model is in eval mode.

    A sentence's hypotheses share its memory. Keys and values of cross attention are there once for all
    of them. Those of self attention stand in the order in which they were computed, and ``seen`` says
    which of them each hypothesis descends from: to reorder hypotheses copies no keys. Attention recorded
    around a step therefore has the weights [B, H, K, keys]: hypothesis k of sentence b in row [b, :, k].

    Attributes:
        beams: hypotheses of each sentence at most.
        batch: sentences.
        length: tokens so far.
    """

    def __init__(
        self, model: Transformer, source: Tensor, source_keep: Tensor | None, beams: int, limit: int
    ) -> None:
        self.beams, self.batch, self.length = beams, source.shape[0], 0
        self._model = model
        self._keep = source_keep
        self._context, self._context_mask = model.encode(source, source_keep)
        config = model.config.decoder
        self._caches = new_caches(config.layers, limit * beams)
        self._context_caches = new_caches(config.layers, source.shape[1])
        distances = not MECHANISMS[acting(config, causal=True)].support.cross  # they mean something
        self._by_index = config.position in _COUNTED_BY_INDEX and not distances
        self._seen: Tensor | None = None  # bool [B, K, keys]
        self._output = OutputRows(model.output_weight)

    @torch.inference_mode()
    def step(self, tokens: Tensor, words: Tensor | None = None) -> Tensor:
        """Append ``tokens`` int64 [B, K]; logits of what follows, float32 or wider, [B, K, V].

        With ``words`` int64 [W] the logits of those words only, [B, K, W]. The first tokens may be of fewer
        hypotheses than ``beams``; :meth:`reorder` then makes more.
        """
        batch, beams = tokens.shape
        x = self._model.target_embeddings(tokens.reshape(-1, 1), start=self.length).view(batch, beams, -1)
        own = torch.eye(beams, dtype=torch.bool, device=tokens.device).expand(batch, beams, beams)
        self._seen = own if self._seen is None else torch.cat((self._seen, own), -1)
        positions = None if self._by_index else tokens.new_full((beams,), self.length)
        x = self._model.decoder(
            x,
            None if self._seen.shape[-1] == self.length + 1 else Dense(self._seen),
            caches=self._caches,
            positions=positions,
            context=self._context,
            context_mask=self._context_mask,
            context_caches=self._context_caches,
        )
        self.length += 1
        logits = F.linear(x, self._output(words))
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    @torch.inference_mode()
    def reorder(self, beams: Tensor) -> None:
        """Hypothesis k of sentence b becomes what hypothesis ``beams[b, k]`` was; ``beams`` int64 [B, K]."""
        if self._seen is None:
            return
        index = beams.unsqueeze(-1).expand(-1, -1, self._seen.shape[-1])
        self._seen = self._seen.gather(1, index)

    @torch.inference_mode()
    def select(self, sentences: Tensor) -> None:
        """Go on with ``sentences`` int64 [B'] only, in this order."""
        self.batch = len(sentences)
        self._context = self._context.index_select(0, sentences)
        if self._keep is not None:
            self._keep = self._keep.index_select(0, sentences)
            self._context_mask = Padding(self._keep)
        if self._seen is not None:
            self._seen = self._seen.index_select(0, sentences)
        for cache in (*self._caches, *self._context_caches):
            cache.reorder(sentences)

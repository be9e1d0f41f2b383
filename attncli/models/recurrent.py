"""Recurrent encoder and decoder with attention between them, as of 2015.

    source -> embeddings -> bidirectional layers -> annotations [B, S, W]
                                   last states   -> tanh -> first states of the decoder

    style bahdanau, at step i                    style luong, at step i
      c = attend(s[i-1])                           s[i] = cells(word, s[i-1])    (input feeding: and h[i-1])
      s[i] = cells(word and c, s[i-1])             c = attend(s[i])
      h[i] = maxout(s[i], c, word)                 h[i] = tanh(W (c, s[i]))
      next word ~ softmax(h[i])                    next word ~ softmax(h[i])

Bahdanau et al. 2015, https://arxiv.org/abs/1409.0473; Luong et al. 2015, https://arxiv.org/abs/1508.04025.
Where this differs from both: one linear map brings the annotations of the two directions to the decoder's
width, so that every mechanism fits, and both styles start the decoder as Bahdanau's does, from the last state
of each direction.

Legend: B sentences, K hypotheses for each, S source and T target tokens, E embedding width, W state width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attncli.attention.alignment import Alignment, Memory
from attncli.attention.recording import joined
from attncli.layers.recurrent import Bidirectional, RecurrentLayer, State, turned_places
from attncli.models.recurrent_config import RecurrentConfig
from attncli.ops.dropout import dropout


class Recurrent(nn.Module):
    """A translation model; weights are drawn from PyTorch's generator.

    Recorded attention is called ``cross_attention`` (by ``record(model)``): one entry [B, H, T, S] for
    :meth:`forward`, one [B, H, K, S] for each step of :meth:`decoding`, whose rows are the hypotheses in the
    order of ``tokens``. In style bahdanau row i is what the attention sees before word i is read, in style
    luong after; both belong to the prediction of target word i.
    """

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        self.config = config
        e, w = config.embedding, config.width
        self.target_embedding = nn.Embedding(config.target_vocabulary, e, padding_idx=config.pad_id)
        self.source_embedding = (
            None
            if config.tie_embeddings == "all"
            else nn.Embedding(config.source_vocabulary, e, padding_idx=config.pad_id)
        )
        self.encoder = nn.ModuleList(
            Bidirectional(config.cell, 2 * w if index else e, w) for index in range(config.encoder_layers)
        )
        self.annotate = nn.Linear(2 * w, w)
        self.before = config.style == "bahdanau"
        fed = w if self.before else e if config.input_feeding else 0
        self.decoder = nn.ModuleList(
            RecurrentLayer(config.cell, w if index else e + fed, w) for index in range(config.decoder_layers)
        )
        self.bridge = nn.Linear(2 * w, config.decoder_layers * self.decoder[0].tensors * w)
        self.cross_attention = Alignment(
            w,
            heads=config.heads,
            mechanism=config.mechanism,
            window=config.window if config.scope == "local" else None,
            topk=config.topk,
            dropout=config.attention_dropout,
        )
        self.readout = nn.Linear(2 * w + e, 2 * e) if self.before else nn.Linear(2 * w, e)
        tied = config.tie_embeddings != "none"
        self.output = None if tied else nn.Linear(e, config.target_vocabulary, bias=False)
        if self.output is not None:
            self.output.muon = False  # an output layer, which AdamW trains
        self._initialise()

    def _initialise(self) -> None:
        """Linear layers as Glorot and Bengio 2010; embeddings such that logits start near 1 in size."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=self.config.embedding**-0.5)
                if module.padding_idx is not None:
                    nn.init.zeros_(module.weight[module.padding_idx].detach())

    def forward(
        self,
        source: Tensor,
        tokens: Tensor,
        source_keep: Tensor | None = None,
        labels_at: Tensor | None = None,
    ) -> Tensor:
        """Logits of the word after each of ``tokens`` [B, T] for ``source`` [B, S]: [B, T, V].

        ``source_keep`` bool [B, S]: the tokens at the left of each row that are no padding. ``labels_at``
        int64 [N]: only at these places of the flattened [B T]; logits are then [N, V].
        """
        return F.linear(self.states(source, tokens, source_keep, labels_at), self.output_weight)

    def states(
        self,
        source: Tensor,
        tokens: Tensor,
        source_keep: Tensor | None = None,
        labels_at: Tensor | None = None,
    ) -> Tensor:
        """What the output layer sees, [B, T, E] or [N, E]; arguments as :meth:`forward`."""
        with torch.autocast(source.device.type, enabled=False):  # recurrences add up errors of half width
            memory, states = self._encode(source, source_keep)
            words = self._drop(self.target_embedding(tokens))  # [B, T, E]
            if self.config.parallel:
                top = self._run(words, states)
                parts = [self.cross_attention(top, memory), top]
            else:
                parts = self._loop(words, memory, states)
            if self.before:
                parts.append(words)
            if labels_at is not None:
                parts = [part.flatten(0, 1)[labels_at] for part in parts]
        return self._read(parts)

    @property
    def output_weight(self) -> Tensor:
        """The output layer, [V, E]: its own, or the target embeddings."""
        return (self.target_embedding if self.output is None else self.output).weight

    def decoding(
        self, source: Tensor, source_keep: Tensor | None = None, beams: int = 1, limit: int | None = None
    ) -> RecurrentSteps:
        """Step by step from here on: ``beams`` hypotheses for each sentence of ``source`` [B, S].

        ``limit``, the most tokens of a translation, binds models that set memory aside; this one does not.
        """
        with torch.autocast(source.device.type, enabled=False):
            memory, states = self._encode(source, source_keep)
        return RecurrentSteps(self, memory, states, beams)

    def _drop(self, x: Tensor) -> Tensor:
        return dropout(x, self.config.dropout, self.training)

    def _encode(self, source: Tensor, keep: Tensor | None) -> tuple[Memory, list[State]]:
        """The annotations, prepared for attention, and the first state of each decoder layer."""
        if keep is None:
            keep = torch.ones_like(source, dtype=torch.bool)
        embedding = self.target_embedding if self.source_embedding is None else self.source_embedding
        lengths = keep.sum(1)
        turned = turned_places(lengths, source.shape[1])
        x = embedding(source)  # [B, S, E]
        for layer in self.encoder:
            x = layer(self._drop(x), turned)  # [B, S, 2 W]
        w = self.config.width
        last = x[torch.arange(len(x), device=x.device), lengths - 1, :w]
        ends = torch.cat([last, x[:, 0, w:]], -1)  # [B, 2 W]: each direction has read all there
        first = torch.tanh(self.bridge(self._drop(ends))).split(w, -1)
        count = self.decoder[0].tensors
        states = [first[index : index + count] for index in range(0, len(first), count)]
        return self.cross_attention.memory(self.annotate(self._drop(x)), keep), states

    def _run(self, words: Tensor, states: list[State]) -> Tensor:
        """Words [B, T, E] to the top layer's outputs [B, T, W], all at once."""
        x = words
        for index, (layer, state) in enumerate(zip(self.decoder, states, strict=True)):
            x = layer(self._drop(x) if index else x, state)
        return x

    def _loop(self, words: Tensor, memory: Memory, states: list[State]) -> list[Tensor]:
        """Words [B, T, E] to contexts and top outputs [B, T, W], where each step needs the last one's."""
        gates = self.decoder[0].project(words.transpose(0, 1))  # [T, B, G W], all words in one product
        contexts, tops = [], []
        feed = self._first_feed(states)
        with joined():
            for step in gates.unbind():
                context, states, feed = self._step(step, feed, states, memory, 1)
                contexts.append(context)
                tops.append(states[-1][0])
        return [torch.stack(contexts, 1), torch.stack(tops, 1)]

    def _first_feed(self, states: list[State]) -> Tensor | None:
        """Zeros [N, E] where the attended output is fed to the cells."""
        if not self.config.input_feeding:
            return None
        return states[0][0].new_zeros(len(states[0][0]), self.config.embedding)

    def _step(
        self, gates: Tensor, feed: Tensor | None, states: list[State], memory: Memory, beams: int
    ) -> tuple[Tensor, list[State], Tensor | None]:
        """One step of N = B ``beams`` rows: context [N, W], new states, and what is fed to the next step.

        ``gates`` [N, G W]: the words' part of the first layer's.
        """
        first, context = self.decoder[0], None
        if self.before:
            feed = context = self._attend(states[-1][0], memory, beams)
        if feed is not None:
            gates = gates + F.linear(feed, first.rest(self.config.embedding))
        new = [first.step(gates, states[0])]
        for layer, state in zip(self.decoder[1:], states[1:], strict=True):
            new.append(layer.step(layer.project(self._drop(new[-1][0])), state))
        if context is None:
            context = self._attend(new[-1][0], memory, beams)
            if feed is not None:
                feed = self._combine([context, new[-1][0]])
        return context, new, feed

    def _attend(self, states: Tensor, memory: Memory, beams: int) -> Tensor:
        """Contexts [B K, W] of states [B K, W]: the hypotheses of a sentence are its queries."""
        return self.cross_attention(states.view(-1, beams, states.shape[-1]), memory).flatten(0, 1)

    def _combine(self, parts: list[Tensor]) -> Tensor:
        """Context, state (and word, in style bahdanau) to the output vector [..., E], before dropout."""
        h = self.readout(torch.cat(parts, -1))
        return h.unflatten(-1, (-1, 2)).amax(-1) if self.before else torch.tanh(h)

    def _read(self, parts: list[Tensor]) -> Tensor:
        return self._drop(self._combine(parts))

    def _logits(self, h: Tensor, words: Tensor | None = None) -> Tensor:
        weight = self.output_weight
        return F.linear(h, weight if words is None else weight[words])


class RecurrentSteps:
    """Hypotheses that grow by a token at a time; see :meth:`Recurrent.decoding`. For inference."""

    def __init__(self, model: Recurrent, memory: Memory, states: list[State], beams: int) -> None:
        self.model, self.memory, self.beams = model, memory, beams
        self.batch = len(memory.keys)
        self._states = [tuple(part.repeat_interleave(beams, 0) for part in state) for state in states]
        self._feed = model._first_feed(self._states)  # [B K, E]

    def step(self, tokens: Tensor, words: Tensor | None = None) -> Tensor:
        """Logits float32 [B, K, V] of what follows ``tokens`` [B, K]; or of ``words`` int64 [W]."""
        model = self.model
        with torch.autocast(tokens.device.type, enabled=False):
            word = model.target_embedding(tokens.flatten())  # [B K, E]
            gates = model.decoder[0].project(word)
            context, self._states, self._feed = model._step(
                gates, self._feed, self._states, self.memory, self.beams
            )
            h = model._combine([context, self._states[-1][0], *([word] if model.before else [])])
        logits = model._logits(h, words)
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).view(*tokens.shape, -1)

    def reorder(self, beams: Tensor) -> None:
        """Hypothesis k of sentence b becomes what ``beams[b, k]`` was; int64 [B, K]."""
        first = torch.arange(self.batch, device=beams.device).unsqueeze(1) * self.beams
        self.beams = beams.shape[1]
        self._keep((beams + first).flatten())

    def select(self, sentences: Tensor) -> None:
        """Keep these sentences, in this order; int64 [B']."""
        rows = sentences.unsqueeze(1) * self.beams + torch.arange(self.beams, device=sentences.device)
        self.memory, self.batch = self.memory.select(sentences), len(sentences)
        self._keep(rows.flatten())

    def _keep(self, rows: Tensor) -> None:
        self._states = [tuple(part[rows] for part in state) for state in self._states]
        if self._feed is not None:
            self._feed = self._feed[rows]

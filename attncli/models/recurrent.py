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
from attncli.layers import TokenEmbeddings, initialise_xavier
from attncli.layers.recurrent import Bidirectional, RecurrentLayer, State, turned_places
from attncli.models.parts import OutputRows
from attncli.models.recurrent_config import RecurrentConfig
from attncli.ops.dropout import dropout


class Recurrent(nn.Module):
    """A translation model; weights are drawn from PyTorch's generator.

    Embeddings start with a deviation of ``embedding ** -0.5`` and are scaled by its inverse, as the
    Transformer's are: the cells see inputs near 1 in size, and tied output logits start near that too.

    Recorded attention is called ``cross_attention`` (by ``record(model)``): one entry [B, H, T, S] for
    :meth:`forward`, one [B, H, K, S] for each step of :meth:`decoding`, hypothesis k of sentence b in row
    [b, :, k]. In both styles they are the weights by which the word after a token was predicted.
    """

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        self.config = config
        e, w = config.embedding, config.width
        words = {"pad_id": config.pad_id, "dropout": config.dropout, "scale": e**0.5}
        self.source_embeddings = TokenEmbeddings(config.source_vocabulary, e, **words)
        self.target_embeddings = TokenEmbeddings(config.target_vocabulary, e, **words)
        if config.tie_embeddings == "all":
            self.target_embeddings.word = self.source_embeddings.word
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
        self.output = None
        if config.tie_embeddings == "none":
            self.output = nn.Linear(e, config.target_vocabulary, bias=False)
            self.output.muon = False  # an output layer, which AdamW trains
        initialise_xavier(self, embedding_std=e**-0.5)

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
        """What the output layer sees, [B, T, E] or [N, E]; the arguments of :meth:`forward`.

        With ``output_weight``, what :func:`attncli.ops.cross_entropy.linear_cross_entropy` trains on.
        """
        with torch.autocast(source.device.type, enabled=False):  # recurrences add up errors of half width
            memory, states = self._encode(source, source_keep)
            words = self.target_embeddings(tokens)  # [B, T, E]
            if self.config.parallel:
                top = self._run(words, states)
                parts = [self.cross_attention(top, memory), top]
            else:
                parts = self._loop(words, memory, states)
            if self.before:
                parts.append(words)
            if labels_at is not None:
                parts = [part.flatten(0, 1).index_select(0, labels_at) for part in parts]
            h = parts[0] if self.config.input_feeding else self.combine(parts)
        return self._drop(h)

    @property
    def output_weight(self) -> Tensor:
        """The output layer, [V, E]: its own, or the target embeddings."""
        return (self.target_embeddings.word if self.output is None else self.output).weight

    @torch.inference_mode()
    def decoding(self, source: Tensor, source_keep: Tensor | None, beams: int, limit: int) -> RecurrentSteps:
        """Start translations of ``source`` [B, S]: ``beams`` hypotheses each, of at most ``limit`` tokens.

        A state is as large for any number of tokens: ``limit`` sets nothing aside here.
        """
        with torch.autocast(source.device.type, enabled=False):
            return RecurrentSteps(self, *self._encode(source, source_keep), beams)

    def _drop(self, x: Tensor) -> Tensor:
        return dropout(x, self.config.dropout, self.training)

    def _encode(self, source: Tensor, keep: Tensor | None) -> tuple[Memory, list[State]]:
        """The annotations, prepared for attention, and the first state of each decoder layer."""
        if keep is None:
            keep = torch.ones_like(source, dtype=torch.bool)
        lengths = keep.sum(1)
        turned = turned_places(lengths, source.shape[1])
        x = self.source_embeddings(source)  # [B, S, E]
        for index, layer in enumerate(self.encoder):
            x = layer(self._drop(x) if index else x, turned)  # [B, S, 2 W]
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
        """Words [B, T, E] to contexts and top outputs [B, T, W], where each step needs the last one's.

        With input feeding to the output vectors [B, T, E], which the steps have needed already.
        """
        gates = self.decoder[0].project(words.transpose(0, 1))  # [T, B, G W], all words in one product
        found: list[tuple[Tensor, ...]] = []
        feed = self.first_feed(states)
        with joined():
            for step in gates.unbind():
                context, states, feed = self.advance(step, feed, states, memory, 1)
                found.append((feed,) if self.config.input_feeding else (context, states[-1][0]))
        return [torch.stack(part, 1) for part in zip(*found, strict=True)]

    def first_feed(self, states: list[State]) -> Tensor | None:
        """Zeros [N, E] where the attended output is fed to the cells."""
        if not self.config.input_feeding:
            return None
        return states[0][0].new_zeros(len(states[0][0]), self.config.embedding)

    def advance(
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
                feed = self.combine([context, new[-1][0]])
        return context, new, feed

    def _attend(self, states: Tensor, memory: Memory, beams: int) -> Tensor:
        """Contexts [B K, W] of states [B K, W]: the hypotheses of a sentence are its queries."""
        return self.cross_attention(states.view(-1, beams, states.shape[-1]), memory).flatten(0, 1)

    def combine(self, parts: list[Tensor]) -> Tensor:
        """Context, state (and word, in style bahdanau) to the output vector [..., E], before dropout."""
        h = self.readout(torch.cat(parts, -1))
        return h.unflatten(-1, (-1, 2)).amax(-1) if self.before else torch.tanh(h)


class RecurrentSteps:
    """Translations of B sentences, K hypotheses of each, token by token; the model is in eval mode.

    A sentence's hypotheses share its memory, and are the queries that meet it.

    Attributes:
        beams: hypotheses of each sentence at most.
        batch: sentences.
    """

    def __init__(self, model: Recurrent, memory: Memory, states: list[State], beams: int) -> None:
        self.beams, self.batch = beams, len(memory.keys)
        self._model, self._memory = model, memory
        self._held = 1  # hypotheses of each sentence now
        self._states = states  # of [B held, W]
        self._feed = model.first_feed(states)  # [B held, E]
        self._output = OutputRows(model.output_weight)

    @torch.inference_mode()
    def step(self, tokens: Tensor, words: Tensor | None = None) -> Tensor:
        """Append ``tokens`` int64 [B, K]; logits of what follows, float32 or wider, [B, K, V].

        With ``words`` int64 [W] the logits of those words only, [B, K, W]. The first tokens may be of fewer
        hypotheses than ``beams``; :meth:`reorder` then makes more.
        """
        model, beams = self._model, tokens.shape[1]
        if self._held == 1 < beams:  # so far one and the same
            self._keep(torch.arange(self.batch, device=tokens.device).repeat_interleave(beams))
            self._held = beams
        with torch.autocast(tokens.device.type, enabled=False):
            word = model.target_embeddings(tokens.flatten())  # [B K, E]
            context, self._states, self._feed = model.advance(
                model.decoder[0].project(word), self._feed, self._states, self._memory, beams
            )
            h = model.combine([context, self._states[-1][0], *([word] if model.before else [])])
        logits = F.linear(h, self._output(words)).view(*tokens.shape, -1)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    @torch.inference_mode()
    def reorder(self, beams: Tensor) -> None:
        """Hypothesis k of sentence b becomes what hypothesis ``beams[b, k]`` was; ``beams`` int64 [B, K]."""
        first = torch.arange(self.batch, device=beams.device).unsqueeze(1) * self._held
        self._keep((beams + first).flatten())
        self._held = beams.shape[1]

    @torch.inference_mode()
    def select(self, sentences: Tensor) -> None:
        """Go on with ``sentences`` int64 [B'] only, in this order."""
        places = torch.arange(self._held, device=sentences.device)
        self._keep((sentences.unsqueeze(1) * self._held + places).flatten())
        self._memory, self.batch = self._memory.select(sentences), len(sentences)

    def _keep(self, rows: Tensor) -> None:
        self._states = [tuple(part.index_select(0, rows) for part in state) for state in self._states]
        if self._feed is not None:
            self._feed = self._feed.index_select(0, rows)

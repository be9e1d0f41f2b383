"""Causal language models: GPT-2 and what lies around it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from attncli.attention import Causal, Documents, KeyValueCache, Padding, Window, new_caches
from attncli.layers import LayerStack, initialise
from attncli.models.config import DecoderConfig
from attncli.models.parts import build_embeddings, build_stack


class DecoderCache:
    """Keys and values of every layer, ``batch`` rows, for decoding token by token without gradients."""

    def __init__(self, batch: int, layers: Sequence[KeyValueCache]) -> None:
        self.batch = batch
        self.layers = list(layers)

    @property
    def length(self) -> int:
        """Tokens held."""
        return self.layers[0].length

    @property
    def capacity(self) -> int:
        """Tokens it has room for."""
        return self.layers[0].capacity

    def reorder(self, rows: Tensor) -> None:
        """Row i becomes what row ``rows[i]`` was; ``rows`` int64 [B'], any B'. For beam search."""
        self.batch = len(rows)
        for layer in self.layers:
            layer.reorder(rows)

    def truncate(self, length: int) -> None:
        """Forget all but the first ``length`` tokens."""
        for layer in self.layers:
            layer.truncate(length)


class CausalLM(nn.Module):
    """Predicts the next token from those before it (GPT-2, Radford et al. 2019,
    https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf).

    Weights are drawn as the configuration says.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = build_embeddings(config)
        self.stack: LayerStack = build_stack(config, causal=True)
        factorised = config.tie_embeddings and config.embedding_width is not None
        self.narrow = nn.Linear(config.width, config.word_width, bias=False) if factorised else None
        self.decoder = (
            None if config.tie_embeddings else nn.Linear(config.width, config.vocabulary, bias=False)
        )
        for head in filter(None, (self.decoder, self.narrow)):
            head.muon = False  # an output layer, which AdamW trains
        self._mask = Causal()  # kept, so that its dense form is made once
        self._local = self._mask & Window(config.local_window, 0) if self.stack.local else None
        initialise(self, cutoff=config.init_cutoff, scale_residual=config.init_scale_residual)

    def gradient_checkpointing(self, on: bool = True) -> None:
        """Whether training recomputes each block's activations in the backward pass.

        Less memory for a third more time; the numbers stay the same, dropout included.
        """
        self.stack.checkpointing = on

    def new_cache(self, batch: int, length: int) -> DecoderCache:
        """An empty cache of ``batch`` rows with room for ``length`` tokens."""
        return DecoderCache(batch, new_caches(self.config.layers, length))

    def forward(
        self,
        tokens: Tensor,
        keep: Tensor | None = None,
        documents: Tensor | None = None,
        positions: Tensor | None = None,
        cache: DecoderCache | None = None,
        last: bool = False,
    ) -> Tensor:
        """Tokens [B, T] to logits [B, T, V]; with ``last`` those of the last position alone, [B, 1, V].

        With ``cache``, ``tokens`` go on after those it holds and are added to it; ``keep`` then covers both.
        ``keep``, ``documents`` and ``positions`` as :meth:`attncli.models.encoder.Encoder.forward`.
        """
        if cache is not None and cache.batch != tokens.shape[0]:
            raise ValueError(f"the cache has {cache.batch} rows, the tokens have {tokens.shape[0]}")
        mask, local = self._mask, self._local
        for rule in (
            None if keep is None else Padding(keep),
            None if documents is None else Documents(documents),
        ):
            if rule is not None:
                mask, local = mask & rule, local and local & rule
        x = self.embeddings(tokens, None, positions, 0 if cache is None else cache.length)  # [B, T, C]
        x = self.stack(x, mask, local, None if cache is None else cache.layers, positions)
        if last:
            x = x[:, -1:]
        if self.decoder is not None:
            return self.decoder(x)
        if self.narrow is not None:
            x = self.narrow(x)
        return F.linear(x, self.embeddings.word.weight)

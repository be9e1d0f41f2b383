"""What a search needs of a model."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Steps(Protocol):
    """A batch of B sentences with K hypotheses each, written token by token.

    It holds what the model has read of every hypothesis (its cache), so that a step reads one token. A new
    one has read nothing: the first step reads the token that begins a sentence.
    """

    batch: int
    """Sentences, B."""
    beams: int
    """Hypotheses of each sentence, K."""

    def step(self, tokens: Tensor, words: Tensor | None = None) -> Tensor:
        """Read one more token of every hypothesis, and say what may follow it.

        Args:
            tokens: int64 [B, K].
            words: int64 [W], ascending: return these words' logits only.

        Returns:
            Logits, float32 [B, K, V], or [B, K, W] with ``words``. The search may overwrite them.
        """
        ...

    def reorder(self, beams: Tensor) -> None:
        """Hypothesis k of sentence b becomes what hypothesis ``beams[b, k]`` of it was: int64 [B, K]."""
        ...

    def select(self, sentences: Tensor) -> None:
        """Keep these sentences only, in this order: int64 [B']."""
        ...

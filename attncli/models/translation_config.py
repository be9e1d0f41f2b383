"""What all translation models have in common, as plain values. No torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TranslationConfig:
    """Values that all translation models share. Lengths are in tokens."""

    source_vocabulary: int
    target_vocabulary: int
    pad_id: int = 0
    length: int = 256
    """Longest sentence, on either side."""
    tie_embeddings: str = "all"
    """none; decoder: target input and output are one matrix; all: these and the source's."""

"""Readers, tokenisers, batch order and collation, and the built-in sets."""

from importlib import import_module
from typing import Any

_PUBLIC = {
    "bag": ("BagFeatures", "bag_batches", "bag_evaluation_batches"),
    "corpus": ("Corpus", "open_store", "prepare"),
    "images.augment": ("Augmentation", "vary", "vary_batch"),
    "images.labelled": ("ImageSet", "ImageSets", "prepare_images", "read_image_set"),
    "images.reading": ("read_image", "read_mask"),
    "language": ("CausalCover", "CausalExamples", "MaskedExamples", "training_batches", "validation_batches"),
    "order": ("EpochBatches", "EvaluationBatches", "Examples"),
    "pair_tokenizers": ("PairTokenizer", "train_pair_tokenizer"),
    "parallel": ("Pairs", "TestSet", "prepare_pairs"),
    "sources": ("TextSource", "open_text"),
    "token_store": ("TokenStore",),
    "tokenizers": ("Tokenizer", "train_tokenizer"),
    "translation": ("PairExamples",),
}
_ROOM = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = list(_ROOM)


def __getattr__(name: str) -> Any:
    """Import on first use: reading text needs no torch, making batches does."""
    if name not in _ROOM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOM[name]}"), name)

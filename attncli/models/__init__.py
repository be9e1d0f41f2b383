"""Model families, one file each, and their published sizes.

Names are imported on first use: configurations, sizes and FLOPs need no torch.
"""

from importlib import import_module
from typing import Any

_WHERE = {
    "EncoderConfig": "config",
    "DecoderConfig": "config",
    "SIZES": "sizes",
    "resolve": "families",
    "Encoder": "encoder",
    "MaskedLM": "encoder",
    "MaskedOutput": "encoder",
    "CausalLM": "decoder",
    "DecoderCache": "decoder",
    "build_model": "build",
    "TranslationConfig": "translation",
    "Seq2SeqConfig": "translation",
    "resolve_translation": "translation",
    "build_translation": "translation",
    "Transformer": "transformer",
    "language_model": "build",
    "model_flops": "flops",
    "translation_flops": "flops",
    "count_parameters": "flops",
    "load_huggingface": "huggingface",
    "HanConfig": "han_config",
    "resolve_han": "han_config",
    "HanModel": "han",
    "BagConfig": "bag_of_words",
    "BagOfWords": "bag_of_words",
}

__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"attncli.models.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

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
    "Base": "huggingface_encoders",
    "read_base": "huggingface_encoders",
    "base_of_masked_lm": "huggingface_encoders",
    "load_encoder": "huggingface_encoders",
    "TextConfig": "text_config",
    "resolve_text": "text_config",
    "text_config": "text_config",
    "TextModel": "text",
    "build_text": "text",
    "adapt": "adaptation",
    "parameter_groups": "adaptation",
    "merge_low_rank": "adaptation",
    "merged_state": "adaptation",
    "save_text": "huggingface_text",
    "load_text": "huggingface_text",
    "export_onnx": "onnx",
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

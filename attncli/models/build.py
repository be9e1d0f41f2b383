"""A language model from a recipe's ``model`` section."""

from __future__ import annotations

from attncli.models.config import DecoderConfig, EncoderConfig
from attncli.models.decoder import CausalLM
from attncli.models.encoder import MaskedLM
from attncli.models.families import resolve
from attncli.recipe.pretrain import LanguageModel


def build_model(config: EncoderConfig | DecoderConfig) -> MaskedLM | CausalLM:
    """The model of ``config``, with fresh weights from PyTorch's generator."""
    return CausalLM(config) if isinstance(config, DecoderConfig) else MaskedLM(config)


def language_model(
    section: LanguageModel, *, vocabulary: int, pad_id: int | None = None, pair: bool = False
) -> MaskedLM | CausalLM:
    """The model that ``section`` describes, with fresh weights from PyTorch's generator.

    ``vocabulary``: words; ``pad_id``: the padding word; ``pair``: whether a sentence-pair objective is
    trained. Raises RecipeError for settings that do not go together, all at once.
    """
    return build_model(resolve(section, vocabulary=vocabulary, pad_id=pad_id, pair=pair))

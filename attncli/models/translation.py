"""Translation models: their plain values, and the one place where they are built. No torch until then."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, NamedTuple

from attncli.errors import Problem, RecipeError
from attncli.models.config import TransformerConfig
from attncli.models.families import broken_rules
from attncli.models.recurrent_config import RecurrentConfig, resolve_recurrent
from attncli.models.translation_config import TranslationConfig
from attncli.recipe.translate import RecurrentModel, TransformerModel

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class Seq2SeqConfig(TranslationConfig):
    """Encoder and decoder of the Transformer; the two differ in layers and vocabulary only."""

    encoder: TransformerConfig
    decoder: TransformerConfig

    def describe(self) -> str:
        """Layers, width and attention in words."""
        from attncli.models.parts import acting

        encoder, decoder = self.encoder, self.decoder
        cross = acting(decoder, cross=True)
        cross = "" if cross == decoder.mechanism else f", {cross} across the two sentences"
        own = acting(decoder, causal=True)
        cross = ("" if own == decoder.mechanism else f", {own} in the decoder") + cross
        return (
            f"transformer, {encoder.layers} + {decoder.layers} layers of {decoder.width}; "
            f"{decoder.mechanism} attention{cross}, {decoder.position} positions, {decoder.layout}"
        )


class Dimensions(NamedTuple):
    """A published size: layers of encoder and decoder, width, heads, inner width of the feed-forward nets."""

    encoder_layers: int
    decoder_layers: int
    width: int
    heads: int
    intermediate: int


TRANSLATION_SIZES: dict[str, Dimensions] = {
    "tiny": Dimensions(4, 4, 128, 4, 256),
    "small": Dimensions(6, 6, 512, 4, 1024),
    "base": Dimensions(6, 6, 512, 8, 2048),
    "big": Dimensions(6, 6, 1024, 16, 4096),
}
"""tiny: Transformer-Tiny of Wu et al. 2021 (https://arxiv.org/abs/2105.14462), for Multi30k; small: fairseq's
for IWSLT (Ott et al. 2019, https://arxiv.org/abs/1904.01038); base, big: Vaswani et al. 2017
(https://arxiv.org/abs/1706.03762)."""


def resolve_translation(
    section: TransformerModel | RecurrentModel,
    *,
    source_vocabulary: int,
    target_vocabulary: int,
    pad_id: int = 0,
) -> TranslationConfig:
    """The final dimensions of a recipe's translation model.

    Raises:
        RecipeError: settings that do not go together, all of them at once, each under its key.
    """
    sizes = {"source_vocabulary": source_vocabulary, "target_vocabulary": target_vocabulary, "pad_id": pad_id}
    resolve = resolve_recurrent if isinstance(section, RecurrentModel) else resolve_transformer
    return resolve(section, **sizes)


def resolve_transformer(
    section: TransformerModel, *, source_vocabulary: int, target_vocabulary: int, pad_id: int = 0
) -> Seq2SeqConfig:
    """The final dimensions of a recipe's Transformer.

    A setting of the recipe comes first, then the published size. Without an explicit ``intermediate`` a
    changed ``width`` keeps the size's ratio of the two. ``model.attention.mechanism=window`` acts in self
    attention; cross attention is then scaled dot product, since places of two sequences have no distance.
    :func:`attncli.models.parts.acting` says so of each. Positions other than sinusoidal and learned act in
    self attention.

    Raises:
        RecipeError: settings that do not go together, all of them at once, each under its key.
    """
    size = TRANSLATION_SIZES[section.size]
    attention = section.attention
    width = section.width or size.width
    shared = {
        "pad_id": pad_id,
        "length": section.length,
        "width": width,
        "intermediate": section.intermediate or max(1, round(size.intermediate * width / size.width)),
        "heads": attention.heads or size.heads,
        "kv_heads": attention.kv_heads,
        "kv_latent": attention.kv_latent,
        "mechanism": attention.mechanism,
        "position": attention.position,
        "mechanism_options": attention.options(),
        "qk_norm": attention.qk_norm,
        "attention_dropout": attention.dropout,
        "backend": attention.backend,
        "dropout": section.dropout,
        "norm": section.norm,
        "norm_epsilon": 1e-5,
        "activation": section.activation,
        "embedding_norm": False,
        "embedding_scale": sqrt(width),
        "sinusoidal_halves": True,  # the order of the Marian folders that models are exported to
    }
    encoder_layers = section.encoder_layers or size.encoder_layers
    decoder_layers = section.decoder_layers or size.decoder_layers
    config = Seq2SeqConfig(
        source_vocabulary=source_vocabulary,
        target_vocabulary=target_vocabulary,
        pad_id=pad_id,
        length=section.length,
        tie_embeddings=section.tie_embeddings,
        encoder=TransformerConfig(vocabulary=source_vocabulary, layers=encoder_layers, **shared),
        decoder=TransformerConfig(vocabulary=target_vocabulary, layers=decoder_layers, **shared),
    )
    problems = broken_rules(config.encoder)
    problems += [problem for problem in broken_rules(config.decoder) if problem not in problems]
    if section.tie_embeddings == "all" and source_vocabulary != target_vocabulary:
        what = (
            f"model.tie_embeddings=all needs one vocabulary, and there are two, of {source_vocabulary} and "
            f"{target_vocabulary} words"
        )
        problems.append(Problem(what, hint="set tokenizer.joint=true or model.tie_embeddings=decoder"))
    if problems:
        raise RecipeError(*problems)
    return config


def build_translation(config: TranslationConfig) -> nn.Module:
    """The model of ``config``, with fresh weights from PyTorch's generator."""
    if isinstance(config, RecurrentConfig):
        from attncli.models.recurrent import Recurrent

        return Recurrent(config)
    from attncli.models.transformer import Transformer

    return Transformer(config)

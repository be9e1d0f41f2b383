"""From a recipe's ``model`` section to a model's plain values. No torch."""

from __future__ import annotations

from typing import Any

from attncli.errors import Problem, RecipeError
from attncli.models.config import DecoderConfig, EncoderConfig, TransformerConfig
from attncli.models.sizes import SIZES
from attncli.recipe.mechanisms import TAKES, takers
from attncli.recipe.pretrain import LanguageModel

_BERT: dict[str, Any] = {
    "norm": "post",
    "norm_kind": "layer",
    "norm_epsilon": 1e-12,
    "activation": "gelu",
    "bias": True,
    "tie_embeddings": True,
    "share_layers": False,
    "embedding_norm": True,
    "init_cutoff": None,
    "segments": 2,
}

FAMILIES: dict[str, dict[str, Any]] = {
    "bert": _BERT,
    "roberta": _BERT | {"norm_epsilon": 1e-5, "segments": 0},
    "albert": _BERT | {"activation": "gelu_tanh", "head_activation": "gelu_tanh", "share_layers": True},
    "gpt": {
        "norm": "pre",
        "norm_kind": "layer",
        "norm_epsilon": 1e-5,
        "activation": "gelu_tanh",
        "bias": True,
        "tie_embeddings": True,
        "share_layers": False,
        "embedding_norm": False,
        "init_cutoff": None,
        "init_scale_residual": True,
    },
    "modernbert": {
        "norm": "pre",
        "norm_kind": "layer",
        "norm_epsilon": 1e-5,
        "activation": "geglu",
        "bias": False,
        "tie_embeddings": True,
        "share_layers": False,
        "embedding_norm": True,
        "first_norm": False,
        "init_cutoff": 2.0,
        "init_scale_residual": True,
        "segments": 0,
    },
}
"""What each family is as published, where the recipe says nothing else."""

_SETTINGS = ("norm", "norm_kind", "activation", "bias", "tie_embeddings", "embedding_width", "share_layers")


def resolve(
    section: LanguageModel, *, vocabulary: int, pad_id: int | None = None, pair: bool = False
) -> EncoderConfig | DecoderConfig:
    """The final dimensions of a recipe's model.

    A setting of the recipe comes first, then the published size, then the family. Without an explicit
    ``intermediate`` a changed ``width`` keeps the size's ratio of the two.

    Raises:
        RecipeError: settings that do not go together, all of them at once, each under its key.
    """
    size = SIZES[section.family][section.size]
    attention = section.attention
    width = section.width or size.width
    values = dict(FAMILIES[section.family])
    if section.family == "albert":
        values["embedding_width"] = min(128, width)
    values |= {name: given for name in _SETTINGS if (given := getattr(section, name)) is not None}
    values |= {
        "vocabulary": vocabulary,
        "pad_id": pad_id,
        "length": section.length,
        "layers": section.layers or size.layers,
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
        "local_window": section.local_window,
        "global_every": section.global_every,
        "dropout": section.dropout,
    }
    if section.family == "gpt":
        config: EncoderConfig | DecoderConfig = DecoderConfig(**values)
        problems = broken_rules(config)
        if pair:
            problems.append(
                Problem("model.family=gpt has no sentence objective", hint="it sees only the left")
            )
    else:
        if pair:
            values["segments"] = 2
        config = EncoderConfig(**values, pair=pair)
        problems = broken_rules(config)
    if problems:
        raise RecipeError(*problems)
    return config


def broken_rules(config: TransformerConfig) -> list[Problem]:
    """Rules across dimensions that are broken."""
    found: list[Problem] = []

    def rule(holds: bool, what: str, hint: str) -> None:
        if not holds:
            found.append(Problem(what, hint=hint))

    width, heads, kv_heads = config.width, config.heads, config.kv_heads
    rule(
        width % heads == 0,
        f"model.width={width} is not divisible by model.attention.heads={heads}",
        f"the nearest width is {max(1, round(width / heads)) * heads}, or set model.attention.heads",
    )
    rule(
        kv_heads is None or (kv_heads <= heads and heads % kv_heads == 0),
        f"model.attention.kv_heads={kv_heads} does not divide model.attention.heads={heads}",
        "each key/value head serves equally many query heads; "
        f"possible are {', '.join(str(n) for n in range(1, heads + 1) if heads % n == 0)}",
    )
    rule(
        config.position != "rotary" or width % heads != 0 or config.head_dim % 2 == 0,
        f"model.attention.position=rotary needs an even head width, not {width}/{heads} = {width // heads}",
        "rotary turns pairs of features; change model.width or model.attention.heads",
    )
    rule(
        config.kv_latent is None or not config.qk_norm,
        "model.attention.qk_norm does not go with model.attention.kv_latent",
        "the latent is normalised itself, and its keys are not formed when decoding",
    )
    rule(
        config.kv_latent is None or not config.position.startswith("rotary") or config.head_dim >= 4,
        f"model.attention.kv_latent needs heads of 4 features or more, half of which {config.position} turns",
        "change model.width or model.attention.heads",
    )
    rule(
        config.position != "sinusoidal" or config.word_width % 2 == 0,
        f"model.attention.position=sinusoidal needs an even embedding width, not {config.word_width}",
        "sines and cosines come in pairs",
    )
    rule(
        config.position != "shaw" or config.mechanism != "additive",
        "model.attention.position=shaw does not go with model.attention.mechanism=additive",
        "it multiplies queries with vectors of distances, and additive scores multiply nothing",
    )
    for option, value in config.mechanism_options.items():
        rule(
            option in TAKES.get(config.mechanism, ()),
            f"model.attention.{option}={value} has no effect on mechanism {config.mechanism}",
            f"it belongs to mechanism {takers(option)}",
        )
    rule(
        config.embedding_width is None or config.embedding_width <= width,
        f"model.embedding_width={config.embedding_width} is larger than model.width={width}",
        "factorised embeddings are narrower than the model",
    )
    rule(
        config.pad_id is None or config.pad_id < config.vocabulary,
        f"the padding id {config.pad_id} is not among the {config.vocabulary} entries of the vocabulary",
        "the tokenizer and the model do not belong together",
    )
    return found

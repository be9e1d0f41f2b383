"""What a model that labels text is made of, as plain values. No torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from attncli.errors import CheckpointError, Problem, RecipeError
from attncli.models.config import EncoderConfig
from attncli.models.families import broken_rules, resolve
from attncli.recipe.text import EncoderModel

_ACTIVATIONS = {"distilbert": "relu", "electra": "gelu"}
_EARLY = ("roberta", "camembert", "xlm-roberta", "electra")
_WITH_WEIGHTS = (
    "additive", "concat", "bilinear", "cosine", "entmax", "sinks", "talking_heads", "adaptive_span", "gated",
    "differential", "global_local", "convolution", "linformer", "gla",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """An encoder and a head: of whole sequences, of tokens, or of spans (a start and an end)."""

    encoder: EncoderConfig
    family: str = "bert"
    """``model_type`` of the model library's family whose head this is; a plain name of ours is one too."""
    task: str = "sequence"
    labels: int = 2
    """Outputs; 2 for spans."""
    pooling: str = "first"
    """What a head of sequences reads: first, mean, max or attention."""
    head_activation: str = "tanh"
    """Between the head's two layers; none leaves the first one out."""
    head_dropout: float = 0.1
    crf: bool = False

    @property
    def early_dropout(self) -> bool:
        """Whether dropout also stands before the head's first layer, as published for these families."""
        return self.family in _EARLY

    @property
    def head_norm(self) -> bool:
        """Whether a norm follows the head's activation."""
        return self.family == "modernbert" and self.head_activation != "none"

    def plain(self) -> dict[str, Any]:
        """As JSON values; :func:`text_config` reads them."""
        return asdict(self)


def text_config(raw: dict[str, Any]) -> TextConfig:
    """The configuration that :meth:`TextConfig.plain` wrote. Raises CheckpointError for anything else."""
    try:
        encoder = EncoderConfig(**raw["encoder"])
        return TextConfig(**raw | {"encoder": encoder})
    except (TypeError, KeyError) as error:
        raise CheckpointError(f"these settings make no model of text: {error}") from None


def head_activation(family: str, task: str, encoder: EncoderConfig) -> str:
    """The activation between the layers of a family's head; heads of tokens and spans have one layer."""
    if family == "modernbert":
        return encoder.head_activation
    if task != "sequence":
        return "none"
    return _ACTIVATIONS.get(family, "tanh")


def resolve_text(
    section: EncoderModel,
    task: str,
    labels: int,
    *,
    vocabulary: int,
    pad_id: int | None = None,
    base: EncoderConfig | None = None,
    family: str | None = None,
    length: int = 0,
    first: bool = True,
) -> TextConfig:
    """The model that ``section`` describes: in the shape of ``base``, or of the section's own dimensions.

    ``vocabulary``, ``pad_id``: of the tokeniser. ``family``: the base's ``model_type``; the section's own
    without a base. ``length``: tokens of the longest example. ``first``: whether pooling auto is that of the
    first token, else the mean.

    Raises:
        RecipeError: settings that do not go together, all of them at once.
        CheckpointError: the tokeniser has words that the base has not.
    """
    if base is None:
        attention = section.attention
        filled = attention.model_copy(
            update={"mechanism": attention.mechanism or "scaled_dot", "dropout": attention.dropout or 0.0}
        )
        dropout = 0.1 if section.dropout is None else section.dropout
        whole = section.model_copy(update={"attention": filled, "dropout": dropout})
        encoder = resolve(whole, vocabulary=vocabulary, pad_id=pad_id)
        family = section.family
    else:
        if vocabulary > base.vocabulary:
            raise CheckpointError(
                Problem(
                    f"the tokenizer has {vocabulary} words, the encoder {base.vocabulary} embeddings",
                    hint="they do not belong together",
                )
            )
        encoder, family = adapt_encoder(section, base), family or "bert"
    pooling = getattr(section, "pooling", "first")
    if pooling == "auto":
        pooling = "first" if first else "mean"
    if length > encoder.length and encoder.position == "learned":
        what = f"data.max_length={length} is more than the {encoder.length} positions that the encoder knows"
        raise RecipeError(what, then=f"set data.max_length={encoder.length}")
    return TextConfig(
        encoder=encoder,
        family=family,
        task=task,
        labels=labels,
        pooling=pooling,
        head_activation=head_activation(family, task, encoder),
        head_dropout=section.head_dropout,
        crf=getattr(section, "crf", False),
    )


def adapt_encoder(section: EncoderModel, base: EncoderConfig) -> EncoderConfig:
    """``base`` with the section's dropout, and with its attention mechanism where that has no weights.

    Raises:
        RecipeError: a mechanism that the base's weights say nothing about, or options that do not fit.
    """
    attention = section.attention
    changes: dict[str, Any] = {"backend": attention.backend}
    if section.dropout is not None:
        changes["dropout"] = section.dropout
    if attention.dropout is not None:
        changes["attention_dropout"] = attention.dropout
    mechanism = attention.mechanism
    if mechanism is not None:
        changes["mechanism"] = mechanism_of_base(mechanism, base.mechanism)
        changes["mechanism_options"] = attention.options()
    elif attention.options():
        changes["mechanism_options"] = base.mechanism_options | attention.options()
    found = replace(base, **changes)
    if problems := broken_rules(found):
        raise RecipeError(*problems)
    return found


def mechanism_of_base(wanted: str, base: str) -> str:
    """``wanted`` in the place of a pre-trained model's mechanism ``base``.

    Raises:
        RecipeError: one of the two has weights of its own.
    """
    for name in {wanted, base} & set(_WITH_WEIGHTS):
        if wanted != base:
            whose = "that the base has not learnt" if name == wanted else "that would be lost"
            hint = "leave it out, or train without a base"
            what = f"model.attention.mechanism={wanted}: {name} has weights of its own {whose}"
            raise RecipeError(Problem(what, hint=hint))
    return wanted

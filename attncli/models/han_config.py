"""What a hierarchical attention network is made of, as plain values. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from attncli.errors import Problem, RecipeError
from attncli.recipe.classify import HanModel as HanSection


@dataclass(frozen=True, kw_only=True)
class HanConfig:
    """A hierarchical attention network. All widths are in features."""

    vocabulary: int
    labels: int
    """Outputs."""
    pad_id: int = 0
    unk_id: int = 1
    encoder: str = "gru"
    """gru, lstm or transformer."""
    embedding: int = 100
    width: int = 50
    """Of recurrent states, in each direction; a Transformer is twice as wide."""
    layers: int = 1
    heads: int = 4
    attention: str = "additive"
    """additive, dot, mean or max."""
    dropout: float = 0.3
    word_dropout: float = 0.0

    def describe(self) -> str:
        """Encoders, width and pooling in words."""
        what = f"{self.heads} heads" if self.encoder == "transformer" else "both directions"
        width = 2 * self.width if self.encoder == "transformer" else self.width
        times = f"{self.layers} layers of " if self.layers > 1 else ""
        pooled = "attention" if self.attention in ("additive", "dot") else "pooling"
        return (
            f"han, {times}{self.encoder} {width} ({what}) of words and sentences; {self.attention} {pooled}"
        )


def resolve_han(
    section: HanSection, *, vocabulary: int, labels: int, pad_id: int = 0, unk_id: int = 1
) -> HanConfig:
    """The values of a recipe's ``model`` section. RecipeError for settings that do not go together."""
    wide = 2 * section.width
    if section.encoder == "transformer" and wide % section.heads:
        why = f"model.heads={section.heads} must divide twice model.width, the Transformer's width: {wide}"
        raise RecipeError(Problem(why, hint=f"model.heads=2, or a width that {section.heads} divides"))
    return HanConfig(
        vocabulary=vocabulary,
        labels=labels,
        pad_id=pad_id,
        unk_id=unk_id,
        encoder=section.encoder,
        embedding=section.embedding,
        width=section.width,
        layers=section.layers,
        heads=section.heads,
        attention=section.attention,
        dropout=section.dropout,
        word_dropout=section.word_dropout,
    )

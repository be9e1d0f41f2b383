"""What a recurrent encoder and decoder is made of, as plain values. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from attncli.errors import Problem, RecipeError
from attncli.models.translation_config import TranslationConfig
from attncli.recipe.translate import RecurrentModel


@dataclass(frozen=True, kw_only=True)
class RecurrentConfig(TranslationConfig):
    """A recurrent encoder-decoder with attention. All widths are in features, all lengths in tokens."""

    style: str = "luong"
    """bahdanau: attention before the cell, which it feeds; luong: after the cells."""
    input_feeding: bool = False
    """Style luong: the attended output is part of the next step's input."""
    cell: str = "gru"
    """gru or lstm."""
    encoder_layers: int = 1
    decoder_layers: int = 1
    embedding: int = 256
    width: int = 256
    """Of the states; the encoder has so much in each direction."""
    dropout: float = 0.2
    mechanism: str = "additive"
    scope: str = "global"
    window: int = 10
    """Tokens on each side of the predicted place, for scope local."""
    topk: int | None = None
    heads: int = 1
    attention_dropout: float = 0.0

    @property
    def parallel(self) -> bool:
        """Whether all target positions are computed at once while training."""
        return self.style == "luong" and not self.input_feeding

    def describe(self) -> str:
        """Style, cells, width and attention in words."""
        feeding = " with input feeding" if self.input_feeding else ""
        where = f"{self.window} tokens around a place" if self.scope == "local" else "the whole source"
        heads = f", {self.heads} heads" if self.heads > 1 else ""
        return (
            f"recurrent ({self.style}{feeding}), {self.encoder_layers} + {self.decoder_layers} layers of "
            f"{self.cell} {self.width}; {self.mechanism} attention over {where}{heads}"
        )


def resolve_recurrent(
    section: RecurrentModel, *, source_vocabulary: int, target_vocabulary: int, pad_id: int = 0
) -> RecurrentConfig:
    """The values of a recipe's ``model`` section. RecipeError for settings that do not go together."""
    wrong: list[str | Problem] = []
    attention = section.attention
    if section.width % attention.heads:
        why = f"model.width={section.width} cannot be shared evenly by {attention.heads} heads"
        wrong.append(Problem(why, hint="model.attention.heads must divide model.width"))
    if section.tie_embeddings == "all" and source_vocabulary != target_vocabulary:
        why = f"the vocabularies have {source_vocabulary} and {target_vocabulary} words: not one matrix"
        wrong.append(Problem(why, hint="use model.tie_embeddings=decoder, or tokenizer.joint=true"))
    if wrong:
        raise RecipeError(*wrong)
    return RecurrentConfig(
        source_vocabulary=source_vocabulary,
        target_vocabulary=target_vocabulary,
        pad_id=pad_id,
        length=section.length,
        style=section.style,
        input_feeding=section.input_feeding,
        cell=section.cell,
        encoder_layers=section.encoder_layers,
        decoder_layers=section.decoder_layers,
        embedding=section.embedding,
        width=section.width,
        dropout=section.dropout,
        tie_embeddings=section.tie_embeddings,
        mechanism=attention.mechanism,
        scope=attention.scope,
        window=attention.window,
        topk=attention.topk,
        heads=attention.heads,
        attention_dropout=attention.dropout,
    )

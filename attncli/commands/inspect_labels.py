"""``attn inspect`` of a run that labels texts: its words shaded by attention, rollout and gradients."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from attncli import console
from attncli.commands.apply_labels import texts_of
from attncli.commands.inspect_language import own_layers
from attncli.commands.seeing import (
    Looking,
    Record,
    See,
    Sight,
    Worths,
    heads_told,
    pruning_told,
    short,
    with_worth,
)
from attncli.commands.trained import load_task
from attncli.errors import DataError, Problem, RecipeError
from attncli.recipe.finetune import AnswerRecipe, TagRecipe
from attncli.reports.attention_map import draw_maps
from attncli.reports.attribution import attribute
from attncli.reports.heads import rollout
from attncli.reports.highlight import Line, Piece, Shading, plain, terminal
from attncli.training.run import RunFolder

_NOTE = "where the model looks; not, by itself, why it decides so"


def see_with(run: RunFolder, loaded: Any, looking: Looking) -> See:
    """Looks at texts with a run that labels them: words shaded and, of encoders, every head."""
    task, _ = load_task(run, loaded, data=looking.part is not None)
    worths = Worths(task, run, looking)
    from attncli.reports.heads import head_figures
    from attncli.reports.inspection import Seen
    from attncli.tasks.explaining import explain
    from attncli.tasks.explaining_answers import explain_answer

    answering = isinstance(loaded.recipe, AnswerRecipe)

    def see(one: Record) -> Sight:
        place, record = one
        pair = None
        if answering:
            text, pair = _question(run, place, record)
        elif isinstance(loaded.recipe, TagRecipe):
            text = record.get("text") or " ".join(record.get("tokens", []))
        else:
            (text,), pairs = texts_of(task, [(place, record)])
            pair = None if pairs is None else pairs[0]
        try:
            if not text.strip():
                raise ValueError("it is empty")
            known = (explain_answer if answering else explain)(task, text, pair)
        except ValueError as error:
            raise DataError(Problem(f"{short(text)!r}: {error}", place or None)) from None
        shadings = _shadings(known)
        names = known.tokens.lines[0]
        layers = own_layers(known.maps, names) if known.maps else []
        pruning = worths(known.heads, known.predict)
        heads = with_worth(head_figures(layers[: len(known.maps)]), pruning)
        seen = Seen(
            str(run.path),
            known.predicted,
            layers,
            heads,
            shadings,
            worths.told(pruning, layers, "a text" if known.whole else "a word"),
            figures=known.figures,
        )
        told: dict[str, Any] = {
            "text": text,
            "predicted": dict(known.predicted),
            "explained": known.output,
            "weights": {
                shading.name: [
                    [(piece.text, piece.weight) for piece in line.pieces] for line in shading.lines
                ]
                for shading in shadings
            },
        }
        if known.sentences is not None:
            told["sentences"] = known.sentences
        if heads:
            told |= {"heads": heads_told(heads), **pruning_told(pruning, layers)}
        draw = None
        if known.maps:

            def draw(path: Path) -> None:
                draw_maps(known.maps, names, path, title=short(text))

        title = text if pair is None else f"{text} / {short(pair)}"
        return Sight(title, seen, told, draw, lambda: _show(known, shadings))

    return see


def _question(run: RunFolder, place: str, record: dict[str, Any]) -> tuple[str, str]:
    """A question and the text that answers it."""
    if "context" not in record:
        raise RecipeError(
            f"{place or 'the question'} comes without a text that answers it",
            then=f"attn inspect {run.path} 'A question?' --context FILE",
        )
    texts = record.get("question", record.get("text")), record["context"]
    if not all(isinstance(text, str) for text in texts):
        raise DataError(Problem("question and context are texts", place or None))
    return texts


def _shadings(known: Any) -> list[Shading]:
    tokens = known.tokens
    found = []
    if known.words is not None:
        signed = known.score is None
        note = "" if signed else _NOTE
        found.append(Shading(known.words_name, _lines(tokens, known.words, known.sentences), note, signed))
    if known.maps:
        last = known.maps[-1][1].mean(0)[0]  # of the first token
        rolled = rollout([weights for _, weights in known.maps])[0]
        hidden = np.array(tokens.special[0])
        for name, weights in (("attention of the last layer", last), ("attention rollout", rolled)):
            weights = np.where(hidden, 0.0, weights)
            note = f"from the first token, over all heads: {_NOTE}"
            found.append(Shading(name, _lines(tokens, [weights.tolist()], None), note))
    if known.score is not None:
        gradients = attribute(known.score, known.embedding)
        for name, values, note in (
            (
                "gradient x input",
                gradients.gradient,
                f"what each token adds to {known.output}, to first order",
            ),
            (
                "integrated gradients",
                gradients.integrated,
                f"what each token adds to {known.output}, from empty embeddings on; "
                f"{100 * gradients.error:.1f} % of the whole is not accounted for",
            ),
        ):
            ordered = np.zeros(len(known.place))
            ordered[known.place] = values.detach().cpu().numpy()
            ends = np.cumsum([0, *map(len, tokens.lines)])
            weights = [ordered[a:b].tolist() for a, b in itertools.pairwise(ends)]
            found.append(Shading(name, _lines(tokens, weights, known.sentences), note, signed=True))
    return found


def _lines(tokens: Any, weights: list[list[float]], sentences: list[float] | None) -> list[Line]:
    return [
        Line(
            [
                Piece(text, weight, blank)
                for text, weight, blank in zip(tokens.lines[at], weights[at], tokens.blanks[at], strict=True)
            ],
            None if sentences is None else sentences[at],
        )
        for at in range(len(tokens.lines))
    ]


def _show(known: Any, shadings: list[Shading]) -> None:
    console.table(["predicted", ""], known.predicted, right=[""])
    for shading in shadings:
        console.result()
        console.result(f"{shading.name}" + (f" ({shading.note})" if shading.note else ""))
        if console.styled(terminal(shading)):
            continue
        rows = plain(shading)
        console.table(["word", "weight"], rows, right=["weight"])
    console.result()

"""``attn inspect`` of a run that labels texts: its words shaded by attention, rollout and gradients."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from attncli import console
from attncli.commands.apply_labels import read_records, texts_of
from attncli.commands.trained import load_task
from attncli.errors import DataError, Problem, RecipeError
from attncli.recipe.finetune import AnswerRecipe, TagRecipe
from attncli.reports.attention_map import draw_maps, rollout
from attncli.reports.attribution import attribute
from attncli.reports.highlight import Line, Piece, Shading, page, plain, terminal
from attncli.training.run import RunFolder

_NOTE = "where the model looks; not, by itself, why it decides so"


def inspect(run: RunFolder, loaded: Any, inputs: list[str], out: Path | None) -> None:
    """Show each text with its words shaded, and write a page and, of encoders, a picture of every head."""
    if isinstance(loaded.recipe, AnswerRecipe):
        raise RecipeError(
            f"{run.path} answers questions; inspect shows runs that label texts or words",
            then=f"attn finetune {run.path} 'A question?' --context FILE --nbest 5",
        )
    task, _ = load_task(run, loaded, data=False)
    from attncli.tasks.explaining import explain

    found = []
    records = list(read_records(inputs, "text"))
    for number, (place, record) in enumerate(records, 1):
        pair = None
        if isinstance(loaded.recipe, TagRecipe):
            text = record.get("text") or " ".join(record.get("tokens", []))
        else:
            (text,), pairs = texts_of(task, [(place, record)])
            pair = None if pairs is None else pairs[0]
        try:
            if not text.strip():
                raise ValueError("it is empty")
            known = explain(task, text, pair)
        except ValueError as error:
            raise DataError(Problem(f"{text!r}: {error}", place or None)) from None
        shadings = _shadings(known)
        picture = out or run.path / "attention.png"
        if len(records) > 1:
            picture = picture.with_name(f"{picture.stem}-{number}{picture.suffix}")
        picture.parent.mkdir(parents=True, exist_ok=True)
        web = picture.with_suffix(".html")
        title = text if len(text) < 100 else text[:97] + "..."
        web.write_text(page(title, known.predicted, shadings), encoding="utf-8")
        told: dict[str, Any] = {
            "text": text,
            "predicted": dict(known.predicted),
            "explained": known.output,
            "page": str(web),
            "weights": {
                shading.name: [
                    [(piece.text, piece.weight) for piece in line.pieces] for line in shading.lines
                ]
                for shading in shadings
            },
        }
        if known.sentences is not None:
            told["sentences"] = known.sentences
        if known.maps:
            draw_maps(known.maps, known.tokens.lines[0], picture, title=title)
            told["picture"] = str(picture)
        found.append(told)
        _show(known, shadings, [told.get("picture"), str(web)])
    console.document({"run": str(run.path), "inputs": found})


def _shadings(known: Any) -> list[Shading]:
    tokens = known.tokens
    found = []
    if known.words is not None:
        signed = known.score is None
        note = "" if signed else _NOTE
        found.append(Shading(known.words_name, _lines(tokens, known.words, known.sentences), note, signed))
    if known.maps:
        last = known.maps[-1][1].mean(0)[0]  # of the first token
        rolled = rollout(known.maps)[0]
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


def _show(known: Any, shadings: list[Shading], files: list[str | None]) -> None:
    if console.json_mode():
        return
    console.table(["predicted", ""], known.predicted, right=[""])
    for shading in shadings:
        console.result()
        console.result(f"{shading.name}" + (f" ({shading.note})" if shading.note else ""))
        if console.styled(terminal(shading)):
            continue
        rows = plain(shading)
        console.table(["word", "weight"], rows, right=["weight"])
    console.result()
    for file in filter(None, files):
        console.result(file)

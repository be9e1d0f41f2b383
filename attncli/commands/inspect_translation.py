"""``attn inspect`` of a translation run: which source words each translated word looks at, and every head."""

from __future__ import annotations

from functools import partial
from typing import Any

from attncli import console
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
from attncli.errors import DataError, Problem
from attncli.reports.alignment import draw_alignment, pharaoh, word_alignment
from attncli.tasks.translator import one_map
from attncli.training.run import RunFolder


def see_with(run: RunFolder, loaded: Any, looking: Looking) -> See:
    """Translates texts by the run's search, and looks at how."""
    from attncli.reports.attention_map import draw_layers
    from attncli.reports.heads import head_figures
    from attncli.reports.inspection import Seen
    from attncli.tasks.pruning import heads_of

    task, _ = load_task(run, loaded, data=looking.part is not None)
    worths = Worths(task, run, looking)
    translator, tokenizer = task.translator(final=True), task.tokenizer

    def see(record: Record) -> Sight:
        place, text = record[0], record[1]["text"]
        source = translator.encode([text])[0]
        try:
            best = translator.translate_encoded([source])[0][0]
        except ValueError as error:
            raise DataError(Problem(f"{short(text)!r}: {error}", place or None)) from None
        if not best.tokens:
            what = f"{short(text)!r}: its translation is empty, so there is nothing to draw"
            raise DataError(Problem(what, place or None))
        written = tokenizer.target_tokens([*best.tokens, tokenizer.eos_id])
        read = tokenizer.source_tokens(source)
        recorded = translator.read(source, best.tokens)
        begun = tokenizer.target_tokens([tokenizer.bos_id, *best.tokens])
        layers = _layers(recorded, written, begun, read)
        order = sorted(range(len(layers)), key=lambda at: layers[at].own)  # between the texts first
        layers = [layers[at] for at in order]
        weights = [recorded[at] for at in order]
        predict = partial(translator.predict, source, best.tokens)
        pruning = worths(heads_of(weights), predict)
        heads = with_worth(head_figures(layers), pruning)
        cross = [layer.weights for layer in layers if not layer.own]
        chosen = one_map(cross)
        links = word_alignment(chosen, written, read)
        seen = Seen(
            str(run.path),
            [("translation", best.text), ("score", f"{best.score:.3f}")],
            layers,
            heads,
            worth=worths.told(pruning, layers),
            figures={"tokens of the text": len(read), "tokens of the translation": len(written)}
            | {"score (log-probability, with the length penalty)": best.score},
            opens=max(0, len(cross) - 2),
        )
        told = {
            "source": text,
            "translation": best.text,
            "score": best.score,
            "alignment": pharaoh(links),
            "heads": heads_told(heads),
            **pruning_told(pruning, layers),
        }
        whole = f"{text} → {best.text}"
        every = {"heads": lambda path: draw_layers(layers, path, title=whole)} if len(heads) > 1 else {}
        return Sight(
            whole,
            seen,
            told,
            lambda path: draw_alignment(chosen, written, read, path, title=best.text),
            lambda: _show(text, best.text, links),
            "alignment.png",
            every,
        )

    return see


def _layers(
    recorded: list[tuple[str, Any]], written: list[str], begun: list[str], read: list[str]
) -> list[Any]:
    """What was recorded, under names for people.

    Between the texts a row is the token ``written`` next; within the translation the last one ``begun``.
    """
    from attncli.reports.heads import Layer

    numbers: dict[str, int] = {}
    layers = []
    for name, weights in recorded:
        kind = next(kind for kind in ("cross", "decoder", "encoder") if kind in name)
        number = numbers[kind] = numbers.get(kind, 0) + 1
        rows, columns = {"cross": (written, read), "decoder": (begun, begun), "encoder": (read, read)}[kind]
        whole = weights[0].float().cpu().numpy()
        layers.append(Layer(f"{kind} {number}", whole, rows, columns, own=kind != "cross"))
    return layers


def _show(text: str, translation: str, links: list[tuple[int, int]]) -> None:
    words = text.split(), translation.split()
    ordered = sorted(links, key=lambda link: link[1])
    rows = [(words[1][target], words[0][source]) for source, target in ordered]
    console.table(["translated word", "looks most at"], rows, title=translation)

"""``attn inspect`` of a translation run: which source words each translated word looks at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attncli import console
from attncli.commands.trained import load_task, read_inputs
from attncli.errors import DataError, Problem
from attncli.reports.alignment import alignment_html, draw_alignment, pharaoh, word_alignment
from attncli.tasks.translator import one_map
from attncli.training.run import RunFolder


def inspect(run: RunFolder, loaded: Any, inputs: list[str], out: Path | None) -> None:
    """Translate each text by the run's search; draw its alignment as a picture and as a page."""
    texts = list(read_inputs(inputs))
    task, _ = load_task(run, loaded, data=False)
    translator, tokenizer = task.translator(final=True), task.tokenizer
    found = []
    for number, (place, text) in enumerate(texts, 1):
        source = translator.encode([text])[0]
        try:
            best = translator.translate_encoded([source])[0][0]
        except ValueError as error:
            raise DataError(Problem(f"{text!r}: {error}", place or None)) from None
        if not best.tokens:
            what = f"{text!r}: its translation is empty, so there is nothing to draw"
            raise DataError(Problem(what, place or None))
        maps = translator.maps(source, best.tokens)
        chosen = one_map([weights for _, weights in maps])
        pieces = tokenizer.target_tokens([*best.tokens, tokenizer.eos_id]), tokenizer.source_tokens(source)
        picture = out or run.path / "alignment.png"
        if len(texts) > 1:
            picture = picture.with_name(f"{picture.stem}-{number}{picture.suffix}")
        picture.parent.mkdir(parents=True, exist_ok=True)
        page = picture.with_suffix(".html")
        draw_alignment(chosen, *pieces, picture, title=best.text)
        page.write_text(alignment_html(maps, *pieces, title=f"{text} → {best.text}"), encoding="utf-8")
        links = word_alignment(chosen, *pieces)
        found.append(
            {
                "source": text,
                "translation": best.text,
                "score": best.score,
                "alignment": pharaoh(links),
                "picture": str(picture),
                "page": str(page),
            }
        )
        if not console.json_mode():
            words = text.split(), best.text.split()
            rows = [
                (words[1][target], words[0][source])
                for source, target in sorted(links, key=lambda link: link[1])
            ]
            console.table(["translated word", "looks most at"], rows, title=best.text)
            console.result(str(picture))
            console.result(str(page))
    console.document({"run": str(run.path), "inputs": found})

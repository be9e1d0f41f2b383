"""``attn inspect`` of a language model: a picture and a page of every head, and a table of what each one
does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attncli import console
from attncli.commands.trained import load_task, read_inputs
from attncli.errors import DataError, Problem
from attncli.training.run import RunFolder


def inspect(run: RunFolder, loaded: Any, inputs: list[str], out: Path | None) -> None:
    """Draw the attention maps of each text."""
    import torch

    from attncli.attention import record
    from attncli.reports.alignment import alignment_html
    from attncli.reports.attention_map import draw_maps, head_figures, rollout
    from attncli.tasks.language_use import tokens_of

    task, _ = load_task(run, loaded, data=False)
    texts = list(read_inputs(inputs))
    found = []
    for number, (place, text) in enumerate(texts, 1):
        try:
            tokens, names = tokens_of(task, text)
        except ValueError as error:
            raise DataError(Problem(f"{text!r}: {error}", place or None)) from None
        with torch.inference_mode(), record() as recorded:
            task.model(tokens)
        maps = [(name, weights[0].float().cpu().numpy()) for name, weights in recorded.weights]
        path = out or run.path / "attention.png"
        path = path.with_suffix(".png") if path.suffix == ".html" else path  # the page stands beside it
        if len(texts) > 1:
            path = path.with_name(f"{path.stem}-{number}{path.suffix}")
        path.parent.mkdir(parents=True, exist_ok=True)
        draw_maps(maps, names, path, title=text if len(text) < 100 else text[:97] + "...")
        heads = head_figures(maps)
        page = path.with_suffix(".html")
        said = [
            [f"entropy {h.entropy:.2f} nats, span {h.span:.1f} tokens" for h in heads if h.layer == layer]
            for layer in range(len(maps))
        ]
        html = alignment_html(maps, names, names, title=text, notes=said, rollout=rollout(maps))
        page.write_text(html, encoding="utf-8")
        found.append(
            {
                "text": text,
                "tokens": names,
                "picture": str(path),
                "page": str(page),
                "heads": [vars(h) for h in heads],
            }
        )
        rows = [
            (
                head.layer + 1,
                head.head + 1,
                head.entropy,
                head.span,
                f"{names[head.strongest[0]]} looks at {names[head.strongest[1]]}",
            )
            for head in heads
        ]
        if not console.json_mode():
            columns = ["layer", "head", "entropy", "span", "strongest link"]
            console.table(columns, rows, title=text, right=columns[:4])
            console.result(f"{path}\n{page}")
    console.document({"run": str(run.path), "inputs": found})

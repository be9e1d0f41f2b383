"""``attn inspect`` of a run that labels pictures: where it looks in them, and what its answer rests on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attncli import console
from attncli.commands.apply_images import PICTURES
from attncli.commands.trained import load_task
from attncli.reports.attribution import attribute
from attncli.reports.heads import HeadFigures, Layer, head_figures
from attncli.reports.picture_attention import Overlay, distances, draw_picture_attention, rolled, seen
from attncli.reports.picture_page import picture_page
from attncli.training.run import RunFolder


def inspect(run: RunFolder, loaded: Any, inputs: list[str], out: Path | None) -> None:
    """Write a picture and a page for each input, and show a table of the heads."""
    paths = list(PICTURES.paths(inputs, f"attn inspect {run.path} IMAGE"))
    task, _ = load_task(run, loaded, data=False)
    from attncli.tasks.image_explaining import look

    found = []
    for number, path in enumerate(paths, 1):
        known = look(task, path)
        overlays, error = _overlays(known)
        layers = known.windows or seen(known.maps, known.reads, known.grid)
        between = distances(known.grid, known.prefix)
        places = [str(place) for place in range(len(between))]
        heads = head_figures([Layer(name, weights, places, places) for name, weights in known.maps], between)
        picture = out or run.path / "attention.png"
        picture = picture.with_suffix(".png") if picture.suffix == ".html" else picture
        if len(paths) > 1:
            picture = picture.with_name(f"{picture.stem}-{number}{picture.suffix}")
        picture.parent.mkdir(parents=True, exist_ok=True)
        title = f"{path.name}: {known.predicted[0][0]} {known.predicted[0][1]}"
        draw_picture_attention(known.image, layers, overlays, picture, title)
        page = picture.with_suffix(".html")
        text = picture_page(
            known.image,
            known.grid,
            known.prefix,
            known.maps,
            layers,
            overlays,
            title=title,
            result=known.predicted,
            notes=_notes(heads, len(known.maps)),
        )
        page.write_text(text, encoding="utf-8")
        found.append(
            {
                "image": str(path),
                "predicted": dict(known.predicted),
                "explained": known.output,
                "picture": str(picture),
                "page": str(page),
                "maps": {name: weights.tolist() for name, weights, _ in overlays},
                "integrated_gradients_error": error,
                "heads": [vars(head) for head in heads],
            }
        )
        if not console.json_mode():
            _show(path, known, heads, [picture, page])
    console.document({"run": str(run.path), "inputs": found})


def _overlays(known: Any) -> tuple[list[Overlay], float]:
    """Rollout and gradients, [R, S] each, and how far integrated gradients miss their sum."""
    gradients = attribute(known.score, known.embedding)
    found: list[Overlay] = []
    if known.maps:
        found.append(("attention rollout", rolled(known.maps, known.reads, known.grid), False))
    for name, values in (
        ("gradient x input", gradients.gradient),
        ("integrated gradients", gradients.integrated),
    ):
        found.append((name, values.detach().float().cpu().numpy().reshape(known.grid), True))
    return found, gradients.error


def _notes(heads: list[HeadFigures], layers: int) -> list[list[str]]:
    """For each layer a line on all heads, where there are several, and on each."""
    notes = []
    for layer in range(layers):
        own = [head for head in heads if head.layer == layer]
        said = [f"entropy {h.entropy:.2f} nats, mean distance {h.span:.1f} patches" for h in own]
        mean = f"entropy {sum(h.entropy for h in own) / len(own):.2f} nats on average"
        notes.append([mean, *said] if len(own) > 1 else said)
    return notes


def _show(path: Path, known: Any, heads: list[HeadFigures], files: list[Path]) -> None:
    console.table(["predicted", ""], known.predicted, title=str(path), right=[""])
    if heads:
        rows = [(h.layer + 1, h.head + 1, h.entropy, h.span) for h in heads]
        columns = ["layer", "head", "entropy", "distance"]
        console.table(columns, rows, right=columns)
        console.say("entropy in nats; distance in patches, of what a patch looks at")
    elif known.windows:
        console.say("each layer's picture shows what is looked at inside its windows")
    else:
        console.say("the attention mechanism has no weights to show: gradients alone are drawn")
    for file in files:
        console.result(str(file))

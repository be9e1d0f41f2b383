"""``attn inspect`` of a run that labels videos: which frames counted, and which regions of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from attncli import console
from attncli.commands.apply_videos import VIDEOS
from attncli.commands.trained import load_task
from attncli.reports.attribution import attribute
from attncli.reports.video_attention import Strip, draw_strips, key_frames
from attncli.reports.video_page import video_page
from attncli.reports.video_rollout import token_shares
from attncli.training.run import RunFolder


def inspect(run: RunFolder, loaded: Any, inputs: list[str], out: Path | None) -> None:
    """Write a picture strip and a page that plays for each input, and show a table of the clips."""
    paths = list(VIDEOS.paths(inputs, f"attn inspect {run.path} CLIP"))
    task, _ = load_task(run, loaded, data=False)
    from attncli.tasks.video_explaining import watch

    found = []
    for number, path in enumerate(paths, 1):
        known = watch(task, path)
        strips = _strips(known)
        picture = out or run.path / "attention.png"
        picture = picture.with_suffix(".png") if picture.suffix == ".html" else picture
        if len(paths) > 1:
            picture = picture.with_name(f"{picture.stem}-{number}{picture.suffix}")
        picture.parent.mkdir(parents=True, exist_ok=True)
        title = f"{path.name}: {known.predicted[0][0]} {known.predicted[0][1]}"
        draw_strips(strips, picture, title)
        page = picture.with_suffix(".html")
        page.write_text(video_page(strips, title=title, result=known.predicted), encoding="utf-8")
        found.append(
            {
                "video": str(path),
                "predicted": dict(known.predicted),
                "explained": known.output,
                "picture": str(picture),
                "page": str(page),
                "clips": [_told(strip) for strip in strips],
            }
        )
        if not console.json_mode():
            _show(path, known, strips, [picture, page])
    console.document({"run": str(run.path), "inputs": found})


def _strips(known: Any) -> list[Strip]:
    """What is drawn of each clip and scale."""
    found = []
    for number, seen in enumerate(known.clips, 1):
        there = np.stack([one.there for one in seen.scales])
        shares = token_shares(known.config, seen.weights, seen.pools, there)  # [S, P, R, Q]
        gradients = attribute(seen.score, known.embedding, steps=8).integrated
        gradients = gradients.detach().float().cpu().numpy().reshape(shares.shape)
        for scale, one in enumerate(seen.scales):
            title = f"clip {number}" + (f", stride {one.stride}" if len(seen.scales) > 1 else "")
            moments = shares[scale].sum((1, 2))
            found.append(Strip(title, one.frames, one.numbers, moments, shares[scale], gradients[scale]))
    return found


def _told(strip: Strip) -> dict[str, Any]:
    return {
        "clip": strip.title,
        "frames": [strip.number(at) for at in range(len(strip.moments))],
        "weights": strip.moments.tolist(),
        "key_frames": key_frames(strip),
        "regions": strip.regions.tolist(),
        "gradients": strip.gradients.tolist(),
    }


def _show(path: Path, known: Any, strips: list[Strip], files: list[Path]) -> None:
    console.table(["predicted", ""], known.predicted, title=str(path), right=[""])
    rows = []
    for strip in strips:
        weight = {strip.number(at): share for at, share in enumerate(strip.moments.tolist())}
        frames = ", ".join(f"{frame} ({100 * weight[frame]:.0f} %)" for frame in key_frames(strip))
        rows.append((strip.title, f"{strip.numbers[0]}-{strip.numbers[-1]}", frames))
    console.table(["clip", "frames", "counted most"], rows)
    if not known.clips[0].weights:
        console.say("the attention mechanism has no weights to show: gradients alone tell regions apart")
    for file in files:
        console.result(str(file))

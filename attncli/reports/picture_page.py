"""Attention over a picture as a page that needs nothing else: choose layer and head, point at a patch."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence

import numpy as np

from attncli.reports.heads import Maps
from attncli.reports.picture_attention import Grid, Overlay, shown
from attncli.reports.picture_page_html import PAGE

MOST_WEIGHTS = 6_000_000
"""More weights than these are left out of a page; what the output reads stays."""


def picture_page(
    image: np.ndarray,
    grid: Grid,
    prefix: int,
    maps: Maps,
    layers: Sequence[np.ndarray],
    overlays: Sequence[Overlay],
    *,
    title: str,
    result: Sequence[tuple[str, str]],
    notes: Sequence[Sequence[str]] = (),
) -> str:
    """The page.

    Args:
        image: uint8 [H, W, C].
        grid, prefix: rows and columns of tokens, and how many come before them.
        maps: weights of every layer [H, T, T], which the pointer asks for.
        layers: what the output reads, [H, R, S] each.
        overlays: further weights [R, S], shown beside.
        title, result: heading, and rows of two cells on what was predicted.
        notes: a line for each layer and head.
    """
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(shown(image)).save(file, "PNG")
    count = sum(weights.size for _, weights in maps)
    full = [_packed(weights[:, :, prefix:]) for _, weights in maps] if count <= MOST_WEIGHTS else []
    data = {
        "grid": list(grid),
        "prefix": prefix,
        "layers": [
            {
                "name": f"layer {number + 1}",
                "heads": len(weights),
                "grid": list(weights.shape[1:]),
                "notes": list(notes[number]) if notes else [],
            }
            | _scaled(weights)
            for number, weights in enumerate(layers)
        ],
        "pairs": full,
        "overlays": [
            {"name": name, "signed": signed} | _scaled(weights) for name, weights, signed in overlays
        ],
    }
    rows = "".join(
        f'<tr><td dir="auto">{html.escape(name)}</td><td>{html.escape(value)}</td></tr>'
        for name, value in result
    )
    text = json.dumps(data).replace("<", "\\u003c")
    return (
        PAGE.replace("@TITLE@", html.escape(title))
        .replace("@ROWS@", rows)
        .replace("@IMAGE@", base64.b64encode(file.getvalue()).decode())
        .replace("@RATIO@", f"{image.shape[1]} / {image.shape[0]}")
        .replace("@DATA@", text)
    )


def _scaled(weights: np.ndarray) -> dict[str, object]:
    """Weights [..., R, S] as whole numbers up to 1,000, and what they were divided by."""
    flat = weights.reshape(-1, weights.shape[-2] * weights.shape[-1]).astype(np.float64)
    largest = np.maximum(np.abs(flat).max(1, keepdims=True), 1e-12)
    return {"maps": np.rint(1000 * flat / largest).astype(int).tolist(), "most": largest[:, 0].tolist()}


def _packed(weights: np.ndarray) -> str:
    """Weights [H, T, N], each row as shares of its largest, in bytes."""
    largest = np.maximum(weights.max(-1, keepdims=True), 1e-12)
    return base64.b64encode(
        np.rint(255 * np.clip(weights, 0, None) / largest).astype(np.uint8).tobytes()
    ).decode()

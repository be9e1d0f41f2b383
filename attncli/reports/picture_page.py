"""Attention over a picture as a page that needs nothing else: choose layer and head, point at a patch."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence

import numpy as np

from attncli.reports.attention_map import Maps
from attncli.reports.picture_attention import Grid, Overlay, shown

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
        _PAGE.replace("@TITLE@", html.escape(title))
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


_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width"> <title>@TITLE@</title> <style> :root { color-scheme: light
dark; --text: #1d2330; --back: #fff; --soft: #667; --line: #d9dde5 } @media (prefers-color-scheme: dark) {
:root { --text: #e7eaf0; --back: #14171d; --soft: #9aa3b2; --line: #333a46 } } body { font: 15px/1.5
system-ui, sans-serif; color: var(--text); background: var(--back); max-width: 70em;
 margin: 1.5em auto; padding: 0 1em }
h1 { font-size: 1.1em; overflow-wrap: anywhere } h2 { font-size: .9em; margin: 0 0 .3em; font-weight: 600 }
table { border-collapse: collapse; font-size: .9em } td { padding: .1em 1em .1em 0; font-variant-numeric:
tabular-nums } output { display: block; min-height: 1.5em; color: var(--soft); font-size: .9em } .row {
display: flex; flex-wrap: wrap; gap: 1.2em; align-items: flex-start; margin: 1em 0 } .main { width: min(26em,
100%) } .small { width: 11em } .stage { position: relative; aspect-ratio: @RATIO@; background: #000; border:
1px solid var(--line) } .stage img, .stage canvas { position: absolute; inset: 0; width: 100%; height: 100%;
image-rendering: pixelated } .stage img { filter: grayscale(1) } .stage.plain img { filter: none } </style>
</head> <body> <h1 dir="auto">@TITLE@</h1> <table>@ROWS@</table> <div class="row"> <div class="main">
<label>layer <select id="layer"></select></label> <label>head <select id="head"></select></label> <output
id="told"></output> <div class="stage" id="stage"><img alt="" src="data:image/png;base64,@IMAGE@"><canvas
id="map"></canvas></div> <output id="note"></output> </div> <div class="row" id="others"> <div
class="small"><h2>picture</h2><div class="stage plain"><img alt=""
src="data:image/png;base64,@IMAGE@"></div></div> </div> </div> <script type="application/json"
id="data">@DATA@</script> <script> "use strict"; const data =
JSON.parse(document.getElementById("data").textContent); const [rows, columns] = data.grid, cells = rows *
columns, tokens = cells + data.prefix; const layer = document.getElementById("layer"), head =
document.getElementById("head"); const told = document.getElementById("told"), note =
document.getElementById("note"); const stage = document.getElementById("stage"), map =
document.getElementById("map"); const pairs = data.pairs.map((text) => Uint8Array.from(atob(text), (c) =>
c.charCodeAt(0))); const READS = data.layers.length ? "what the output's tokens look at; point at a patch for
what that one looks at"
  : "the mechanism has no weights to show";

function paint(canvas, weights, signed, mark) {
  canvas.width = columns; canvas.height = rows;
  const context = canvas.getContext("2d"), pixels = context.createImageData(columns, rows);
  for (let n = 0; n < cells; n++) {
    const w = weights[n], color = signed && w < 0 ? [220, 60, 50] : signed ? [50, 120, 255] : [255, 150, 20];
    pixels.data.set([...color, Math.round(215 * Math.min(1, Math.abs(w)))], 4 * n);
  }
  if (mark >= 0) pixels.data.set([0, 255, 120, 230], 4 * mark);
  context.putImageData(pixels, 0, 0);
}

function mean(lists) {
  return lists[0].map((_, n) => lists.reduce((sum, list) => sum + list[n], 0) / lists.length);
}

function weightsOf(query) {
  const chosen = data.layers[layer.selectedIndex], which = head.selectedIndex - (chosen.heads > 1 ? 1 : 0);
  if (query < 0) {
    const scaled = chosen.maps.map((one, h) => one.map((w) => w * chosen.most[h]));
    const found = which < 0 ? mean(scaled) : scaled[which], most = Math.max(...found.map(Math.abs), 1e-12);
    return found.map((w) => w / most);
  }
  const from = pairs[layer.selectedIndex];
  const heads = which < 0 ? [...Array(chosen.heads).keys()] : [which];
  const lists = heads.map((h) => {
    const start = (h * tokens + data.prefix + query) * cells;
    return Array.from(from.subarray(start, start + cells), (w) => w / 255);
  });
  return mean(lists);
}

function show(query) {
  if (!data.layers.length) { told.textContent = READS; return; } paint(map, weightsOf(query), false, query);
  const at = query < 0 ? "" : `the patch in row ${Math.floor(query / columns) + 1}, column ${query % columns +
  1} looks at`; told.textContent = at || READS; note.textContent =
  data.layers[layer.selectedIndex].notes[head.selectedIndex] || "";
}

function heads() {
  const count = data.layers[layer.selectedIndex].heads, before = head.selectedIndex;
  head.replaceChildren();
  if (count > 1) head.add(new Option("mean"));
  for (let n = 0; n < count; n++) head.add(new Option(String(n + 1)));
  head.selectedIndex = before > 0 && before < head.length ? before : 0;
  show(-1);
}

function point(event) {
  const box = stage.getBoundingClientRect();
  const column = Math.floor((event.clientX - box.left) / box.width * columns);
  const row = Math.floor((event.clientY - box.top) / box.height * rows);
  const inside = row >= 0 && row < rows && column >= 0 && column < columns;
  show(inside && pairs.length ? row * columns + column : -1);
}

for (const one of data.overlays) {
  const box = document.createElement("div"), title = document.createElement("h2");
  const frame = document.createElement("div"), canvas = document.createElement("canvas");
  box.className = "small"; frame.className = "stage"; title.textContent = one.name;
  frame.append(stage.querySelector("img").cloneNode(), canvas);
  box.append(title, frame);
  document.getElementById("others").append(box);
  paint(canvas, one.maps[0].map((w) => w / 1000), one.signed, -1);
}
for (const each of data.layers) layer.add(new Option(each.name));
if (data.layers.length) { layer.selectedIndex = data.layers.length - 1; heads(); } else show(-1);
layer.addEventListener("change", heads);
head.addEventListener("change", () => show(-1));
stage.addEventListener("pointermove", point);
stage.addEventListener("pointerleave", () => show(-1));
</script>
</body>
</html>
"""

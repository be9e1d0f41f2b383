"""A page that plays a clip with what counted laid over it; it needs nothing else, no network either."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence

import numpy as np

from attncli.reports.picture_attention import shown
from attncli.reports.video_attention import Strip


def video_page(
    strips: Sequence[Strip], *, title: str, result: Sequence[tuple[str, str]], rate: float = 6.0
) -> str:
    """The page.

    Args:
        strips: a clip, or a clip at one scale, each.
        title, result: heading, and rows of two cells on what was predicted.
        rate: frames a second that it plays at first.
    """
    clips = [
        {
            "title": strip.title,
            "frames": [_encoded(frame) for frame in strip.frames],
            "numbers": [int(number) for number in strip.numbers],
            "each": strip.each,
            "moments": _rounded(strip.moments, 1.0),
            "grid": list(strip.regions.shape[1:]),
            "attention": _rounded(strip.regions, float(strip.regions.max())),
            "gradients": _rounded(strip.gradients, float(np.abs(strip.gradients).max())),
        }
        for strip in strips
    ]
    height, width = strips[0].frames.shape[1:3]
    rows = "".join(
        f'<tr><td dir="auto">{html.escape(name)}</td><td>{html.escape(value)}</td></tr>'
        for name, value in result
    )
    data = json.dumps({"clips": clips, "rate": rate}).replace("<", "\\u003c")
    return (
        _PAGE.replace("@TITLE@", html.escape(title))
        .replace("@ROWS@", rows)
        .replace("@RATIO@", f"{width} / {height}")
        .replace("@DATA@", data)
    )


def _encoded(frame: np.ndarray) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(shown(frame, 1)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _rounded(values: np.ndarray, most: float) -> list[object]:
    """Shares of ``most`` in thousandths."""
    return np.rint(1000 * values.astype(np.float64) / max(most, 1e-12)).astype(int).tolist()


_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>@TITLE@</title>
<style>
:root { color-scheme: light dark; --text: #1d2330; --back: #fff; --soft: #667; --line: #d9dde5;
  --bar: #e8871e }
@media (prefers-color-scheme: dark) {
  :root { --text: #e7eaf0; --back: #14171d; --soft: #9aa3b2; --line: #333a46 }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); max-width: 70em;
  margin: 1.5em auto; padding: 0 1em }
h1 { font-size: 1.1em; overflow-wrap: anywhere }
table { border-collapse: collapse; font-size: .9em; margin-bottom: 1em }
td { padding: .1em 1em .1em 0; font-variant-numeric: tabular-nums }
.stage { position: relative; width: min(40em, 100%); aspect-ratio: @RATIO@; background: #000;
  border: 1px solid var(--line) }
.stage img, .stage canvas { position: absolute; inset: 0; width: 100%; height: 100%;
  image-rendering: pixelated }
.stage img.under { filter: grayscale(1) }
.bars { display: flex; align-items: flex-end; gap: 2px; width: min(40em, 100%); height: 6em; margin-top: .6em;
  padding: 0; border: 0; background: none }
.bars button { flex: 1; padding: 0; border: 0; background: var(--bar); opacity: .55; min-height: 2px;
  cursor: pointer }
.bars button.now { opacity: 1 }
.controls { display: flex; flex-wrap: wrap; gap: 1em; align-items: center; margin: .6em 0 }
output { display: block; color: var(--soft); font-size: .9em; min-height: 1.5em }
</style>
</head>
<body>
<h1 dir="auto">@TITLE@</h1>
<table>@ROWS@</table>
<div class="controls">
  <label>clip <select id="clip"></select></label>
  <label>show <select id="what">
    <option value="attention">attention</option>
    <option value="gradients">gradients</option>
    <option value="none">frames alone</option>
  </select></label>
  <button id="play" type="button">pause</button>
  <label>speed <input id="rate" type="range" min="1" max="30"></label>
</div>
<div class="stage"><img id="frame" alt="frame of the clip"><canvas id="map"></canvas></div>
<div class="bars" id="bars"></div>
<output id="told"></output>
<script type="application/json" id="data">@DATA@</script>
<script>
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const clip = at("clip"), what = at("what"), play = at("play"), rate = at("rate");
let frame = 0, playing = true, last = 0;

function paint(canvas, weights, signed) {
  const rows = weights.length, columns = weights[0].length;
  canvas.width = columns; canvas.height = rows;
  const context = canvas.getContext("2d"), pixels = context.createImageData(columns, rows);
  weights.flat().forEach((w, n) => {
    const color = signed && w < 0 ? [220, 60, 50] : signed ? [50, 120, 255] : [255, 150, 20];
    pixels.data.set([...color, Math.round(0.215 * Math.min(1000, Math.abs(w)))], 4 * n);
  });
  context.putImageData(pixels, 0, 0);
}

function show() {
  const one = data.clips[clip.selectedIndex], kind = what.value;
  frame %= one.frames.length;
  const moment = Math.floor(frame / one.each);
  at("frame").src = "data:image/png;base64," + one.frames[frame];
  at("frame").className = kind === "none" ? "" : "under";
  at("map").hidden = kind === "none";
  if (kind !== "none") paint(at("map"), one[kind][moment], kind === "gradients");
  [...at("bars").children].forEach((bar, n) => bar.classList.toggle("now", n === moment));
  const share = (one.moments[moment] / 10).toFixed(1);
  at("told").textContent = `frame ${one.numbers[frame]}: ${share} % of what the output reads`
    + (one.each > 1 ? ` (with its ${one.each - 1} neighbour${one.each > 2 ? "s" : ""})` : "")
    + (kind === "gradients" ? "; blue speaks for it, red against it" : "");
}

function choose() {
  const one = data.clips[clip.selectedIndex], most = Math.max(...one.moments, 1);
  at("bars").replaceChildren(...one.moments.map((share, n) => {
    const bar = document.createElement("button");
    bar.type = "button";
    bar.style.height = `${100 * share / most}%`;
    bar.title = `frame ${one.numbers[n * one.each]}: ${(share / 10).toFixed(1)} %`;
    bar.addEventListener("click", () => {
      playing = false;
      play.textContent = "play";
      frame = n * one.each;
      show();
    });
    return bar;
  }));
  frame = 0;
  show();
}

function tick(now) {
  if (playing && now - last >= 1000 / Number(rate.value)) { last = now; frame += 1; show(); }
  requestAnimationFrame(tick);
}

for (const each of data.clips) clip.add(new Option(each.title));
rate.value = data.rate;
clip.addEventListener("change", choose);
what.addEventListener("change", show);
play.addEventListener("click", () => { playing = !playing; play.textContent = playing ? "pause" : "play"; });
choose();
requestAnimationFrame(tick);
</script>
</body>
</html>
"""

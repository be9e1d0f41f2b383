"""The page that ``picture_page`` fills: @TITLE@, @ROWS@, @IMAGE@ (base64), @RATIO@ and @DATA@ (JSON)."""

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>@TITLE@</title>
<style>
:root { color-scheme: light dark; --text: #1d2330; --back: #fff; --soft: #667; --line: #d9dde5 }
@media (prefers-color-scheme: dark) { :root { --text: #e7eaf0; --back: #14171d; --soft: #9aa3b2;
 --line: #333a46 } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); max-width: 70em;
 margin: 1.5em auto; padding: 0 1em }
h1 { font-size: 1.1em; overflow-wrap: anywhere }
h2 { font-size: .9em; margin: 0 0 .3em; font-weight: 600 }
table { border-collapse: collapse; font-size: .9em }
td { padding: .1em 1em .1em 0; font-variant-numeric: tabular-nums }
output { display: block; min-height: 1.5em; color: var(--soft); font-size: .9em }
.row { display: flex; flex-wrap: wrap; gap: 1.2em; align-items: flex-start; margin: 1em 0 }
.main { width: min(26em, 100%) }
.side { flex: 1; min-width: 12em; margin: 0 }
.small { width: 11em }
.stage { position: relative; aspect-ratio: @RATIO@; background: #000; border: 1px solid var(--line) }
.stage img, .stage canvas { position: absolute; inset: 0; width: 100%; height: 100%;
 image-rendering: pixelated }
.stage img { filter: grayscale(1) }
.plain img { filter: none }
</style>
</head>
<body>
<h1 dir="auto">@TITLE@</h1>
<div class="row">
<div class="main">
<label>layer <select id="layer"></select></label> <label>head <select id="head"></select></label>
<output id="told"></output>
<div class="stage" id="stage">
<img alt="" src="data:image/png;base64,@IMAGE@">
<canvas id="map"></canvas>
</div>
<output id="note"></output>
</div>
<div class="row side" id="others">
<table>@ROWS@</table>
</div>
</div>
<script type="application/json" id="data">@DATA@</script>
<script>
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const [rows, columns] = data.grid, cells = rows * columns, tokens = cells + data.prefix;
const layer = document.getElementById("layer"), head = document.getElementById("head");
const told = document.getElementById("told"), note = document.getElementById("note");
const stage = document.getElementById("stage"), map = document.getElementById("map");
const pairs = data.pairs.map((text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)));
const READS = !data.layers.length ? "the mechanism has no weights to show" : pairs.length
  ? "what the output looks at; point at a patch for what that one looks at" : "what the output looks at";

function paint(canvas, weights, signed, mark, [down, across]) {
  canvas.width = across; canvas.height = down;
  const context = canvas.getContext("2d"), pixels = context.createImageData(across, down);
  for (let n = 0; n < weights.length; n++) {
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
  told.textContent = READS;
  if (!data.layers.length) return;
  paint(map, weightsOf(query), false, query, data.layers[layer.selectedIndex].grid);
  const row = Math.floor(query / columns) + 1, column = query % columns + 1;
  if (query >= 0) told.textContent = `what the patch in row ${row}, column ${column} looks at`;
  note.textContent = data.layers[layer.selectedIndex].notes[head.selectedIndex] || "";
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

for (const one of [{ name: "picture" }, ...data.overlays]) {
  const box = document.createElement("div"), title = document.createElement("h2");
  const frame = document.createElement("div"), canvas = document.createElement("canvas");
  box.className = "small"; frame.className = "stage"; title.textContent = one.name;
  frame.append(stage.querySelector("img").cloneNode(), canvas);
  box.append(title, frame);
  document.getElementById("others").append(box);
  if (one.maps) paint(canvas, one.maps[0].map((w) => w / 1000), one.signed, -1, data.grid);
  else frame.classList.add("plain");
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

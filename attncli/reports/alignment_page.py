"""The page that ``alignment_html`` fills. ``@TITLE@`` is its escaped heading, ``@DATA@`` its JSON."""

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>@TITLE@</title>
<style>
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5em; color: #222; background: #fff }
h1 { font-size: 1.1em; overflow-wrap: anywhere }
output { display: block; min-height: 1.5em; margin: .6em 0; font-variant-numeric: tabular-nums }
.scroll { overflow: auto; max-height: 85vh }
table { border-collapse: separate; border-spacing: 1px }
td { width: 22px; min-width: 22px; height: 22px; padding: 0; background: #f4f6fa }
td:hover { outline: 2px solid #d40 }
th { font-weight: normal; white-space: pre; background: #fff; position: sticky }
thead th { top: 0; vertical-align: bottom; padding: 4px 0; z-index: 1 }
thead th span { writing-mode: vertical-rl; transform: rotate(180deg); max-height: 14em; overflow: hidden }
tbody th { left: 0; text-align: right; padding: 0 6px; max-width: 14em; overflow: hidden }
thead th:first-child { left: 0; z-index: 2 }
th.on { background: #fde3d3 }
</style>
</head>
<body>
<h1>@TITLE@</h1>
<label>layer <select id="layer"></select></label>
<label>head <select id="head"></select></label>
<output id="told">What looks is down the side, what is looked at across; darker is more weight.</output>
<output id="note"></output>
<div class="scroll"><table id="map"></table></div>
<script type="application/json" id="data">@DATA@</script>
<script>
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const layer = document.getElementById("layer"), head = document.getElementById("head");
const told = document.getElementById("told"), note = document.getElementById("note");
const map = document.getElementById("map");
const top_ = [], side = [], cells = [];
let weights = [];

function add(parent, kind, text) {
  const element = document.createElement(kind);
  if (text !== undefined) element.textContent = text;
  parent.appendChild(element);
  return element;
}

function build() {
  const first = add(add(map, "thead"), "tr");
  add(first, "th");
  for (const token of data.source) {
    const cell = add(first, "th");
    add(cell, "span", token);
    top_.push(cell);
  }
  const body = add(map, "tbody");
  data.target.forEach((token) => {
    const row = add(body, "tr");
    side.push(add(row, "th", token));
    data.source.forEach(() => {
      const cell = add(row, "td");
      cell.dataset.place = cells.length;
      cells.push(cell);
    });
  });
  data.layers.forEach((each) => add(layer, "option", each.name));
}

function heads() {
  const count = data.layers[layer.selectedIndex].maps.length, before = head.selectedIndex;
  head.replaceChildren();
  for (let n = 0; n < count; n++) add(head, "option", n ? String(n) : count > 1 ? "mean" : "-");
  head.selectedIndex = before > 0 && before < count ? before : 0;
  head.disabled = count < 2;
  show();
}

function show() {
  const chosen = data.layers[layer.selectedIndex];
  weights = chosen.maps[head.selectedIndex];
  note.textContent = chosen.notes[head.selectedIndex] || "";
  cells.forEach((cell, place) => {
    cell.style.background = weights[place] ? `rgba(8, 64, 140, ${weights[place] / 1000})` : "";
  });
}

function point(event) {
  for (const cell of map.querySelectorAll("th.on")) cell.classList.remove("on");
  const place = event.target.dataset ? event.target.dataset.place : undefined;
  if (place === undefined) return;
  const column = place % data.source.length, row = (place - column) / data.source.length;
  top_[column].classList.add("on");
  side[row].classList.add("on");
  const weight = (weights[place] / 1000).toFixed(3);
  told.textContent = `${data.target[row]} looks at ${data.source[column]}: ${weight}`;
}

build();
heads();
layer.addEventListener("change", heads);
head.addEventListener("change", show);
map.addEventListener("mouseover", point);
</script>
</body>
</html>
"""

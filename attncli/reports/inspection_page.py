"""Style and script of the page that ``inspection`` writes; no file or network is needed to show it."""

STYLE = """\
:root { color-scheme: light dark; --text: #1c2430; --back: #fff; --soft: #616b7c; --line: #dde1e8;
 --panel: #f6f7f9; --ground: #f0f2f6; --accent: #c2410c; --mark: #fde3d3; --ink: 8, 64, 140;
 --for: 37, 99, 235; --against: 214, 48, 49 }
@media (prefers-color-scheme: dark) { :root { --text: #e5e9f0; --back: #13161c; --soft: #98a2b3;
 --line: #313845; --panel: #1a1e26; --ground: #1d222b; --accent: #fb923c; --mark: #4a2c17;
 --ink: 125, 185, 255; --for: 90, 150, 255; --against: 255, 100, 100 } }
* { box-sizing: border-box }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--back); margin: 0 auto;
 padding: 1.2em clamp(.8em, 2.5vw, 2.5em) 3em; max-width: 1000px }
body.two { max-width: 2000px }
h1 { font-size: 1.2em; line-height: 1.35; overflow-wrap: anywhere; margin: .2em 0 .8em; max-height: 7em;
 overflow: auto }
h2 { font-size: 1.02em; margin: 0 0 .5em; overflow-wrap: anywhere }
h3 { font-size: .92em; margin: 1.6em 0 .35em }
.boxes { display: flex; flex-wrap: wrap; gap: 0 1.5em; margin-bottom: .8em }
.sides { display: grid; gap: 1.2em 2.4em; grid-template-columns: minmax(0, 1fr) }
@media (min-width: 1000px) { .two .sides { grid-template-columns: repeat(2, minmax(0, 1fr)) } }
.two .side + .side { border-left: 1px solid var(--line); padding-left: 2.4em }
@media (max-width: 999px) { .two .side + .side { border-left: 0; padding-left: 0;
 border-top: 1px solid var(--line); padding-top: 1.2em } }
.note { color: var(--soft); font-size: .88em; margin: .2em 0 .6em; max-width: 70em }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: .88em }
td, th { padding: .16em .9em .16em 0; text-align: left; vertical-align: baseline }
th { font-weight: 600; border-bottom: 1px solid var(--line); white-space: nowrap }
.r { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
td { overflow-wrap: anywhere; max-width: 26em }
.line { overflow-wrap: anywhere; border-left: .45em solid transparent; padding-left: .6em; margin: .15em 0;
 line-height: 1.9 }
.p, .n { border-radius: .2em; padding: .1em .05em }
.p { background: rgba(var(--for), var(--w)) }
.n { background: rgba(var(--against), var(--w)) }
.heads th { position: sticky; top: 0; background: var(--back); cursor: pointer }
.heads th::after { content: "\\2009\\2195"; color: var(--soft); font-weight: normal }
.heads tbody tr { cursor: pointer }
.heads td { white-space: nowrap }
.heads tbody tr:hover, .heads tr.on { background: var(--mark) }
.long { max-height: 26em; overflow: auto }
.tables { display: flex; flex-wrap: wrap; gap: 0 3em; margin-bottom: 1.6em }
.tables section { max-width: 100% }
.grid { display: grid; gap: 3px 4px; justify-content: start; align-items: center; overflow: auto;
 max-height: 24em; padding: 2px; font-size: .78em; color: var(--soft) }
.grid > span { padding-right: .5em; white-space: nowrap; position: sticky; left: 0; background: var(--back) }
.grid > .top { text-align: center; padding: 0; position: static }
.grid button { padding: 0; border: 2px solid transparent; border-radius: 4px; background: none;
 cursor: pointer; line-height: 0 }
.grid button.on { border-color: var(--accent) }
.grid button:focus-visible { outline: 2px solid var(--accent) }
.grid canvas, .map canvas { image-rendering: pixelated; display: block; background: var(--ground) }
.grid canvas { width: 38px; height: 38px; border-radius: 2px }
.pick { display: flex; flex-wrap: wrap; gap: .4em 1em; align-items: baseline; margin: .8em 0 .2em }
select { font: inherit; color: inherit; background: var(--panel); border: 1px solid var(--line);
 border-radius: 4px; padding: .1em .3em; max-width: 100% }
.told { min-height: 1.5em; color: var(--soft); font-size: .92em;
 font-variant-numeric: tabular-nums; margin: .1em 0 .4em; overflow-wrap: anywhere }
.strip { line-height: 2; margin: .3em 0; overflow-wrap: anywhere; max-height: 16em; overflow-y: auto }
.strip span { border-radius: .25em; padding: .12em .18em; margin: 0 .06em; cursor: default;
 background: rgba(var(--ink), calc(var(--w, 0) * .55)); white-space: pre-wrap }
.strip span.on { outline: 2px solid var(--accent) }
.scroll { overflow: auto; max-height: 80vh; width: fit-content; max-width: 100%; padding: 0 6px 6px 0;
 border: 1px solid var(--line); border-radius: 4px }
.map { display: grid; grid-template-columns: auto auto; justify-content: start; width: max-content;
 --cell: 20px }
.map .cols, .map .rows { display: grid; background: var(--back);
 font-size: min(calc(var(--cell) * .72), 13px) }
.map .cols { grid-auto-flow: column; grid-auto-columns: var(--cell); position: sticky; top: 0; z-index: 1;
 align-items: end; padding-top: 4px }
.map .cols span { writing-mode: vertical-rl; text-orientation: sideways; transform: rotate(180deg);
 width: var(--cell); line-height: var(--cell); max-height: 9.5em; overflow: hidden; white-space: pre;
 text-overflow: ellipsis; padding: 3px 0 }
.map .rows { grid-auto-rows: var(--cell); position: sticky; left: 0; z-index: 1; text-align: right }
.map .rows span { line-height: var(--cell); padding: 0 6px; max-width: 11em; overflow: hidden;
 white-space: pre; text-overflow: ellipsis }
.map .corner { position: sticky; left: 0; top: 0; z-index: 2; background: var(--back) }
.map span.on { background: var(--mark) }
.map .cells { position: relative; cursor: crosshair; touch-action: pan-x pan-y }
.map .cells::after { content: ""; position: absolute; inset: 0; pointer-events: none; background-image:
 linear-gradient(to right, var(--back) 1px, transparent 1px),
 linear-gradient(to bottom, var(--back) 1px, transparent 1px);
 background-size: var(--cell) var(--cell) }
.map .box { position: absolute; width: var(--cell); height: var(--cell); outline: 2px solid var(--accent);
 pointer-events: none; display: none; z-index: 1 }
"""

SCRIPT = """\
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const root = getComputedStyle(document.documentElement);
const views = [];

function add(parent, kind, text, name) {
  const element = document.createElement(kind);
  if (text !== undefined) element.textContent = text;
  if (name) element.className = name;
  parent.appendChild(element);
  return element;
}

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const view = new DataView(await new Response(stream).arrayBuffer());
  const weights = new Float32Array(view.byteLength / 2);
  for (let i = 0; i < weights.length; i++) weights[i] = view.getInt16(2 * i, true) / 1000;
  return weights;
}

function largest(weights) {
  let most = 0;
  for (const weight of weights) most = Math.max(most, Math.abs(weight));
  return most;
}

function paint(canvas, weights, rows, columns) {
  const full = document.getElementById("contrast").checked, scale = full ? largest(weights) || 1 : 1;
  canvas.width = columns;
  canvas.height = rows;
  const ink = root.getPropertyValue("--ink").split(",").map(Number);
  const against = root.getPropertyValue("--against").split(",").map(Number);
  const context = canvas.getContext("2d"), image = context.createImageData(columns, rows);
  for (let i = 0; i < weights.length; i++) {
    const colour = weights[i] < 0 ? against : ink;
    for (let part = 0; part < 3; part++) image.data[4 * i + part] = colour[part];
    const share = Math.min(1, Math.abs(weights[i]) / scale);
    image.data[4 * i + 3] = Math.round(255 * (full ? Math.sqrt(share) : share));
  }
  context.putImageData(image, 0, 0);
}

class View {
  constructor(side, home) {
    this.side = side;
    this.home = home;
    this.layer = 0;
    this.map = 0;
    this.buttons = [];
    this.figures = new Map(side.heads.map((each) => [`${each.layer} ${each.head}`, each]));
  }

  async load() {
    for (const layer of this.side.layers) {
      const flat = await unpack(layer.packed), size = layer.rows.length * layer.columns.length;
      layer.maps = [];
      for (let at = 0; at < flat.length; at += size) layer.maps.push(flat.subarray(at, at + size));
      layer.mean = layer.maps.length > 1;
      if (layer.mean) {
        const mean = new Float32Array(size);
        for (const each of layer.maps) each.forEach((w, i) => { mean[i] += w / layer.maps.length; });
        layer.maps.unshift(mean);
      }
    }
    this.build();
    this.choose(this.side.opens, 0);
  }

  repaint() {
    this.side.layers.forEach((layer, y) => layer.maps.forEach((weights, x) => {
      paint(this.buttons[y][x].firstChild, weights, layer.rows.length, layer.columns.length);
    }));
    this.draw(this.drawn);
  }

  build() {
    const most = Math.max(...this.side.layers.map((layer) => layer.maps.length));
    const grid = this.home.querySelector(".grid"), mean = this.side.layers.some((layer) => layer.mean);
    grid.style.gridTemplateColumns = `max-content repeat(${most}, max-content)`;
    if (most > 1) {
      add(grid, "span");
      for (let at = 0; at < most; at++) add(grid, "span", at || !mean ? at + !mean : "mean", "top");
    }
    this.side.layers.forEach((layer, number) => {
      add(grid, "span", layer.name);
      this.buttons.push(layer.maps.map((weights, at) => {
        const button = add(grid, "button"), name = this.named(number, at);
        button.type = "button";
        button.title = name;
        button.setAttribute("aria-label", name);
        paint(add(button, "canvas"), weights, layer.rows.length, layer.columns.length);
        button.addEventListener("click", () => pick(this, number, at));
        return button;
      }));
      for (let at = layer.maps.length; at < most; at++) add(grid, "span");
    });
    [this.layerBox, this.headBox] = this.home.querySelectorAll(".pick select");
    this.side.layers.forEach((layer) => add(this.layerBox, "option", layer.name));
    this.layerBox.addEventListener("change", () => pick(this, this.layerBox.selectedIndex, this.map));
    this.headBox.addEventListener("change", () => pick(this, this.layer, this.headBox.selectedIndex));
    for (const row of this.home.querySelectorAll(".heads tbody tr")) {
      const layer = Number(row.dataset.layer), head = Number(row.dataset.head);
      row.addEventListener("click", () => pick(this, layer, head + this.side.layers[layer].mean));
    }
  }

  headName(number, at) {
    const layer = this.side.layers[number];
    return layer.mean ? (at ? `head ${at}` : "mean of the heads") : "";
  }

  named(number, at) {
    return [this.side.layers[number].name, this.headName(number, at)].filter(Boolean).join(", ");
  }

  choose(number, at) {
    const layer = this.side.layers[number];
    at = Math.min(at, layer.maps.length - 1);
    const other = number !== this.layer || !this.headBox.options.length;
    this.layer = number;
    this.map = at;
    this.weights = layer.maps[at];
    this.layerBox.selectedIndex = number;
    if (other) {
      this.headBox.textContent = "";
      layer.maps.forEach((_, each) => add(this.headBox, "option", this.headName(number, each) || "one head"));
      this.headBox.disabled = layer.maps.length < 2;
    }
    this.headBox.selectedIndex = at;
    this.buttons.forEach((row, y) => row.forEach((button, x) => {
      button.classList.toggle("on", y === number && x === at);
    }));
    const head = at - layer.mean, figures = this.figures.get(`${number} ${head}`);
    for (const row of this.home.querySelectorAll(".heads tbody tr")) {
      row.classList.toggle("on", row.dataset.layer === String(number) && row.dataset.head === String(head));
    }
    const told = figures ? figures.said : layer.note, most = largest(this.weights).toFixed(3);
    this.home.querySelector(".said").textContent = `${told} Largest weight ${most}.`.trim();
    this.draw(layer);
    this.point();
  }

  draw(layer) {
    const map = this.home.querySelector(".map"), strips = this.home.querySelector(".strips");
    if (this.drawn !== layer) {
      this.drawn = layer;
      const room = this.home.clientWidth - 130;
      const cell = Math.max(11, Math.min(24, Math.floor(room / layer.columns.length)));
      map.style.setProperty("--cell", `${cell}px`);
      this.cell = cell;
      map.textContent = "";
      add(map, "div", undefined, "corner");
      const columns = add(map, "div", undefined, "cols"), rows = add(map, "div", undefined, "rows");
      this.columns = layer.columns.map((token) => this.label(columns, token));
      this.rows = layer.rows.map((token) => this.label(rows, token));
      const cells = add(map, "div", undefined, "cells");
      this.canvas = add(cells, "canvas");
      this.canvas.style.width = `${cell * layer.columns.length}px`;
      this.canvas.style.height = `${cell * layer.rows.length}px`;
      this.box = add(cells, "div", undefined, "box");
      const seek = (event) => {
        const place = this.canvas.getBoundingClientRect();
        const column = Math.floor((event.clientX - place.left) / cell);
        const row = Math.floor((event.clientY - place.top) / cell);
        if (row >= 0 && row < layer.rows.length && column >= 0 && column < layer.columns.length) {
          this.point(row, column);
        }
      };
      this.canvas.addEventListener("pointermove", seek);
      this.canvas.addEventListener("pointerdown", seek);
      this.canvas.addEventListener("pointerleave", () => this.point());
      strips.textContent = "";
      this.looking = layer.own ? null : this.strip(strips, layer.rows, true);
      this.seen = this.strip(strips, layer.columns, layer.own);
    }
    paint(this.canvas, this.weights, layer.rows.length, layer.columns.length);
  }

  label(parent, token) {
    const label = add(parent, "span", token);
    label.title = token;
    return label;
  }

  strip(parent, tokens, asks) {
    const line = add(parent, "div", undefined, "strip");
    line.dir = "auto";
    return tokens.map((token, at) => {
      const span = add(line, "span", token);
      if (asks) {
        span.addEventListener("pointerenter", () => this.point(at));
        span.addEventListener("pointerdown", () => this.point(at));
        span.addEventListener("pointerleave", () => this.point());
      }
      add(line, "wbr");
      return span;
    });
  }

  point(row, column) {
    const layer = this.side.layers[this.layer], width = layer.columns.length;
    const lit = this.home.querySelectorAll(".map span.on, .strip span.on");
    for (const each of lit) each.classList.remove("on");
    const shares = new Float32Array(width);
    for (let y = row === undefined ? 0 : row; y < (row === undefined ? layer.rows.length : row + 1); y++) {
      for (let x = 0; x < width; x++) shares[x] += Math.max(0, this.weights[y * width + x]);
    }
    const most = largest(shares) || 1;
    this.seen.forEach((span, at) => span.style.setProperty("--w", (shares[at] / most).toFixed(3)));
    const told = this.home.querySelector(".told");
    this.box.style.display = column === undefined ? "none" : "block";
    if (row === undefined) {
      told.textContent = "Shaded: what all tokens together look at most. Point at a token or a cell.";
      return;
    }
    this.rows[row].classList.add("on");
    (this.looking || this.seen)[row].classList.add("on");
    if (column === undefined) {
      told.textContent = `Shaded: where ${layer.rows[row]} looks.`;
      return;
    }
    this.columns[column].classList.add("on");
    this.box.style.left = `${column * this.cell}px`;
    this.box.style.top = `${row * this.cell}px`;
    const weight = this.weights[row * width + column].toFixed(3);
    told.textContent = `${layer.rows[row]} looks at ${layer.columns[column]}: ${weight}`;
  }
}

function pick(view, number, at) {
  const together = document.getElementById("together");
  const all = together && together.checked ? views : [view];
  for (const each of all) each.choose(number, at);
}

function sortable(table) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((cell, column) => {
    let up = false;
    cell.addEventListener("click", () => {
      up = !up;
      const key = (row) => Number(row.cells[column].dataset.key ?? NaN);
      const rows = [...body.rows].sort((a, b) => {
        const difference = key(a) - key(b);
        if (!Number.isNaN(difference)) return up ? difference : -difference;
        const texts = [a, b].map((row) => row.cells[column].textContent);
        return up ? texts[0].localeCompare(texts[1]) : texts[1].localeCompare(texts[0]);
      });
      body.append(...rows);
    });
  });
}

async function begin() {
  for (const table of document.querySelectorAll(".heads table")) sortable(table);
  const homes = document.querySelectorAll(".seen");
  for (const side of data.sides) if (side.layers.length) views.push(new View(side, homes[views.length]));
  for (const view of views) await view.load();
  const dark = matchMedia("(prefers-color-scheme: dark)");
  for (const from of [dark, document.getElementById("contrast")]) {
    from.addEventListener("change", () => views.forEach((view) => view.repaint()));
  }
  document.body.dataset.ready = "yes";
}
begin();
"""

"""The page that ``attn inspect`` writes: what one run, or two side by side, make of an input.

It stands alone: no file or network is needed, and no text of the input can be anything but text in it.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np

from attncli.reports.heads import HeadFigures, Layer
from attncli.reports.highlight import Shading, section
from attncli.reports.inspection_page import SCRIPT, STYLE


@dataclass(frozen=True)
class Table:
    """Rows of values under columns; numbers stand on the right."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""


@dataclass(frozen=True)
class Seen:
    """What one run makes of an input, as it is shown."""

    name: str
    """The run."""
    predicted: Sequence[tuple[str, str]] = ()
    layers: Sequence[Layer] = ()
    """Those that ``heads`` speak of first, in their order; then what is derived from them."""
    heads: Sequence[HeadFigures] = ()
    shadings: Sequence[Shading] = ()
    worth: Sequence[str] = ()
    """What the heads' ``change`` and ``loss`` measure, and which heads can be pruned."""
    tables: Sequence[Table] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    """Numbers that another run has too."""
    opens: int = 0
    """The layer that is shown first."""


def inspection_html(title: str, seen: Sequence[Seen], differences: Sequence[Table] = ()) -> str:
    """The page of one run or of two; the first of their ``differences`` stands above them, the rest below."""
    two = len(seen) > 1
    shapes = {tuple(len(layer.weights) for layer in one.layers) for one in seen}
    alike = two and len(shapes) == 1 and shapes != {()}
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    maps = any(one.layers for one in seen)
    heading = escape(_utf8(title) or "Attention")
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy"\n content="{policy}'
        + ("; script-src 'unsafe-inline'" if maps else "")
        + '">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{heading}</title>",
        f"<style>\n{STYLE}</style>\n</head>\n<body{' class=two' if two else ''}>",
        f'<h1 dir="auto">{heading}</h1>',
    ]
    boxes = [("contrast", "full contrast: square roots, the largest weight of a map strongest")] * maps
    boxes += [("together", "the same head on both sides")] * alike
    labels = "\n".join(
        f'<label class="note"><input type="checkbox" id="{name}" checked> {text}</label>'
        for name, text in boxes
    )
    parts.append(f'<div class="boxes">{labels}</div>')
    parts.append(_tables(differences[:1]))
    parts.append('<main class="sides">')
    parts += [_side(one, two) for one in seen]
    parts.append("</main>")
    parts.append(_tables(differences[1:]))
    if maps:
        data = {"sides": [_data(one) for one in seen]}
        parts.append(f'<script type="application/json" id="data">{_script_json(data)}</script>')
        parts.append(f"<script>\n{SCRIPT}</script>")
    return "\n".join([*parts, "</body>\n</html>\n"])


def _side(one: Seen, named: bool) -> str:
    parts = ['<section class="side">']
    if named:
        parts.append(f"<h2>{_text(one.name)}</h2>")
    if one.predicted:
        rows = "".join(
            f'<tr><td dir="auto">{_text(name)}</td><td class="r">{_text(value)}</td></tr>'
            for name, value in one.predicted
        )
        parts.append(f'<div class="wide"><table>{rows}</table></div>')
    parts += map(section, one.shadings)
    if one.layers:
        parts.append(f'<div class="seen">\n{_MAPS}\n{_heads(one)}\n</div>')
    parts.append(_tables(one.tables))
    return "\n".join([*parts, "</section>"])


_MAPS = """\
<h3>Attention, layer by layer and head by head</h3>
<div class="grid"></div>
<div class="pick"><label>layer <select></select></label><label>head <select></select></label></div>
<p class="note said"></p>
<div class="strips"></div>
<p class="told" aria-live="polite"></p>
<div class="scroll"><div class="map"></div></div>"""


def said(head: HeadFigures, layers: Sequence[Layer]) -> str:
    """A line about one head."""
    parts = [f"entropy {head.entropy:.2f} nats"]
    if head.span is not None:
        parts.append(f"span {head.span:.1f} tokens")
    if head.change is not None:
        parts.append(f"change without it {head.change:.3g}")
    if head.loss is not None:
        parts.append(f"loss without it {head.loss:+.3g}")
    return f"{layers[head.layer].name}, head {head.head + 1}: {', '.join(parts)}."


def link(head: HeadFigures, layers: Sequence[Layer]) -> str:
    """The strongest link of a head in words."""
    layer, (query, key) = layers[head.layer], head.strongest
    return f"{layer.rows[query]} looks at {layer.columns[key]}"


def head_columns(heads: Sequence[HeadFigures]) -> list[str]:
    """Columns of the table of heads; those that no head has a value for are left out."""
    names = ["layer", "head", "entropy"]
    names += ["span"] * any(head.span is not None for head in heads)
    names += ["change without it"] * any(head.change is not None for head in heads)
    names += ["loss without it"] * any(head.loss is not None for head in heads)
    return [*names, "strongest link"]


def head_row(head: HeadFigures, layers: Sequence[Layer], columns: Sequence[str]) -> list[Any]:
    """The values of one head under :func:`head_columns`."""
    values = {
        "layer": layers[head.layer].name,
        "head": head.head + 1,
        "entropy": head.entropy,
        "span": head.span,
        "change without it": head.change,
        "loss without it": head.loss,
        "strongest link": link(head, layers),
    }
    return [values[name] for name in columns]


def _heads(one: Seen) -> str:
    if not one.heads:
        return ""
    columns = head_columns(one.heads)
    right = [name not in ("layer", "strongest link") for name in columns]
    top = "".join(
        f"<th{' class=r' if r else ''}>{escape(name)}</th>" for name, r in zip(columns, right, strict=True)
    )
    rows = []
    for head in one.heads:
        cells = [f'<td data-key="{head.layer}">{_text(one.layers[head.layer].name)}</td>']
        for name, value in zip(columns[1:], head_row(head, one.layers, columns)[1:], strict=True):
            if name == "strongest link":
                cells.append(f'<td dir="auto">{_text(value)}</td>')
            else:
                key = "" if value is None else f' data-key="{value:.6g}"'
                cells.append(f'<td class="r"{key}>{_cell(value, signed=name.startswith("loss"))}</td>')
        rows.append(f'<tr data-layer="{head.layer}" data-head="{head.head}">{"".join(cells)}</tr>')
    notes = "".join(f'<p class="note">{_text(line)}</p>' for line in one.worth)
    return (
        f"<h3>What each head does</h3>{notes}"
        f'<div class="wide heads{_long(rows)}"><table><thead><tr>{top}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _tables(tables: Sequence[Table]) -> str:
    return f'<div class="tables">{"".join(map(_table, tables))}</div>' if tables else ""


def _table(table: Table) -> str:
    numbers = [
        all(isinstance(row[at], int | float | None) for row in table.rows) and bool(table.rows)
        for at in range(len(table.columns))
    ]
    top = "".join(
        f"<th{' class=r' if n else ''}>{_text(name)}</th>"
        for name, n in zip(table.columns, numbers, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="r">{_cell(cell)}</td>'
            if isinstance(cell, int | float | None)
            else f'<td dir="auto">{_text(cell)}</td>'
            for cell in row
        )
        + "</tr>"
        for row in table.rows
    )
    note = f'<p class="note">{_text(table.note)}</p>' if table.note else ""
    return (
        f"<section><h3>{_text(table.title)}</h3>{note}"
        f'<div class="wide{_long(table.rows)}"><table><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></section>"
    )


def _long(rows: Sequence[Any]) -> str:
    """The class of a table that scrolls."""
    return " long" if len(rows) > _MOST_ROWS else ""


_MOST_ROWS = 24


def _cell(value: float | int | None, signed: bool = False) -> str:
    if value is None:
        return ""
    if isinstance(value, int):
        return f"{value:,}"
    shown = f"{value:+.3g}" if signed else f"{value:.3g}"
    return shown.replace("-", "\N{MINUS SIGN}")


def _data(one: Seen) -> dict[str, Any]:
    layers = [
        {
            "name": _utf8(layer.name),
            "rows": list(map(_utf8, layer.rows)),
            "columns": list(map(_utf8, layer.columns)),
            "own": layer.own,
            "note": _utf8(layer.note),
            "packed": pack(layer.weights),
        }
        for layer in one.layers
    ]
    heads = [
        {"layer": head.layer, "head": head.head, "said": _utf8(said(head, one.layers))} for head in one.heads
    ]
    return {"layers": layers, "heads": heads, "opens": one.opens}


def pack(weights: np.ndarray) -> str:
    """Weights as whole thousandths in 16 bits, deflated, in base64: long texts have many."""
    whole = np.rint(np.clip(weights.astype(np.float64) * 1000, -32768, 32767)).astype("<i2")
    return base64.b64encode(zlib.compress(whole.tobytes(), 9)).decode()


def _text(value: Any) -> str:
    return escape(_utf8(str(value)))


def _utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _script_json(value: Any) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text

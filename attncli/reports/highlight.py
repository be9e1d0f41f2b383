"""Texts with a weight on every word: shaded on the terminal, and on a page."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text


@dataclass(frozen=True)
class Piece:
    """A word or token, what it weighs, and whether a blank stands before it."""

    text: str
    weight: float
    blank: bool = True


@dataclass(frozen=True)
class Line:
    """A stretch of text; ``weight`` of the whole of it where it has one (a sentence of a document)."""

    pieces: Sequence[Piece]
    weight: float | None = None


@dataclass(frozen=True)
class Shading:
    """One way to weigh the words of a text."""

    name: str
    lines: Sequence[Line]
    note: str = ""
    signed: bool = False
    """Whether negative weights speak against the output; else there are none."""


def shade(weight: float, largest: float) -> float:
    """A weight as the strength of a colour, -1 to 1."""
    return max(-1.0, min(1.0, weight / largest)) if largest > 0 else 0.0


def _largest(shading: Shading) -> float:
    return max((abs(piece.weight) for line in shading.lines for piece in line.pieces), default=0.0)


def _largest_line(shading: Shading) -> float:
    return max((line.weight or 0.0 for line in shading.lines), default=0.0)


def terminal(shading: Shading) -> Text:
    """The text with shaded words: blue for the output, red against it; a bar before each sentence."""
    from rich.style import Style
    from rich.text import Text

    out = Text()
    largest, longest = _largest(shading), _largest_line(shading)
    for number, line in enumerate(shading.lines):
        if number:
            out.append("\n")
        if line.weight is not None:
            out.append(_bar(shade(line.weight, longest)) + " ")
        for at, piece in enumerate(line.pieces):
            if at and piece.blank:
                out.append(" ")
            strength = shade(piece.weight, largest)
            if abs(strength) < 0.08:
                out.append(piece.text)
                continue
            red, green, blue = _blend((214, 69, 65) if strength < 0 else (66, 133, 244), abs(strength))
            dark = 0.3 * red + 0.59 * green + 0.11 * blue < 140
            style = Style(bgcolor=f"rgb({red},{green},{blue})", color="white" if dark else "black")
            out.append(piece.text, style)
    return out


def _bar(strength: float) -> str:
    """Four characters, filled by the strength."""
    eighths = round(32 * max(strength, 0.0))
    full, rest = divmod(eighths, 8)
    return ("█" * full + ("▏▎▍▌▋▊▉"[rest - 1] if rest else "")).ljust(4)


def _blend(color: tuple[int, int, int], strength: float) -> tuple[int, int, int]:
    red, green, blue = (round(255 + (part - 255) * strength) for part in color)
    return red, green, blue


def plain(shading: Shading, most: int = 10) -> list[tuple[str, float]]:
    """The words of the largest weights, the largest first."""
    pieces = [piece for line in shading.lines for piece in line.pieces if piece.text.strip()]
    ranked = sorted(pieces, key=lambda piece: -abs(piece.weight))[:most]
    return [(piece.text, piece.weight) for piece in ranked]


def section(shading: Shading) -> str:
    """The text of a shading in HTML; words show their weights under the pointer."""
    largest, longest = _largest(shading), _largest_line(shading)
    lines = []
    for line in shading.lines:
        spans = []
        for at, piece in enumerate(line.pieces):
            strength = shade(piece.weight, largest)
            blank = " " if at and piece.blank else ""
            kind = "n" if strength < 0 else "p"
            text = html.escape(piece.text)
            told = f' title="{piece.weight:.4g}"'
            spans.append(
                f'{blank}<span class="{kind}" style="--w:{0.75 * abs(strength):.3f}"{told}>{text}</span>'
            )
        edge = ""
        if line.weight is not None:
            share = max(shade(line.weight, longest), 0.0)
            edge = f' style="border-color:rgba(var(--for),{share:.3f})" title="sentence: {line.weight:.4g}"'
        lines.append(f'<div class="line" dir="auto"{edge}>{"".join(spans)}</div>')
    note = f'<p class="note">{html.escape(shading.note)}</p>' if shading.note else ""
    return f"<section><h3>{html.escape(shading.name)}</h3>{note}{''.join(lines)}</section>"

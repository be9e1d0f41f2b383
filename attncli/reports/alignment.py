"""Word alignments from cross attention, and pictures of them: which source words a target word looks at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from attncli.reports.fonts import use_fonts
from attncli.training.files import disk_errors

Links = list[tuple[int, int]]
"""Source word and target word, both counted from 0."""

END = "</s>"
_OPENS = "▁"
_LONGEST_LABEL = 24
_LONGEST_SIDE = 45.0
_INCHES = 0.21


def word_alignment(weights: np.ndarray, target: Sequence[str], source: Sequence[str]) -> Links:
    """The source word that each target word looks at most.

    A word is a piece that opens with ``▁`` and those after it that do not: what white space separates. The
    weight of a source word is the sum over its pieces; a target word's is the mean over its pieces. The end
    of either sentence is left out, and what is left of a row made to sum to 1. A target word that looks at
    nothing but the end has no link.

    Args:
        weights: [T, S], row t when target piece t was chosen; padding cut off.
        target: T pieces, with the closing ``</s>`` or without.
        source: S pieces, likewise.
    """
    kept_target = len(target) - (bool(target) and target[-1] == END)
    kept_source = len(source) - (bool(source) and source[-1] == END)
    _check(weights, target, source)
    if not kept_target or not kept_source:
        return []
    rows = weights[:kept_target, :kept_source].astype(np.float64)
    total = rows.sum(1, keepdims=True)
    rows = np.divide(rows, total, out=np.zeros_like(rows), where=total > 0)
    of_target, of_source = _words(target[:kept_target]), _words(source[:kept_source])
    summed = np.zeros((of_target[-1] + 1, of_source[-1] + 1))
    # The sum over a target word's pieces: its mean has the same greatest.
    np.add.at(summed, (np.array(of_target)[:, None], np.array(of_source)[None, :]), rows)
    return [(int(row.argmax()), word) for word, row in enumerate(summed) if row.any()]


def pharaoh(links: Links) -> str:
    """``0-0 1-2``: source and target word of each link."""
    return " ".join(f"{source}-{target}" for source, target in links)


def draw_alignment(
    weights: np.ndarray, target: Sequence[str], source: Sequence[str], path: Path, title: str = ""
) -> None:
    """Write a picture of weights [T, S]: target tokens down, source tokens across."""
    _check(weights, target, source)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    font = {"parse_math": False}
    with use_fonts([*source, *target, title]):
        width, height = (float(np.clip(_INCHES * n, 1.5, _LONGEST_SIDE)) for n in (len(source), len(target)))
        figure = Figure(figsize=(width + 2.2, height + 2.0), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        axis = figure.subplots()
        image = axis.imshow(weights, cmap="Blues", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        axis.xaxis.tick_top()
        across, down = _places(len(source)), _places(len(target))
        axis.set_xticks(across, [_label(source[n]) for n in across], rotation=90, fontsize=8, **font)
        axis.set_yticks(down, [_label(target[n]) for n in down], fontsize=8, **font)
        axis.tick_params(length=0)
        lines = {"color": "0.9", "linewidth": 0.4}
        axis.vlines(np.arange(1, len(source)) - 0.5, -0.5, len(target) - 0.5, **lines)
        axis.hlines(np.arange(1, len(target)) - 0.5, -0.5, len(source) - 0.5, **lines)
        figure.colorbar(image, ax=axis, shrink=min(1.0, 2.5 / height), label="weight")
        if title:
            figure.suptitle(_label(title, int(13 * figure.get_figwidth())), fontsize=9, **font)
        with disk_errors(str(path)):
            aside = path.with_name(f".tmp-{path.name}")
            figure.savefig(aside, format="png")
            aside.replace(path)


def _check(weights: np.ndarray, target: Sequence[str], source: Sequence[str]) -> None:
    if weights.shape != (len(target), len(source)):
        raise ValueError(f"weights {weights.shape} of {len(target)} target and {len(source)} source tokens")


def _words(pieces: Sequence[str]) -> list[int]:
    """The word that each piece belongs to; a piece of white space alone belongs to the word after it."""
    words, number, boundary = [], -1, True
    for piece in pieces:
        boundary = boundary or piece.startswith(_OPENS)
        if boundary and piece.strip(_OPENS):
            number, boundary = number + 1, False
        words.append(number + boundary)
    return [min(word, max(number, 0)) for word in words]


def _places(count: int) -> list[int]:
    """The tokens that have a label: all, or every n-th of very many."""
    return list(range(0, count, max(1, round(count * _INCHES / _LONGEST_SIDE))))


def _label(token: str, longest: int = _LONGEST_LABEL) -> str:
    """A token as a line of visible text."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in token)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"

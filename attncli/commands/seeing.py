"""What the kinds of runs give ``attn inspect``: a sight of one input each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attncli import console

if TYPE_CHECKING:
    from attncli.reports.heads import HeadFigures, Layer
    from attncli.reports.inspection import Seen
    from attncli.tasks.pruning import Pruning

Record = tuple[str, dict[str, Any]]
"""The place of an input, empty for an argument, and its fields."""


@dataclass
class Sight:
    """What one run makes of one input."""

    title: str
    """The input, and what it became where that is a text."""
    seen: Seen
    told: dict[str, Any]
    """What ``--json`` has of it."""
    draw: Callable[[Path], None] | None = None
    """Writes the picture."""
    show: Callable[[], None] = lambda: None
    """Prints what is for a terminal alone, before the heads."""
    picture: str = "attention.png"
    extra: dict[str, Callable[[Path], None]] = field(default_factory=dict)
    """More pictures, by what is added to the first one's name."""


See = Callable[[Record, bool], Sight]
"""Looks at a record; the second argument says whether to switch heads off."""


def short(text: str) -> str:
    """A text as a title."""
    return text if len(text) < 100 else text[:97] + "..."


def switch_off(model: Any, predict: Any, heads: Sequence[Any]) -> Pruning:
    """:func:`attncli.tasks.pruning.prune` with a bar."""
    from attncli.tasks.pruning import prune, runs_of

    with console.Progress("switching heads off", total=runs_of(len(heads))) as bar:
        return prune(model, predict, heads, bar.advance)


def with_worth(figures: Sequence[HeadFigures], pruning: Pruning | None) -> list[HeadFigures]:
    """The heads' figures with what each is worth; both in the order of the layers."""
    if pruning is None:
        return list(figures)
    return [
        replace(head, change=one.change, loss=one.loss)
        for head, one in zip(figures, pruning.worth, strict=True)
    ]


def worth_told(pruning: Pruning, layers: Sequence[Layer], what: str = "a token") -> list[str]:
    """What was measured, and which heads can be pruned, in lines. ``what`` each row of it is."""
    from attncli.tasks.pruning import ALLOWED

    line = f"Change: how far the output moves with that head alone switched off (KL divergence, nats {what})."
    if pruning.loss is not None:
        line += f" Loss: by how much the loss of this text, {pruning.loss:.3f}, rises."
    names = [named(pruning, at, layers) for at in _places(pruning)]
    count = len(pruning.worth)
    if not names:
        return [line, f"None of {count} heads can be pruned here for a change of at most {ALLOWED:g}."]
    shown = "; ".join(names[:_SHOWN]) + (f"; and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    change = dict(pruning.together)[len(names)]
    return [
        line,
        f"Can be pruned here: {len(names)} of {count} heads, for a change of {change:.3g} with all of them "
        f"switched off: {shown}.",
    ]


_SHOWN = 12


def _places(pruning: Pruning) -> list[int]:
    order = [one.head for one in pruning.worth]
    return [order.index(head) for head in pruning.prunable]


def named(pruning: Pruning, at: int, layers: Sequence[Layer]) -> str:
    """Head number ``at`` of all, by layer and number."""
    for layer in layers:
        if at < len(layer.weights):
            return f"{layer.name} head {at + 1}"
        at -= len(layer.weights)
    raise IndexError(at)


def pruning_told(pruning: Pruning | None, layers: Sequence[Layer]) -> dict[str, Any]:
    """The same for ``--json``."""
    if pruning is None:
        return {}
    return {
        "prunable": [named(pruning, at, layers) for at in _places(pruning)],
        "pruned_together": [{"heads": count, "change": change} for count, change in pruning.together],
    }


def heads_told(heads: Sequence[HeadFigures]) -> list[dict[str, Any]]:
    """Figures of heads as plain values."""
    return [vars(head) for head in heads]

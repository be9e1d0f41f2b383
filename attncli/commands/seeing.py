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
    from attncli.training.run import RunFolder

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


See = Callable[[Record], Sight]
"""Looks at a record."""


def short(text: str) -> str:
    """A text as a title."""
    return text if len(text) < 100 else text[:97] + "..."


@dataclass(frozen=True)
class Looking:
    """How runs are looked at."""

    heads: bool = True
    """Whether to switch heads off, one after the other, and measure what becomes of the model."""
    split: str | None = None
    """A part of the run's data to measure it on, in place of the input."""
    data: str | None = None
    """Other data to measure it on."""

    @property
    def part(self) -> str | None:
        """The data, in words; None where the input is all."""
        return self.data or (f"the {self.split} part" if self.split else None)


class Worths:
    """Measures what each head of a run is worth, on each input or once on data."""

    def __init__(self, task: Any, run: RunFolder, looking: Looking) -> None:
        self.task, self.run, self.looking = task, run, looking
        self._kept: Pruning | None = None
        if looking.data or looking.split not in (None, "validation"):
            task.measure_on(split=looking.split, source=looking.data)

    def __call__(self, heads: Sequence[Any], predict: Any) -> Pruning | None:
        """Of ``heads``, if any; ``predict`` runs the model on the input. None where nobody asked."""
        if not self.looking.heads or not heads:
            return None
        if self.looking.part is None:
            return self._switched_off(heads, predict)
        if self._kept is None:
            self._kept = self._switched_off(heads, self._measure)
        return self._kept

    def _switched_off(self, heads: Sequence[Any], predict: Any) -> Pruning:
        from attncli.tasks.pruning import prune, runs_of

        with console.Progress("switching heads off", total=runs_of(len(heads))) as bar:
            return prune(self.task.model, predict, heads, bar.advance)

    def _measure(self) -> Any:
        from attncli.tasks.pruning import Measured
        from attncli.training import World, measuring

        with measuring(self.task.model, self.run):
            return Measured(self.task.evaluate(World.join())["loss"])

    def told(self, pruning: Pruning | None, layers: Sequence[Layer], what: str = "a token") -> list[str]:
        """What was measured, and which heads can be pruned, in lines. ``what`` each row of an output is."""
        if pruning is None:
            return []
        from attncli.tasks.pruning import ALLOWED

        part = self.looking.part
        if part is not None:
            lines = [f"Change: by how much the loss on {part}, {pruning.loss:.4g}, rises without that head."]
        else:
            line = "Change: how far the output moves without that head (KL divergence, nats "
            lines = [f"{line}{what})."]
            if pruning.loss is not None:
                lines[0] += f" Loss: by how much the loss of this text, {pruning.loss:.4g}, rises."
        names = [named(pruning, at, layers) for at in _places(pruning)]
        count, here = len(pruning.worth), "" if part else " for this input"
        if not names:
            return [*lines, f"None of {count} heads can be pruned{here} for a change of at most {ALLOWED:g}."]
        shown = "; ".join(names[:_SHOWN])
        more = f"; and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        change = dict(pruning.together)[len(names)]
        return [
            *lines,
            f"Can be pruned{here}: {len(names)} of {count} heads, for a change of {change:.3g} with all of "
            f"them switched off: {shown}{more}.",
        ]


_SHOWN = 12


def with_worth(figures: Sequence[HeadFigures], pruning: Pruning | None) -> list[HeadFigures]:
    """The heads' figures with what each is worth; both in the order of the layers."""
    if pruning is None:
        return list(figures)
    return [
        replace(head, change=one.change, loss=one.loss)
        for head, one in zip(figures, pruning.worth, strict=True)
    ]


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

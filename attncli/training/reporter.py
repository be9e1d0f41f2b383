"""What the loop tells while it runs: to the console, to TensorBoard, or to nobody."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attncli import console
from attncli.errors import Problem, RecipeError


class Reporter:
    """Hears of a run's progress as plain values; the first process alone has one. Does nothing itself."""

    def on_start(self, facts: dict[str, Any]) -> None:
        """Training begins.

        ``facts``: run, device, precision, parameters, trainable, steps, step (done before), batch,
        accumulate, processes, unit, averaging, task (the lines it describes itself in), and notes
        (sentences on what a resume found).
        """

    def on_step(self, step: int, units: float, values: dict[str, float] | None) -> None:
        """Step ``step`` of ``units`` is done. ``values`` at the logged ones, else None.

        They are loss, loss/<term> where there are several, learning_rate, gradient_norm,
        <unit>_per_second, memory (bytes).
        """

    def on_evaluation_start(self, step: int) -> None:
        """The evaluation after ``step`` begins."""

    def on_evaluation(self, step: int, metrics: dict[str, float], best: bool) -> None:
        """It is done; ``best``: it is the best so far."""

    def on_checkpoint(self, step: int, path: Path) -> None:
        """A checkpoint is complete."""

    def on_end(self, result: dict[str, Any] | None) -> None:
        """Training ends, with result.json's content; None when it stopped short (an error follows)."""


class Reporters(Reporter):
    """Several as one."""

    def __init__(self, reporters: Sequence[Reporter]) -> None:
        self.reporters = list(reporters)

    def on_start(self, facts: dict[str, Any]) -> None:  # noqa: D102
        for reporter in self.reporters:
            reporter.on_start(facts)

    def on_step(self, step: int, units: float, values: dict[str, float] | None) -> None:  # noqa: D102
        for reporter in self.reporters:
            reporter.on_step(step, units, values)

    def on_evaluation_start(self, step: int) -> None:  # noqa: D102
        for reporter in self.reporters:
            reporter.on_evaluation_start(step)

    def on_evaluation(self, step: int, metrics: dict[str, float], best: bool) -> None:  # noqa: D102
        for reporter in self.reporters:
            reporter.on_evaluation(step, metrics, best)

    def on_checkpoint(self, step: int, path: Path) -> None:  # noqa: D102
        for reporter in self.reporters:
            reporter.on_checkpoint(step, path)

    def on_end(self, result: dict[str, Any] | None) -> None:  # noqa: D102
        for reporter in self.reporters:
            reporter.on_end(result)


class ConsoleReporter(Reporter):
    """A bar with step, loss, learning rate, throughput and time left, and a line for each evaluation."""

    def __init__(self) -> None:
        self._bar: console.Progress | None = None

    def on_start(self, facts: dict[str, Any]) -> None:  # noqa: D102
        for line in (*facts["task"], *facts["notes"]):
            console.say(line)
        processes = f", {facts['processes']} processes" if facts["processes"] > 1 else ""
        console.say(
            f"device: {facts['device']}{processes}; {facts['precision']}: {facts['precision_reason']}"
        )
        self._bar = console.Progress(
            "train", total=facts["steps"], unit=facts["unit"], done=facts["step"]
        ).__enter__()

    def on_step(self, step: int, units: float, values: dict[str, float] | None) -> None:  # noqa: D102
        if self._bar is not None:
            shown = {"loss": values["loss"], "rate": values["learning_rate"]} if values else {}
            self._bar.advance(1, units=units, **shown)

    def on_evaluation(self, step: int, metrics: dict[str, float], best: bool) -> None:  # noqa: D102
        told = "  ".join(f"{name} {console.show(value)}" for name, value in metrics.items())
        console.say(f"step {step:,}  {told}{'  (best so far)' if best else ''}")

    def on_end(self, result: dict[str, Any] | None) -> None:  # noqa: D102
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None


class TensorBoardReporter(Reporter):
    """TensorBoard events in ``folder``; a resumed run hides what the killed one wrote too much."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise RecipeError(
                Problem("train.tensorboard=true: tensorboard is not installed"),
                then="pip install 'attncli[tensorboard]'",
            ) from error
        self._make = SummaryWriter
        self._folder = folder
        self._writer: Any = None

    def on_start(self, facts: dict[str, Any]) -> None:  # noqa: D102
        self._writer = self._make(str(self._folder), purge_step=facts["step"] + 1)

    def on_step(self, step: int, units: float, values: dict[str, float] | None) -> None:  # noqa: D102
        for name, value in (values or {}).items():
            self._writer.add_scalar(f"train/{name}", value, step)

    def on_evaluation(self, step: int, metrics: dict[str, float], best: bool) -> None:  # noqa: D102
        for name, value in metrics.items():
            self._writer.add_scalar(f"evaluation/{name}", value, step)

    def on_checkpoint(self, step: int, path: Path) -> None:  # noqa: D102
        self._writer.flush()

    def on_end(self, result: dict[str, Any] | None) -> None:  # noqa: D102
        if self._writer is not None:
            self._writer.close()

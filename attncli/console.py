"""What the program says: results on standard output, everything else on standard error.

In JSON mode standard output is one document, written when the command ends; tables and results for
people then go to standard error. Only rank 0 of several processes speaks. rich is imported when a table
or bar is first drawn, so that help and errors come at once.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.text import Text

QUIET_SECONDS = 10.0
"""Seconds between progress lines where there is no terminal."""


class _State:
    json = False
    document: dict[str, Any] | None = None
    bar: RichProgress | None = None
    """The bars on the screen; lines are printed above them."""
    warned: set[str] = set()  # noqa: RUF012


def start(*, json: bool = False) -> None:
    """Begin a command: nothing said yet, and the kind of output."""
    _State.json = json
    _State.document = None
    _State.bar = None
    _State.warned = set()


def json_mode() -> bool:
    """Whether standard output is one JSON document."""
    return _State.json


def speaks() -> bool:
    """Whether this process may print: the first of those a launcher started."""
    return os.environ.get("RANK", "0") == "0"


def interactive(stream: TextIO | None = None) -> bool:
    """Whether a person watches: a terminal, and not in CI."""
    stream = stream or sys.stderr
    ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    return not ci and os.environ.get("TERM") != "dumb" and stream.isatty()


def say(text: str = "") -> None:
    """A line for people, on standard error."""
    if speaks():
        if _State.bar is None:
            print(text, file=sys.stderr, flush=True)
        else:
            _State.bar.console.print(text, markup=False, highlight=False, soft_wrap=True)


def warn(text: str) -> None:
    """A warning on standard error, each text once a command."""
    if text not in _State.warned:
        _State.warned.add(text)
        say(f"warning: {text}")


def result(text: str = "", *, end: str = "\n") -> None:
    """Part of the result, on standard output (in JSON mode for people only: standard error)."""
    if speaks():
        print(text, end=end, file=_result_stream(), flush=True)


def document(values: dict[str, Any]) -> None:
    """The JSON document of this command; a later call adds to it. Nothing happens without JSON mode."""
    if _State.json:
        _State.document = {**(_State.document or {}), **values}


def finish() -> None:
    """Write the JSON document, if there is one to write."""
    if _State.json and _State.document is not None and speaks():
        written, _State.document = _State.document, None
        print(json.dumps(plain(written), ensure_ascii=False, indent=2, allow_nan=False), flush=True)


def plain(value: Any) -> Any:
    """The value in JSON's types: numbers that JSON lacks become null, tuples lists, the rest text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return plain(value.item()) if hasattr(value, "item") else str(value)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    *,
    title: str | None = None,
    right: Sequence[str] = (),
    progress: bool = False,
) -> None:
    """A table of results on standard output, or on standard error when it is only ``progress``.

    ``right``: the columns set flush right. Without a terminal nothing is cut or wrapped.
    """
    if not speaks():
        return
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    stream = sys.stderr if progress else _result_stream()
    drawn = Table(title=Text(title, style="bold") if title else None, box=SIMPLE_HEAD, show_edge=False)
    drawn.title_justify = "left"
    for name in columns:
        drawn.add_column(Text(name), justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(show(cell)) for cell in row))
    Console(file=stream, width=None if stream.isatty() else 1000, highlight=False).print(drawn)
    stream.flush()


def styled(text: Text) -> bool:
    """A styled text as part of the result, where a terminal can show it; whether it was shown."""
    stream = _result_stream()
    if not speaks() or not interactive(stream) or os.environ.get("NO_COLOR"):
        return False
    from rich.console import Console

    Console(file=stream, highlight=False).print(text, soft_wrap=False)
    stream.flush()
    return True


def show(value: Any) -> str:
    """A cell for people: four significant digits for fractions, thousands set apart."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        if value == 0 or 1e-3 <= abs(value) < 1e5:
            digits = max(0, 3 - math.floor(math.log10(abs(value)))) if value else 1
            return f"{value:,.{min(digits, 4)}f}"
        return f"{value:,.0f}" if 1e5 <= abs(value) < 1e12 else f"{value:.3e}"
    return str(value)


def seconds(value: float) -> str:
    """A duration as ``0:07``, ``12:34`` or ``1:02:03``."""
    whole = round(max(value, 0))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def size(count: float) -> str:
    """Bytes as ``512 B``, ``3.1 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError


def rate(value: float) -> str:
    """A rate as ``812``, ``20.3k``, ``1.2M``."""
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.1f}{unit}"
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


class Progress:
    """How far a long job is: a bar with rate and time left, or a line now and then without a terminal.

    >>> with Progress("train", total=1000, unit="tokens") as bar:
    ...     bar.advance(1, units=4096, loss=5.2)

    ``total`` None knows no time left. ``done`` is where a resumed job begins. One inside another is drawn
    below it. Rates are over the last half minute.
    """

    def __init__(
        self, name: str, *, total: int | None = None, unit: str | None = None, done: int = 0
    ) -> None:
        self.name, self.total, self.unit, self.done = name, total, unit, done
        self.units = 0.0
        self.values: dict[str, Any] = {}
        self._history: deque[tuple[float, int, float]] = deque()
        self._drawn = 0.0
        self._bar: RichProgress | None = None
        self._owns = False

    def __enter__(self) -> Progress:
        self._drawn = time.monotonic()
        self._history.append((self._drawn, self.done, 0.0))
        if speaks() and interactive():
            self._owns = _State.bar is None
            if self._owns:
                _State.bar = _bars()
                _State.bar.start()
            self._bar = _State.bar
            self._task = self._bar.add_task(self.name, total=self.total, completed=self.done, status="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.remove_task(self._task)
            if self._owns:
                self._bar.stop()
                _State.bar = None

    def advance(self, steps: int = 1, *, units: float = 0, **values: Any) -> None:
        """Go on by ``steps`` and ``units`` (what the rate counts); ``values`` are shown beside it."""
        self.done += steps
        self.units += units
        self.values.update(values)
        if not speaks():
            return
        now = time.monotonic()
        if now - self._history[-1][0] > 0.5 or len(self._history) == 1:
            self._history.append((now, self.done, self.units))
            while len(self._history) > 2 and now - self._history[0][0] > 30:
                self._history.popleft()
        wait = QUIET_SECONDS if self._bar is None else 0.1
        if now - self._drawn >= wait:
            self._drawn = now
            self._draw(now)

    def status(self, now: float | None = None) -> str:
        """Everything beside the bar, as one line."""
        now = time.monotonic() if now is None else now
        began, first, units = self._history[0]
        passed = max(now - began, 1e-9)
        parts = [f"{self.done:,}" + (f"/{self.total:,}" if self.total else "")]
        parts += [f"{name} {show(value)}" for name, value in self.values.items()]
        if self.unit and self.units > units:
            parts.append(f"{rate((self.units - units) / passed)} {self.unit}/s")
        elif self.done > first:
            parts.append(f"{rate((self.done - first) / passed)}/s")
        if self.total and self.done > first:
            parts.append(f"{seconds((self.total - self.done) * passed / (self.done - first))} left")
        return "  ".join(parts)

    def _draw(self, now: float) -> None:
        if self._bar is None:
            say(f"{self.name}  {self.status(now)}")
        else:
            self._bar.update(self._task, completed=self.done, status=self.status(now), refresh=True)


def _bars() -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as RichProgress

    return RichProgress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[status]}", markup=False),
        console=Console(stderr=True, highlight=False),
        transient=True,
        auto_refresh=False,
        redirect_stdout=False,  # it would send results to standard error
    )


def _result_stream() -> TextIO:
    return sys.stderr if _State.json else sys.stdout

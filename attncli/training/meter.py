"""Throughput: real units over the wall time of training steps."""

from __future__ import annotations

from collections.abc import Callable


class Meter:
    """Counts units and seconds while it runs; evaluation and saving happen while it is stopped.

    ``clock`` gives seconds. Stop it only once the device has finished its work: an asynchronous
    device would otherwise be credited with steps that it has not done.
    """

    def __init__(self, clock: Callable[[], float], units: float = 0.0, seconds: float = 0.0) -> None:
        self._clock = clock
        self._since: float | None = None
        self.units = units
        self.seconds = seconds
        self.steps = 0
        self._lap = (units, seconds)

    def start(self) -> None:
        """Run; nothing changes when it runs already."""
        if self._since is None:
            self._since = self._clock()

    def stop(self) -> None:
        """Add the time since :meth:`start`."""
        if self._since is not None:
            self.seconds += self._clock() - self._since
            self._since = None

    def add(self, units: float) -> None:
        """A finished step of ``units``."""
        self.units += units
        self.steps += 1

    def lap(self) -> float:
        """Units a second since the last lap."""
        units, seconds = self.units - self._lap[0], self.seconds - self._lap[1]
        self._lap = (self.units, self.seconds)
        return units / seconds if seconds > 0 else 0.0

    @property
    def rate(self) -> float:
        """Units a second over the whole run."""
        return self.units / self.seconds if self.seconds > 0 else 0.0

"""Ctrl-C and SIGTERM: finish the step and save; a second Ctrl-C stops at once."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType


class StopRequest:
    """Context manager that turns SIGINT and SIGTERM into :attr:`requested`.

    A second SIGINT raises KeyboardInterrupt. ``patience`` seconds must lie between the two: torchrun
    passes a terminal's Ctrl-C on, so that its processes receive one key press twice.
    """

    def __init__(self, patience: float = 0.0) -> None:
        self.requested = False
        self.patience = patience
        self._first = 0.0
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.requested:
            self.requested, self._first = True, now
        elif number == signal.SIGINT and now - self._first >= self.patience:
            raise KeyboardInterrupt

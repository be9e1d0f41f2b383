"""Worker processes that make batches, from the side of the process that has them.

They are new interpreters, not copies of this one: a copy of a process with threads may hang. What they need
is sent to them once; batches come back as bytes through pipes, since shared memory is scarce in containers.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from attncli.data.worker import Arrays, receive
from attncli.errors import DeviceError, Problem, RecipeError

_EACH = 2
"""Batches that a worker is asked for at once, so that it never waits for the next request."""
_PATIENCE = 0.1
_PROGRAM = """
import json, sys
from multiprocessing.connection import Connection
pipe = Connection(int(sys.argv[1]))
sys.path[:] = json.loads(pipe.recv_bytes())
from attncli.data.worker import serve
serve(pipe, int(sys.argv[2]))
"""

Place = tuple[int, int, int]
"""Epoch, shelf and item."""


class _Worker(NamedTuple):
    pipe: Connection
    process: subprocess.Popen[bytes]


class Workers:
    """``count`` processes that make the batches of ``examples``, which must be picklable.

    Batches are a function of (seed, epoch, shelf, item), so it does not matter who makes them. The processes
    end with this one, even when it is killed; Ctrl-C and SIGTERM are left to it.
    """

    def __init__(self, examples: Any, seed: int, count: int) -> None:
        if os.name != "posix":
            raise RecipeError(
                Problem(f"data.workers={count}: there are none on this system", hint="set data.workers=0")
            )
        self._stop = threading.Event()
        self._workers: list[_Worker] = []
        ours, self._life = os.pipe()
        atexit.register(self.close)
        try:
            for _ in range(count):
                self._start(ours)
            for worker in self._workers:  # all of them start up meanwhile
                try:
                    worker.pipe.send((seed, examples))
                except OSError:
                    raise self._gone(worker) from None
        except BaseException:
            self.close()
            raise
        finally:
            os.close(ours)

    def _start(self, life: int) -> None:
        pipe, other = Pipe()
        with other:
            given = (other.fileno(), life)
            process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, *map(str, given)],
                stdin=subprocess.DEVNULL,
                pass_fds=given,
                start_new_session=True,  # Ctrl-C is ours: the worker is ended when the state is saved
            )
        self._workers.append(_Worker(pipe, process))
        pipe.send_bytes(json.dumps(sys.path).encode())

    def batches(self, places: Iterator[Place]) -> Iterator[Arrays]:
        """The batches at ``places``, in their order; stops when it is told to.

        Raises:
            DeviceError: a worker was killed.
            Exception: what a worker raised, at the place of the batch that it was making.
        """
        free = deque(worker for _ in range(_EACH) for worker in self._workers)
        by_pipe = {worker.pipe: worker for worker in self._workers}
        most = 2 * _EACH * len(self._workers)
        made: dict[int, Arrays | Exception] = {}
        asked = given = 0
        while not self._stop.is_set():
            while free and asked - given < most:
                self._ask(free.popleft(), [asked, *next(places)])
                asked += 1
            if given in made:
                batch = made.pop(given)
                given += 1
                if isinstance(batch, Exception):
                    raise batch
                yield batch
                continue
            for pipe in wait(list(by_pipe), _PATIENCE):
                worker = by_pipe[pipe]  # type: ignore[index]
                number, batch = self._answer(worker)
                if number < 0:  # it could not even begin
                    assert isinstance(batch, Exception)
                    raise batch
                made[number] = batch
                free.append(worker)

    def _ask(self, worker: _Worker, request: list[int]) -> None:
        try:
            worker.pipe.send_bytes(json.dumps(request).encode())
        except OSError:
            raise self._gone(worker) from None

    def _answer(self, worker: _Worker) -> tuple[int, Arrays | Exception]:
        try:
            return receive(worker.pipe)
        except (EOFError, OSError):
            raise self._gone(worker) from None

    def _gone(self, worker: _Worker) -> Exception:
        try:
            code = worker.process.wait(1)
        except subprocess.TimeoutExpired:
            code = None
        why, hint = "it no longer answers", None
        if code is not None:
            why = (
                f"it was killed by {signal.Signals(-code).name}" if code < 0 else f"it ended with code {code}"
            )
            hint = "what it said stands above" if code > 0 else None
        if code == -signal.SIGKILL:
            hint = "so ends what takes too much memory: set fewer data.workers or a smaller train.batch"
        at = self._workers.index(worker) + 1
        return DeviceError(Problem(f"data worker {at} of {len(self._workers)} is gone: {why}", hint=hint))

    def stop(self) -> None:
        """Let :meth:`batches` end soon, in whichever thread it runs."""
        self._stop.set()

    def close(self) -> None:
        """End the processes. They hold nothing that needs saving."""
        self._stop.set()
        atexit.unregister(self.close)
        if self._life >= 0:
            os.close(self._life)
            self._life = -1
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.wait()
            worker.pipe.close()
        self._workers = []

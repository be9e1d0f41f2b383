"""A case timed in a process of its own, so that it runs with the settings its users get and not with ours."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch

from attncli.bench.timing import clock


class Remote:
    """``build(*arguments)`` gives a step; calling this object runs it there and gives its seconds.

    ``build`` is a function of a module, ``arguments`` plain values: both travel to the new process. A
    failure there is raised here as RuntimeError.
    """

    def __init__(
        self, build: Callable[..., Callable[[], object]], *arguments: Any, device: str, threads: int
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, there = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(there, build, arguments, device, threads), daemon=True, name="attn-peer"
        )
        self._process.start()
        there.close()
        self._answer()

    def __call__(self) -> float:
        """Seconds of one step."""
        self._pipe.send("step")
        return self._answer()

    def result(self) -> Any:
        """What the last step returned there: plain values."""
        self._pipe.send("result")
        return self._answer()

    def _answer(self) -> Any:
        try:
            kind, value = self._pipe.recv()
        except EOFError:
            raise RuntimeError("the process of a peer ended") from None
        if kind == "error":
            raise RuntimeError(value)
        return value

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.kill()


Builds = dict[tuple[str, str], tuple[Any, ...]]
"""By case and precision: the function that builds a step in its own process, and its arguments."""


def start_peers(
    builds: Builds, say: Callable[[str], None], *, device: str, threads: int
) -> dict[tuple[str, str], Remote]:
    """A process for each of ``builds``; ``say`` hears of those that fail."""
    peers: dict[tuple[str, str], Remote] = {}
    for (case, precision), (build, *arguments) in builds.items():
        try:
            peers[case, precision] = Remote(build, *arguments, device=device, threads=threads)
        except RuntimeError as error:
            say(f"no {case} ({precision}) beside ours: {error}")
    return peers


def _serve(
    pipe: Connection,
    build: Callable[..., Callable[[], object]],
    arguments: tuple[Any, ...],
    device: str,
    threads: int,
) -> None:
    try:
        torch.set_num_threads(threads)
        step = build(*arguments)
        pipe.send(("ready", None))
        last: list[Any] = [None]
        while True:
            if pipe.recv() == "result":
                pipe.send(("result", last[0]))
                continue
            pipe.send(("seconds", clock(lambda: last.__setitem__(0, step()), torch.device(device))))
    except (EOFError, OSError):
        return
    except Exception as error:
        pipe.send(("error", f"{type(error).__name__}: {error}"))

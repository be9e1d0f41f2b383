"""Measured choices, kept in one JSON file for each kind of machine: the first writer wins.

The file lies in ``$ATTN_CACHE`` (else ``~/.cache/attn``) and is keyed by processor, versions and threads, so
that one machine always chooses the same. Without a writable folder choices stay in memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import torch

from attncli import __version__

try:
    import fcntl
except ImportError:  # no file locks on this system: two first runs at once may both measure
    fcntl = None  # type: ignore[assignment]

_WAIT = 10.0  # seconds that another process may take to measure before we stop waiting for it
_memory: dict[Path, dict[str, str]] = {}


def folder() -> Path:
    """The user's cache folder for attn."""
    given = os.environ.get("ATTN_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "attn"


@cache
def _processor() -> str:
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    return f"{name} {torch.backends.cpu.get_cpu_capability()}"


def machine() -> dict[str, str]:
    """What the measurements depend on: the processor, the kernels of PyTorch and of this package, threads."""
    versions = {"torch": torch.__version__, "attn": __version__}
    return {"processor": _processor(), **versions, "threads": str(torch.get_num_threads())}


def path() -> Path:
    """This machine's file."""
    return folder() / _file_name(torch.get_num_threads())


@cache
def _file_name(threads: int) -> str:
    digest = hashlib.sha256(json.dumps(machine(), sort_keys=True).encode()).hexdigest()[:12]
    return f"backends-{digest}.json"


def lookup(key: str) -> str | None:
    """The choice stored under ``key``; the file is read once."""
    file = path()
    if file not in _memory:
        _memory[file] = _read(file)
    return _memory[file].get(key)


def settle(key: str, decide: Callable[[], str]) -> str:
    """The choice under ``key``, which ``decide`` makes unless another process has made it meanwhile."""
    file = path()
    with _locked(file) as writable:
        known = {**_memory.get(file, {}), **_read(file)}
        if key not in known:
            known[key] = decide()
            if writable:
                _write(file, known)
    _memory[file] = known
    return known[key]


def forget() -> None:
    """Drop what is held in memory; the file is read again."""
    _memory.clear()


def _read(file: Path) -> dict[str, str]:
    try:
        found = json.loads(file.read_text())["choices"]
        return {str(key): str(value) for key, value in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # absent or damaged: it is only a cache


def _write(file: Path, choices: dict[str, str]) -> None:
    aside = file.with_name(f"{file.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        aside.write_text(json.dumps({**machine(), "choices": dict(sorted(choices.items()))}, indent=1))
        os.replace(aside, file)


@contextlib.contextmanager
def _locked(file: Path) -> Iterator[bool]:
    """Hold the file's lock; False where there is nowhere to write."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = open(file.with_suffix(".lock"), "a")  # noqa: SIM115 - closed below
    except OSError:
        yield False
        return
    with handle:
        until = time.monotonic() + _WAIT
        while fcntl is not None and time.monotonic() < until:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                time.sleep(0.01)
        yield True  # closing the file releases the lock

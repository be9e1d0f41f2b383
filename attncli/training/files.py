"""Files that are whole or not there: atomic JSON, flushed folders, and what a full disk is called."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from attncli.errors import CheckpointError, DeviceError


def plain(value: Any) -> Any:
    """``value`` for strict JSON: tuples as lists, numbers that are not finite as null."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def dumps(value: Any, indent: int | None = None) -> str:
    """Strict JSON; floats keep every bit."""
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=indent)


def flush_file(path: Path) -> None:
    """Wait until a file's (or folder's) content is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` atomically: after a crash it holds the old text or the new, never a part."""
    aside = path.with_name(f".tmp-{path.name}")
    with aside.open("w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    aside.replace(path)
    flush_file(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Replace ``path`` atomically by ``value`` as JSON."""
    write_text(path, dumps(value, indent=1) + "\n")


def read_json(path: Path, then: str | None = None) -> dict[str, Any]:
    """The JSON object in ``path``; :class:`CheckpointError` when it is missing or damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}", then=then) from error
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged: {error}", then=then) from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} is damaged: not a JSON object", then=then)
    return value


@contextlib.contextmanager
def disk_errors(what: str, then: str | None = None) -> Iterator[None]:
    """Turn a failed write into a :class:`DeviceError` that says what could not be written and why."""
    try:
        yield
    except SafetensorError as error:
        number = re.search(r"os error (\d+)", str(error))
        reason = os.strerror(int(number[1])) if number else str(error)
        raise DeviceError(_failed(what, int(number[1]) if number else 0, reason), then=then) from error
    except OSError as error:
        raise DeviceError(_failed(what, error.errno or 0, error.strerror or str(error)), then=then) from error


def _failed(what: str, number: int, reason: str) -> str:
    hint = ""
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        hint = "; free some space, or keep fewer checkpoints with train.keep"
    return f"{what} could not be written: {reason.lower()}{hint}"

"""The cache folder: entries are folders, built aside, completed and renamed; broken ones are rebuilt."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import uuid
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from attncli.errors import DeviceError, Problem

_BLOCK = 1 << 20
_BLOCKS = 64


def cache_folder(setting: str = "") -> Path:
    """``data.cache``, else ``$ATTN_CACHE``, else ``~/.cache/attn``."""
    return Path(setting or os.environ.get("ATTN_CACHE") or "~/.cache/attn").expanduser()


def key_of(*parts: Any) -> str:
    """A name for what ``parts`` (JSON) determine."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def entry(folder: Path, name: str, build: Callable[[Path], None]) -> Path:
    """The complete entry ``name`` of the cache, built by ``build(empty folder)`` when it is not there.

    Safe with several processes: one builds while the others wait; without file locks each builds and
    one wins. An entry whose files do not match their checksums is built again.

    Raises:
        DeviceError: the disk is full or the folder cannot be written to.
    """
    target = folder / name
    if is_complete(target):
        return target
    with _told(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f"{name}.lock") as alone:
            if is_complete(target):
                return target
            if alone:
                for left in folder.glob(f"{name}.aside-*"):
                    shutil.rmtree(left, ignore_errors=True)
            aside = folder / f"{name}.aside-{uuid.uuid4().hex[:12]}"
            aside.mkdir()
            try:
                build(aside)
                _complete(aside)
                if target.exists():
                    broken = folder / f"{name}.aside-{uuid.uuid4().hex[:12]}"
                    target.rename(broken)
                    shutil.rmtree(broken, ignore_errors=True)
                aside.rename(target)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not is_complete(target):
                    raise
            finally:
                shutil.rmtree(aside, ignore_errors=True)
    return target


def is_complete(target: Path) -> bool:
    """Whether every file of an entry has the size and checksum written at its completion."""
    try:
        listed = json.loads((target / "complete.json").read_text())
        return all(_print(target / name) == seen for name, seen in listed.items()) and bool(listed)
    except (OSError, ValueError, AttributeError):
        return False


def _complete(aside: Path) -> None:
    files = sorted(p for p in aside.iterdir() if p.is_file())
    for path in files:
        with path.open("rb+") as handle:
            os.fsync(handle.fileno())
    (aside / "complete.json").write_text(json.dumps({path.name: _print(path) for path in files}))


def _print(path: Path) -> list[int]:
    """Size and a checksum: of everything up to 64 MiB, of 64 spread blocks of larger files."""
    size, total = path.stat().st_size, 0
    with path.open("rb") as handle:
        for block in range(min(_BLOCKS, -(-size // _BLOCK))):
            at = block * _BLOCK if size <= _BLOCKS * _BLOCK else block * (size - _BLOCK) // (_BLOCKS - 1)
            handle.seek(at)
            total = zlib.crc32(handle.read(_BLOCK), total)
    return [size, total]


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Hold a lock file; yields False where the system or file system has no locks."""
    try:
        import fcntl
    except ImportError:
        yield False
        return
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            alone = True
        except OSError:
            alone = False
        yield alone


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Turn a full or forbidden disk into a :class:`DeviceError`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = "the disk is full; nothing half-written was left"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            reason = f"cannot be written to ({os.strerror(error.errno)})"
        else:
            raise
        raise DeviceError(
            Problem(f"cache folder {folder}: {reason}", hint="set data.cache=FOLDER or ATTN_CACHE")
        ) from error

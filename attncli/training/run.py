"""The run folder: all that resume, evaluate, apply and export need, in files that outlive a crash."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attncli import __version__
from attncli.errors import CheckpointError, Problem, RecipeError
from attncli.training.files import disk_errors, read_json, write_json, write_text

try:
    import fcntl
except ImportError:  # no such locks outside POSIX
    fcntl = None  # type: ignore[assignment]

FORMAT = 1
_LIBRARIES = ("torch", "numpy", "safetensors", "tokenizers", "datasets")


class RunFolder:
    """A folder with recipe.yaml, run.json, metrics.jsonl, timings.jsonl, checkpoints/ and result.json.

    Make one with :meth:`create` or :meth:`open`. ``info`` is the content of run.json.
    """

    def __init__(self, path: Path, info: dict[str, Any]) -> None:
        self.path = path
        self.info = info
        self._lock: int | None = None

    @classmethod
    def create(
        cls,
        path: str | Path | None = None,
        *,
        command: str,
        recipe: str,
        text: str,
        root: str | Path = "runs",
    ) -> RunFolder:
        """A new run folder: ``path``, or the next free ``root/<recipe>-<n>``.

        ``recipe`` is the recipe's name, ``text`` the resolved recipe as YAML. The folder appears whole
        or not at all, and two processes never get the same one. :class:`RecipeError` when ``path``
        is taken.
        """
        info = {
            "format": FORMAT,
            "command": command,
            "recipe": recipe,
            "attn": __version__,
            "versions": _versions(),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "state": "created",
        }
        parent = Path(path).parent if path is not None else Path(root)
        with disk_errors(f"a run folder in {parent}"):
            parent.mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(prefix=".tmp-run-", dir=parent))
            try:
                aside.chmod(0o755)
                (aside / "checkpoints").mkdir()
                write_text(aside / "recipe.yaml", text)
                write_json(aside / "run.json", info)
                claimed = (
                    _claim(aside, Path(path)) if path is not None else _claim_next(aside, parent, recipe)
                )
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        return cls(claimed, info)

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """An existing run folder; :class:`CheckpointError` when it is none, damaged or too new."""
        path = Path(path)
        if not (path / "run.json").is_file():
            what = "is no run folder: it has no run.json" if path.is_dir() else "does not exist"
            raise CheckpointError(f"{path} {what}", then="attn runs list")
        info = read_json(path / "run.json", then="attn runs list")
        version = info.get("format")
        if not isinstance(version, int):
            raise CheckpointError(f"{path / 'run.json'} is damaged: it has no format", then="attn runs list")
        if version > FORMAT:
            raise CheckpointError(
                Problem(
                    f"{path} was written by attn {info.get('attn', '?')} in run format {version}; "
                    f"this is attn {__version__}, which knows format {FORMAT}",
                    hint="install a newer attncli",
                )
            )
        if not (path / "recipe.yaml").is_file():
            raise CheckpointError(f"{path} is incomplete: recipe.yaml is missing", then="attn runs list")
        return cls(path, info)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def recipe_file(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.yaml"

    @property
    def metrics_file(self) -> Path:
        """Losses and evaluations by step: the same numbers in every run of this recipe."""
        return self.path / "metrics.jsonl"

    @property
    def timings_file(self) -> Path:
        """Throughput, seconds and memory by step."""
        return self.path / "timings.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def result_file(self) -> Path:
        """Metrics and speed of the finished run."""
        return self.path / "result.json"

    @property
    def state(self) -> str:
        """created, running, interrupted, failed or finished. A killed run counts as interrupted."""
        state = self.info.get("state", "created")
        return "interrupted" if state == "running" and not self.locked() else state

    def result(self) -> dict[str, Any] | None:
        """Content of result.json, None when the run has not finished."""
        return read_json(self.result_file) if self.result_file.exists() else None

    def add_metrics(self, metrics: dict[str, Any]) -> None:
        """Put further metrics into result.json."""
        told = self.result() or {}
        told["metrics"] = {**told.get("metrics", {}), **metrics}
        with disk_errors(str(self.result_file)):
            write_json(self.result_file, told)

    def update(self, **values: Any) -> None:
        """Set values of run.json."""
        self.info = {**self.info, **values}
        with disk_errors(str(self.path / "run.json")):
            write_json(self.path / "run.json", self.info)

    def replace_recipe(self, text: str) -> None:
        """Put another resolved recipe in place, when a run is extended."""
        with disk_errors(str(self.recipe_file)):
            write_text(self.recipe_file, text)

    def acquire(self) -> None:
        """Keep other processes from training here; the system frees the lock of a killed process.

        :class:`RecipeError` when another process has it.
        """
        if fcntl is None or self._lock is not None:
            return
        with disk_errors(str(self.path / ".lock")):
            handle = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(handle, 32, 0).decode(errors="replace").strip()
            os.close(handle)
            who = f"process {owner}" if owner else "another process"
            raise RecipeError(
                Problem(f"{who} is training in {self.path}", hint="wait for it, or stop it"),
                then="attn runs list",
            ) from error
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
        self._lock = handle

    def release(self) -> None:
        """Let others train here."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def locked(self) -> bool:
        """Whether a process is training here now."""
        if self._lock is not None:
            return True
        if fcntl is None or not (self.path / ".lock").exists():
            return False
        handle = os.open(self.path / ".lock", os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(handle)
        return False


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "system": platform.platform()}
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _claim(aside: Path, path: Path) -> Path:
    """Rename ``aside`` to ``path``; succeeds on nothing or on an empty folder only."""
    try:
        aside.rename(path)
    except OSError as error:
        if not path.exists():
            raise
        is_run = (path / "run.json").exists()
        what = "is a run already" if is_run else "exists and is not an empty folder"
        then = f"attn resume {path}" if is_run else None
        raise RecipeError(Problem(f"{path} {what}", hint="choose another folder"), then=then) from error
    return path


def _claim_next(aside: Path, root: Path, recipe: str) -> Path:
    name = re.sub(r"[^\w.-]+", "-", recipe).strip("-.") or "run"
    numbers = [
        int(m[1]) for m in (re.fullmatch(rf"{re.escape(name)}-(\d+)", p.name) for p in root.iterdir()) if m
    ]
    number = max(numbers, default=0) + 1
    while True:
        path = root / f"{name}-{number}"
        try:
            aside.rename(path)
        except OSError:
            if not path.exists():
                raise
            number += 1  # another process was quicker
        else:
            return path

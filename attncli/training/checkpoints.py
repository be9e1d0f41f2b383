"""Checkpoints: folders that are complete or not there, checked by hash before anything is read."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from attncli.errors import CheckpointError, Problem
from attncli.training.files import disk_errors, flush_file, read_json, write_json
from attncli.training.run import RunFolder
from attncli.training.weights import read_tensors, save_tensors, write_weights

FORMAT = 1
MODEL, AVERAGE, OPTIMIZER, STATE, MANIFEST = (
    "model.safetensors",
    "average.safetensors",
    "optimizer.safetensors",
    "state.json",
    "manifest.json",
)
_NAME = re.compile(r"step-(\d+)")


class Checkpoint:
    """One checkpoint folder: weights, their average, optimiser state, state.json and manifest.json."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.step = int(_NAME.fullmatch(path.name)[1])  # type: ignore[index]

    def state(self) -> dict[str, Any]:
        """Content of state.json."""
        return read_json(self.path / STATE)

    def verify(self, only: Iterable[str] | None = None) -> None:
        """Compare size and hash of each file (or of ``only`` some) with the manifest.

        :class:`CheckpointError` names the step and every file that is missing, cut off or changed.
        """
        manifest = read_json(self.path / MANIFEST)
        files, version = manifest.get("files"), manifest.get("format")
        if not isinstance(files, dict) or not isinstance(version, int):
            raise CheckpointError(f"checkpoint of step {self.step}: {MANIFEST} is damaged")
        if version > FORMAT:
            raise CheckpointError(f"checkpoint of step {self.step} was written by a newer attn")
        problems = []
        for name, noted in files.items():
            if only is not None and name not in only:
                continue
            path = self.path / name
            if not path.is_file():
                problems.append(f"{name} is missing")
            elif path.stat().st_size != noted["bytes"]:
                problems.append(f"{name} has {path.stat().st_size:,} bytes, not {noted['bytes']:,}")
            elif _digest(path) != noted["sha256"]:
                problems.append(f"{name} was changed since it was written")
        if problems:
            raise CheckpointError(*(Problem(p, where=f"checkpoint of step {self.step}") for p in problems))

    def weights(self, averaged: bool = True) -> dict[str, Tensor]:
        """The model's tensors by name: the average when there is one and it is wanted."""
        average = self.path / AVERAGE
        return read_tensors(average if averaged and average.exists() else self.path / MODEL)

    def average(self) -> dict[str, Tensor] | None:
        """The averaged weights, None when the run does not average."""
        path = self.path / AVERAGE
        return read_tensors(path) if path.exists() else None

    def snapshots(self) -> dict[int, dict[str, Tensor]]:
        """Weights of the earlier checkpoints that the average is made of, by step."""
        found: dict[int, dict[str, Tensor]] = {}
        for path in sorted(self.path.glob("snapshot-*.safetensors")):
            found[int(path.stem.removeprefix("snapshot-"))] = read_tensors(path)
        return found

    def optimizer(self) -> dict[str, Tensor]:
        """The optimiser's state by name."""
        return read_tensors(self.path / OPTIMIZER)


class Checkpoints:
    """The checkpoints of a run: writing, finding, keeping."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.folder = run.checkpoints

    def all(self) -> list[Checkpoint]:
        """Every checkpoint folder, oldest first, not yet verified."""
        if not self.folder.is_dir():
            return []
        found = [Checkpoint(path) for path in self.folder.iterdir() if _NAME.fullmatch(path.name)]
        return sorted(found, key=lambda checkpoint: checkpoint.step)

    def path(self, step: int) -> Path:
        """Where the checkpoint of ``step`` stands."""
        return self.folder / f"step-{step:08d}"

    def save(
        self,
        step: int,
        model: nn.Module,
        optimizer: dict[str, Tensor],
        state: dict[str, Any],
        average: dict[str, Tensor] | None = None,
        snapshots: dict[int, dict[str, Tensor]] | None = None,
    ) -> Checkpoint:
        """Write a checkpoint aside, flush it, rename it. :class:`DeviceError` when the disk is full.

        Snapshots that an earlier checkpoint holds are hard links to its files where the file system
        has them, and take no space.
        """
        aside = self.folder / f".tmp-step-{step:08d}"
        earlier = self.all()
        intact = (
            f"the checkpoint of step {earlier[-1].step} is intact" if earlier else "no earlier one exists"
        )
        try:
            with disk_errors(
                f"the checkpoint of step {step} ({intact})", then=f"attn resume {self.run.path}"
            ):
                shutil.rmtree(aside, ignore_errors=True)
                aside.mkdir(parents=True)
                write_weights(aside / MODEL, model)
                if average is not None:
                    write_weights(aside / AVERAGE, model, average)
                noted: dict[str, Any] = {}
                for at, tensors in (snapshots or {}).items():
                    noted |= self._write_snapshot(aside, at, tensors, current=step)
                save_tensors(aside / OPTIMIZER, optimizer)
                write_json(aside / STATE, {"format": FORMAT, "step": step, **state})
                files = {
                    path.name: noted.get(path.name) or {"bytes": path.stat().st_size, "sha256": _digest(path)}
                    for path in sorted(aside.iterdir())
                }
                for name in files:
                    flush_file(aside / name)
                write_json(aside / MANIFEST, {"format": FORMAT, "files": files})
                self._put(aside, self.path(step))
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        return Checkpoint(self.path(step))

    def _write_snapshot(
        self, aside: Path, step: int, tensors: dict[str, Tensor], current: int
    ) -> dict[str, Any]:
        """Write the snapshot of ``step``; what the manifest of an earlier checkpoint notes of it."""
        name = f"snapshot-{step:08d}.safetensors"
        origins = [(aside, MODEL)] if step == current else [(self.path(step), MODEL)]
        origins += [(checkpoint.path, name) for checkpoint in reversed(self.all())]
        for folder, file in origins:
            if not (folder / file).exists():  # pruned
                continue
            try:
                os.link(folder / file, aside / name)
            except OSError:  # a file system without links
                shutil.copyfile(folder / file, aside / name)
            # not hashed anew where it was before: damage since then must not pass for sound
            return {} if step == current else {name: read_json(folder / MANIFEST)["files"][file]}
        save_tensors(aside / name, tensors)
        return {}

    def _put(self, aside: Path, path: Path) -> None:
        """Rename ``aside`` to ``path``. An older folder of that name makes room, and is put back by
        :meth:`clean` if the process dies between the two renames."""
        old = self.folder / f".old-{path.name}"
        if path.exists():
            path.rename(old)
        aside.rename(path)
        flush_file(self.folder)
        shutil.rmtree(old, ignore_errors=True)

    def clean(self) -> None:
        """Remove what a killed process left half done."""
        if not self.folder.is_dir():
            return
        for old in self.folder.glob(".old-*"):
            path = self.folder / old.name.removeprefix(".old-")
            if path.exists():
                shutil.rmtree(old, ignore_errors=True)
            else:
                old.rename(path)
        for aside in self.folder.glob(".tmp-*"):
            shutil.rmtree(aside, ignore_errors=True)

    def newest(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest checkpoint that is whole, and a sentence for each newer one that is not.

        None when the run has none yet. :class:`CheckpointError` when it has some but all are damaged.
        """
        damaged: list[Problem] = []
        for checkpoint in reversed(self.all()):
            try:
                checkpoint.verify()
            except CheckpointError as error:
                damaged += error.problems
                continue
            return checkpoint, [f"passed over: {problem}" for problem in damaged]
        if damaged:
            raise CheckpointError(*damaged, then=f"attn {self.run.info.get('command', 'pretrain')} --help")
        return None, []

    def set_aside(self, after: int) -> None:
        """Rename the (damaged) checkpoints of later steps than ``after``, so that training can go on."""
        for checkpoint in self.all():
            if checkpoint.step > after:
                target = checkpoint.path.with_name(f"damaged-{checkpoint.path.name}")
                shutil.rmtree(target, ignore_errors=True)
                checkpoint.path.rename(target)

    def point_best(self, best: dict[str, Any] | None) -> None:
        """Make best.json name the best checkpoint: ``best`` has step, metric and value. None removes it."""
        path = self.run.path / "best.json"
        if best is None:
            path.unlink(missing_ok=True)
            return
        with disk_errors(str(path)):
            write_json(path, {**best, "folder": f"checkpoints/{self.path(best['step']).name}"})

    def best(self) -> Checkpoint | None:
        """The checkpoint that best.json names, None when there is no evaluation yet."""
        path = self.run.path / "best.json"
        if not path.exists():
            return None
        step = read_json(path).get("step")
        if not isinstance(step, int) or not self.path(step).is_dir():
            raise CheckpointError(f"{path} names a checkpoint that is not there (step {step})")
        return Checkpoint(self.path(step))

    def prune(self, keep: int) -> None:
        """Keep the last ``keep`` checkpoints, and the best one as each of them knows it."""
        every = self.all()
        last = every[-keep:]
        wanted = {checkpoint.step for checkpoint in last}
        for checkpoint in last:
            with contextlib.suppress(CheckpointError):  # damaged on the disk since
                best = checkpoint.state()["progress"]["best"]
                if best:
                    wanted.add(best["step"])
        for checkpoint in every:
            if checkpoint.step not in wanted:
                aside = self.folder / f".tmp-pruned-{checkpoint.path.name}"
                checkpoint.path.rename(aside)  # at once: a kill leaves no half folder under a true name
                shutil.rmtree(aside, ignore_errors=True)


def load_weights(run: RunFolder, which: str = "best") -> dict[str, Tensor]:
    """The weights that a run is applied with: averaged where it averages, ``which`` is best or last.

    All names of the model are there, so ``load_state_dict`` takes them. :class:`CheckpointError` when
    the run has no checkpoint or the files are damaged.
    """
    checkpoints = Checkpoints(run)
    chosen = checkpoints.best() if which == "best" else None
    if chosen is None:
        every = checkpoints.all()
        if not every:
            raise CheckpointError(f"{run.path} has no checkpoint yet", then=f"attn resume {run.path}")
        chosen = every[-1]
    chosen.verify(only=(MODEL, AVERAGE))
    return chosen.weights()


def _digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()

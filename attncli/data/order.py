"""The order in which examples are seen: exact, resumable, the same for any number of processes."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from attncli.data.seeding import MAKE, PLAN, generator
from attncli.data.workers import Place, Workers
from attncli.errors import DataError, Problem, RecipeError

Batch = dict[str, Tensor]


class Examples(Protocol):
    """What :class:`EpochBatches` draws from.

    An epoch is seen shelf by shelf, so that the plan of a large corpus need not fit in memory at once.
    Everything follows from the arguments and the generator alone.
    """

    shelves: int
    """Shelves of an epoch; 1 for anything that is small enough."""

    def plan(self, epoch: int, shelf: int, rng: np.random.Generator) -> Sequence[Any]:
        """The batches of a shelf: each item is what ``make`` needs to make one global batch.

        ``rng`` is the epoch's, the same for each of its shelves.
        """
        ...

    def make(self, item: Any, rng: np.random.Generator) -> Batch:
        """One global batch, of tensors or of arrays."""
        ...


class EpochBatches:
    """An endless stream of global batches (the loop's ``Batches``).

    Each batch follows from ``(seed, epoch, shelf, index)`` alone. A thread makes the next few while the
    model works, or collects them from worker processes; that changes nothing but the waiting.

    Args:
        examples: what there is to see. Worker processes need it to be picklable, and start quicker where
            unpickling it imports no torch.
        seed: of the order, the masks and all else that is drawn.
        ahead: batches made in advance; 0 makes each when it is asked for.
        workers: processes that make batches; 0 is the thread.

    Attributes:
        waited: seconds that :meth:`next` has taken so far, the first start of the workers included.
    """

    def __init__(self, examples: Examples, seed: int, ahead: int = 4, workers: int = 0) -> None:
        self.examples, self.seed, self.ahead, self.workers = examples, seed, ahead, workers
        self.waited = 0.0
        self._at = (0, 0, 0)
        self._share = 0.0
        self._worker: _Worker | None = None
        self._pool: Workers | None = None
        self._stream: Iterator[Step] | None = None

    @property
    def epoch(self) -> float:
        """Passes over the data so far."""
        return self._at[0] + self._share

    def next(self, parts: Sequence[int], of: int) -> list[Batch]:
        """The chosen ``parts`` of the next global batch cut into ``of``; then move on."""
        began = time.perf_counter()
        try:
            if self._stream is None:
                self._stream = self._open()
            self._at, self._share, batch = next(self._stream)
        except BaseException:
            self.close()  # so that a next try starts anew from the same place
            raise
        finally:
            self.waited += time.perf_counter() - began
        return [cut(batch, part, of) for part in parts]

    def _open(self) -> Iterator[Step]:
        if self.workers:
            self._pool = Workers(self.examples, self.seed, self.workers)
            stream = _collect(self._pool, self.examples, self.seed, self._at)
        else:
            stream = _generate(self.examples, self.seed, self._at)
        if not self.ahead:
            return stream
        self._worker = _Worker(stream, self.ahead)
        return self._worker

    def state_dict(self) -> dict[str, Any]:
        """Position after the last batch handed out."""
        epoch, shelf, index = self._at
        return {"epoch": epoch, "shelf": shelf, "index": index, "share": self._share}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state``."""
        self.close()
        self._at = (int(state["epoch"]), int(state["shelf"]), int(state["index"]))
        self._share = float(state["share"])

    def close(self) -> None:
        """Stop the thread and the processes. The stream can be used again and goes on where it was."""
        if self._pool is not None:
            self._pool.stop()
        if self._worker is not None:
            self._worker.close()
        if self._pool is not None:
            self._pool.close()
        self._worker = self._stream = self._pool = None

    def __del__(self) -> None:
        self.close()


Step = tuple[Place, float, Batch]
"""The position after a batch, the share of its epoch that is over then, and the batch."""


def _generate(examples: Examples, seed: int, at: Place) -> Iterator[Step]:
    """Batches from a position on, made here."""
    for place, share, item in _places(examples, seed, at):
        batch = examples.make(item, generator(seed, MAKE, *place))
        yield _after(place), share, as_tensors(batch)


def _collect(workers: Workers, examples: Examples, seed: int, at: Place) -> Iterator[Step]:
    """The same batches, made by worker processes."""
    asked: deque[tuple[Place, float]] = deque()

    def places() -> Iterator[Place]:
        for place, share, _ in _places(examples, seed, at):
            asked.append((place, share))
            yield place

    for arrays in workers.batches(places()):
        place, share = asked.popleft()
        yield _after(place), share, as_tensors(arrays)


def _after(place: Place) -> Place:
    return place[0], place[1], place[2] + 1


def as_tensors(batch: Mapping[str, Any]) -> Batch:
    """A batch of arrays, or of tensors, as tensors; memory is shared."""
    return {
        name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        for name, value in batch.items()
    }


def _places(examples: Examples, seed: int, at: Place) -> Iterator[tuple[Place, float, Any]]:
    """Where batches stand from a position on, the share of the epoch after each, and what it is made of."""
    epoch, shelf, index = at
    idle = 0
    while True:
        plan = examples.plan(epoch, shelf, generator(seed, PLAN, epoch))
        idle = 0 if len(plan) else idle + 1
        if idle > examples.shelves:
            raise DataError(
                Problem(
                    "the training part is too little for one batch",
                    hint="set a smaller train.batch, or for text a smaller model.length",
                )
            )
        for item in range(index, len(plan)):
            share = (shelf + (item + 1) / len(plan)) / examples.shelves
            yield (epoch, shelf, item), share, plan[item]
        index, shelf = 0, shelf + 1
        if shelf == examples.shelves:
            epoch, shelf = epoch + 1, 0


class _Worker:
    """A thread that takes from an iterator into a bounded queue."""

    def __init__(self, stream: Iterator[Any], ahead: int) -> None:
        self._ready: queue.Queue[tuple[str, Any]] = queue.Queue(ahead)
        self._stop = threading.Event()
        self._thread = threading.Thread(
            target=_work, args=(stream, self._ready, self._stop), name="attn-data", daemon=True
        )
        self._thread.start()

    def __iter__(self) -> _Worker:
        return self

    def __next__(self) -> Any:
        kind, value = self._ready.get()
        if kind == "error":
            raise value
        return value

    def close(self) -> None:
        self._stop.set()
        while self._thread.is_alive():
            try:
                self._ready.get_nowait()
            except queue.Empty:
                self._thread.join(0.01)


def _work(stream: Iterator[Any], ready: queue.Queue[tuple[str, Any]], stop: threading.Event) -> None:
    try:
        for value in stream:
            if not _put(ready, ("value", value), stop):
                return
    except BaseException as error:
        _put(ready, ("error", error), stop)


def _put(ready: queue.Queue[tuple[str, Any]], item: tuple[str, Any], stop: threading.Event) -> bool:
    while not stop.is_set():
        try:
            ready.put(item, timeout=0.1)
            return True
        except queue.Full:
            continue
    return False


def cut(batch: Batch, part: int, of: int) -> Batch:
    """Part ``part`` of ``of``: rows of [B, ...] tensors, and the flat labels of those rows.

    ``labels_at`` [N] points into B*T of the batch and, in the part, into B'*T of the part; ``labels``
    [N] follows it. Parts differ by one row at most.
    """
    if of == 1:
        return batch
    rows = next(iter(batch.values())).shape[0] if "tokens" not in batch else batch["tokens"].shape[0]
    if rows < of:
        raise RecipeError(
            Problem(
                f"train.batch={rows}: fewer examples than the {of} parts of processes times train.accumulate"
            )
        )
    first, end = part * rows // of, (part + 1) * rows // of
    flat = batch.get("labels_at")
    out = {}
    if flat is not None:
        length = batch["tokens"].shape[1]
        low, high = torch.searchsorted(flat, torch.tensor([first * length, end * length])).tolist()
        out["labels_at"] = flat[low:high] - first * length
        out["labels"] = batch["labels"][low:high]
    for key, value in batch.items():
        if key not in out:
            out[key] = value[first:end]
    return out


class EvaluationBatches(Sequence[Batch]):
    """Every example of a plan once, the same each time; item ``i`` is made when it is asked for.

    The last batch may have fewer examples. Give processes their share by index:
    ``for i in shard.mine(range(len(batches)))``.

    Args:
        examples: a plan that leaves no example out.
        seed: of the masks and all else that is drawn.
        most: at most so many batches, spread evenly; 0 is all.
    """

    def __init__(self, examples: Examples, seed: int, most: int = 0) -> None:
        self.examples, self.seed = examples, seed
        counts = [len(self._plan(shelf)) for shelf in range(examples.shelves)]
        self._ends = np.cumsum(counts)
        total = int(self._ends[-1])
        if total == 0:
            raise DataError(Problem("the validation part is too little for one example"))
        chosen = min(most, total) if most else total
        self._chosen = np.arange(chosen) * total // chosen
        self._held: tuple[int, Sequence[Any]] | None = None

    def _plan(self, shelf: int) -> Sequence[Any]:
        return self.examples.plan(0, shelf, generator(self.seed, PLAN, 0))

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: int) -> Batch:  # type: ignore[override]
        at = int(self._chosen[index])
        shelf = int(np.searchsorted(self._ends, at, side="right"))
        if self._held is None or self._held[0] != shelf:
            self._held = (shelf, self._plan(shelf))
        item = at - (int(self._ends[shelf - 1]) if shelf else 0)
        return as_tensors(self.examples.make(self._held[1][item], generator(self.seed, MAKE, 0, shelf, item)))

"""The order in which examples are seen: exact, resumable, the same for any number of processes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from attncli.errors import DataError, Problem, RecipeError

Batch = dict[str, Tensor]

_PLAN, _MAKE = 0, 1


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
        """One global batch."""
        ...


def generator(seed: int, *place: int) -> np.random.Generator:
    """A generator of its own for each seed and place."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, *place))))


class EpochBatches:
    """An endless stream of global batches (the loop's ``Batches``).

    Each batch follows from ``(seed, epoch, shelf, index)`` alone. A thread makes the next few while the
    model works; it changes nothing but the waiting.

    Args:
        examples: what there is to see.
        seed: of the order, the masks and all else that is drawn.
        ahead: batches made in advance; 0 makes each when it is asked for.
    """

    def __init__(self, examples: Examples, seed: int, ahead: int = 4) -> None:
        self.examples, self.seed, self.ahead = examples, seed, ahead
        self._at = (0, 0, 0)
        self._share = 0.0
        self._worker: _Worker | None = None
        self._stream: Iterator[tuple[tuple[int, int, int], float, Batch]] | None = None

    @property
    def epoch(self) -> float:
        """Passes over the data so far."""
        return self._at[0] + self._share

    def next(self, parts: Sequence[int], of: int) -> list[Batch]:
        """The chosen ``parts`` of the next global batch cut into ``of``; then move on."""
        if self._stream is None:
            self._stream = _generate(self.examples, self.seed, self._at)
            if self.ahead:
                self._worker = _Worker(self._stream, self.ahead)
                self._stream = self._worker
        try:
            self._at, self._share, batch = next(self._stream)
        except BaseException:
            self.close()  # so that a next try starts anew from the same place
            raise
        return [cut(batch, part, of) for part in parts]

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
        """Stop the thread. The stream can be used again and goes on where it was."""
        if self._worker is not None:
            self._worker.close()
        self._worker = self._stream = None

    def __del__(self) -> None:
        self.close()


def _generate(
    examples: Examples, seed: int, at: tuple[int, int, int]
) -> Iterator[tuple[tuple[int, int, int], float, Batch]]:
    """Batches from a position on, each with the position after it and the share of its epoch."""
    epoch, shelf, index = at
    idle = 0
    while True:
        plan = examples.plan(epoch, shelf, generator(seed, _PLAN, epoch))
        idle = 0 if len(plan) else idle + 1
        if idle > examples.shelves:
            raise DataError(
                Problem(
                    "the training text is too little for one batch",
                    hint="set a smaller train.batch or model.length",
                )
            )
        for item in range(index, len(plan)):
            batch = examples.make(plan[item], generator(seed, _MAKE, epoch, shelf, item))
            yield (epoch, shelf, item + 1), (shelf + (item + 1) / len(plan)) / examples.shelves, batch
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
            raise DataError(Problem("the validation text is too little for one example"))
        chosen = min(most, total) if most else total
        self._chosen = np.arange(chosen) * total // chosen
        self._held: tuple[int, Sequence[Any]] | None = None

    def _plan(self, shelf: int) -> Sequence[Any]:
        return self.examples.plan(0, shelf, generator(self.seed, _PLAN, 0))

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: int) -> Batch:  # type: ignore[override]
        at = int(self._chosen[index])
        shelf = int(np.searchsorted(self._ends, at, side="right"))
        if self._held is None or self._held[0] != shelf:
            self._held = (shelf, self._plan(shelf))
        item = at - (int(self._ends[shelf - 1]) if shelf else 0)
        return self.examples.make(self._held[1][item], generator(self.seed, _MAKE, 0, shelf, item))

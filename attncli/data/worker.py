"""What a worker process does: makes the batches that it is asked for, and sends them as plain bytes.

It imports no torch, and it dies with the process that started it, however that ends.
"""

from __future__ import annotations

import json
import os
import threading
import traceback
from dataclasses import astuple
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attncli import errors
from attncli.data.seeding import MAKE, PLAN, generator

Arrays = dict[str, NDArray[Any]]


def serve(pipe: Connection, life: int) -> None:
    """Receive the seed and the examples, then answer requests (number, epoch, shelf, item).

    Ends when the other end is closed. ``life``: a pipe that is held open by the parent alone, and closed by
    the system when it ends.
    """
    threading.Thread(target=_die_with_parent, args=(life,), daemon=True).start()
    shelf, plan = (-1, -1), ()
    try:
        seed, examples = pipe.recv()  # written by the parent, to nobody else
    except (EOFError, OSError):
        return
    except Exception as error:
        pipe.send_bytes(json.dumps({"number": -1, "error": _told(error)}).encode())
        return
    while True:
        try:
            number, *place = json.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            return
        try:
            if shelf != tuple(place[:2]):
                shelf = place[0], place[1]
                plan = examples.plan(*shelf, generator(seed, PLAN, place[0]))
            made = as_arrays(examples.make(plan[place[2]], generator(seed, MAKE, *place)))
        except Exception as error:
            pipe.send_bytes(json.dumps({"number": number, "error": _told(error)}).encode())
            continue
        try:
            send(pipe, number, made)
        except OSError:  # nobody listens any more
            return


def _die_with_parent(life: int) -> None:
    os.read(life, 1)
    os._exit(1)


def as_arrays(batch: dict[str, Any]) -> Arrays:
    """A batch of arrays, or of tensors, as arrays."""
    return {name: value if isinstance(value, np.ndarray) else value.numpy() for name, value in batch.items()}


def _told(error: Exception) -> dict[str, Any]:
    if isinstance(error, errors.AttnError):
        problems = [astuple(problem) for problem in error.problems]
        return {"kind": type(error).__name__, "problems": problems, "then": error.then}
    return {"kind": "", "text": traceback.format_exc()}


def raised(told: dict[str, Any]) -> Exception:
    """The error that a worker told of."""
    kind = getattr(errors, told["kind"], None) if told["kind"] else None
    if kind is None:
        return RuntimeError(f"a data worker failed:\n{told.get('text', told)}")
    return kind(*(errors.Problem(*problem) for problem in told["problems"]), then=told["then"])


# A message is a head in JSON, then the bytes of each array as they lie in memory.


def send(pipe: Connection, number: int, arrays: Arrays) -> None:
    """Send a batch under its number."""
    head, parts = [], []
    for name, array in arrays.items():
        order = np.argsort([-stride for stride in array.strides], kind="stable").tolist()
        laid = np.ascontiguousarray(array.transpose(order))  # as it lies; no copy of a transposed view
        head.append((name, laid.dtype.str, laid.shape, np.argsort(order).tolist()))
        parts.append(laid)
    pipe.send_bytes(json.dumps({"number": number, "arrays": head}).encode())
    for part in parts:
        if part.nbytes:
            pipe.send_bytes(memoryview(part).cast("B"))


def receive(pipe: Connection) -> tuple[int, Arrays | Exception]:
    """The number of a batch and the batch, or what went wrong with it.

    Raises:
        EOFError, OSError: the worker is gone.
    """
    head = json.loads(pipe.recv_bytes())
    if "error" in head:
        return head["number"], raised(head["error"])
    found: Arrays = {}
    for name, dtype, shape, order in head["arrays"]:
        laid = np.empty(shape, dtype)
        if laid.nbytes:
            pipe.recv_bytes_into(memoryview(laid.reshape(-1)).cast("B"))
        found[name] = laid.transpose(order)
    return head["number"], found

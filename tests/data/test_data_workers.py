"""Batches made by worker processes: the same ones, in order, and what happens when something dies."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from worker_examples import Drawn

from attncli.data.order import EpochBatches, EvaluationBatches
from attncli.data.workers import Workers
from attncli.errors import DataError, DeviceError


def take(stream, count):
    return [stream.next([0], 1)[0] for _ in range(count)]


def same(a, b):
    return a.keys() == b.keys() and all(
        torch.equal(a[key], b[key]) and a[key].dtype == b[key].dtype and a[key].stride() == b[key].stride()
        for key in a
        if key != "torch"
    )


def alive(pid):
    """Whether a process runs; one that is dead and not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids, seconds=10):
    until = time.monotonic() + seconds
    while time.monotonic() < until and any(map(alive, pids)):
        time.sleep(0.02)
    return not any(map(alive, pids))


def pids(stream):
    return [worker.process.pid for worker in stream._pool._workers]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("ahead", [0, 4])
def test_the_same_batches_whoever_makes_them(workers, ahead):
    expected = take(EpochBatches(Drawn(), 5, ahead=0), 30)  # over an epoch and several shelves
    stream = EpochBatches(Drawn(), 5, ahead=ahead, workers=workers)
    found = take(stream, 30)
    assert all(same(a, b) for a, b in zip(found, expected, strict=True))
    assert not any(batch["torch"].any() for batch in found)
    assert found[0]["images"].permute(0, 2, 3, 1).is_contiguous()
    found[0]["images"].zero_()  # memory of its own
    left = pids(stream)
    assert len(left) == workers
    assert stream.waited > 0
    stream.close()
    assert gone(left, 0.1)


@pytest.mark.parametrize("stop", [0, 5, 14])
def test_resumes_in_the_middle_with_another_number_of_workers(stop):
    expected = take(EpochBatches(Drawn(), 5), 20)
    first = EpochBatches(Drawn(), 5, workers=2)
    take(first, stop)
    state = first.state_dict()
    first.close()
    second = EpochBatches(Drawn(), 5, workers=1)
    take(second, 1)
    second.load_state_dict(state)
    assert all(same(a, b) for a, b in zip(take(second, 20 - stop), expected[stop:], strict=True))
    assert second.epoch == pytest.approx(20 / 14)
    second.close()


def test_a_closed_stream_goes_on_where_it_was():
    expected = take(EpochBatches(Drawn(), 5), 6)
    stream = EpochBatches(Drawn(), 5, workers=1)
    found = take(stream, 3)
    stream.close()
    stream.close()
    found += take(stream, 3)
    stream.close()
    assert all(same(a, b) for a, b in zip(found, expected, strict=True))


def test_large_batches_come_through_pipes_while_requests_wait():
    stream = EpochBatches(Drawn(batch=20, rows=50_000), 5, workers=2)
    expected = EpochBatches(Drawn(batch=20, rows=50_000), 5, ahead=0)
    assert all(same(a, b) for a, b in zip(take(stream, 5), take(expected, 5), strict=True))
    stream.close()


@pytest.mark.parametrize(
    ("what", "kind", "told"),
    [
        ("data", DataError, r"a\.png: is damaged \(mend it\)"),
        ("bug", RuntimeError, "no such thing"),
        ("kill", DeviceError, "data worker . of 2 is gone: it was killed by SIGKILL.*fewer data.workers"),
        ("exit", DeviceError, "ended with code 3"),
    ],
)
def test_what_goes_wrong_in_a_worker_is_told_in_its_place(what, kind, told):
    expected = take(EpochBatches(Drawn(), 5, ahead=0), 4)
    at = int(expected[3]["index"][2])
    stream = EpochBatches(Drawn(fault=(what, at)), 5, workers=2)
    found = []
    with pytest.raises(kind, match=told) as raised:
        found.extend(stream.next([0], 1)[0] for _ in range(5))
    if what in ("data", "bug"):  # those before it are handed out first
        assert all(same(a, b) for a, b in zip(found, expected[:3], strict=True))
    if what == "data":
        assert raised.value.then == "attn doctor"
    assert stream._pool is None
    assert threading.active_count() < 20


def test_a_worker_killed_while_nobody_asks_is_an_error_and_no_hang():
    stream = EpochBatches(Drawn(), 5, workers=2, ahead=1)
    take(stream, 1)
    os.kill(pids(stream)[1], signal.SIGKILL)
    with pytest.raises(DeviceError, match="killed by SIGKILL"):
        take(stream, 10)
    assert len(take(stream, 10)) == 10  # a new try has new workers
    stream.close()


def test_closing_does_not_wait_for_a_slow_batch():
    first = int(take(EpochBatches(Drawn(), 5, ahead=0), 4)[3]["index"][0])
    stream = EpochBatches(Drawn(fault=("slow", first)), 5, workers=1)
    take(stream, 2)
    began = time.monotonic()
    stream.close()
    assert time.monotonic() - began < 3


def test_examples_that_cannot_be_sent_leave_no_process(monkeypatch):
    class Local(Drawn):
        pass

    with pytest.raises(Exception, match="Local"):
        take(EpochBatches(Local(), 5, workers=2), 1)
    monkeypatch.setitem(sys.modules, "nowhere", sys.modules[Drawn.__module__])
    monkeypatch.setattr(Drawn, "__module__", "nowhere")
    with pytest.raises(RuntimeError, match="No module named 'nowhere'"):
        take(EpochBatches(Drawn(), 5, workers=1), 1)


_START = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
sys.path.insert(0, {folder!r})
from worker_examples import Drawn
"""
_STREAM = """
from attncli.data.order import EpochBatches
stream = EpochBatches(Drawn(), 5, workers=2)
stream.next([0], 1)
print(*[worker.process.pid for worker in stream._pool._workers], flush=True)
"""
_WORKERS = """
from attncli.data.workers import Workers
workers = Workers(Drawn(fault=("slow" if {slow} else None, 77)), 5, 2)
made = workers.batches(iter([(0, 0, n % 7) for n in range(14)]))
next(made)
print(*[worker.process.pid for worker in workers._workers], flush=True)
"""


def program(then, slow=None):
    text = (_START + (_STREAM if slow is None else _WORKERS) + then).format(
        folder=str(Path(__file__).parent), slow=slow
    )
    process = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return process, [int(pid) for pid in process.stdout.readline().split()]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("slow", [False, True])
def test_no_orphans_when_the_parent_is_killed(how, slow):
    process, workers = program("time.sleep(60)", slow)
    assert len(workers) == 2
    assert all(map(alive, workers))
    process.send_signal(how)
    process.wait()
    assert gone(workers)
    assert process.stderr.read() == b""


def test_no_orphans_when_the_parent_just_ends_and_ctrl_c_is_the_parents():
    process, workers = program("")
    assert process.wait(20) == 0
    assert gone(workers)
    assert process.stderr.read() == b""
    process, workers = program(
        "try:\n    print('asleep', flush=True)\n    time.sleep(60)\n"
        "except KeyboardInterrupt:\n    [stream.next([0], 1) for _ in range(20)]\n"
        "    print('saved', flush=True)"
    )
    assert process.stdout.readline() == b"asleep\n"
    os.kill(process.pid, signal.SIGINT)
    assert process.stdout.readline() == b"saved\n"
    assert process.wait(20) == 0
    assert gone(workers)
    assert process.stderr.read() == b""


def test_a_hard_exit_leaves_no_orphans_either():
    process, workers = program("import os; os._exit(7)")
    assert process.wait(20) == 7
    assert gone(workers)


def test_evaluation_batches_of_arrays_are_tensors():
    batch = EvaluationBatches(Drawn(), 5)[1]
    assert all(isinstance(value, torch.Tensor) for value in batch.values())


def test_workers_stop_when_told():
    workers = Workers(Drawn(), 5, 1)
    made = workers.batches(iter([(0, 0, 0)] * 100))
    next(made)
    workers.stop()
    assert list(made) == []
    workers.close()
    workers.close()

"""A run that is killed anywhere and resumed ends with the same bits as one that was not.

``python tests/training/test_training_exact.py 100`` kills a hundred times at random moments.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest
import training_tasks
from training_tasks import train

from attncli.errors import Interrupted
from attncli.training import Checkpoints, RunFolder, read_records

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["training_tasks", "attncli.training.loop", "torch._dynamo"])

RUNS = {
    "regression": {
        "task": "regression",
        "settings": {"average": "ema", "accumulate": 3, "evaluate_every": 7},
    },
    "tokens": {
        "task": "tokens",
        "settings": {
            "average": "last",
            "average_last": 3,
            "checkpoint_every": 6,
            "optimizer": "muon",
            "keep": 1,
        },
    },
}


def start(path, kind, **more):
    process = processes.Process(target=training_tasks.program, args=(path,), kwargs={**RUNS[kind], **more})
    process.start()
    return process


def finish(path, kind, **more):
    process = start(path, kind, log=str(path) + ".log", **more)
    process.join(60)
    assert process.exitcode == 0, Path(str(path) + ".log").read_text()


def outcome(path):
    """All that must be equal: every byte of tensors and metrics, and the state but for the clock."""
    run = RunFolder.open(path)
    last = Checkpoints(run).all()[-1]
    files = {p.name: p.read_bytes() for p in last.path.glob("*.safetensors")}
    state = last.state()
    state["progress"].pop("seconds")
    result = run.result()
    del result["speed"]
    names = sorted(p.name for p in run.checkpoints.iterdir())
    best = json.loads((run.path / "best.json").read_text())
    return files, state, result, run.metrics_file.read_bytes(), names, best


def same(left, right):
    for one, other in zip(left, right, strict=True):
        assert one == other


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed")
    for kind in RUNS:
        finish(root / kind, kind)
    return {kind: outcome(root / kind) for kind in RUNS}


def test_the_same_seed_gives_the_same_bits(tmp_path, undisturbed):
    finish(tmp_path / "again", "tokens")
    same(outcome(tmp_path / "again"), undisturbed["tokens"])


def kill_at_random(path, kind, kills, seed):
    """Kill so many times at random moments, then let it finish; the last line that each left behind."""
    chance, left = random.Random(seed), []
    delay = {"delay": 0.001} if kind == "regression" else None
    while len(left) < kills:
        (path / "reached").unlink(missing_ok=True)
        process = start(path, kind, slow=chance.choice([0.0, 0.002]), options=delay)
        while process.is_alive() and not (path / "reached").exists():
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.15))
        process.kill()
        process.join()
        records = read_records(path / "metrics.jsonl")
        left.append(records[-1]["step"] if records else 0)
        if process.exitcode == 0:  # it was at its end before; all over again with the next kills
            left.pop()
            break
    finish(path, kind)
    return left


@pytest.mark.parametrize(("kind", "seed"), [("regression", 1), ("tokens", 2), ("regression", 3)])
def test_killed_at_random_moments(tmp_path, undisturbed, kind, seed):
    assert kill_at_random(tmp_path / "run", kind, 4, seed)  # it was cut short at least once
    same(outcome(tmp_path / "run"), undisturbed[kind])


@pytest.mark.parametrize("die_at", range(1, 46, 3))
def test_killed_inside_a_save(tmp_path, undisturbed, die_at):
    """Each run dies in another operation of its first saves: a file, a flush, a rename, a removal."""
    process = start(tmp_path / "run", "tokens", die_at=die_at)
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    finish(tmp_path / "run", "tokens")
    same(outcome(tmp_path / "run"), undisturbed["tokens"])


def test_killed_before_the_first_checkpoint(tmp_path, undisturbed):
    process = start(tmp_path / "run", "regression", options={"delay": 0.02})
    while not (tmp_path / "run" / "reached").exists():
        time.sleep(0.005)
    process.kill()
    process.join()
    assert not Checkpoints(RunFolder.open(tmp_path / "run")).all()
    finish(tmp_path / "run", "regression")
    same(outcome(tmp_path / "run"), undisturbed["regression"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_interrupted_then_resumed(tmp_path, undisturbed, number):
    path, log = tmp_path / "run", tmp_path / "log"
    process = start(path, "regression", options={"delay": 0.02}, log=str(log))
    while not (path / "reached").exists() or int((path / "reached").read_text() or 0) < 3:
        time.sleep(0.005)
    os.kill(process.pid, number)
    process.join(30)
    assert process.exitcode == Interrupted.exit_code
    assert f"attn resume {path}" in log.read_text()
    run = RunFolder.open(path)
    (saved,) = Checkpoints(run).all()
    assert 3 <= saved.step < 7
    assert run.state == "interrupted"
    finish(path, "regression")
    files, state, result, metrics, _, best = outcome(path)
    expected = undisturbed["regression"]
    same((files, state, result, metrics, best), (*expected[:4], expected[5]))


def test_a_torn_line_and_lines_after_the_checkpoint_are_dropped(tmp_path, undisturbed):
    process = start(tmp_path / "run", "tokens", die_at=60)
    process.join(60)
    with (tmp_path / "run" / "metrics.jsonl").open("a") as handle:
        handle.write('{"step": 29, "loss": 1.0}\n{"step": 30, "lo')
    finish(tmp_path / "run", "tokens")
    same(outcome(tmp_path / "run"), undisturbed["tokens"])


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    first, _, run = train(tmp_path / "run", steps=12)
    before = run.metrics_file.read_bytes(), run.result()
    again, _, _ = train(tmp_path / "run", steps=12, resume=True)
    assert again == first
    assert (run.metrics_file.read_bytes(), run.result()) == before


if __name__ == "__main__":
    total, done = int(sys.argv[1]), 0
    root = Path(sys.argv[2] if len(sys.argv) > 2 else "/tmp") / f"kills-{time.time_ns()}"
    root.mkdir(parents=True)
    for kind in RUNS:
        finish(root / kind, kind)
    expected = {kind: outcome(root / kind) for kind in RUNS}
    attempt = 0
    while done < total:
        for kind in RUNS:
            attempt += 1
            left = kill_at_random(root / f"{kind}-{attempt}", kind, 8, attempt)
            same(outcome(root / f"{kind}-{attempt}"), expected[kind])
            done += len(left)
            print(f"{done} kills; {kind} had come to steps {left}; bit-identical", flush=True)

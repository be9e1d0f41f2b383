"""Several processes: the losses of one for the same global batch, each sample seen once, one writer."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import training_tasks
from test_training_exact import processes
from training_tasks import Regression, train

from attncli.errors import Interrupted
from attncli.training import Checkpoints, RunFolder, World, load_weights, read_records


def member(rank, size, port, keywords):
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    training_tasks.program(**keywords)


def launch(path, size=2, **keywords):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    keywords = {"path": path, "log": str(path) + ".log", **keywords}
    started = [processes.Process(target=member, args=(rank, size, port, keywords)) for rank in range(size)]
    for process in started:
        process.start()
    return started


def together(path, **keywords):
    started = launch(path, **keywords)
    for process in started:
        process.join(90)
    return [process.exitcode for process in started]


def text(path):
    return Path(str(path) + ".log").read_text()


def close(left, right, tolerance=1e-6):
    """Same lines but for rounding."""
    mine, theirs = read_records(left.metrics_file), read_records(right.metrics_file)
    assert [r["step"] for r in mine] == [r["step"] for r in theirs]
    for one, other in zip(mine, theirs, strict=True):
        for key, value in one.items():
            assert other[key] == pytest.approx(value, rel=tolerance, abs=tolerance), (key, one, other)


@pytest.mark.parametrize("task", ["tokens", "regression"])
def test_two_processes_give_the_losses_of_one(tmp_path, task):
    """With dropout: two processes draw what one draws in two rounds."""
    settings = {"accumulate": 2, "average": "ema"} if task == "regression" else {"optimizer": "muon"}
    two = {**settings, "accumulate": 1}
    assert together(tmp_path / "two", task=task, settings=two) == [0, 0], text(tmp_path / "two")
    _, fitted, one = train(tmp_path / "one", task=task, **settings)
    run = RunFolder.open(tmp_path / "two")
    close(one, run)
    for name, weight in load_weights(run).items():
        assert (weight - load_weights(one)[name]).abs().max() < 1e-5
    assert run.info["processes"] == 2
    assert text(tmp_path / "two") == ""  # no warnings
    if task == "regression":
        # the first of each is not trained on: it shows whether all parameters take part
        shares = [json.loads((run.path / f"seen-{rank}.json").read_text())[1:] for rank in (0, 1)]
        for step, (left, right) in enumerate(zip(*shares, strict=True)):
            assert sorted(left + right) == sorted(fitted.seen[2 * step] + fitted.seen[2 * step + 1])
            assert not set(left) & set(right)


def test_parameters_that_get_no_gradient(tmp_path):
    assert together(tmp_path / "two", task="partial", settings={"steps": 10}) == [0, 0], text(
        tmp_path / "two"
    )
    close(train(tmp_path / "one", task="partial", steps=10)[2], RunFolder.open(tmp_path / "two"))


def test_rounds_within_processes(tmp_path):
    assert together(tmp_path / "two", task="tokens", settings={"accumulate": 3, "steps": 10}) == [0, 0]
    close(train(tmp_path / "one", task="tokens", steps=10)[2], RunFolder.open(tmp_path / "two"))


def test_resuming_on_another_number_of_processes(tmp_path):
    settings = {"steps": 10, "schedule": {"kind": "constant", "warmup": 0}}
    longer = {**settings, "steps": 30}
    whole = train(tmp_path / "all", task="tokens", **longer)[2]
    train(tmp_path / "grows", task="tokens", **settings)
    assert together(tmp_path / "grows", task="tokens", settings=longer) == [0, 0], text(tmp_path / "grows")
    assert together(tmp_path / "shrinks", task="tokens", settings=settings) == [0, 0]
    train(tmp_path / "shrinks", task="tokens", resume=True, **longer)
    for name in ("grows", "shrinks"):
        mine, theirs = (
            [r for r in read_records(path / "metrics.jsonl") if r["step"] > 12 and "loss" in r]
            for path in (tmp_path / name, whole.path)  # the window to step 12 began anew at 10, the first end
        )
        for one, other in zip(mine, theirs, strict=True):
            assert one["loss"] == pytest.approx(other["loss"], rel=1e-6)


def test_all_processes_stop_together_at_a_bad_loss(tmp_path):
    codes = together(tmp_path / "run", task="exploding", settings={})
    assert codes == [2, 2]
    assert text(tmp_path / "run").count("not finite at step 16") == 2  # one forward pass more


def test_a_signal_to_one_process_stops_and_saves_all(tmp_path):
    path = tmp_path / "run"
    started = launch(path, task="regression", settings={"steps": 400}, options={"delay": 0.02})
    while not (path / "reached").exists():
        time.sleep(0.01)
    os.kill(started[1].pid, signal.SIGTERM)
    for process in started:
        process.join(60)
    assert [process.exitcode for process in started] == [Interrupted.exit_code] * 2
    last = Checkpoints(RunFolder.open(path)).all()[-1]
    last.verify()
    assert last.step < 400


def test_a_disk_that_is_full_for_the_first_process_stops_all(tmp_path):
    codes = together(tmp_path / "run", task="regression", settings={}, options={"width": 64}, limit=9000)
    assert codes == [5, 5]


def test_under_torchrun(tmp_path):
    """And no thread of the group outlives it: one that does can abort the process at its end."""
    program = f"""
import atexit, os, pathlib
import training_tasks

def threads():
    names = [path.read_text() for path in pathlib.Path("/proc/self/task").glob("*/comm")]
    pathlib.Path({str(tmp_path)!r}, "threads-" + os.environ["RANK"]).write_text("".join(names))

atexit.register(threads)  # before the group's own, so called after it
training_tasks.program({str(tmp_path / "two")!r}, "regression", {{"steps": 10}}, resume=False)
"""
    (tmp_path / "program.py").write_text(program)
    here = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": f"{here}:{here.parent.parent}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    done = subprocess.run(
        [*command, str(tmp_path / "program.py")], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        assert "gloo" not in (tmp_path / f"threads-{rank}").read_text()
    close(train(tmp_path / "one", steps=10, accumulate=2)[2], RunFolder.open(tmp_path / "two"))


def test_one_process_is_a_world_of_its_own(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    world = World.join()
    assert (world.rank, world.size, world.chief) == (0, 1, True)
    assert world.parts(3) == [0, 1, 2]
    assert list(world.mine(range(5))) == [0, 1, 2, 3, 4]
    assert world.sum({"a": 2}) == {"a": 2.0}
    assert World(rank=1, size=3).parts(2) == [2, 3]
    assert list(World(rank=1, size=3).mine(range(8))) == [1, 4, 7]


def test_half_an_environment_is_explained(monkeypatch):
    from attncli.errors import DeviceError

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(DeviceError, match=r"RANK.*start with torchrun"):
        World.join()


def test_a_shard_of_an_evaluation_covers_everything_once():
    task = Regression()
    gathered = {}

    class Part(World):
        def sum(self, totals):
            for key, value in totals.items():
                gathered[key] = gathered.get(key, 0.0) + value
            return totals

    task.model.eval()
    whole = task.evaluate(World())
    for rank in range(3):
        task.evaluate(Part(rank, 3))
    assert gathered["error"] / gathered["count"] == pytest.approx(whole["error"])

from __future__ import annotations

import errno
import json
import os

import pytest
import torch
from test_training_exact import outcome, start
from torch import nn
from training_tasks import Pairs, Reporter, Tokens, new_run, train

from attncli.errors import CheckpointError, DeviceError
from attncli.training import Checkpoints, RunFolder, checkpoints, load_weights, restore_weights
from attncli.training.files import write_json
from attncli.training.weights import read_tensors, write_weights

FILES = ["model.safetensors", "average.safetensors", "optimizer.safetensors", "state.json", "manifest.json"]


class Told(Reporter):
    def __init__(self):
        self.notes, self.saved = [], []

    def on_start(self, facts):
        self.notes = facts["notes"]

    def on_checkpoint(self, step, path):
        self.saved.append(step)


def damage(path, how):
    data = path.read_bytes()
    if how == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "gone":
        path.unlink()
    else:  # one bit, the length stays
        middle = len(data) // 2
        path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    path = tmp_path_factory.mktemp("pristine") / "run"
    train(path, task="tokens", steps=20, average="ema", keep=3)
    return path


@pytest.mark.parametrize("how", ["cut", "empty", "gone", "bit"])
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_checkpoint_is_found_named_and_passed_over(tmp_path, pristine, file, how):
    import shutil

    run = RunFolder.open(shutil.copytree(pristine, tmp_path / "run"))
    broken = Checkpoints(run).all()[-1]
    damage(broken.path / file, how)
    with pytest.raises(CheckpointError) as caught:
        broken.verify()
    named = file if (file, how) != ("manifest.json", "bit") else ""  # that makes another file look changed
    assert named in str(caught.value)
    assert file == "manifest.json" or "checkpoint of step 20" in str(caught.value)
    told = Told()
    train(run.path, task="tokens", steps=20, average="ema", keep=3, resume=True, reporter=told)
    assert any("passed over" in note and named in note for note in told.notes)
    assert "resuming after step 10 of 20" in told.notes
    kept, before = outcome(run.path), outcome(pristine)
    assert kept[:4] == before[:4]  # it went over the lost steps again, to the same bits
    assert (run.checkpoints / f"damaged-{broken.path.name}").is_dir()


def test_only_damaged_checkpoints_are_an_error_not_a_fresh_start(tmp_path):
    _, _, run = train(tmp_path / "run", steps=20)
    for checkpoint in Checkpoints(run).all():
        damage(checkpoint.path / "model.safetensors", "cut")
    with pytest.raises(CheckpointError) as caught:
        train(run.path, steps=30, resume=True)
    assert "step 10: model.safetensors has" in str(caught.value)
    assert "step 20: model.safetensors has" in str(caught.value)
    assert run.metrics_file.read_text().count("\n") > 5  # nothing lost


def test_damaged_weights_are_not_loaded_for_use(tmp_path):
    _, _, run = train(tmp_path / "run", steps=10)
    damage(Checkpoints(run).best().path / "model.safetensors", "bit")
    with pytest.raises(CheckpointError, match=r"step 10: model\.safetensors was changed"):
        load_weights(run)


def test_weights_of_a_run_without_a_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint yet"):
        load_weights(new_run(tmp_path / "run"))


def test_best_and_last(tmp_path):
    _, task, run = train(tmp_path / "run", task="tokens", steps=20)
    write_json(run.path / "best.json", {"step": 10})
    best, last = load_weights(run), load_weights(run, "last")
    assert not torch.equal(best["embed.weight"], last["embed.weight"])
    assert torch.equal(last["embed.weight"], task.model.embed.weight)
    write_json(run.path / "best.json", {"step": 15})
    with pytest.raises(CheckpointError, match="step 15"):
        load_weights(run)


def test_tied_weights_are_stored_once_and_come_back_under_every_name(tmp_path):
    model = Pairs()
    write_weights(tmp_path / "w.safetensors", model)
    assert os.path.getsize(tmp_path / "w.safetensors") < 4 * sum(p.numel() for p in model.parameters()) + 1500
    read = read_tensors(tmp_path / "w.safetensors")
    assert set(read) == set(model.state_dict())
    fresh = Pairs()
    restore_weights(fresh, read, "here")
    assert torch.equal(fresh.out.weight, model.embed.weight)
    assert fresh.out.weight is fresh.embed.weight


def test_another_models_checkpoint_names_everything_that_differs(tmp_path):
    read = {"a.weight": torch.zeros(3, 4), "b.bias": torch.zeros(2), "extra": torch.zeros(1)}
    model = nn.ModuleDict({"a": nn.Linear(5, 3), "b": nn.Linear(2, 2)})
    before = model.state_dict()["b.bias"].clone()
    with pytest.raises(CheckpointError) as caught:
        restore_weights(model, read, "checkpoint of step 7")
    text = str(caught.value)
    assert "checkpoint of step 7 holds the weights of another model" in text
    assert "missing: a.bias, b.weight" in text
    assert "unexpected: extra" in text
    assert "other shape: a.weight is 3x4, the model has 3x5" in text
    assert torch.equal(model["b"].bias, before)


def test_resuming_with_another_model(tmp_path):
    train(tmp_path / "run", steps=10)
    with pytest.raises(CheckpointError, match="another model"):
        train(tmp_path / "run", steps=20, resume=True, task_options={"width": 17})


def steps_of(run):
    return [checkpoint.step for checkpoint in Checkpoints(run).all()]


def test_retention_keeps_the_last_and_the_best(tmp_path):
    import training_tasks

    class Best4(Tokens):
        def evaluate(self, shard):
            self.evaluations = getattr(self, "evaluations", 0) + 1
            return {"accuracy": 1.0 if self.evaluations == 4 else 0.5 - self.evaluations / 100}

    training_tasks.TASKS["best4"] = Best4
    told = Told()
    result, _, run = train(tmp_path / "run", task="best4", evaluate_every=2, steps=18, keep=2, reporter=told)
    assert told.saved == list(range(2, 19, 2))
    assert steps_of(run) == [8, 16, 18]
    assert json.loads((run.path / "best.json").read_text()) == {
        "step": 8,
        "metric": "accuracy",
        "value": 1.0,
        "folder": "checkpoints/step-00000008",
    }
    assert result.best_step == 8
    assert result.metrics == {"accuracy": 1.0}


def test_pruning_keeps_the_best_of_each_kept_checkpoint(tmp_path):
    """The newest may turn out damaged; the one before then needs the best that it knew."""
    found = Checkpoints(new_run(tmp_path / "run"))
    best = {1: 1, 2: 1, 3: 1, 4: 4}
    for step in best:
        found.save(step, nn.Linear(1, 1), {}, {"progress": {"best": {"step": best[step]}}})
    found.prune(2)
    assert [checkpoint.step for checkpoint in found.all()] == [1, 3, 4]


def test_snapshots_of_earlier_checkpoints_take_no_space(tmp_path):
    _, _, run = train(tmp_path / "run", average="last", average_last=2, keep=2, steps=30)
    last = Checkpoints(run).all()[-1]
    assert sorted(last.snapshots()) == [20, 30]
    shared = (last.path / "snapshot-00000020.safetensors").stat()
    assert shared.st_ino == (run.checkpoints / "step-00000020" / "model.safetensors").stat().st_ino


def test_file_systems_without_hard_links_get_copies(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "no links here")

    expected = train(tmp_path / "links", average="last", average_last=2)[2]
    monkeypatch.setattr(os, "link", refuse)
    run = train(tmp_path / "copies", average="last", average_last=2)[2]
    for path in Checkpoints(expected).all()[-1].path.glob("*.safetensors"):
        assert (run.checkpoints / "step-00000030" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("call", range(1, 16))
def test_a_full_disk_at_any_write_loses_nothing(tmp_path, monkeypatch, call):
    """The ``call``-th flush after step 10 fails as on a full disk."""
    count = iter(range(10**6))
    original = os.fsync

    def full(handle):
        if (tmp_path / "run" / "checkpoints" / "step-00000010").exists() and next(count) + 1 == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DeviceError) as caught:
        train(tmp_path / "run", task="tokens")
    monkeypatch.undo()
    assert "no space left on device" in str(caught.value)
    assert "free some space" in str(caught.value)
    run = RunFolder.open(tmp_path / "run")
    assert run.state == "failed"
    found, _ = Checkpoints(run).newest()
    assert found.step >= 10
    train(tmp_path / "run", task="tokens", resume=True)
    train(tmp_path / "whole", task="tokens")
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_files_that_may_not_grow(tmp_path):
    """A real limit of the system, met in the library that writes the weights."""
    process = start(
        tmp_path / "run", "regression", options={"width": 64}, limit=9000, log=str(tmp_path / "log")
    )
    process.join(60)
    said = (tmp_path / "log").read_text()
    assert process.exitcode == 5, said
    assert "the checkpoint of step 7 (no earlier one exists) could not be written: file too large" in said
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_leftovers_of_killed_saves_are_cleaned_and_replaced_folders_put_back(tmp_path):
    _, _, run = train(tmp_path / "run", steps=20)
    (run.checkpoints / ".tmp-step-00000025").mkdir()
    (run.checkpoints / "step-00000020").rename(run.checkpoints / ".old-step-00000020")
    (run.checkpoints / ".old-step-00000010").mkdir()
    Checkpoints(run).clean()
    assert sorted(p.name for p in run.checkpoints.iterdir()) == ["step-00000010", "step-00000020"]
    Checkpoints(run).all()[-1].verify()


def test_nothing_is_pickled(tmp_path):
    _, _, run = train(tmp_path / "run", average="last", steps=10)
    for path in run.path.rglob("*"):
        if path.is_file() and path.suffix != ".safetensors":
            path.read_text(encoding="utf-8")
    assert {p.suffix for p in run.path.rglob("*") if p.is_file()} <= {
        ".safetensors",
        ".json",
        ".jsonl",
        ".yaml",
        "",
    }
    assert checkpoints.MODEL in {p.name for p in run.path.rglob("*")}

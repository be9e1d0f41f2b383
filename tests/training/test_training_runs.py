from __future__ import annotations

import json
import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from training_tasks import new_run

from attncli.errors import CheckpointError, RecipeError
from attncli.training import RunFolder, read_records
from attncli.training.records import Records


def create(root, path=None):
    return RunFolder.create(path, command="pretrain", recipe="pretrain/bert", text="train: {}\n", root=root)


def test_names_count_up_and_no_two_are_the_same(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: create(tmp_path), range(16)))
    assert sorted(run.name for run in runs) == sorted(f"pretrain-bert-{n}" for n in range(1, 17))
    assert not list(tmp_path.glob(".tmp-*"))
    assert {json.loads((run.path / "run.json").read_text())["recipe"] for run in runs} == {"pretrain/bert"}


def test_a_new_run_holds_recipe_and_versions(tmp_path):
    run = RunFolder.open(create(tmp_path).path)
    assert run.recipe_file.read_text() == "train: {}\n"
    assert run.info["format"] == 1
    assert run.info["command"] == "pretrain"
    assert {"python", "torch"} <= set(run.info["versions"])
    assert run.state == "created"
    assert run.result() is None


def test_a_taken_folder_is_left_alone(tmp_path):
    run = create(tmp_path, tmp_path / "mine")
    with pytest.raises(RecipeError, match="is a run already") as caught:
        create(tmp_path, run.path)
    assert caught.value.then == f"attn resume {run.path}"
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("precious")
    with pytest.raises(RecipeError, match="not an empty folder"):
        create(tmp_path, other)
    assert (other / "thesis.txt").read_text() == "precious"
    file = tmp_path / "file"
    file.write_text("precious")
    with pytest.raises(RecipeError):
        create(tmp_path, file)
    assert file.read_text() == "precious"
    (tmp_path / "empty").mkdir()
    assert create(tmp_path, tmp_path / "empty").state == "created"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no run folder"),
        ("{not json", "damaged"),
        ("[]", "not a JSON object"),
        ("{}", "no format"),
        ('{"format": 99, "attn": "9.0"}', "written by attn 9.0 in run format 99"),
    ],
)
def test_opening_what_is_no_sound_run(tmp_path, text, said):
    run = create(tmp_path)
    (run.path / "run.json").unlink()
    if text is not None:
        (run.path / "run.json").write_text(text)
    with pytest.raises(CheckpointError, match=said):
        RunFolder.open(run.path)


def test_opening_nothing_or_half_a_run(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        RunFolder.open(tmp_path / "nowhere")
    run = create(tmp_path)
    run.recipe_file.unlink()
    with pytest.raises(CheckpointError, match=r"recipe\.yaml is missing"):
        RunFolder.open(run.path)


def _hold(path, ready, leave):
    run = RunFolder.open(path)
    run.acquire()
    run.update(state="running")
    ready.set()
    leave.wait(30)


def test_two_processes_do_not_train_in_one_folder_and_a_killed_one_does_not_block(tmp_path):
    run = new_run(tmp_path / "run")
    context = multiprocessing.get_context("fork")
    ready, leave = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(run.path, ready, leave))
    holder.start()
    assert ready.wait(30)
    again = RunFolder.open(run.path)
    assert again.state == "running"
    with pytest.raises(RecipeError, match=f"process {holder.pid} is training"):
        again.acquire()
    holder.kill()
    holder.join()
    assert again.state == "interrupted"
    again.acquire()
    assert int((run.path / ".lock").read_text()) == os.getpid()
    again.release()


def test_records_keep_whole_lines_up_to_a_step(tmp_path):
    path = tmp_path / "metrics.jsonl"
    first = Records(path, 0)
    for step in range(1, 6):
        first.add(step=step, loss=1 / 3, bad=float("nan"))
    first.close()
    with path.open("a") as handle:
        handle.write('{"step": 6, "lo')
    assert [r["step"] for r in read_records(path)] == [1, 2, 3, 4, 5]
    again = Records(path, 3)
    again.add(step=4, loss=0.1)
    again.close()
    records = read_records(path)
    assert [(r["step"], r["loss"]) for r in records] == [(1, 1 / 3), (2, 1 / 3), (3, 1 / 3), (4, 0.1)]
    assert records[0]["bad"] is None
    assert path.read_text().count("\n") == 4

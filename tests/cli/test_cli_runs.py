"""``attn runs``: what run folders say, damaged ones included."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from attncli import cli, console


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    console.start()


def make(
    path, *, loss=2.5, steps=100, state="finished", hours=0, recipe="train:\n  steps: 100\n", versions=None
):
    path.mkdir(parents=True)
    created = datetime.now(UTC) - timedelta(hours=hours)
    about = {
        "format": 1,
        "command": "pretrain",
        "recipe": "bert",
        "attn": "0.1.0",
        "versions": versions or {"torch": "2.6.0"},
        "created": created.isoformat(timespec="seconds"),
        "state": state,
    }
    (path / "run.json").write_text(json.dumps(about))
    (path / "recipe.yaml").write_text(recipe)
    lines = [json.dumps({"step": step, "loss": 3.0}) for step in range(10, steps + 1, 10)]
    (path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 1')
    if loss is not None:
        (path / "best.json").write_text(json.dumps({"step": 90, "metric": "loss", "value": loss}))
    if state == "finished":
        result = {
            "state": "finished",
            "metrics": {"loss": loss, "accuracy": 0.5},
            "steps": steps,
            "speed": {"units_per_second": 20000.0},
        }
        (path / "result.json").write_text(json.dumps(result))
    return path


def rows(text):
    return [line.split() for line in text.splitlines()[2:]]


def test_list(here, capsys):
    make(here / "runs/bert-1", loss=2.5, hours=3)
    make(here / "runs/bert-2", loss=2.25, state="running", steps=40, hours=50)
    make(here / "runs/bert-3", loss=None, state="failed", steps=0)
    assert cli.run(["runs", "list"]) == 0
    assert rows(capsys.readouterr().out) == [
        ["runs/bert-2", "pretrain", "bert", "interrupted", "40", "loss", "2.250", "2", "d"],
        ["runs/bert-1", "pretrain", "bert", "finished", "100", "loss", "2.500", "3", "h"],
        ["runs/bert-3", "pretrain", "bert", "failed", "-", "-", "now"],
    ]
    assert cli.run(["runs", "list", "--json"]) == 0
    runs = {run["path"]: run for run in json.loads(capsys.readouterr().out)["runs"]}
    assert runs["runs/bert-1"]["metrics"] == {"loss": 2.5, "accuracy": 0.5}
    assert runs["runs/bert-2"]["metrics"] == {"loss": 2.25}


def test_list_of_nothing(here, capsys):
    assert cli.run(["runs", "list"]) == 0
    assert "there are no runs yet" in capsys.readouterr().err
    (here / "runs").mkdir()
    (here / "runs/foreign").mkdir()
    assert cli.run(["runs", "list"]) == 0
    assert "there are no runs in runs" in capsys.readouterr().err
    assert cli.run(["runs", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"runs": []}
    assert cli.run(["runs", "list", "elsewhere"]) == 4
    assert "there is no folder elsewhere" in capsys.readouterr().err


@pytest.mark.parametrize("file", ["run.json", "result.json", "best.json"])
@pytest.mark.parametrize("content", ["", "{", "[1, 2]", "\x00\x01", '"text"'])
def test_a_damaged_run_is_shown_as_such_and_the_others_as_ever(here, capsys, file, content):
    make(here / "runs/good")
    make(here / "runs/bad")
    (here / "runs/bad" / file).write_text(content)
    assert cli.run(["runs", "list"]) == 0
    listed = {row[0]: row[1:] for row in rows(capsys.readouterr().out)}
    assert listed["runs/good"][2] == "finished"
    assert listed["runs/bad"][0] == "damaged:"
    assert cli.run(["runs", "compare", "runs/good", "runs/bad"]) == 4
    assert f"runs/bad/{file} is damaged" in capsys.readouterr().err


def test_compare(here, capsys):
    before = "train:\n  steps: 100\n  batch: 8\nmodel:\n  size: tiny\n"
    after = "train:\n  steps: 100\n  batch: 16\nmodel:\n  size: tiny\n  norm: pre\n"
    make(here / "a", recipe=before)
    make(here / "b", recipe=after, loss=2.0, versions={"torch": "2.7.0"})
    make(here / "c", recipe=after, loss=2.25, state="interrupted", versions={"torch": "2.7.0"})
    assert cli.run(["runs", "compare", "a", "b", "c"]) == 0
    told = [line.split() for line in capsys.readouterr().out.splitlines()]
    for row in (
        ["result", "a", "b", "c"],
        ["loss", "2.500", "2.000", "2.250"],
        ["accuracy", "0.5000", "0.5000", "-"],
        ["state", "finished", "finished", "interrupted"],
        ["train.batch", "8", "16", "16"],
        ["model.norm", "-", "pre", "pre"],
        ["versions.torch", "2.6.0", "2.7.0", "2.7.0"],
    ):
        assert row in told
    assert not [row for row in told if row[:1] in (["train.steps"], ["model.size"], ["versions.attn"])]
    assert cli.run(["runs", "compare", "a", "b", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["differs"]["train.batch"] == [8, 16]
    assert [run["path"] for run in document["runs"]] == ["a", "b"]


def test_compare_of_equals(here, capsys):
    for name in "ab":
        make(here / name)
    assert cli.run(["runs", "compare", "a", "b"]) == 0
    assert "the settings are the same" in capsys.readouterr().out


def test_compare_says_all_that_is_missing(here, capsys):
    make(here / "a")
    (here / "foreign").mkdir()
    make(here / "torn")
    (here / "torn/recipe.yaml").write_text("train: [\n")
    assert cli.run(["runs", "compare", "a", "none", "foreign", "torn"]) == 4
    told = capsys.readouterr().err
    assert "there is no run folder none" in told
    assert "foreign is no run folder: it has no run.json" in told
    assert "torn/recipe.yaml:2: is not valid YAML" in told
    assert told.endswith("next: attn runs list\n")
    assert cli.run(["runs", "compare", "a"]) == 2
    assert "two runs or more" in capsys.readouterr().err

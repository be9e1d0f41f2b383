"""``attn runs compare`` on stored translations: scores, differences and their p-values."""

import json
import os
import random
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

import attncli
from attncli import cli, console
from attncli.metrics.translation import paired, score
from attncli.training.translations import write_translations

TEXT = "ein Mann geht über die Straße und eine Frau sitzt auf der Bank mit Hund rotem Hut"
WORDS = TEXT.split()


def sentences(count, seed):
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(5, 12))) + " ." for _ in range(count)]


def worsened(texts, share, seed):
    draw = random.Random(seed)
    return [
        " ".join(draw.choice(WORDS) if draw.random() < share else w for w in text.split()) for text in texts
    ]


REFERENCES = sentences(60, 0)
MADE = {
    "a": worsened(REFERENCES, 0.5, 1),
    "b": worsened(REFERENCES, 0.2, 2),
    "c": worsened(REFERENCES, 0.5, 3),
}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    console.start()


def make(path, *, target="de", sets=None):
    path.mkdir(parents=True)
    about = {
        "format": 1,
        "command": "translate",
        "recipe": "transformer",
        "attn": "0.1.0",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "state": "finished",
    }
    (path / "run.json").write_text(json.dumps(about))
    (path / "recipe.yaml").write_text(f"data:\n  source: en\n  target: {target}\n")
    (path / "result.json").write_text(json.dumps({"state": "finished", "metrics": {"bleu": 1.5}, "steps": 9}))
    for name, (references, hypotheses) in (sets or {}).items():
        write_translations(path, name, ["source"] * len(references), references, hypotheses)


def compared(capsys, *paths):
    assert cli.run(["runs", "compare", *paths, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_runs_that_translated_the_same_set(here, capsys):
    for name in "abc":
        make(here / name, sets={"test_2016": (REFERENCES, MADE[name])})
    document = compared(capsys, "a", "b", "c")
    (found,) = document["translations"]
    assert (found["test_set"], found["sentences"]) == ("test_2016", 60)
    assert list(found["scores"]) == ["bleu", "bleu_lowercase", "chrf"]
    for metric, rows in found["scores"].items():
        assert [row["run"] for row in rows] == ["a", "b", "c"]
        assert rows[0] == {
            "run": "a",
            "value": score(MADE["a"], REFERENCES)[metric],
            "difference": None,
            "p_value": None,
        }
        for row in rows[1:]:
            wanted = paired(MADE["a"], MADE[row["run"]], REFERENCES, metric=metric)
            assert row["value"] == wanted.second
            assert (row["difference"], row["p_value"]) == (wanted.difference, wanted.p_value)
    assert found["scores"]["bleu"][1]["difference"] > 10
    assert found["scores"]["bleu"][1]["p_value"] < 0.01
    assert document["not_compared"] == []

    assert cli.run(["runs", "compare", "a", "b", "c"]) == 0
    told = capsys.readouterr().out
    assert "test_2016: 60 sentences; p by paired bootstrap, 1,000 resamples" in told
    rows = [line.split() for line in told.splitlines()]
    bleu = found["scores"]["bleu"]
    assert ["bleu", "a", f"{bleu[0]['value']:.2f}", "-", "-"] in rows
    assert ["b", f"{bleu[1]['value']:.2f}", f"{bleu[1]['difference']:+.2f}", "0.001"] in rows
    assert ["bleu", "1.500", "1.500", "1.500"] in rows  # the results that the runs report, as ever


def test_only_sets_that_two_runs_hold(here, capsys):
    other = sentences(20, 7)
    make(here / "a", sets={"mine": (REFERENCES, MADE["a"]), "both": (other, other)})
    make(here / "b", sets={"both": (other, other), "yours": (REFERENCES, MADE["b"])})
    make(here / "c")
    document = compared(capsys, "a", "c", "b")
    (found,) = document["translations"]
    assert found["test_set"] == "both"
    equal = {"value": pytest.approx(100), "difference": 0, "p_value": 1}
    assert found["scores"]["bleu"][1] == {"run": "b", **equal}
    document = compared(capsys, "a", "c")
    assert document["translations"] == document["not_compared"] == []


def test_other_references_are_said_and_not_compared(here, capsys):
    changed = [*REFERENCES[:-1], "anders ."]
    make(here / "a", sets={"test": (REFERENCES, MADE["a"])})
    make(here / "b", sets={"test": (changed, MADE["b"])})
    make(here / "c", sets={"test": (REFERENCES, MADE["c"])})
    assert cli.run(["runs", "compare", "a", "b"]) == 0
    told = capsys.readouterr()
    assert "test: the references of b are not those of a; these two are not compared" in told.err
    assert "bootstrap" not in told.out
    document = compared(capsys, "a", "b", "c")
    (found,) = document["translations"]
    assert [row["run"] for row in found["scores"]["bleu"]] == ["a", "c"]
    assert len(document["not_compared"]) == 1


def test_a_missing_tokeniser_is_said(here, capsys, monkeypatch):
    monkeypatch.setattr("sacrebleu.tokenizers.tokenizer_ja_mecab.MeCab", None)
    for name in "ab":
        make(here / name, target="ja", sets={"test": (REFERENCES, MADE[name])})
    (note,) = compared(capsys, "a", "b")["not_compared"]
    assert "BLEU of language ja" in note
    assert "pip install 'sacrebleu[ja]'" in note


def test_damaged_translations_are_named(here, capsys):
    for name in "ab":
        make(here / name, sets={"test": (REFERENCES, MADE[name])})
    (here / "b/translations/test.source.txt").write_text("one\n")
    assert cli.run(["runs", "compare", "a", "b"]) == 4
    told = capsys.readouterr().err
    assert "b/translations: the numbers of lines differ: test.source.txt has 1, " in told
    assert told.endswith("next: attn evaluate b --split test\n")
    make(here / "c")
    assert cli.run(["runs", "compare", "b", "c"]) == 0  # nobody reads it


def test_comparing_loads_no_torch(here):
    for name in "ab":
        make(here / name, sets={"test": (REFERENCES, MADE[name])})
    code = (
        "import sys; from attncli.cli import run; run(['runs', 'compare', 'a', 'b']); "
        "sys.exit('torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(attncli.__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert "bootstrap" in done.stdout
    assert done.returncode == 0

"""attn translate and what follows it, through the real entry."""

import io
import json
import random
import sys
from pathlib import Path

import pytest

from attncli.cli import run as run_program
from attncli.recipe import catalogue

RECIPES = [entry for entry in catalogue.shipped() if entry.command == "translate"]
TINY = {
    "transformer": [
        "model.width=32",
        "model.attention.heads=2",
        "model.encoder_layers=1",
        "model.decoder_layers=2",
        "model.dropout=0",
    ],
    "seq2seq": ["model.embedding=32", "model.width=32", "model.dropout=0"],
}
QUICK = ["tokenizer.vocabulary=400", "train.batch=256", "train.log_every=1", "evaluate.bootstrap=20"]
WORDS = dict(
    zip(
        ["the", "cat", "dog", "sees", "a", "bird", "and", "runs", "home", "never", "again"],
        ["die", "Katze", "Hund", "sieht", "ein", "Vogel", "und", "läuft", "heim", "nie", "wieder"],
        strict=True,
    )
)


def write_pairs(folder, **parts):
    """Word-for-word translations in the reverse order; a part's number of lines by its name."""
    rng = random.Random(0)
    for part, count in parts.items():
        sources = [rng.choices(list(WORDS), k=rng.randint(2, 6)) for _ in range(count)]
        lines = [[WORDS[word] for word in reversed(words)] for words in sources]
        for language, texts in (("en", sources), ("de", lines)):
            text = "".join(" ".join(words) + "\n" for words in texts)
            (folder / f"{part}.{language}").write_text(text)
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs"), train=400, val=12, test_a=10, test_b=7)


@pytest.fixture(scope="module", params=["transformer", "seq2seq"])
def run(request, tmp_path_factory, pairs):
    """A finished run that has learnt something."""
    path = tmp_path_factory.mktemp("runs") / request.param
    settings = [
        *TINY[request.param],
        *QUICK,
        "train.steps=60",
        "train.evaluate_every=30",
        "train.average=none",
    ]
    assert run_program(["translate", request.param, "--data", str(pairs), "--out", str(path), *settings]) == 0
    return path


def test_recipes_are_counted():
    assert [entry.name for entry in RECIPES] == ["multi30k", "multi30k-seq2seq", "seq2seq", "transformer"]


@pytest.mark.parametrize("entry", RECIPES, ids=lambda entry: entry.name)
def test_every_recipe_trains_two_steps(attn, pairs, entry):
    where = ["--data", pairs] if entry.name.startswith("multi30k") else ["data.limit=600"]
    settings = ["train.steps=2", "train.batch=256", "tokenizer.vocabulary=400", "evaluate.limit=2"]
    bounds = ["evaluate.search.max_length=0.1", "evaluate.search.beam=2", "evaluate.bootstrap=0"]
    ran = attn("translate", entry.name, *where, *settings, *bounds, "--out", "run", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["steps"] == 2
    assert {"loss", "bleu", "chrf"} < set(ran.json["metrics"])
    assert "tok:13a" in ran.json["signatures"]["bleu"]


@pytest.mark.parametrize("kind", TINY)
def test_a_dry_run_counts_the_operations(attn, pairs, kind):
    done = attn("translate", kind, "--data", str(pairs), *TINY[kind], *QUICK, "--dry-run", "--json")
    assert done.code == 0, done.err
    assert "profiler" not in done.err
    report = json.loads(done.out)
    tokens, parameters = report["tokens a batch"], report["parameters"]
    assert 2 * tokens * parameters < report["FLOPs a step"] < 20 * tokens * parameters


def test_test_sets_are_measured_and_kept(run, pairs):
    result = json.loads((run / "result.json").read_text())
    assert {"test_a.bleu", "test_a.chrf", "test_b.ter", "test_b.bleu_interval"} < set(result["metrics"])
    kept = (run / "translations" / "test_a.hypothesis.txt").read_text()
    assert len(kept.splitlines()) == 10
    assert (run / "translations" / "test_a.reference.txt").read_text() == (pairs / "test_a.de").read_text()


def test_files_are_translated_line_by_line(attn, run, tmp_path):
    (tmp_path / "in.txt").write_bytes("the cat runs\n\n   \na dog sees\u2028a bird\r\nnever".encode())
    ran = attn("translate", run, "in.txt")
    assert ran.code == 0, ran.err
    lines = ran.out.split("\n")
    assert len(lines) == 6
    assert lines[1] == lines[2] == lines[5] == ""
    assert attn("translate", run, "the cat runs").out == lines[0] + "\n"


def test_standard_input_is_translated(attn, run, monkeypatch):
    direct = attn("translate", run, "the cat").out
    for arguments in ([], ["-"]):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"the cat\n")))
        assert attn("translate", run, *arguments).out == direct


def test_nbest_scores_and_alignment_are_columns(attn, run):
    ran = attn("translate", run, "the cat runs home", "--nbest", 3, "--scores", "--align")
    rows = [line.split("\t") for line in ran.out.splitlines()]
    assert [row[0] for row in rows] == ["1", "2", "3"]
    scores = [float(row[2]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    for _, text, _, links in rows:
        for link in links.split():
            source, target = map(int, link.split("-"))
            assert source < 4
            assert target < len(text.split())


def test_json_is_one_document(attn, run):
    ran = attn("translate", run, "the cat", "a dog", "--json", "--scores")
    assert [entry["source"] for entry in ran.json["translations"]] == ["the cat", "a dog"]
    assert ran.json["translations"][0]["translations"][0]["score"] < 0


def test_sampling_repeats_with_its_seed(attn, run):
    texts = ["the cat runs home", "a dog"]
    drawn = attn("translate", run, *texts, "--temperature", 1.5, "--nbest", 4, "--seed", 3).out
    assert drawn == attn("translate", run, *texts, "--temperature", 1.5, "--nbest", 4, "--seed", 3).out
    assert drawn != attn("translate", run, *texts, "--temperature", 1.5, "--nbest", 4, "--seed", 4).out
    assert drawn.count("\n") == 8
    assert attn("translate", run, *texts, "--seed", 3).code == 2
    assert attn("translate", run, *texts, "--top-k", 3, "--beam", 2).code == 2


def test_bad_input_is_told(attn, run, tmp_path):
    (tmp_path / "bad.txt").write_bytes(b"the cat\nein \xff dog\n")
    ran = attn("translate", run, "bad.txt")
    assert ran.code == 3
    assert "bad.txt:2" in ran.err
    assert "0xff at column 5" in ran.err
    (tmp_path / "long.txt").write_text("the cat\n" + "the cat " * 400 + "\n")
    ran = attn("translate", run, "long.txt")
    assert ran.code == 3
    assert "long.txt:2" in ran.err
    assert "the model takes 256" in ran.err
    assert attn("translate", run, "missing.txt").code == 3
    assert attn("translate", run, tmp_path).code == 3
    ran = attn("translate", run, "the cat", "--nbest", 9)
    assert ran.code == 2
    assert "--beam 9" in ran.err


def test_options_of_a_run_are_refused_with_a_recipe(attn):
    ran = attn("translate", "transformer", "--align")
    assert ran.code == 2
    assert "--align" in ran.err


def test_evaluate_measures_parts_and_other_pairs(attn, run, tmp_path):
    ran = attn("evaluate", run, "--split", "test_b", "--json", "--require", "bleu>=0")
    assert ran.code == 0, ran.err
    stored = json.loads((run / "result.json").read_text())["metrics"]
    assert ran.json["metrics"]["bleu"] == pytest.approx(stored["test_b.bleu"])
    write_pairs(tmp_path, mine=5)
    ran = attn("evaluate", run, "--data", tmp_path / "mine", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["metrics"]["perplexity"] > 1
    assert (run / "translations" / "mine.hypothesis.txt").exists()
    ran = attn("evaluate", run, "--split", "test_c")
    assert ran.code == 3
    assert "test_b" in ran.err
    assert attn("evaluate", run, "--split", "test_b", "--require", "bleu>=101").code == 6


def test_inspect_draws_the_alignment(attn, run, tmp_path):
    ran = attn("inspect", run, "the cat runs", "--out", "maps/a.png", "--json")
    assert ran.code == 0, ran.err
    assert (tmp_path / "maps" / "a.png").stat().st_size > 1000
    assert "<html" in (tmp_path / "maps" / "a.html").read_text()
    (found,) = ran.json["inputs"]
    assert all(head["change"] >= 0 for head in found["heads"])
    assert any(head["span"] is None for head in found["heads"])  # there is no distance between two texts
    assert (tmp_path / "maps" / "a-heads.png").exists() == (len(found["heads"]) > 1)
    both = attn("inspect", run, run, "the cat runs", "--json").json["inputs"][0]
    assert [told["translation"] for told in both["runs"]] == [found["translation"]] * 2


def test_resume_extends_bit_identically(attn, pairs):
    settings = [*TINY["transformer"], *QUICK, "tokenizer.dropout=0.1", "data.tests=[test_a]", "--data", pairs]
    assert attn("translate", "transformer", *settings, "train.steps=6", "--out", "whole").code == 0
    assert attn("translate", "transformer", *settings, "train.steps=6", "--out", "again").code == 0
    assert attn("resume", "again", "train.steps=8").code == 0
    first = [json.loads(line) for line in Path("whole/metrics.jsonl").read_text().splitlines()]
    second = [json.loads(line) for line in Path("again/metrics.jsonl").read_text().splitlines()]
    assert second[-1]["step"] == 8
    assert second[: len(first)] == first


def test_wrong_data_is_told_before_training(attn, pairs, tmp_path):
    ran = attn("translate", "transformer", "--data", pairs, "data.target=fr")
    assert ran.code == 3
    assert "train.fr" in ran.err
    assert "train.de" in ran.err
    write_pairs(tmp_path, train=30)
    with (tmp_path / "train.de").open("a") as file:
        file.write("mehr\n")
    ran = attn("translate", "transformer", "--data", tmp_path)
    assert ran.code == 3
    assert "train.en has 30 lines, train.de has 31" in ran.err


def test_shortlist_is_kept_with_the_run(attn, pairs, tmp_path):
    settings = [*TINY["transformer"], *QUICK, "train.steps=40", "train.average=none", "--data", pairs]
    ran = attn(
        "translate", "transformer", *settings, "evaluate.search.shortlist=20", "--out", "short", "--json"
    )
    assert ran.code == 0, ran.err
    assert (tmp_path / "short" / "shortlist.safetensors").exists()
    first = attn("translate", "short", "the cat runs", "a dog").out.splitlines()
    assert first == [attn("translate", "short", text).out.rstrip("\n") for text in ("the cat runs", "a dog")]

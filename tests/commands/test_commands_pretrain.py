"""attn pretrain and what follows it, through the real entry."""

import json
import re
from pathlib import Path

import pytest
from commands_support import QUICK, write_text

from attncli.recipe import catalogue

RECIPES = [entry for entry in catalogue.shipped() if entry.command == "pretrain"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_text(tmp_path_factory.mktemp("corpus") / "text.txt")


@pytest.fixture(scope="module")
def bert(tmp_path_factory, corpus):
    """A finished masked run."""
    from attncli.cli import run as run_program

    path = tmp_path_factory.mktemp("runs") / "bert"
    assert run_program(["pretrain", "bert", "--data", str(corpus), "--out", str(path), *QUICK]) == 0
    return path


@pytest.fixture(scope="module")
def gpt(tmp_path_factory, corpus):
    """A finished causal run."""
    from attncli.cli import run as run_program

    path = tmp_path_factory.mktemp("runs") / "gpt"
    assert run_program(["pretrain", "gpt", "--data", str(corpus), "--out", str(path), *QUICK]) == 0
    return path


def test_recipes_are_counted():
    assert len(RECIPES) == 8


@pytest.mark.parametrize("entry", RECIPES, ids=lambda entry: entry.name)
def test_every_recipe_trains_two_steps_on_its_own_data(attn, tmp_path, entry):
    ran = attn(
        "pretrain",
        entry.name,
        "train.steps=2",
        "train.batch=2",
        "evaluate.batches=1",
        "--out",
        "run",
        "--json",
    )
    assert ran.code == 0, ran.err
    assert ran.json["steps"] == 2
    assert ran.json["metrics"]["loss"] > 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 2
    assert (tmp_path / "run" / "curves.png").stat().st_size > 1000


def test_result_table_is_on_standard_output(attn, corpus):
    ran = attn("pretrain", "bert", "--data", corpus, *QUICK)
    assert ran.code == 0, ran.err
    for name in (
        "masked_loss",
        "masked_accuracy",
        "next_sentence_accuracy",
        "perplexity",
        "tokens_per_second",
    ):
        assert name in ran.out
    assert "next: attn pretrain runs/bert-1" in ran.err
    assert "bert is the recipe pretrain/bert" in ran.err.splitlines()[0]


def test_json_is_one_document(attn, corpus):
    ran = attn("pretrain", "bert", "--data", corpus, "--json", *QUICK)
    assert ran.json["run"] == "runs/bert-1"
    assert set(ran.json["metrics"]) >= {"loss", "masked_loss", "unigram_loss"}
    assert ran.json["speed"]["tokens_per_second"] > 0


def test_requirements_become_exit_codes(attn, corpus):
    assert attn("pretrain", "bert", "--data", corpus, "--require", "loss<100", *QUICK).code == 0
    ran = attn("pretrain", "bert", "--data", corpus, "--require", "loss<0.001", *QUICK)
    assert ran.code == 6
    assert "--require loss<0.001 is not met" in ran.err
    ran = attn("pretrain", "bert", "--data", corpus, "--require", "accurcy>1", *QUICK)
    assert ran.code == 2
    assert "masked_accuracy" in ran.err


def test_dry_run_trains_nothing(attn, corpus, tmp_path):
    ran = attn("pretrain", "bert", "--data", corpus, "--dry-run", "--json", *QUICK)
    assert ran.code == 0, ran.err
    report = ran.json
    assert report["parameters"] > 1000
    assert report["FLOPs a step"] > 0
    assert 0 < report["tokens a batch"] <= 4 * 32
    assert ":" in report["attention backend"]
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "override",
    [
        "model.attention.mechanism=additive",
        "model.attention.mechanism=cosine",
        "model.attention.position=rotary",
        "model.attention.position=shaw",
        "model.attention.kv_heads=1",
        "model.norm=pre",
        "train.objective.whole_word=true",
        "train.accumulate=2",
        "train.gradient_checkpointing=true",
        "train.average=ema",
        "train.optimizer=muon",
        "train.tensorboard=true",
    ],
)
def test_one_line_swaps_a_part(attn, corpus, override):
    ran = attn("pretrain", "bert", "--data", corpus, "--json", *QUICK, override)
    assert ran.code == 0, ran.err
    assert ran.json["metrics"]["masked_loss"] < 12


def test_filling_masks(attn, bert):
    ran = attn("pretrain", bert, "the [MASK] sees a [MASK].", "--top-k", "3", "--json")
    assert ran.code == 0, ran.err
    (answer,) = ran.json["answers"]
    assert [len(mask) for mask in answer["masks"]] == [3, 3]
    for mask in answer["masks"]:
        ps = [filling["probability"] for filling in mask]
        assert ps == sorted(ps, reverse=True)
        assert 0 < sum(ps) <= 1
        assert not any(filling["token"].startswith("[") for filling in mask)


def test_filling_without_a_mask_says_how_to_write_one(attn, bert):
    ran = attn("pretrain", bert, "nothing to fill")
    assert ran.code == 3
    assert "there is no [MASK] in it" in ran.err


def test_sampling_options_on_a_masked_run_are_refused(attn, bert):
    ran = attn("pretrain", bert, "a [MASK]", "--temperature", "0.5")
    assert ran.code == 2
    assert "--temperature" in ran.err


def test_training_options_on_a_run_are_refused(attn, bert, corpus):
    assert attn("pretrain", bert, "a [MASK]", "--data", corpus).code == 2


def test_continuing_a_prompt(attn, gpt):
    first = attn("pretrain", gpt, "The cat", "--max-tokens", "20", "--seed", "3")
    again = attn("pretrain", gpt, "The cat", "--max-tokens", "20", "--seed", "3")
    other = attn("pretrain", gpt, "The cat", "--max-tokens", "20", "--seed", "4")
    assert first.code == 0, first.err
    assert first.out.startswith("The cat")
    assert len(first.out) > len("The cat\n")
    assert first.out == again.out
    assert first.out != other.out


def test_greedy_takes_no_sampling_options(attn, gpt):
    assert attn("pretrain", gpt, "The", "--greedy", "--max-tokens", "5").code == 0
    ran = attn("pretrain", gpt, "The", "--greedy", "--top-p", "0.5")
    assert ran.code == 2
    assert "--greedy" in ran.err


def test_a_file_of_prompts_gives_an_answer_a_line(attn, bert, tmp_path):
    file = tmp_path / "texts.txt"
    file.write_text("a [MASK] runs\n\nthe [MASK]\n")
    assert [a["text"] for a in attn("pretrain", bert, file, "--json").json["answers"]] == [
        "a [MASK] runs",
        "the [MASK]",
    ]
    file.write_text("a [MASK] runs\nno mask\n")
    ran = attn("pretrain", bert, file)
    assert ran.code == 3
    assert f"{file}:2" in ran.err


def test_evaluate_repeats_the_best_figures(attn, bert):
    stored = json.loads((bert / "result.json").read_text())["metrics"]
    ran = attn("evaluate", bert, "--json")
    assert ran.code == 0, ran.err
    for name, value in stored.items():
        assert ran.json["metrics"][name] == pytest.approx(value, rel=1e-6), name


def test_evaluate_on_other_data_and_as_a_gate(attn, bert, tmp_path):
    other = write_text(tmp_path / "other.txt", seed=7)
    ran = attn("evaluate", bert, "--data", other, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["on"] == str(other)
    assert attn("evaluate", bert, "--data", other, "--require", "loss<0.01").code == 6
    ran = attn("evaluate", bert, "--data", tmp_path / "missing.txt")
    assert ran.code == 3
    assert "missing.txt" in ran.err


def test_resume_extends_a_finished_run(attn, corpus):
    assert attn("pretrain", "bert", "--data", corpus, *QUICK).code == 0
    ran = attn("resume", "runs/bert-1")
    assert ran.code == 2
    assert "attn resume runs/bert-1 train.steps=4" in ran.err
    ran = attn("resume", "runs/bert-1", "train.steps=4", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["steps"] == 4
    ran = attn("resume", "runs/bert-1", "model.dropout=0.3", "train.steps=5")
    assert ran.code == 2
    assert "model.dropout=0.3" in ran.err


def test_inspect_draws_every_head(attn, bert, gpt, tmp_path):
    for run in (bert, gpt):
        ran = attn("inspect", run, "the cat sees a bird", "--out", tmp_path / "maps.png", "--json")
        assert ran.code == 0, ran.err
        (found,) = ran.json["inputs"]
        assert len(found["heads"]) == 2
        assert (tmp_path / "maps.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        page = (tmp_path / "maps.html").read_text()
        assert found["page"] == str(tmp_path / "maps.html")
        assert "rollout" in page
        assert "entropy" in page
        assert not re.findall(r"(?:src|href)=", page)  # nothing is fetched
    assert attn("inspect", bert, "the cat", "--out", tmp_path / "x.html").code == 0
    assert (tmp_path / "x.png").exists()


def test_inspect_says_what_each_head_is_worth(attn, bert, gpt):
    for run in (bert, gpt):
        (found,) = attn("inspect", run, "the cat sees a bird", "--json").json["inputs"]
        assert all(head["change"] >= 0 and isinstance(head["loss"], float) for head in found["heads"])
        assert found["pruned_together"][-1]["heads"] == 2
        assert found["loss"] > 0
        ran = attn("inspect", run, "the cat sees a bird")
        assert "change without it" in ran.out
        assert "pruned for this input" in ran.out
        (quick,) = attn("inspect", run, "the cat sees a bird", "--quick", "--json").json["inputs"]
        assert quick["heads"][0]["change"] is None
        assert "prunable" not in quick
    assert attn("inspect", gpt, "cat", "--json").code == 0  # nothing follows, so there is no loss
    (found,) = attn("inspect", bert, "the cat", "--split", "validation", "--json").json["inputs"]
    loss = attn("evaluate", bert, "--json").json["metrics"]["loss"]
    assert found["loss"] == pytest.approx(loss, rel=1e-4)
    assert "the validation part" in attn("inspect", bert, "the cat", "--split", "validation").out
    ran = attn("inspect", bert, "the cat", "--split", "validation", "--quick")
    assert ran.code == 2
    assert "give one" in ran.err


def test_inspect_sets_two_runs_side_by_side(attn, bert, gpt, tmp_path):
    ran = attn("inspect", bert, gpt, "the cat sees a bird", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["runs"] == [str(bert), str(gpt)]
    (found,) = ran.json["inputs"]
    assert [len(told["heads"]) for told in found["runs"]] == [2, 2]
    assert found["differences"][0]["rows"][0][0] == "tokens"
    page = Path(found["page"])
    assert page == bert / f"beside-{gpt.name}.html"
    assert page.read_text().count('<section class="side">') == 2
    ran = attn("inspect", bert, bert, "the cat", "--out", "two.html")
    assert "0.000 apart" in ran.out
    assert (tmp_path / "two.html").exists()
    ran = attn("inspect", bert, gpt, bert, "the cat")
    assert ran.code == 2
    assert "3 runs" in ran.err
    ran = attn("inspect", bert, gpt)
    assert ran.code == 2
    assert "an input is missing" in ran.err


def test_inspect_writes_where_a_causal_model_looks(attn, gpt):
    ran = attn("inspect", gpt, "the cat", "--json")
    for head in ran.json["inputs"][0]["heads"]:
        query, key = head["strongest"]
        assert key <= query


def test_runs_are_listed_and_compared(attn, corpus):
    attn("pretrain", "bert", "--data", corpus, *QUICK)
    attn("pretrain", "bert", "--data", corpus, *QUICK, "model.dropout=0.3")
    ran = attn("runs", "list")
    assert "bert-1" in ran.out
    assert "bert-2" in ran.out
    ran = attn("runs", "compare", "runs/bert-1", "runs/bert-2")
    assert ran.code == 0, ran.err
    assert "model.dropout" in ran.out
    assert "masked_loss" in ran.out


@pytest.mark.parametrize("wrong", ["two\nlines\n", ""])
def test_text_that_does_not_serve_next_sentence(attn, tmp_path, wrong):
    file = tmp_path / "text.txt"
    file.write_text(wrong)
    ran = attn("pretrain", "bert", "--data", file, *QUICK)
    assert ran.code == 3
    assert "text.txt" in ran.err
    assert "Traceback" not in ran.err


def test_vocabulary_beyond_the_text(attn, corpus):
    ran = attn("pretrain", "bert", "--data", corpus, *QUICK, "tokenizer.vocabulary=100000")
    assert ran.code == 3
    assert "tokenizer.vocabulary=100000" in ran.err


def test_a_run_of_another_model_is_told(attn, bert, gpt, tmp_path):
    import shutil

    shutil.copytree(bert, tmp_path / "mixed")
    for path in (tmp_path / "mixed" / "checkpoints").iterdir():
        other = next((gpt / "checkpoints").iterdir())
        shutil.rmtree(path)
        shutil.copytree(other, path)
    ran = attn("evaluate", "mixed")
    assert ran.code == 4
    assert "missing" in ran.err
    assert "unexpected" in ran.err


def test_values_of_zero_are_not_taken_for_absent(attn, bert, gpt, corpus):
    assert attn("pretrain", bert, "a [MASK]", "--temperature", "0").code == 2
    assert attn("pretrain", "bert", "--data", corpus, "--seed", "0", *QUICK).code == 2
    ran = attn("pretrain", gpt, "The", "--top-p", "0")
    assert ran.code == 2
    assert "top_p=0" in ran.err
    cold = attn("pretrain", gpt, "The", "--temperature", "0", "--max-tokens", "8")
    greedy = attn("pretrain", gpt, "The", "--greedy", "--max-tokens", "8")
    assert cold.out == greedy.out

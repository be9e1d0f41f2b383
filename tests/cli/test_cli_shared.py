"""The first argument, requirements, and telling settings from inputs."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attncli import console
from attncli.commands.shared import (
    Requirement,
    check_metric_names,
    check_requirements,
    find_run,
    find_target,
    parse_requirements,
    present,
    split_arguments,
)
from attncli.errors import AttnError, CheckpointError, RecipeError, RequirementError
from attncli.recipe.translate import ParallelData, TransformerRecipe
from attncli.tasks.translation_metrics import metric_names


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    console.start()
    return tmp_path


def make_run(path, command="pretrain"):
    path.mkdir(parents=True)
    about = {"format": 1, "command": command, "recipe": "bert", "attn": "0.1.0", "state": "finished"}
    (path / "run.json").write_text(json.dumps(about))
    (path / "recipe.yaml").write_text("model: {size: tiny}\n")
    return path


def test_a_name_a_file_and_a_run_folder(here):
    (here / "mine.yaml").write_text("train: {}\n")
    make_run(here / "runs/bert-1")
    for first, kind, name in [
        ("bert", "recipe", "pretrain/bert"),
        ("pretrain/gpt", "recipe", "pretrain/gpt"),
        ("mine.yaml", "file", "mine.yaml"),
        ("runs/bert-1", "run", "runs/bert-1"),
        ("runs/bert-1/", "run", "runs/bert-1/"),
    ]:
        target = find_target("pretrain", first)
        assert (target.kind, target.name) == (kind, name)
        assert first.rstrip("/") in target.sentence
        assert target.path.exists()
    assert "a run of attn pretrain (recipe bert, finished)" in find_target("pretrain", "runs/bert-1").sentence


def test_a_recipes_name_wins_over_a_folder_and_says_so(here):
    make_run(here / "bert")
    target = find_target("pretrain", "bert")
    assert target.kind == "recipe"
    assert "(the folder is ./bert)" in target.sentence
    assert find_target("pretrain", "./bert").kind == "run"


@pytest.mark.parametrize(
    ("first", "code", "said", "then"),
    [
        (None, 2, "a recipe is missing; the recipes are albert, bert, bert-mini,", "attn pretrain bert"),
        ("train.steps=5", 2, "a recipe is missing before train.steps=5", "attn pretrain bert"),
        ("brt", 2, "'brt' is no recipe, file or run folder; did you mean bert?", "attn pretrain bert"),
        ("pretrain/brt", 2, "did you mean pretrain/bert?", "attn pretrain pretrain/bert"),
        ("zzz", 2, "the recipes are albert, bert", "attn recipes list pretrain"),
        ("runs/zzz", 2, "there is no file or folder runs/zzz", "attn recipes list pretrain"),
        ("my.yaml", 2, "there is no file my.yaml", "attn recipes list pretrain"),
        ("text.txt", 2, "data is named after the recipe", "attn pretrain bert --data text.txt"),
        ("folder", 4, "folder is no run folder: it has no run.json", "attn runs list"),
        ("model", 4, "is a Hugging Face model folder, not a run", "attn runs list"),
        ("other", 4, "other is a run of attn detect, not of attn pretrain", "attn detect other"),
        ("attention", 2, "bench/attention is a recipe of another command", "attn bench attention"),
    ],
)
def test_what_it_is_not(here, first, code, said, then):
    (here / "text.txt").write_text("words")
    (here / "folder").mkdir()
    (here / "model").mkdir()
    (here / "model/config.json").write_text("{}")
    make_run(here / "other", "detect")
    with pytest.raises(AttnError) as caught:
        find_target("pretrain", first)
    assert caught.value.exit_code == code
    assert said in str(caught.value)
    assert caught.value.then == then


@pytest.mark.parametrize(
    ("first", "said", "then"),
    [
        ("runs/bert-2", "did you mean runs/bert-1?", "attn evaluate runs/bert-1"),
        ("bert-1", "did you mean runs/bert-1?", "attn evaluate runs/bert-1"),
        ("bert", "bert is a recipe; attn evaluate takes the folder of a finished run", "attn pretrain bert"),
        ("gone/far", "there is no folder gone/far", "attn runs list"),
        ("a.txt", "a.txt is a file", "attn runs list"),
    ],
)
def test_a_run_that_is_not_there(here, first, said, then):
    make_run(here / "runs/bert-1")
    (here / "a.txt").write_text("x")
    assert find_run("evaluate", "runs/bert-1").name == "bert-1"
    with pytest.raises(AttnError) as caught:
        find_run("evaluate", first)
    assert said in str(caught.value)
    assert caught.value.then == then


def test_settings_and_inputs_are_told_apart():
    args = ["train.steps=5", "The [MASK] is = 3", "-", "a b=c", "x=", "=x", "file.txt", "data.source=a=b"]
    assert split_arguments(args) == (
        ["train.steps=5", "x=", "data.source=a=b"],
        ["The [MASK] is = 3", "-", "a b=c", "=x", "file.txt"],
    )


@pytest.mark.parametrize(
    ("text", "value", "holds"),
    [
        ("bleu>=35", 35, True),
        ("bleu>=35", 34.9, False),
        ("loss <= 2.5e0", 2.5, True),
        ("loss<2.5", 2.5, False),
        ("loss>-1", 0, True),
        ("f1==1", 1.0, True),
        ("f1==.5", 0.4, False),
        ("mAP@50>0.3", 0.31, True),
        ("loss<=2", float("nan"), False),
        ("loss>=2", None, False),
    ],
)
def test_requirements(text, value, holds):
    requirement = Requirement.parse(text)
    assert requirement.met({requirement.metric: value}) is holds


@pytest.mark.parametrize(
    "text", ["", "bleu", "bleu=35", "bleu>=", ">=35", "bleu>=x", "bleu=>3", "a b>1", "bleu>=1,5"]
)
def test_malformed_requirements(text):
    with pytest.raises(RecipeError, match="is no condition; it takes a metric"):
        Requirement.parse(text)


def test_all_malformed_requirements_at_once():
    with pytest.raises(RecipeError) as caught:
        parse_requirements(["bleu", "loss<=1", "x=1"])
    assert len(caught.value.problems) == 2


def test_unknown_metrics_are_refused_before_and_unmet_ones_after():
    requirements = parse_requirements(["loss<=1", "acuracy>=0.5"])
    with pytest.raises(RecipeError, match="no metric is named acuracy; did you mean accuracy"):
        check_metric_names(requirements, ["loss", "accuracy"])
    with pytest.raises(RecipeError, match="no metric is named acuracy; there are loss"):
        check_requirements(requirements, {"loss": 0.5})
    requirements = parse_requirements(["loss<=1", "accuracy>=0.5", "loss>0"])
    check_requirements(requirements, {"loss": 0.5, "accuracy": 0.6})
    with pytest.raises(RequirementError) as caught:
        check_requirements(requirements, {"loss": 1.5, "accuracy": 0.25})
    assert caught.value.exit_code == 6
    assert [str(problem) for problem in caught.value.problems] == [
        "--require loss<=1 is not met: it is 1.500",
        "--require accuracy>=0.5 is not met: it is 0.2500",
    ]


def test_requirements_on_test_sets():
    names = metric_names(TransformerRecipe())
    assert names[:5] == ["loss", "perplexity", "bleu", "bleu_lowercase", "chrf"]
    good = ["bleu>=35", "test_2016_flickr.bleu>=35", "2016.chrf>=50", "data/test.en.ter<60"]
    check_metric_names(parse_requirements(good), names)
    for text, told in (
        ("test_2016.blue>=35", "no metric is named test_2016.blue; did you mean test_2016.bleu?"),
        ("test_2016.loss<=3", "no metric is named test_2016.loss; "),
        ("blue>=35", "did you mean bleu?"),
        ("rouge>=35", "there are .*bleu, "),
        (".bleu>=3", "is no condition"),
    ):
        with pytest.raises(RecipeError, match=told):
            check_metric_names(parse_requirements([text]), names)
    requirement = parse_requirements(["test_2016_flickr.bleu>=35"])
    check_requirements(requirement, {"bleu": 30.0, "test_2016_flickr.bleu": 35.5})
    with pytest.raises(RequirementError, match=r"is not met: it is 34\.50"):
        check_requirements(requirement, {"bleu": 40.0, "test_2016_flickr.bleu": 34.5})


def test_requirements_on_test_sets_that_the_recipe_names():
    recipe = TransformerRecipe(data=ParallelData(tests=["test_2016_flickr", "test_2017"]))
    names = metric_names(recipe)
    check_metric_names(parse_requirements(["test_2017.ter<=60", "test_2016_flickr.bleu>=35"]), names)
    with pytest.raises(RecipeError, match=r"did you mean test_2016_flickr\.bleu"):
        check_metric_names(parse_requirements(["test_2016_flikr.bleu>=35"]), names)
    by_path = TransformerRecipe(data=ParallelData(tests=["test_2017", "../sets/news.en"]))
    check_metric_names(parse_requirements(["news.bleu>=35"]), metric_names(by_path))


def test_present(capsys):
    result = {"metrics": {"loss": 2.34567, "accuracy": float("nan")}, "speed": {"tokens_per_second": 20312.7}}
    present(result, title="pretrain-bert-1")
    told = capsys.readouterr()
    assert told.err == ""
    assert told.out.splitlines()[0].strip() == "pretrain-bert-1"
    assert ["loss", "2.346"] in [line.split() for line in told.out.splitlines()]
    assert ["tokens_per_second", "20,313"] in [line.split() for line in told.out.splitlines()]
    console.start(json=True)
    present(result)
    console.finish()
    told = capsys.readouterr()
    assert json.loads(told.out) == {
        "metrics": {"loss": 2.34567, "accuracy": None},
        "speed": {"tokens_per_second": 20312.7},
    }
    assert told.err == ""


@given(st.text(min_size=1, max_size=300).filter(lambda text: "\0" not in text))
def test_no_first_argument_ends_in_anything_but_an_error_of_ours(text):
    for look, name in ((find_target, "pretrain"), (find_run, "evaluate")):
        try:
            look(name, text)
        except (RecipeError, CheckpointError) as error:
            then = error.then
        except OSError as error:  # a name too long for the system: the entry says so
            then = error.filename
        else:
            then = text
        assert then

"""Checking: every problem at once, with its place, the nearest name and the reason."""

from pathlib import Path
from typing import get_args

import pytest

from attncli.errors import RecipeError
from attncli.recipe.loading import command_of, load_recipe
from attncli.recipe.presenting import json_schema, to_yaml
from attncli.recipe.pretrain import PretrainRecipe
from attncli.recipe.schemas import settings, suggest, wanted


def write(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def problems(folder: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load_recipe("pretrain", write(folder, text), list(overrides))
    return [str(problem).replace(str(folder) + "/", "") for problem in caught.value.problems]


def test_all_problems_at_once_each_with_its_line(tmp_path):
    text = """\
extends: pretrain/bert
heads: 4
train:
  stpes: 5
  batch: many
  learning_rate: -1e-3
  seed: 1.5
  schedule: {kind: cosin}
model: 5
data:
  source: 2024
  limit: true
  validation:
  cache: {a: 1}
  column: [a]
"""
    found = problems(tmp_path, text)
    assert found == [
        "mine.yaml:2: heads: there is no such setting (the full key is model.attention.heads)",
        "mine.yaml:4: train.stpes: there is no such setting in train (did you mean train.steps?)",
        "mine.yaml:9: model: is a section, not the number 5 (set one of its keys, as model.family)",
        "mine.yaml:13: data.validation: is empty; it takes text or a number",
        "mine.yaml:14: data.cache: is one value, not a section; it takes text",
        "mine.yaml:15: data.column: is one value, not a list; it takes text",
        "mine.yaml:12: data.limit: is true but takes a whole number >= 0",
        "mine.yaml:5: train.batch: is 'many' but takes a whole number >= 1",
        "mine.yaml:6: train.learning_rate: is -0.001 but takes a number > 0",
        "mine.yaml:8: train.schedule.kind: is 'cosin' but takes one of "
        "linear, cosine, inverse_sqrt, wsd, constant (did you mean cosine?)",
        "mine.yaml:7: train.seed: is 1.5 but takes a whole number >= 0 and < 9.22e+18",
    ]


def test_problems_of_the_base_stand_at_the_base(tmp_path):
    write(tmp_path, "train:\n  steps: 0\n", "base.yaml")
    found = problems(tmp_path, "extends: base.yaml\ntrain: {batch: 0}\n", "train.clip=x")
    assert [line.partition(": ")[0] for line in found] == ["base.yaml:2", "mine.yaml:2", "command line"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: {family: gpt}\n", "train.objective.kind: family gpt needs objective clm"),
        ("train:\n  objective: {kind: clm}\n", "train.objective.kind: family bert needs objective mlm"),
        (
            "model: {family: gpt}\ntrain:\n  objective: {kind: clm, sentences: next}\n",
            "train.objective.sentences: only masked",
        ),
        (
            "train:\n  objective: {sentences: next, packing: full}\n",
            "train.objective.packing: sentences=next needs packing=segments",
        ),
        ("train: {batch: 10, accumulate: 4}\n", "train.accumulate: 4 must divide batch=10 evenly"),
        ("train: {device: gpu}\n", "train.device: 'gpu' is no device"),
        ("train: {schedule: {warmup: 10.5}}\n", "train.schedule.warmup: 10.5 is neither"),
        ("model: {attention: {heads: 4, kv_heads: 3}}\n", "model.attention.kv_heads: 3 must divide heads=4"),
        (
            "model: {attention: {window: 3}}\n",
            "model.attention.window: only mechanism window, dil",
        ),
    ],
)
def test_rules_across_settings_give_the_reason(tmp_path, text, said):
    (only,) = problems(tmp_path, text)
    assert only.startswith(("mine.yaml:1: ", "mine.yaml:2: ", "mine.yaml:3: "))
    assert said in only


def test_a_rule_names_where_its_other_setting_stands(tmp_path):
    (only,) = problems(tmp_path, "train:\n  batch: 10\n", "train.accumulate=4")
    assert only.startswith("command line: train.accumulate")
    assert only.endswith("(train.batch is at mine.yaml:2)")


def test_a_rule_is_passed_over_where_its_settings_are_wrong_already(tmp_path):
    assert len(problems(tmp_path, "train: {batch: ten, accumulate: 4}\n")) == 1
    assert len(problems(tmp_path, "model: {family: gpt}\ntrain:\n  objectve: {kind: clm}\n")) == 1
    both = problems(tmp_path, "train: {batch: 10, accumulate: 4, stpes: 3}\n")
    assert len(both) == 2


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("train.step", ["train.steps"]),
        ("train.learning-rate", ["train.learning_rate"]),
        ("Train.Steps", ["train.steps"]),
        ("heads", ["model.attention.heads"]),
        ("attention.heads", ["model.attention.heads"]),
        ("dropout", ["model.dropout", "model.attention.dropout"]),
        ("model.heads", ["model.attention.heads"]),
        ("modell.layers", ["model.layers"]),
        ("tokeniser", ["tokenizer"]),
        ("zzzzz", []),
    ],
)
def test_nearest_setting(key, meant):
    assert suggest(PretrainRecipe, key) == meant


def test_numbers_in_every_spelling(tmp_path):
    text = "train: {learning_rate: 1e-3, steps: 1e3, clip: 1, schedule: {warmup: 2e1, floor: 0}}\n"
    train = load_recipe("pretrain", write(tmp_path, text)).recipe.train
    assert (train.learning_rate, train.steps, train.clip) == (1e-3, 1000, 1.0)
    assert type(train.steps) is int
    assert type(train.clip) is float
    assert train.schedule.warmup == 20


def test_text_is_taken_as_it_stands(tmp_path):
    loaded = load_recipe(
        "pretrain", write(tmp_path, "data: {source: 2024, validation: no.txt}\ndescription: 1.50\n")
    )
    assert loaded.recipe.data.source == "2024"
    assert loaded.recipe.description == "1.50"


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "1e400"])
def test_what_is_not_finite_is_refused(tmp_path, value):
    assert problems(tmp_path, f"train: {{clip: {value}}}\n")[0].startswith("mine.yaml:1: train.clip: is ")


def test_a_section_left_empty_keeps_its_defaults(tmp_path):
    assert (
        load_recipe("pretrain", write(tmp_path, "train:\nmodel:\n  size: tiny\n")).recipe.train.steps == 1000
    )


def test_extends_lays_the_child_over_the_base(tmp_path):
    write(tmp_path, "train: {steps: 7, batch: 8}\nmodel: {size: tiny}\n", "a.yaml")
    write(tmp_path, "extends: a.yaml\ntrain: {batch: 16}\n", "b.yaml")
    loaded = load_recipe(
        "pretrain", write(tmp_path, "extends: b.yaml\nmodel: {layers: 1}\n"), ["train.seed=9"]
    )
    recipe = loaded.recipe
    assert (recipe.train.steps, recipe.train.batch, recipe.model.size, recipe.model.layers) == (
        7,
        16,
        "tiny",
        1,
    )
    places = {key: Path(place).name for key, place in loaded.origin.items()}
    assert places["train.steps"] == "a.yaml:1"
    assert places["train.batch"] == "b.yaml:2"
    assert places["model.layers"] == "mine.yaml:2"
    assert places["train.seed"] == "command line"
    assert "train.clip" not in places


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("extends: mine.yaml\n", "extends: the recipes extend each other in a circle"),
        ("extends: brt\n", "no recipe is named 'brt' (did you mean bert?)"),
        ("extends: none.yaml\n", "extends: there is no file"),
        ("extends: bench/train\n", "extends: bench/train is a recipe of attn bench"),
        ("extends: [a, b]\n", "extends: names one other recipe"),
        ("extends: {a: b}\n", "extends: names one other recipe"),
    ],
)
def test_extends_goes_wrong_at_its_line(tmp_path, text, said):
    (only,) = problems(tmp_path, "# first line\n" + text)
    assert only.startswith("mine.yaml:2: ")
    assert said in only


def test_a_longer_circle_is_found(tmp_path):
    write(tmp_path, "extends: mine.yaml\n", "b.yaml")
    (only,) = problems(tmp_path, "extends: b.yaml\n")
    assert only.startswith("b.yaml:1: extends: the recipes extend each other in a circle")


def test_the_command_of_a_file(tmp_path):
    assert command_of(write(tmp_path, "train: {objective: {mask: 0.2}}\n")) == "pretrain"
    assert command_of(write(tmp_path, "data: {lengths: [1]}\n")) == "bench"
    assert command_of(write(tmp_path, "extends: bench/train\n")) == "bench"
    (tmp_path / "pretrain").mkdir()
    assert command_of(write(tmp_path / "pretrain", "data: {lengths: [1]}\n")) == "pretrain"
    (tmp_path / "run.json").write_text('{"command": "bench"}')
    assert command_of(write(tmp_path, "train: {steps: 1}\n")) == "bench"


def test_kinds_of_one_command(tmp_path):
    attention = load_recipe("bench", "attention").recipe
    train = load_recipe("bench", "train").recipe
    assert type(attention) is not type(train)
    by_base = load_recipe("bench", write(tmp_path, "extends: attention\nevaluate: {rounds: 1}\n")).recipe
    assert type(by_base) is type(attention)
    by_keys = load_recipe("bench", write(tmp_path, "model: {head_width: 32}\n")).recipe
    assert type(by_keys) is type(attention)
    assert by_keys.model.attention.heads == 8  # the class's own default for its section ...
    partly = load_recipe(
        "bench", write(tmp_path, "model: {head_width: 32, attention: {backend: fused}}\n")
    ).recipe
    assert partly.model.attention.heads == 8  # ... holds where another key of the section is set


def test_lists(tmp_path):
    def lengths(text: str) -> list[int]:
        return load_recipe("bench", "attention", [text]).recipe.data.lengths

    assert lengths("data.lengths=[64, 128]") == [64, 128]
    assert lengths("data.lengths=64") == [64]
    with pytest.raises(RecipeError, match=r"data\.lengths: is 'x' but takes a list of whole numbers"):
        lengths("data.lengths=[1, x]")


def test_every_setting_is_documented_and_says_what_it_takes():
    for key, info in settings(PretrainRecipe):
        assert info.description, key
        assert wanted(info), key
        assert "<class" not in wanted(info)


def test_the_schema_for_editors_refuses_what_the_program_refuses():
    schema = json_schema(PretrainRecipe)
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["PretrainTrain"]["properties"]["steps"] == {
        "default": 1000,
        "description": "Optimizer updates.",
        "minimum": 1,
        "title": "Steps",
        "type": "integer",
    }


@pytest.mark.parametrize("explain", [True, False])
def test_what_is_written_reads_back_equal(tmp_path, explain):
    odd = [
        "data.source= a: b #c",
        "data.column=yes",
        "model.layers=3",
        "train.learning_rate=1e-7",
        'data.cache="é\n',
    ]
    loaded = load_recipe("pretrain", "roberta", odd)
    text = to_yaml(loaded.recipe, explain=explain, origin=loaded.origin)
    again = load_recipe("pretrain", write(tmp_path, text)).recipe
    assert again.model_dump(exclude={"extends"}) == loaded.recipe.model_dump(exclude={"extends"})
    assert ("# Optimizer updates." in text) is explain


def test_recipes_name_the_mechanisms_that_there_are():
    from attncli.attention import MECHANISMS
    from attncli.attention.layouts import LAYOUTS
    from attncli.attention.table import options_of
    from attncli.recipe.mechanisms import OPTIONS, TAKES, LayoutName, MechanismName
    from attncli.recipe.sections import AttentionSection

    assert list(get_args(MechanismName)) == list(MECHANISMS)
    assert list(get_args(LayoutName)) == list(LAYOUTS)
    assert {name: options_of(name) for name in MECHANISMS if options_of(name)} == TAKES
    assert set(OPTIONS) < set(AttentionSection.model_fields)

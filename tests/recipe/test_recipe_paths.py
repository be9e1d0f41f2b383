"""Settings that name files become absolute paths, so that a run can be used from anywhere."""

import pytest

from attncli.recipe.loading import load_recipe


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    for name in ("data/test.csv", "train.en", "base.safetensors", "tokens.json"):
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def located(command, name, *settings):
    recipe = load_recipe(command, name, list(settings)).recipe
    recipe.locate()
    return recipe


def test_what_is_there_becomes_absolute_and_the_rest_stays(here):
    recipe = located("finetune", "classify", "data.path=data", "data.tests=[data/test.csv, elsewhere]")
    assert recipe.data.path == str(here / "data")
    assert recipe.data.tests == [str(here / "data" / "test.csv"), "elsewhere"]
    assert recipe.data.validation == 0.1
    assert located("finetune", "classify").data.path == "builtin"
    assert located("pretrain", "bert", "data.source=owner/name").data.source == "owner/name"


def test_sections_inside_sections_are_asked_too(here):
    weights = located(
        "detect", "faster_rcnn", "model.backbone.weights=base.safetensors"
    ).model.backbone.weights
    assert weights == str(here / "base.safetensors")
    assert located("pretrain", "bert", "tokenizer.path=tokens.json").tokenizer.path == str(
        here / "tokens.json"
    )


def test_parallel_files_have_a_common_beginning(here):
    recipe = located("translate", "transformer", "data.path=train", "data.tests=[test_2016, data/test]")
    assert recipe.data.path == str(here / "train")
    assert recipe.data.tests == ["test_2016", str(here / "data" / "test")]


def test_parts_of_masks_are_names(here):
    assert located("segment", "unet", "data.tests=[data]").data.tests == ["data"]

"""Every shipped recipe: found, counted, checked, explained."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import attncli
from attncli.errors import RecipeError
from attncli.recipe import catalogue
from attncli.recipe.loading import load_recipe
from attncli.recipe.schemas import SCHEMAS

ROOT = Path(attncli.__file__).parent.parent
FILES = sorted((ROOT / "recipes").rglob("*.yaml"))
WANTED = {
    "pretrain/albert",
    "pretrain/bert",
    "pretrain/gpt",
    "pretrain/modernbert",
    "pretrain/roberta",
    "pretrain/shakespeare",
    "pretrain/shakespeare-large",
    "bench/attention",
    "bench/decode",
    "bench/train",
    "bench/translate",
}


def test_the_catalogue_has_every_file_and_the_promised_names():
    entries = catalogue.shipped()
    assert sorted(entry.path for entry in entries) == sorted(FILES)
    names = [entry.full for entry in entries]
    assert len(names) == len(set(names)) == len(FILES)
    assert set(names) >= WANTED
    assert not [path for path in (ROOT / "recipes").rglob("*") if path.is_file() and path.suffix != ".yaml"]


def test_every_command_with_recipes_has_some():
    assert {entry.command for entry in catalogue.shipped()} == set(SCHEMAS)
    for command, kinds in SCHEMAS.items():
        if len(kinds) > 1:
            assert set(kinds) <= {entry.name for entry in catalogue.shipped() if entry.command == command}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
class TestEveryRecipe:
    def test_checks_by_name_and_by_path(self, path):
        name = path.relative_to(ROOT / "recipes").with_suffix("").as_posix()
        command = name.partition("/")[0]
        by_name = load_recipe(command, name)
        by_path = load_recipe(command, path)
        assert by_name.recipe == by_path.recipe
        assert by_name.name == by_path.name == name

    def test_says_what_it_is_in_one_line(self, path):
        description = yaml.safe_load(path.read_text(encoding="utf-8"))["description"]
        assert 10 < len(description) < 110

    def test_explains_every_setting(self, path):
        lines = path.read_text(encoding="utf-8").splitlines()
        bare = [
            line
            for before, line in zip(["", *lines], lines, strict=False)
            if ": " in line.partition("#")[0] + " "
            and line.partition("#")[0].partition(": ")[2].strip()
            and "#" not in line
            and not before.strip().startswith("#")
            and not line.startswith("description:")
        ]
        assert bare == []

    def test_sections_stand_in_the_promised_order(self, path):
        order = ["description", "extends", "data", "image", "clip", "tokenizer", "model", "train", "evaluate"]
        keys = list(yaml.safe_load(path.read_text(encoding="utf-8")))
        assert keys == [key for key in order if key in keys]


def test_names():
    assert catalogue.find("bert").full == "pretrain/bert"
    assert catalogue.find("pretrain/bert", "pretrain").full == "pretrain/bert"
    with pytest.raises(RecipeError, match="did you mean bert"):
        catalogue.find("brt")
    with pytest.raises(RecipeError, match="did you mean pretrain/bert"):
        catalogue.find("pretrain/bret")


def test_an_ambiguous_name_lists_what_it_fits(tmp_path, monkeypatch):
    for command in ("a", "b"):
        (tmp_path / command).mkdir()
        (tmp_path / command / "same.yaml").write_text("train: {}\n")
    entries = catalogue.shipped(tmp_path)
    monkeypatch.setattr(catalogue, "shipped", lambda: entries)
    with pytest.raises(RecipeError, match="fits more than one recipe: a/same or b/same"):
        catalogue.find("same")
    assert catalogue.find("same", "b").full == "b/same"


def test_an_installed_package_finds_the_recipes_inside_it(tmp_path):
    """As the wheel lays them out: attncli/recipes, and no folder beside the package."""
    package = tmp_path / "attncli"
    shutil.copytree(ROOT / "attncli", package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "recipes", package / "recipes")
    found = subprocess.run(
        [sys.executable, "-m", "attncli", "recipes", "check", "bert", "shakespeare-large"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.count(str(package / "recipes")) == 2

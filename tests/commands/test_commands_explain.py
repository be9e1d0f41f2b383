"""attn explain: every mechanism, layout, attention of pictures, position and idea under its name."""

import json
import re

import pytest

from attncli.attention import MECHANISMS, POSITIONS
from attncli.attention.ideas import IDEAS
from attncli.attention.images import IMAGES
from attncli.attention.layouts import LAYOUTS
from attncli.cli import run


def test_the_list_has_everything(capfd):
    assert run(["explain"]) == 0
    lines = capfd.readouterr().out.splitlines()
    first = {line.split()[0] for line in lines if line.startswith(" ")}
    assert first >= {*MECHANISMS, *LAYOUTS, *IMAGES, *IDEAS}
    assert run(["explain", "--json"]) == 0
    listed = json.loads(capfd.readouterr().out)
    assert [about["mechanism"] for about in listed["mechanisms"]] == list(MECHANISMS)
    assert [about["for pictures"] for about in listed["images"]] == list(IMAGES)
    assert all(about["what it does"] and about["time"] for about in listed["mechanisms"] + listed["images"])


@pytest.mark.parametrize("name", [*MECHANISMS, *LAYOUTS, *IMAGES, *POSITIONS])
def test_each_has_its_paper_and_a_way_to_try_it(name, capfd):
    assert run(["explain", name]) == 0
    text = capfd.readouterr().out
    assert re.search(r"https://(arxiv\.org/abs/\d|www\.)", text)
    assert "``" not in text
    if name in MECHANISMS or name in POSITIONS:
        assert f"={name}" in text
    for table in (MECHANISMS, LAYOUTS, IMAGES):
        if name in table:
            assert len(table[name].use) > 20
            assert f"use:              {table[name].use}" in text
            assert "idea:" in text


@pytest.mark.parametrize("name", IDEAS)
def test_an_idea_names_where_it_is_found(name, capfd):
    assert run(["explain", name]) == 0
    text = capfd.readouterr().out
    for found in IDEAS[name].names:
        assert found in text


def test_every_name_has_one_meaning_and_an_idea():
    names = [*MECHANISMS, *LAYOUTS, *IMAGES, *POSITIONS, *IDEAS]
    assert len(set(names)) == len(names)
    known = {name for about in IDEAS.values() for name in about.names}
    assert known == {*MECHANISMS, *LAYOUTS, *IMAGES}


def test_a_misspelt_name(capfd):
    assert run(["explain", "linaer", "rotory", "cbma"]) == 2
    said = capfd.readouterr().err
    assert "did you mean linear" in said
    assert "did you mean rotary" in said
    assert "did you mean cbam" in said

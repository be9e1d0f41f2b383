"""attn explain: every mechanism under its name, with its paper."""

import json
import re

import pytest

from attncli.attention import MECHANISMS, POSITIONS
from attncli.cli import run


def test_the_list_has_every_mechanism(capfd):
    assert run(["explain"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines if line.startswith(" ")} >= set(MECHANISMS)
    assert run(["explain", "--json"]) == 0
    listed = json.loads(capfd.readouterr().out)["mechanisms"]
    assert [about["mechanism"] for about in listed] == list(MECHANISMS)
    assert all(about["what it does"] and about["time"] for about in listed)


@pytest.mark.parametrize("name", [*MECHANISMS, *POSITIONS])
def test_each_has_its_paper_and_a_way_to_try_it(name, capfd):
    assert run(["explain", name]) == 0
    text = capfd.readouterr().out
    assert re.search(r"https://(arxiv\.org/abs/\d|www\.)", text)
    assert f"={name}" in text
    assert "``" not in text
    if name in MECHANISMS:
        assert len(MECHANISMS[name].use) > 20
        assert f"use:              {MECHANISMS[name].use}" in text


def test_a_misspelt_name(capfd):
    assert run(["explain", "linaer", "rotory"]) == 2
    said = capfd.readouterr().err
    assert "did you mean linear" in said
    assert "did you mean rotary" in said

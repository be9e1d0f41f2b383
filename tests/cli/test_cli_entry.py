"""The real entry, in a process of its own: text, exit code, start-up."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest
from typer.models import OptionInfo

import attncli

ROOT = Path(attncli.__file__).parent.parent
HEAVY = {"torch", "numpy", "datasets", "tokenizers", "transformers", "sklearn", "matplotlib"}


def attn(*arguments, cwd=None, module=("-m", "attncli"), **environment):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80", **environment}
    command = [sys.executable, *module, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


LOADED = """
import json, sys
from attncli.cli import run
code = run(sys.argv[1:])
print(json.dumps([code, [name for name in sys.modules if "." not in name]]), file=sys.stderr)
"""


def loaded(*arguments, cwd=None):
    done = attn(*arguments, cwd=cwd, module=("-c", LOADED))
    code, modules = json.loads(done.stderr.splitlines()[-1])
    return code, set(modules)


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_and_version_load_next_to_nothing(argument):
    code, modules = loaded(argument)
    assert code == 0
    assert not modules & {*HEAVY, "pydantic", "yaml", "rich"}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["pretrain", "--help"], 0),
        (["pretrain", "bert", "train.stpes=3"], 2),
        (["pretrain", "brt"], 2),
        (["pretrain"], 2),
        (["pretrain", "bert", "--require", "los<=1"], 2),
        (["recipes", "list"], 0),
        (["recipes", "show", "bert"], 0),
        (["recipes", "check", "bert"], 0),
        (["runs", "list"], 0),
        (["bench", "train", "train.stpes=3"], 2),
    ],
)
def test_what_only_looks_at_recipes_loads_no_torch(tmp_path, arguments, code):
    got, modules = loaded(*arguments, cwd=tmp_path)
    assert got == code
    assert not modules & HEAVY


def fastest(*arguments):
    """Processor seconds, least of three: the time it takes where nothing else runs."""

    def once():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        attn(*arguments)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    return min(once() for _ in range(3))


def test_help_is_quick():
    assert fastest("--help") < 0.3


def test_a_misspelt_key_is_rejected_quickly():
    assert fastest("pretrain", "bert", "train.stpes=3") < 1.0


def test_version():
    done = attn("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"attn {attncli.__version__}\n", "")


def test_help_lists_every_command():
    done = attn("--help")
    assert done.returncode == 0
    listed = [line.split()[0] for line in done.stdout.partition("Commands:")[2].splitlines() if line.strip()]
    assert listed == [
        "pretrain",
        "translate",
        "finetune",
        "classify",
        "detect",
        "segment",
        "evaluate",
        "resume",
        "inspect",
        "export",
        "bench",
        "explain",
        "doctor",
        "recipes",
        "runs",
    ]
    for name in listed[6:]:
        module = ROOT / "attncli" / "commands" / f"{name}.py"
        assert module.exists(), name
    assert "..." not in done.stdout.partition("Commands:")[2]


def test_a_rejected_recipe_shows_all_its_problems_at_once(tmp_path):
    (tmp_path / "my.yaml").write_text("extends: bert\nheads: 4\ntrain:\n  stpes: 10\n  batch: -1\n")
    done = attn("pretrain", "my.yaml", "train.seed=x", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "my.yaml is a recipe file",
        "error: my.yaml:2: heads: there is no such setting (the full key is model.attention.heads)",
        "error: my.yaml:4: train.stpes: there is no such setting in train (did you mean train.steps?)",
        "error: my.yaml:5: train.batch: is -1 but takes a whole number >= 1",
        "error: command line: train.seed: is 'x' but takes a whole number >= 0 and < 9.22e+18",
        "next: attn recipes check my.yaml",
    ]


def test_a_rejected_recipe_in_json(tmp_path):
    done = attn("pretrain", "bert", "train.stpes=3", "--json", cwd=tmp_path)
    assert done.returncode == 2
    assert json.loads(done.stdout) == {
        "error": {
            "code": 2,
            "kind": "RecipeError",
            "problems": [
                {
                    "what": "train.stpes: there is no such setting in train",
                    "where": "command line",
                    "hint": "did you mean train.steps?",
                }
            ],
            "next": "attn recipes show pretrain/bert",
        }
    }
    assert "error: command line: train.stpes" in done.stderr


def test_a_forgotten_recipe_lists_them(tmp_path):
    done = attn("pretrain", cwd=tmp_path)
    assert done.returncode == 2
    assert "a recipe is missing; the recipes are albert, bert, bert-mini, gpt" in done.stderr
    assert done.stderr.endswith("next: attn pretrain bert\n")


def test_a_reader_that_leaves_ends_it_quietly(tmp_path):
    script = f"{sys.executable} -m attncli recipes show bert | head -1; exit ${{PIPESTATUS[0]}}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, cwd=tmp_path
    )
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr
    assert done.returncode in (0, 141)


def test_a_full_disk_at_standard_output():
    with open("/dev/full", "w") as full:
        closed = subprocess.run(
            [sys.executable, "-m", "attncli", "recipes", "list"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert closed.returncode == 5
    assert "Traceback" not in closed.stderr
    assert "the disk is full" in closed.stderr


def test_odd_bytes_and_locales(tmp_path):
    done = attn("pretrain", os.fsdecode(b"caf\xe9.yaml"), cwd=tmp_path, PYTHONIOENCODING="ascii", LC_ALL="C")
    assert done.returncode == 2
    assert "there is no file caf\\udce9.yaml" in done.stderr


@pytest.mark.parametrize(
    ("words", "suggested"),
    [
        ("attn pretrain be", {"bert", "bert-mini"}),
        ("attn recipes show pretrain/sh", {"pretrain/shakespeare", "pretrain/shakespeare-large"}),
        ("attn pretrain bert train.schedule.w", {"train.schedule.warmup="}),
        ("attn bench attention data.leng", {"data.lengths="}),
        ("attn rec", {"recipes"}),
        ("attn pretrain my", {"my.yaml", "my-run/"}),
    ],
)
def test_completion(tmp_path, words, suggested):
    (tmp_path / "my-run").mkdir()
    (tmp_path / "my.yaml").touch()
    environment = {
        "_ATTN_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    done = attn(cwd=tmp_path, **environment)
    assert done.returncode == 0
    assert set(done.stdout.split()) == suggested


def test_completion_script():
    done = attn("--show-completion", "bash", _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert done.returncode == 0
    assert "_ATTN_COMPLETE=complete_bash" in done.stdout


def test_options_have_one_name_under_every_typer():
    """Typer 0.27 calls an option ``--DATA`` when its metavar is DATA and it is not named itself."""
    from attncli import cli

    for app in (cli.app, cli.runs_app, cli.recipes_app):
        for command in app.registered_commands:
            for name, hint in get_type_hints(command.callback, include_extras=True).items():
                for info in getattr(hint, "__metadata__", ()):
                    if isinstance(info, OptionInfo) and info.metavar and info.metavar.lower() == name:
                        # under Annotated the name stands where the default would
                        assert info.default == f"--{name}", command.callback.__name__

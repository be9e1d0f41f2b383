"""The command line in this process: what reaches the commands, and what becomes of what they raise."""

import errno
import json
import os
import sys
import types

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from attncli import cli, console
from attncli.errors import (
    CheckpointError,
    DataError,
    DeviceError,
    Interrupted,
    Problem,
    RecipeError,
    RequirementError,
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RANK", raising=False)
    yield tmp_path
    console.start()


@pytest.fixture
def stand_in(monkeypatch):
    """Replace a command's function by one that notes its call, or does what it is given."""

    def replace(name, act=None):
        calls = []

        def main(*args, **options):
            calls.append((args, options))
            if act is not None:
                act()

        monkeypatch.setitem(
            sys.modules, f"attncli.commands.{name}", types.SimpleNamespace(main=main, doctor=main)
        )
        return calls

    return replace


def test_what_pretrain_is_given(stand_in):
    calls = stand_in("train_or_apply")
    typed = "pretrain bert train.steps=5 --data x.txt --out o --require loss<=1 --dry-run"
    assert cli.run([*typed.split(), "--require", "a>2", "model.layers=1"]) == 0
    (args, options), *_ = calls
    assert args == ("pretrain", "bert", ["train.steps=5", "model.layers=1"])
    assert options.pop("out").name == "o"
    assert options == {
        "data": "x.txt",
        "dry_run": True,
        "require": ["loss<=1", "a>2"],
        "top_k": None,
        "top_p": None,
        "temperature": None,
        "max_tokens": None,
        "seed": None,
        "greedy": False,
    }
    typed = "pretrain run - --top-k 3 --top-p 0.9 --temperature 0.5 --max-tokens 7 --seed 1 --greedy"
    cli.run(typed.split())
    (args, options) = calls[1]
    assert args == ("pretrain", "run", ["-"])
    assert (options["top_k"], options["top_p"], options["temperature"]) == (3, 0.9, 0.5)
    assert (options["max_tokens"], options["seed"], options["greedy"]) == (7, 1, True)


def test_what_the_others_are_given(stand_in):
    calls = {name: stand_in(name) for name in ("evaluate", "resume", "inspect", "bench", "doctor")}
    for line in (
        "evaluate r --split train --data d --require loss<1",
        "resume r train.steps=9",
        "inspect r one two --out o.png",
        "bench train model.size=tiny --out o.csv",
        "doctor",
    ):
        assert cli.run(line.split()) == 0
    assert calls["evaluate"] == [(("r",), {"split": "train", "data": "d", "require": ["loss<1"]})]
    assert calls["resume"] == [(("r", ["train.steps=9"]), {"require": []})]
    assert calls["inspect"][0][0] == ("r", ["one", "two"])
    assert str(calls["inspect"][0][1]["out"]) == "o.png"
    assert calls["bench"][0][0] == ("train", ["model.size=tiny"])
    assert calls["doctor"] == [((), {})]


def raiser(error):
    def act():
        raise error

    return act


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            RecipeError("a", Problem("b", "f:3", "c"), then="attn x"),
            2,
            "error: a\nerror: f:3: b (c)\nnext: attn x\n",
        ),
        (DataError("a"), 3, "error: a\n"),
        (CheckpointError("a"), 4, "error: a\n"),
        (DeviceError("a"), 5, "error: a\n"),
        (RequirementError("a"), 6, "error: a\n"),
        (Interrupted("stopped; saved", then="attn resume r"), 130, "stopped; saved\nnext: attn resume r\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (MemoryError(), 5, "error: memory ran out (less is needed with a smaller train.batch"),
        (
            type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory"),
            5,
            "error: memory ran out: CUDA out",
        ),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
            5,
            "error: memory ran out",
        ),
        (OSError(errno.ENOSPC, "No space left on device", "x.bin"), 5, "error: the disk is full at x.bin"),
        (Exception("I/O error: No space left on device (os error 28)"), 5, "error: the disk is full"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), 2, "error: /x/y: permission denied"),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "d"), 2, "error: d: is a directory"),
    ],
)
def test_exit_codes(stand_in, capsys, error, code, said):
    stand_in("evaluate", raiser(error))
    assert cli.run(["evaluate", "r"]) == code
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(said)
    assert "Traceback" not in told.err


@pytest.mark.parametrize(
    "error", [ValueError("x"), KeyError("k"), AssertionError(), FileNotFoundError(2, "gone")]
)
def test_anything_else_is_a_bug_of_ours_with_its_traceback(stand_in, capsys, error):
    stand_in("evaluate", raiser(error))
    assert cli.run(["evaluate", "r", "--json"]) == 1
    told = capsys.readouterr()
    assert "Traceback" in told.err
    assert f"this is a bug of attn {cli.attncli.__version__}: {type(error).__name__}" in told.err
    assert json.loads(told.out)["error"]["code"] == 1


def test_json_has_the_result_beside_an_unmet_requirement(stand_in, capsys):
    def act():
        console.document({"metrics": {"loss": 2.0}})
        console.result("not here")
        raise RequirementError("--require loss<1 is not met")

    stand_in("evaluate", act)
    assert cli.run(["evaluate", "r", "--json"]) == 6
    document = json.loads(capsys.readouterr().out)
    assert document["metrics"] == {"loss": 2.0}
    assert document["error"]["kind"] == "RequirementError"


@pytest.mark.parametrize(("given", "left"), [(None, "1000"), ("7", "7")])
def test_threads_do_not_spin_long_unless_told_to(monkeypatch, given, left):
    monkeypatch.setenv("GOMP_SPINCOUNT", "")  # so that it is as before in the end
    monkeypatch.delenv("GOMP_SPINCOUNT") if given is None else monkeypatch.setenv("GOMP_SPINCOUNT", given)
    assert cli.run(["--version"]) == 0
    assert os.environ["GOMP_SPINCOUNT"] == left


def test_json_as_an_input_text_is_no_option(stand_in, capsys):
    stand_in("train_or_apply", lambda: console.result("plain"))
    assert cli.run(["pretrain", "r", "--", "--json"]) == 0
    assert capsys.readouterr().out == "plain\n"


def test_other_ranks_leave_the_talking_to_the_first(stand_in, capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    stand_in("evaluate", raiser(DataError("bad line")))
    assert cli.run(["evaluate", "r", "--json"]) == 3
    assert capsys.readouterr() == ("", "")
    stand_in("evaluate", raiser(DeviceError("memory ran out")))
    assert cli.run(["evaluate", "r"]) == 5
    assert capsys.readouterr() == ("", "rank 1: error: memory ran out\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("pretran", "error: no such command 'pretran'; did you mean pretrain?\nnext: attn pretrain --help\n"),
        (
            "recipes shwo",
            "error: no such command 'shwo'; did you mean show?\nnext: attn recipes show --help\n",
        ),
        ("zzz", "error: no such command 'zzz'\nnext: attn --help\n"),
        (
            "pretrain bert --dat x",
            "error: no such option: --dat; did you mean --data?\nnext: attn pretrain --help\n",
        ),
        ("evaluate", "error: missing argument 'RUN'\nnext: attn evaluate --help\n"),
        ("pretrain r x --top-k few", "error: invalid value for '--top-k': "),
        ("pretrain bert --data", "error: option '--data' requires an argument\nnext: attn "),
    ],
)
def test_a_wrong_command_line(capsys, words, said):
    assert cli.run(words.split()) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(said)


@pytest.mark.parametrize("words", [[], ["recipes"], ["runs"], ["-h"], ["recipes", "show", "--help"]])
def test_help(capsys, words):
    assert cli.run(words) == 0
    assert capsys.readouterr().out.startswith("Usage: attn")


class TestRecipes:
    def test_list(self, capsys):
        assert cli.run(["recipes", "list"]) == 0
        told = capsys.readouterr()
        assert "pretrain/bert" in told.out
        assert "bench/train" in told.out
        assert told.err.startswith("next: ")
        assert cli.run(["recipes", "list", "bench", "--json"]) == 0
        names = [entry["name"] for entry in json.loads(capsys.readouterr().out)["recipes"]]
        assert names == ["bench/attention", "bench/decode", "bench/quality", "bench/train", "bench/translate"]
        assert cli.run(["recipes", "list", "pretran"]) == 2
        assert "did you mean pretrain" in capsys.readouterr().err

    def test_show_is_itself_a_recipe_with_every_setting_explained(self, here, capsys):
        assert cli.run(["recipes", "show", "gpt", "train.steps=7"]) == 0
        text = capsys.readouterr().out
        assert "# Optimizer updates. Takes a whole number >= 1. Set at command line." in text
        (here / "again.yaml").write_text(text)
        assert cli.run(["recipes", "show", "again.yaml", "--resolved"]) == 0
        again = capsys.readouterr().out
        assert "#" not in again
        assert cli.run(["recipes", "show", "gpt", "train.steps=7", "--resolved"]) == 0
        assert capsys.readouterr().out == again

    def test_show_json_and_schema(self, capsys):
        assert cli.run(["recipes", "show", "pretrain/bert", "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert shown["recipe"]["train"]["objective"]["kind"] == "mlm"
        assert shown["set_at"]["model.family"].endswith("bert.yaml:16")
        for name in ("pretrain", "bert"):
            assert cli.run(["recipes", "show", name, "--schema"]) == 0
            assert json.loads(capsys.readouterr().out)["title"] == "PretrainRecipe"
        assert cli.run(["recipes", "show", "bench", "--schema"]) == 2
        assert "several kinds of recipe: train, attention" in capsys.readouterr().err

    def test_copy_then_check_then_break_it(self, here, capsys):
        assert cli.run(["recipes", "copy", "roberta", "mine.yaml"]) == 0
        told = capsys.readouterr()
        assert told.out == "./mine.yaml\n"
        assert told.err == "next: attn pretrain ./mine.yaml\n"
        assert cli.run(["recipes", "check", "mine.yaml", "bert"]) == 0
        assert capsys.readouterr().out.count(": good, for attn pretrain") == 2
        assert cli.run(["recipes", "copy", "roberta", "mine.yaml"]) == 2
        assert "mine.yaml exists; nothing was written" in capsys.readouterr().err
        assert cli.run(["recipes", "copy", "--force", "bert", "mine.yaml"]) == 0
        assert cli.run(["recipes", "copy", "bert", "new/folder/a.yaml"]) == 0
        assert cli.run(["recipes", "copy", "gpt", "new"]) == 0
        assert (here / "new/gpt.yaml").exists()
        assert cli.run(["recipes", "copy", "gpt", "gpt.txt"]) == 2
        capsys.readouterr()
        (here / "new/bad.yaml").write_text("trian: {}\n")
        (here / "new/worse.yaml").write_text("a: [\n")
        assert cli.run(["recipes", "check", "new", "mine.yaml", "none.yaml"]) == 2
        told = capsys.readouterr()
        assert told.out.count("good") == 3
        assert told.err.count("error: ") == 3
        assert "new/bad.yaml:1: trian: there is no such setting (did you mean train?)" in told.err

    def test_check_of_a_folder_without_recipes(self, here, capsys):
        (here / "empty").mkdir()
        assert cli.run(["recipes", "check", "empty"]) == 2
        assert "no .yaml file in empty" in capsys.readouterr().err

    def test_a_recipe_of_another_command_can_be_meant(self, here, capsys):
        (here / "x.yaml").write_text("data: {tokens: 3}\n")
        assert cli.run(["recipes", "check", "--command", "pretrain", "x.yaml"]) == 2
        assert cli.run(["recipes", "check", "--command", "bench", "x.yaml"]) == 0


WORDS = [
    "pretrain",
    "recipes",
    "runs",
    "list",
    "show",
    "copy",
    "check",
    "compare",
    "bert",
    "runs/x",
    "--json",
    "--data",
    "--top-k",
    "5",
    "x.yaml",
    "train.steps=3",
    "train.stpes=3",
    "-",
    "--",
    "--out",
    "--require",
    "loss<1",
    "--resolved",
    "--schema",
    "--help",
    "=",
    "nobody/.",
    "gpt",
    "zzz",
    "han",
    "qa",
    "--from",
]


def _harmless(text):
    """What a command line can hold, any bytes but zero, and no path to all of the machine's files."""
    try:
        held = b"\0" not in text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return held and not text.startswith(("/", "~", ".."))


@settings(deadline=None, max_examples=50)
@example(["recipes", "show"], ["~0"])
@example(["runs", "list"], ["\udcff"])
@given(
    st.sampled_from(
        [
            ["pretrain"],
            ["finetune"],
            ["classify"],
            ["recipes", "show"],
            ["recipes", "check"],
            ["runs", "compare"],
            ["runs", "list"],
        ]
    ),
    st.lists(st.sampled_from(WORDS) | st.text(max_size=8).filter(_harmless), max_size=3),
)
def test_no_words_typed_end_in_a_traceback(begin, typed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(
            sys.modules, "attncli.commands.training", types.SimpleNamespace(train=lambda *_, **__: None)
        )
        patch.setattr(cli.failures.traceback, "print_exception", lambda error, **_: pytest.fail(repr(error)))
        assert cli.run([*begin, *typed]) in (0, 2, 4)

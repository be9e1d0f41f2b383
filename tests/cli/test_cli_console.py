"""Where things are said: results on standard output, the rest on standard error, rank 0 alone."""

import io
import json
import re

import pytest

from attncli import console


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("RANK", raising=False)
    console.start()
    yield
    console.start()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_results_and_the_rest(capsys):
    console.say("working")
    console.result("42")
    console.table(["a"], [[1]])
    console.table(["b"], [[2]], progress=True)
    told = capsys.readouterr()
    assert "42" in told.out
    assert "a" in told.out
    assert "working" in told.err
    assert "b" in told.err
    assert "working" not in told.out


def test_json_mode_writes_one_document(capsys):
    console.start(json=True)
    console.result("for people")
    console.table(["a"], [[1]])
    console.document({"x": 1, "nan": float("nan"), "path": console.os.path})
    console.document({"y": (1, 2), "é": "\u2028"})
    console.finish()
    console.finish()
    told = capsys.readouterr()
    document = json.loads(told.out)
    assert document["x"] == 1
    assert document["nan"] is None
    assert document["y"] == [1, 2]
    assert document["é"] == "\u2028"
    assert "for people" in told.err


def test_documents_are_nothing_without_json_mode(capsys):
    console.document({"x": 1})
    console.finish()
    assert capsys.readouterr().out == ""


def test_other_ranks_are_silent(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    console.start(json=True)
    console.say("a")
    console.warn("b")
    console.result("c")
    console.table(["d"], [[1]])
    console.document({"e": 1})
    console.finish()
    with console.Progress("f", total=1) as bar:
        bar.advance()
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "")


def test_a_warning_is_said_once(capsys):
    console.warn("careful")
    console.warn("careful")
    console.warn("other")
    assert capsys.readouterr().err == "warning: careful\nwarning: other\n"


def test_tables_are_whole_without_a_terminal(capsys):
    words = "word " * 60
    console.table(["name", "text"], [["[bold]x[/bold]", words], ["y", None]])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert words.strip() in lines[2]
    assert "[bold]x[/bold]" in lines[2]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1234567, "1,234,567"),
        (0.123456, "0.1235"),
        (0.0, "0.0"),
        (12.3456, "12.35"),
        (1234.5, "1,234"),
        (99999.4, "99,999"),
        (1.5e6, "1,500,000"),
        (1e-5, "1.000e-05"),
        (-0.5, "-0.5000"),
        (float("inf"), "inf"),
        (True, "yes"),
        (None, "-"),
        ("text", "text"),
    ],
)
def test_cells(value, shown):
    assert console.show(value) == shown


def test_durations_sizes_and_rates():
    assert [console.seconds(s) for s in (0, 7.9, 754, 3723, -1)] == [
        "0:00",
        "0:08",
        "12:34",
        "1:02:03",
        "0:00",
    ]
    assert [console.size(n) for n in (512, 2048, 3.25 * 2**20, 2**40)] == [
        "512 B",
        "2.0 KiB",
        "3.2 MiB",
        "1024.0 GiB",
    ]
    assert [console.rate(r) for r in (3.14, 812.4, 20312, 1.2e6)] == ["3.1", "812", "20.3k", "1.2M"]


class Clock:
    now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(console, "time", clock)
    return clock


def test_lines_now_and_then_without_a_terminal(capsys, clock):
    with console.Progress("train", total=1000, unit="tokens", done=100) as bar:
        for _ in range(250):
            clock.now += 0.1
            bar.advance(1, units=4096, loss=5.25)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2  # 25 seconds, a line every 10
    assert re.fullmatch(r"train  \d+/1,000  loss 5\.250  4\d\.\dk tokens/s  1:\d\d left", lines[0])
    assert int(re.search(r"(\d+)/", lines[0])[1]) == pytest.approx(200, abs=2)


def test_the_rate_is_that_of_the_last_half_minute(clock):
    with console.Progress("train", total=10_000, unit="tokens") as bar:
        for units in [100] * 600 + [1000] * 400:
            clock.now += 0.1
            bar.advance(1, units=units)
        assert "10.0k tokens/s" in bar.status()
        assert "15:00 left" in bar.status()


def test_without_a_total_there_is_no_time_left(clock):
    with console.Progress("read") as bar:
        clock.now += 2
        bar.advance(10)
        assert bar.status() == "10  5.0/s"


def test_a_bar_on_a_terminal_with_lines_above_it(monkeypatch, clock):
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with console.Progress("train", total=4, unit="tokens") as bar:
        clock.now += 1
        bar.advance(1, units=100, loss=1.5)
        console.say("step 1 [evaluated]")
        with console.Progress("evaluate", total=2) as inner:
            clock.now += 1
            inner.advance(1)
        clock.now += 1
        bar.advance(1, units=100, loss=1.25)
    text = screen.getvalue()
    assert "step 1 [evaluated]" in text
    assert "━" in text
    assert "2/4" in text
    assert "evaluate" in text
    assert console._State.bar is None
    console.say("after")
    assert screen.getvalue().endswith("after\n")


def test_ci_gets_lines_though_it_has_a_terminal(monkeypatch, clock):
    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("CI", "true")
    with console.Progress("train", total=2) as bar:
        clock.now += 11
        bar.advance()
    assert screen.getvalue() == "train  1/2  0.1/s  0:11 left\n"

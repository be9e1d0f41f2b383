"""Stored translations: one line a sentence, whole or not there, and never two sets mixed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attncli.errors import CheckpointError, DeviceError
from attncli.training import read_translations, stored_translations, translations, write_translations

SET = (["A dog .", ""], ["Ein Hund .", "x"], ["Ein Hund .", ""])


def test_what_is_written_is_read(tmp_path):
    path = write_translations(tmp_path, "test_2016_flickr", *SET)
    assert path == tmp_path / "translations/test_2016_flickr.hypothesis.txt"
    assert path.read_bytes() == b"Ein Hund .\n\n"
    assert sorted(p.name for p in path.parent.iterdir()) == [
        f"test_2016_flickr.{part}.txt" for part in ("hypothesis", "reference", "source")
    ]
    got = read_translations(tmp_path, "test_2016_flickr")
    assert (got.name, got.sources, got.references, got.hypotheses) == ("test_2016_flickr", *SET)
    write_translations(tmp_path, "test_2016_flickr", *SET[:2], ["neu", "neu"])
    assert read_translations(tmp_path, "test_2016_flickr").hypotheses == ["neu", "neu"]


@given(st.lists(st.text(), min_size=1, max_size=6))
def test_any_sentence_is_one_line(tmp_path_factory, texts):
    run = tmp_path_factory.mktemp("run")
    write_translations(run, "t", texts, texts, texts)
    read = read_translations(run, "t").hypotheses
    assert len(read) == len(texts)
    for text, got in zip(texts, read, strict=True):
        assert got.splitlines() in ([got], [])
        assert got.split() == text.split()


def test_what_utf8_cannot_hold_and_breaks_inside_a_sentence(tmp_path):
    write_translations(tmp_path, "t", ["a\r\nb\u2028c"], ["\ud800x"], ["a\n"])
    got = read_translations(tmp_path, "t")
    assert (got.sources, got.references, got.hypotheses) == (["a b c"], ["?x"], ["a"])


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("test", "test"),
        ("../../etc/passwd", "etc-passwd"),
        ("data/news test.tsv", "data-news-test.tsv"),
        ("/", "test"),
        ("тест.2016", "тест.2016"),
    ],
)
def test_names_are_file_names(tmp_path, name, stored):
    run = tmp_path / "run"
    run.mkdir()
    write_translations(run, name, *SET)
    assert stored_translations(run) == [stored]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_run_without_any(tmp_path):
    assert stored_translations(tmp_path) == []


def test_a_crash_never_leaves_translations_of_another_set(tmp_path, monkeypatch):
    write_translations(tmp_path, "t", *SET)
    write, done = translations.write_text, []

    def failing(path, text):
        if done:
            raise OSError(28, "No space left on device")
        done.append(path)
        write(path, text)

    monkeypatch.setattr(translations, "write_text", failing)
    with pytest.raises(DeviceError, match=r"translations of t in .* could not be written: no space"):
        write_translations(tmp_path, "t", ["new"], ["neu"], ["neu"])
    assert stored_translations(tmp_path) == []


def test_damage_is_named(tmp_path):
    write_translations(tmp_path, "t", *SET)
    folder = tmp_path / "translations"
    (folder / "t.reference.txt").write_text("one\n")
    with pytest.raises(
        CheckpointError, match=r"numbers of lines differ: .*t.reference.txt has 1, "
    ) as caught:
        read_translations(tmp_path, "t")
    assert caught.value.then == f"attn evaluate {tmp_path} --split t"
    (folder / "t.reference.txt").write_bytes(b"one\n\xff\n")
    (folder / "t.source.txt").unlink()
    with pytest.raises(CheckpointError) as caught:
        read_translations(tmp_path, "t")
    first, second = map(str, caught.value.problems)
    assert first.endswith("t.source.txt cannot be read: No such file or directory")
    assert second.endswith("t.reference.txt:2: is damaged: not UTF-8")


def test_parts_of_one_length_and_not_of_none(tmp_path):
    for wrong in ((["a"], ["a"], []), ([], [], [])):
        with pytest.raises(ValueError):
            write_translations(tmp_path, "t", *wrong)
    assert not (tmp_path / "translations").exists()

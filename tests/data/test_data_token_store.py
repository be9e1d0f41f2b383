import errno
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from attncli.data.cache import cache_folder, entry, is_complete
from attncli.data.corpus import prepare
from attncli.errors import DataError, DeviceError
from attncli.recipe.pretrain import Objective, TextData, TextTokenizer


def test_store_holds_every_sentence_and_document(corpus_of, text_folder):
    corpus = corpus_of()
    store, tokenizer = corpus.train, corpus.tokenizer
    documents = (text_folder / "train.txt").read_text().split("\n\n")
    assert store.describe()["documents"] == len(documents)
    for d in (0, 57, len(documents) - 1):
        sentences = documents[d].split("\n")
        low, high = store.documents[d], store.documents[d + 1]
        assert high - low == len(sentences)
        for at, sentence in zip(range(low, high), sentences, strict=True):
            ids = store.tokens[store.sentences[at] : store.sentences[at + 1]]
            assert ids.tolist() == tokenizer.encode(sentence)
    assert store.tokens.dtype == np.uint16
    assert store.counts.tolist() == np.bincount(store.tokens, minlength=tokenizer.vocabulary).tolist()


@pytest.mark.parametrize("kind", ["char", "bytebpe"])
def test_verbatim_store_is_the_text(tmp_path, cache, kind):
    texts = ["First file.\n\nWith a  blank line.\n", "Second\tfile,\nno end " * 20, "First third\n"]
    for at, text in enumerate(texts):
        (tmp_path / f"{at}.txt").write_text(text)
    data = TextData(source=str(tmp_path), documents="file", validation=0.3, cache=str(cache))
    corpus = prepare(data, TextTokenizer(kind=kind, vocabulary=270), Objective(kind="clm"))
    whole = "</s>".join(texts)
    cut = int(sum(map(len, texts)) * (1 - 0.3)) + len("</s>")
    tokenizer = corpus.tokenizer
    assert tokenizer.decode(corpus.train.tokens, skip_special=False) == whole[:cut]
    assert tokenizer.decode(corpus.validation.tokens, skip_special=False) == whole[cut:]
    assert corpus.train.characters + corpus.validation.characters == sum(map(len, texts))
    assert corpus.train.documents.tolist() == [0, 1, 2]
    assert corpus.train.tokens[corpus.train.sentences[1] - 1] == tokenizer.eos_id


def test_second_time_nothing_is_read_and_changes_are_noticed(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("\n\n".join(f"Number {i} of the documents." for i in range(60)))
    data = TextData(source=str(tmp_path / "a.txt"), cache=str(tmp_path / "cache"))
    calls = []

    def run():
        calls.clear()
        byte = TextTokenizer(kind="byte")
        return prepare(
            data, byte, Objective(), lambda what, documents, size: calls.append((what, documents, size))
        )

    first = run()
    assert {what for what, _, _ in calls} == {
        "reading",
        "tokenising the train part",
        "tokenising the validation part",
    }
    assert max(size for what, _, size in calls if what == "reading") == first.source.check()["train"].bytes
    again = run()
    assert calls == []
    assert again.train.folder == first.train.folder
    (tmp_path / "a.txt").write_text("\n\n".join(f"Number {i} of the documents!" for i in range(60)))
    os.utime(tmp_path / "a.txt", ns=(1, 1))
    assert run().train.folder != first.train.folder
    assert calls
    other = prepare(data, TextTokenizer(kind="char"), Objective())
    assert other.train.folder != again.train.folder


@pytest.mark.parametrize("harm", ["flip", "truncate", "remove", "unfinished"])
def test_damaged_cache_is_rebuilt(tmp_path, harm):
    data = TextData(cache=str(tmp_path))
    byte = TextTokenizer(kind="byte")
    first = prepare(data, byte, Objective()).train
    tokens, folder = np.array(first.tokens), first.folder
    path = folder / "tokens.bin"
    raw = bytearray(path.read_bytes())
    if harm == "flip":
        raw[1000] ^= 1
        path.write_bytes(raw)
    elif harm == "truncate":
        path.write_bytes(raw[:-2])
    elif harm == "remove":
        path.unlink()
    else:
        (folder / "complete.json").unlink()
    assert not is_complete(folder)
    again = prepare(data, byte, Objective()).train
    assert again.folder == folder
    assert np.array_equal(again.tokens, tokens)
    assert not list(tmp_path.glob("*aside*"))


def test_one_of_many_builds_while_the_others_wait(tmp_path):
    built = []

    def build(aside):
        built.append(aside)
        (aside / "x").write_text("content")

    threads = [threading.Thread(target=entry, args=(tmp_path, "name", build)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert (tmp_path / "name" / "x").read_text() == "content"


def test_processes_and_kills_leave_whole_entries(tmp_path):
    program = (
        "import sys, os, time, pathlib; from attncli.data.cache import entry\n"
        "def build(aside):\n"
        "    (aside / 'x').write_text('half')\n"
        "    if sys.argv[2] == 'die': os._exit(9)\n"
        "    time.sleep(0.2); (aside / 'x').write_text('whole'); print('built')\n"
        "print(entry(pathlib.Path(sys.argv[1]), 'name', build))\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    def start(how):
        command = [sys.executable, "-c", program, str(tmp_path), how]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)

    assert start("die").wait() == 9
    assert not (tmp_path / "name").exists()
    outputs = [process.communicate()[0] for process in [start("live") for _ in range(3)]]
    assert sum("built" in output for output in outputs) == 1
    assert (tmp_path / "name" / "x").read_text() == "whole"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["name", "name.lock"]


def test_without_locks_the_first_to_finish_wins(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr("fcntl.flock", refuse)

    def slow(aside):
        (aside / "x").write_text("late")
        entry(tmp_path, "name", lambda other: (other / "x").write_text("early"))

    assert (entry(tmp_path, "name", slow) / "x").read_text() in ("early", "late")
    assert is_complete(tmp_path / "name")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["name", "name.lock"]


def test_full_disk_names_the_folder_and_the_setting(tmp_path):
    def build(aside):
        (aside / "x").write_text("some")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DeviceError) as caught:
        entry(tmp_path, "name", build)
    assert f"cache folder {tmp_path}: the disk is full" in str(caught.value)
    assert "data.cache" in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["name.lock"]


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DeviceError, match="cannot be written to"):
        prepare(TextData(cache=str(tmp_path / "file")), TextTokenizer(kind="byte"), Objective())


def test_cache_folder_choice(monkeypatch):
    assert str(cache_folder("/set")) == "/set"
    monkeypatch.setenv("ATTN_CACHE", "/env")
    assert str(cache_folder()) == "/env"
    monkeypatch.delenv("ATTN_CACHE")
    assert cache_folder().parts[-2:] == (".cache", "attn")


def test_next_sentence_needs_two_documents_in_each_part(tmp_path):
    (tmp_path / "train.txt").write_text("One.\n\nTwo.\n\nThree.")
    (tmp_path / "validation.txt").write_text("A line.\nAnother line.")
    data = TextData(source=str(tmp_path), cache=str(tmp_path / "cache"))
    byte = TextTokenizer(kind="byte")
    with pytest.raises(DataError) as caught:
        prepare(data, byte, Objective(sentences="next"))
    for part in ("the validation part has 1", "data.documents=line", "train.objective.sentences=none"):
        assert part in str(caught.value)
    prepare(data, byte, Objective(sentences="order"))


def test_given_tokenizer_must_serve_the_objective(tmp_path):
    (tmp_path / "tokenizer.json").write_text(
        json.dumps({"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}})
    )
    data = TextData(cache=str(tmp_path / "cache"))
    with pytest.raises(DataError) as caught:
        prepare(data, TextTokenizer(path=str(tmp_path)), Objective())
    assert len(caught.value.problems) == 4
    with pytest.raises(DataError, match="no eos token"):
        prepare(data, TextTokenizer(path=str(tmp_path)), Objective(kind="clm"))


def test_unigram_loss_of_builtin_text(cache):
    corpus = prepare(TextData(cache=str(cache)), TextTokenizer(vocabulary=2048), Objective())
    assert 4.5 < corpus.unigram_loss() < 7

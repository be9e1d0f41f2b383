import csv
import gzip
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attncli.data.builtin import builtin_documents, paragraph
from attncli.data.files import split_of
from attncli.data.formats import cut_at
from attncli.data.sentences import split_sentences
from attncli.data.sources import open_text
from attncli.errors import DataError
from attncli.recipe.pretrain import TextData

DOCUMENTS = [f"Document {i} says hello.\nIt has a second line: é{i}." for i in range(45)]


def opened(path, **settings):
    return open_text(TextData(source=str(path), **settings))


def failure(path, **settings) -> DataError:
    with pytest.raises(DataError) as caught:
        opened(path, **settings).check()
    return caught.value


def write(path, documents, column="text"):
    """The same documents in the format of the path's ending."""
    if path.suffix == ".gz":
        plain = write(path.with_suffix(""), documents, column)
        path.write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
    elif path.suffix == ".txt":
        path.write_text("\n\n".join(documents))
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps({"id": 1, column: d}) for d in documents) + "\n")
    elif path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="") as handle:
            writer = csv.writer(handle, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writerows([["id", column], *([1, d] for d in documents)])
    else:
        pq.write_table(pa.table({"id": [1] * len(documents), column: documents}), path)
    return path


@pytest.mark.parametrize(
    "ending", [".txt", ".jsonl", ".csv", ".tsv", ".parquet", ".txt.gz", ".jsonl.gz", ".csv.gz"]
)
def test_every_format_gives_the_same_documents(tmp_path, ending):
    source = opened(write(tmp_path / f"t{ending}", DOCUMENTS))
    source.check()
    train, held = list(source.documents("train")), list(source.documents("validation"))
    assert sorted(train + held) == sorted(DOCUMENTS)
    assert len(held) in (2, 3)
    assert held == list(opened(tmp_path / f"t{ending}").documents("validation"))


@given(st.lists(st.text().filter(lambda t: t.strip()), min_size=2, max_size=12))
def test_json_lines_round_trip(tmp_path_factory, documents):
    path = tmp_path_factory.mktemp("json") / "d.jsonl"
    source = opened(write(path, documents), validation=0.5)
    source.check()
    assert sorted([*source.documents("train"), *source.documents("validation")]) == sorted(documents)


lines = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0\ufeff"), min_size=1).filter(
    lambda t: t.strip()
)


@given(
    st.lists(st.lists(lines, min_size=1, max_size=4), min_size=2, max_size=8), st.sampled_from(["\n", "\r\n"])
)
def test_blank_lines_separate_documents(tmp_path_factory, documents, newline):
    path = tmp_path_factory.mktemp("text") / "d.txt"
    text = "\n\n \n".join("\n".join(d) for d in documents).replace("\n", newline)
    path.write_bytes(text.encode())
    source = opened(path, validation=0.5)
    # White space of other kinds may stand on either side of a blank line.
    seen = [d.strip() for d in source.documents("train")] + [
        d.strip() for d in source.documents("validation")
    ]
    assert sorted(seen) == sorted("\n".join(d).strip() for d in documents)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff"), min_size=12), st.floats(0.2, 0.8))
def test_whole_files_are_kept_verbatim(tmp_path_factory, text, share):
    path = tmp_path_factory.mktemp("text") / "d.txt"
    path.write_bytes(text.encode())
    source = opened(path, documents="file", validation=share)
    source.check()
    train, held = "".join(source.documents("train")), "".join(source.documents("validation"))
    assert train + held == text
    assert len(train) == int(len(text) * (1 - share))


def test_documents_by_line(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\ntwo\n three\nfour")
    source = opened(tmp_path / "a.txt", documents="line", validation=0.5)
    assert sorted([*source.documents("train"), *source.documents("validation")]) == [
        " three",
        "four",
        "one",
        "two",
    ]


def test_long_documents_come_in_pieces_cut_between_words(tmp_path):
    text = "word after word, line after line.\n" * 100_000
    (tmp_path / "a.txt").write_text(f"short\n\n{text}\n\nlast")
    pieces = list(opened(tmp_path / "a.txt", validation=str(tmp_path / "a.txt")).pieces("train"))
    assert [begins for _, begins in pieces] == [True, True, *[False] * (len(pieces) - 3), True]
    assert len(pieces) > 4
    assert max(len(text) for text, _ in pieces) <= 1 << 20
    assert "".join(text for text, _ in pieces[1:-1]) == text.rstrip("\n")
    assert all(text.startswith("\n") and not text[-1].isspace() for text, _ in pieces[2:-2])
    assert cut_at("x" * 50, 20) == 20


def test_splits_come_from_names(tmp_path):
    names = {
        "train-00000-of-00002.txt": "train", "dev.txt": "validation", "valid/a.txt": "validation",
        "wiki.test.txt": "test", "val_1.txt": "validation", "values.txt": None, "testimony.txt": None,
        "train/validated.txt": "train", "corpus.training.txt": "train",
    }  # fmt: skip
    from pathlib import Path

    assert {name: split_of(Path(name)) for name in names} == names
    for name in ("train.txt", "dev.txt", "test.txt", "notes.txt", "README.md", ".hidden.txt"):
        (tmp_path / name).write_text(f"{name} one\n\n{name} two")
    source = opened(tmp_path)
    assert source.splits == ("train", "validation", "test")
    assert list(source.documents("train")) == ["train.txt one", "train.txt two"]
    assert list(source.documents("validation")) == ["dev.txt one", "dev.txt two"]
    assert list(source.documents("test")) == ["test.txt one", "test.txt two"]
    assert "notes.txt" in source.describe()


def test_validation_may_be_a_path(tmp_path):
    write(tmp_path / "a.txt", DOCUMENTS[:5])
    write(tmp_path / "b.jsonl", DOCUMENTS[5:8])
    source = opened(tmp_path / "a.txt", validation=str(tmp_path / "b.jsonl"))
    assert list(source.documents("train")) == DOCUMENTS[:5]
    assert list(source.documents("validation")) == DOCUMENTS[5:8]


def test_limit_counts_documents(tmp_path):
    source = opened(write(tmp_path / "a.txt", DOCUMENTS), limit=10, validation=0.2)
    assert sorted([*source.documents("train"), *source.documents("validation")]) == sorted(DOCUMENTS[:10])


@pytest.mark.parametrize(("count", "share"), [(2, 0.05), (19, 0.05), (400, 0.05), (1000, 0.37)])
def test_held_out_share(tmp_path, count, share):
    source = opened(write(tmp_path / "a.jsonl", [f"d{i}" for i in range(count)]), validation=share)
    held = list(source.documents("validation"))
    assert abs(len(held) - count * share) <= 1
    assert held
    assert not set(held) & set(source.documents("train"))


def test_builtin_text_is_prose_and_its_parts_share_no_paragraph():
    documents = builtin_documents()
    train, held = (set("\n".join(documents[part]).split("\n")) for part in ("train", "validation"))
    assert not train & held
    assert sum(map(len, train)) > 200_000
    assert sum(map(len, held)) > 15_000
    text = "\n".join(train | held)
    assert not any(mark in text for mark in ("::=", ">>>", "****", "+---"))
    assert sum(char.isalpha() or char in " .,'" for char in text) / len(text) > 0.92
    assert list(open_text(TextData()).documents("validation")) == list(documents["validation"])


def test_paragraphs_lose_markup_and_program_text():
    assert paragraph("   for i in range(3):\n       print(i)") is None
    assert paragraph('lambda_expr ::= "lambda" [parameter_list] ":" expression, as it is') is None
    assert paragraph("The statement\n*************") is None
    assert (
        paragraph(
            '* The expression "x and y" first evaluates *x*; if **x** is\n  false, its value is returned. [1]'
        )
        == "The expression x and y first evaluates x; if x is false, its value is returned."
    )


def test_sentences_by_line_or_by_punctuation():
    assert split_sentences("One here.\nTwo , there .\nA title\nThree!") == [
        "One here.",
        "Two , there .",
        "A title",
        "Three!",
    ]
    wrapped = 'Dr. Smith went\nhome. "Why?" he asked\nand slept. It was 3.5 p.m. by then.\nNobody knew'
    assert split_sentences(wrapped) == [
        "Dr. Smith went home.", '"Why?" he asked and slept.', "It was 3.5 p.m. by then.", "Nobody knew"
    ]  # fmt: skip
    assert split_sentences("all small . no capitals here ! none") == [
        "all small .",
        "no capitals here !",
        "none",
    ]
    assert max(map(len, split_sentences("word " * 1000))) <= 1000


@given(st.text())
def test_sentences_keep_every_visible_character(text):
    assert "".join("".join(split_sentences(text)).split()) == "".join(text.split())


# What is wrong with the data


def test_missing_path_names_its_nearest_sibling(tmp_path):
    write(tmp_path / "corpus.txt", DOCUMENTS)
    error = failure(tmp_path / "corpsu.txt")
    assert "there is no such file or folder" in str(error)
    assert f"did you mean {tmp_path / 'corpus.txt'}?" in str(error)
    (tmp_path / "texts").mkdir()
    write(tmp_path / "texts/a.txt", DOCUMENTS)
    assert f"did you mean {tmp_path / 'texts/a.txt'}?" in str(failure(tmp_path / "tests/a.txt"))
    error = failure(tmp_path / "corpus.txt", validation=str(tmp_path / "no.txt"))
    assert "data.validation=" in str(error)
    both = failure(tmp_path / "corpsu.txt", validation=str(tmp_path / "no.txt"))
    assert len(both.problems) == 2


NO_FIELD = "no field 'text' (fields of this line: txt, id; did you mean data.column=txt?)"
NO_COLUMN = "no column 'text'; the first line must name the columns (it reads: id, body)"


@pytest.mark.parametrize(
    ("name", "content", "where", "what"),
    [
        ("a.txt", b"", "", "the train part has no text"),
        ("a.txt", b" \n\n \n", "", "the train part has no text"),
        ("a.txt", b"good\nlines\nba\xe9d line\n\nmore", ":3", "byte 0xe9 at position 3"),
        ("a.txt", b"good\nli\0nes", ":2", "is binary"),
        ("a.txt", b"%PDF-1.7 ...", "", "is a PDF"),
        ("a.txt", "text".encode("utf-16"), "", "is UTF-16"),
        ("a.txt.gz", b"not gzip at all", "", "cannot be read"),
        ("a.jsonl", b'{"text": "x"}\n\n{"text": \n', ":3", "not JSON: Expecting value at column"),
        ("a.jsonl", b'{"txt": "x", "id": 3}\n', ":1", NO_FIELD),
        ("a.jsonl", b'{"text": "x"}\n{"text": 5}\n', ":2", "text is int, not text"),
        ("a.jsonl", b'{"text": "x"}\n["x"]\n', ":2", "a JSON list where an object"),
        ("a.json", b'[\n{"text": "x"}\n]', "", "JSON value over several lines"),
        ("a.json", b'[{"text": "x"}]', "", "is a JSON array"),
        ("a.csv", b"id,body\n1,hello\n", ":1", NO_COLUMN),
        ("a.csv", b"id,text\n1,hello\n2,a,b\n", ":3", "3 fields where the header has 2"),
        ("a.csv", b'id,text\n1,"two\nlines"\n2\n', ":4", "1 field where the header has 2"),
        ("a.parquet", b"not parquet", "", "not readable as parquet"),
    ],
)  # fmt: skip
def test_bad_files_are_refused_with_place_and_reason(tmp_path, name, content, where, what):
    (tmp_path / name).write_bytes(content)
    error = failure(tmp_path / name)
    assert what in str(error)
    assert f"{tmp_path / name}{where}" in str(error)
    assert error.exit_code == 3


def test_parquet_columns(tmp_path):
    write(tmp_path / "a.parquet", DOCUMENTS, column="body")
    assert "no column 'text' (columns: id, body)" in str(failure(tmp_path / "a.parquet"))
    assert "column id holds int64, not text" in str(failure(tmp_path / "a.parquet", column="id"))


def test_all_problems_are_shown_up_to_a_cap(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\n".join([b"fine", b"b\xffd", b"fine", b"\xfeworse"]))
    (tmp_path / "b.jsonl").write_text('{"text": "x"}\nnope\n')
    places = [problem.where for problem in failure(tmp_path).problems]
    assert places == [f"{tmp_path}/a.txt:2", f"{tmp_path}/a.txt:4", f"{tmp_path}/b.jsonl:2"]
    (tmp_path / "b.jsonl").write_text("nope\n" * 100)
    problems = failure(tmp_path).problems
    assert len(problems) == 21
    assert "stopped looking after 20 problems" in str(problems[-1])


def test_invalid_bytes_at_the_border_of_a_read(tmp_path, monkeypatch):
    monkeypatch.setattr("attncli.data.lines.CHUNK", 8)
    good = "äöü €uro 𝄞 ok\n" * 5
    (tmp_path / "a.txt").write_bytes(good.encode() + b"123456\xe2\x82")
    error = failure(tmp_path / "a.txt", documents="file")
    assert error.problems[0].where == f"{tmp_path}/a.txt:6"
    assert "byte 0xe2 at position 7" in str(error)
    (tmp_path / "a.txt").write_bytes(good.encode())
    source = opened(tmp_path / "a.txt", documents="file", validation=0.5)
    assert "".join([*source.documents("train"), *source.documents("validation")]) == good


def test_folders_without_usable_files(tmp_path):
    assert "it is empty" in str(failure(tmp_path))
    (tmp_path / "a.docx").write_bytes(b"PK")
    error = str(failure(tmp_path))
    assert "it holds a.docx" in error
    assert ".jsonl" in error
    (tmp_path / "validation.txt").write_text("x")
    assert "none for training" in str(failure(tmp_path))


def test_one_document_says_which_setting_helps(tmp_path):
    (tmp_path / "a.txt").write_text("One line.\nAnother line.\n")
    error = str(failure(tmp_path / "a.txt"))
    assert "no blank line" in error
    assert "data.documents=line" in error
    opened(tmp_path / "a.txt", documents="line").check()


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0])
def test_share_must_be_a_share(share):
    assert "between 0 and 1" in str(failure("builtin", validation=share))


# Hub data


def test_unknown_name_says_what_was_tried(monkeypatch):
    def refuse(*args, **kwargs):
        raise ConnectionError("Couldn't reach the hub")

    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", refuse)
    error = failure("someone/some-text")
    assert "there is no such file or folder" in str(error)
    assert "could be loaded from the hub: Couldn't reach the hub" in str(error)
    assert "--data PATH" in error.then


def test_hub_names_are_streamed(monkeypatch):
    import datasets
    import huggingface_hub

    asked = []

    def load(path, name, streaming):
        asked.append((path, name, streaming))
        return datasets.IterableDatasetDict(
            {
                split: datasets.Dataset.from_dict(
                    {"text": [f"{split} {i}" for i in range(3)]}
                ).to_iterable_dataset()
                for split in ("train", "validation", "test")
            }
        )

    monkeypatch.setattr(datasets, "load_dataset", load)
    info = SimpleNamespace(sha="abc")
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda self, name, timeout: info)
    source = opened("someone/some-text:small")
    assert asked == [("someone/some-text", "small", True)]
    assert list(source.documents("validation")) == ["validation 0", "validation 1", "validation 2"]
    assert source.splits == ("train", "validation", "test")
    identity = json.dumps(source.identity())
    assert identity == json.dumps(opened("someone/some-text:small").identity())
    info.sha = "abd"
    assert identity != json.dumps(opened("someone/some-text:small").identity())
    assert "no column 'body'" in str(failure("someone/some-text", column="body"))


def test_folder_saved_by_datasets(tmp_path):
    import datasets

    datasets.DatasetDict({"train": datasets.Dataset.from_dict({"text": DOCUMENTS})}).save_to_disk(
        tmp_path / "saved"
    )
    source = opened(tmp_path / "saved", validation=0.1)
    source.check()
    assert sorted([*source.documents("train"), *source.documents("validation")]) == sorted(DOCUMENTS)
    assert len(list(source.documents("validation"))) in (4, 5)


# Memory

MEASURE = """
import resource, sys
from attncli.data.corpus import prepare
from attncli.data.language import training_batches
from attncli.recipe.pretrain import Objective, TextData, TextTokenizer
objective = Objective(packing="full", kind=sys.argv[3])
corpus = prepare(TextData(source=sys.argv[1], cache=sys.argv[2]), TextTokenizer(kind="byte"), objective)
stream = training_batches(corpus.train, corpus.tokenizer, length=128, batch=32, objective=objective, seed=1)
for _ in range(5):
    stream.next([0], 1)
stream.close()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, len(corpus.train))
"""


@pytest.mark.parametrize("kind", ["mlm", "clm"])
def test_memory_does_not_grow_with_the_corpus(tmp_path, kind):
    peak = {}
    for size in (4, 60) if kind == "clm" else (4, 16):
        path = tmp_path / f"{size}.txt"
        block = "".join(
            f"Line {i} tells of rivers and of stones.\n" + "\n" * (i % 9 == 0) for i in range(25_000)
        )
        with path.open("w") as handle:
            for _ in range(size):
                handle.write(block)
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-c", MEASURE, str(path), str(tmp_path / "cache"), kind]
        done = subprocess.run(command, capture_output=True, text=True, env=env)
        assert done.returncode == 0, done.stderr
        peak[size], tokens = map(int, done.stdout.split())
        assert tokens > 0.9 * size * 1_000_000
        path.unlink()
    small, large = peak.values()
    assert large < small + 40, peak

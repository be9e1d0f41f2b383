import csv
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attncli.data import pair_sources, parallel
from attncli.data.measured_pairs import measured_pairs
from attncli.data.pair_language import builtin_pairs
from attncli.data.pair_sources import open_pairs
from attncli.data.parallel import prepare_pairs
from attncli.errors import DataError
from attncli.recipe.translate import PairTokenizer as Tokenizer
from attncli.recipe.translate import ParallelData

PAIRS = list(builtin_pairs()["train"][:80])
SMALL = Tokenizer(vocabulary=400)


def data(path, **settings) -> ParallelData:
    return ParallelData(path=str(path), **settings)


def opened(path, **settings):
    source = open_pairs(data(path, **settings))
    source.check()
    return source


def failure(path, **settings) -> DataError:
    with pytest.raises(DataError) as caught:
        opened(path, **settings)
    return caught.value


def two_files(folder, name, pairs, newline="\n", languages=("en", "de")):
    folder.mkdir(exist_ok=True)
    for language, side in zip(languages, zip(*pairs, strict=True), strict=True):
        text = "".join(line + newline for line in side)
        (folder / f"{name}.{language}").write_bytes(text.encode())
    return folder


def write(path, pairs):
    """The same pairs in the format of the path's ending."""
    if path.suffix == ".gz":
        plain = write(path.with_suffix(""), pairs)
        path.write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps({"id": 1, "de": b, "en": a}) for a, b in pairs))
    elif path.name == "nested.json":
        path.write_text("\n".join(json.dumps({"translation": {"de": b, "en": a}}) for a, b in pairs))
    elif path.name == "bare.tsv":
        path.write_text("".join(f"{a}\t{b}\n" for a, b in pairs))
    elif path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="") as handle:
            writer = csv.writer(handle, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writerows([["de", "id", "en"], *([b, 1, a] for a, b in pairs)])
    elif path.name == "nested.parquet":
        pq.write_table(pa.table({"translation": [{"de": b, "en": a, "fr": ""} for a, b in pairs]}), path)
    else:
        pq.write_table(pa.table({"de": [b for _, b in pairs], "en": [a for a, _ in pairs]}), path)
    return path


FORMATS = [
    *("a.tsv", "bare.tsv", "a.csv", "a.jsonl", "nested.json", "a.parquet", "nested.parquet"),
    *("bare.tsv.gz", "a.jsonl.gz", "a.csv.gz"),
]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_pairs(tmp_path, name):
    source = opened(write(tmp_path / name, PAIRS))
    train, held = list(source.pairs("train")), list(source.pairs("validation"))
    assert sorted(train + held) == sorted(PAIRS)
    assert len(held) == 4
    backwards = opened(tmp_path / name, source="de", target="en") if "bare" not in name else None
    if backwards:
        assert list(backwards.pairs("train")) == [(b, a) for a, b in train]


def test_folder_prefix_and_either_file_are_the_same(tmp_path):
    two_files(tmp_path, "train", PAIRS)
    whole = list(opened(tmp_path).pairs("train"))
    assert whole == list(opened(tmp_path / "train").pairs("train"))
    assert whole == list(opened(tmp_path / "train.de").pairs("train"))
    for language in ("en", "de"):
        plain = tmp_path / f"train.{language}"
        (tmp_path / f"train.{language}.txt.gz").write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()
    assert whole == list(opened(tmp_path).pairs("train"))


@pytest.mark.parametrize("ending", ["tsv", "jsonl", "parquet"])
def test_folder_of_records(tmp_path, ending):
    for at, name in enumerate(("train-00000-of-00002", "train-00001-of-00002", "dev", "test_a", "test_b")):
        write(tmp_path / f"{name}.{ending}", PAIRS[at * 10 : at * 10 + 10])
    source = opened(tmp_path)
    assert source.parts == ("train", "validation", "test_a", "test_b")
    assert list(source.pairs("train")) == PAIRS[:20]
    assert list(source.pairs("test_b")) == PAIRS[40:50]


lines = st.text(st.characters(codec="utf-8", exclude_characters="\n\r\0"), max_size=20)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(lines, lines), min_size=2, max_size=8), st.sampled_from(["\n", "\r\n"]))
def test_only_line_feeds_end_lines(tmp_path_factory, pairs, newline):
    special = [("a\x0bb\x0c\x1c\u2028\u2029\x85c", "\u2028"), ("lone\rreturn", "x\ty"), *pairs]
    folder = two_files(tmp_path_factory.mktemp("lines"), "train", special, newline)
    two_files(folder, "test", pairs, newline)
    (folder / "train.en").write_bytes(b"\xef\xbb\xbf" + (folder / "train.en").read_bytes())
    source = opened(folder, validation="test", tests=["test"])
    assert list(source.pairs("train")) == special
    first = tuple(text.removeprefix("\ufeff") for text in pairs[0])
    assert list(source.pairs("test")) == [first, *pairs[1:]]


def test_records_keep_their_line_breaks_to_themselves(tmp_path):
    path = write(tmp_path / "a.jsonl", [("one\ntwo\r\nthree", "eins\rzwei"), *PAIRS])
    assert ("one two three", "eins zwei") in [
        p for part in ("train", "validation") for p in opened(path).pairs(part)
    ]


def test_quotes_in_nameless_tsv_are_text(tmp_path):
    pairs = [('"Hello', 'say "hi"'), ("'", '"""'), *PAIRS]
    source = opened(write(tmp_path / "bare.tsv", pairs))
    assert sorted([*source.pairs("train"), *source.pairs("validation")]) == sorted(pairs)


def test_hub_and_saved_data_sets(tmp_path, monkeypatch):
    import datasets

    rows = [{"translation": {"en": a, "de": b}} for a, b in PAIRS]
    parts = {"train": rows[:60], "validation": rows[60:70], "test": rows[70:]}
    loaded = datasets.DatasetDict({name: datasets.Dataset.from_list(part) for name, part in parts.items()})
    loaded.save_to_disk(tmp_path / "saved")
    monkeypatch.setattr("attncli.data.hub.HubText._revision", "abc")
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: loaded)
    for path in (tmp_path / "saved", "someone/pairs:de-en"):
        source = opened(path)
        assert source.parts == ("train", "validation", "test")
        assert list(source.pairs("train")) == PAIRS[:60]
        assert list(source.pairs("test")) == PAIRS[70:]
        assert f"{path} (train): no column 'fr'" in str(failure(path, target="fr").problems[0])


def test_hub_name_that_cannot_be_loaded(monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr("attncli.data.hub.HubText._revision", None)
    monkeypatch.setattr("datasets.load_dataset", refuse)
    error = failure("nobody/nothing")
    assert "data.path=nobody/nothing: there is no such file or folder here" in str(error)
    assert error.then == "attn translate transformer --data PATH"


# Parts


def test_parts_by_name(tmp_path):
    for at, name in enumerate(("train", "val", "test_2016", "test_2017", "newstest")):
        two_files(tmp_path, name, PAIRS[at * 10 : at * 10 + 10])
    (tmp_path / "test_2018.en").write_text("A sentence.\n")
    (tmp_path / "README.md").write_text("About")
    source = opened(tmp_path)
    assert source.parts == ("train", "validation", "test_2016", "test_2017")
    assert "test_2018.en" in source.describe()
    assert list(source.pairs("validation")) == PAIRS[10:20]
    chosen = opened(tmp_path, tests=["test_2017", "newstest", str(tmp_path / "val")], validation="test_2016")
    assert chosen.parts == ("train", "validation", "test_2017", "newstest", "val")
    assert list(chosen.pairs("newstest")) == PAIRS[40:50]
    assert list(chosen.pairs("validation")) == PAIRS[20:30]
    error = failure(tmp_path, tests=["test_2018", "test_2071", "nothing"], validation="7")
    assert [str(p) for p in error.problems] == [
        "data.validation=7: a share must be between 0 and 1",
        f"data.tests={tmp_path}: test_2018.de is not there; there is test_2018.en",
        f"data.tests=test_2071: no such part of {source.describe()}, and no such file (test sets here: "
        "test_2016, test_2017; did you mean data.tests=test_2017?; or give a path)",
        f"data.tests=nothing: no such part of {source.describe()}, and no such file (test sets here: "
        "test_2016, test_2017; or give a path)",
    ]


@pytest.mark.parametrize(
    ("count", "share", "held"), [(2, 0.05, 1), (19, 0.05, 1), (80, 0.05, 4), (80, 0.3, 24)]
)
def test_held_out_share(tmp_path, count, share, held):
    source = opened(two_files(tmp_path, "train", PAIRS[:count]), validation=share)
    validation = list(source.pairs("validation"))
    assert len(validation) == held
    assert sorted([*source.pairs("train"), *validation]) == sorted(PAIRS[:count])


def test_limit_counts_training_pairs(tmp_path):
    two_files(tmp_path, "train", PAIRS)
    source = opened(tmp_path, limit=20)
    assert sorted([*source.pairs("train"), *source.pairs("validation")]) == sorted(PAIRS[:20])


# Bad input


def test_unequal_numbers_of_lines_of_every_part(tmp_path):
    for name, count in (("train", 30), ("val", 5), ("test", 7)):
        two_files(tmp_path, name, PAIRS[:count])
        with (tmp_path / f"{name}.de").open("a") as handle:
            handle.write("Zu viel.\n")
    problems = [str(p) for p in failure(tmp_path, limit=5).problems]
    assert len(problems) == 3
    assert "train.en has 30 lines, train.de has 31" in problems[0]


def test_bad_bytes_are_told_with_their_lines(tmp_path):
    two_files(tmp_path, "train", PAIRS)
    two_files(tmp_path, "val", PAIRS)
    raw = (tmp_path / "train.de").read_bytes().split(b"\n")
    raw[4] = b"Gr\xfc\xdfe"
    raw[9] += b"\xff"
    (tmp_path / "train.de").write_bytes(b"\n".join(raw))
    (tmp_path / "val.en").write_bytes(b"one\0two\n" * 80)
    (tmp_path / "test.en").write_bytes("hello\n".encode("utf-16"))
    (tmp_path / "test.de").write_bytes(b"hallo\n")
    problems = failure(tmp_path).problems
    assert [p.where for p in problems] == [
        f"{tmp_path}/train.de:5",
        f"{tmp_path}/train.de:10",
        f"{tmp_path}/test.en",
        f"{tmp_path}/val.en:1",
    ]
    assert "byte 0xfc at position 3 of the line is not UTF-8" in problems[0].what
    assert "zero byte" in problems[3].what


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "one\teins\ntwo\nthree\tdrei\tIII\n", r"a\.tsv:2: 1 field where en, a tab and de belong"),
        ("a.tsv", "en\tfr\nx\ty\n", r"a\.tsv:1: no column 'de'.*en, fr"),
        ("a.csv", "src,tgt\nx,y\n", "no column 'en'.*no column 'de'"),
        ("a.csv", 'en,de\n"x,y\n', r"a\.csv:2: not CSV: .* \(a quote that is never closed"),
        ("a.csv", 'en,de\n"Hello,"Hallo\nBye","Ciao"\n', r"a\.csv:2: not CSV: .* \(a quote"),
        ("a.csv", "en,de\nx\n", r"a\.csv:2: 1 field where the header has 2"),
        ("a.jsonl", '{"en": "x"}\n', r"a\.jsonl:1: no field 'de'"),
        ("a.jsonl", '{"en": 3, "de": "x"}\n{"en": "a", "de": ["b"]}', "en is int.*de is list"),
        ("a.jsonl", '{"translation": {"en": "x", "es": "y"}}', "no field 'de'.*en, es"),
        ("a.jsonl", "[1" + "0" * 5000 + "]", "not JSON|JSON array"),
        ("a.parquet", "no parquet", "not readable as parquet"),
        ("a.txt", "one\neins\n", "1 field where en, a tab and de belong"),
        ("train.en", "one\n", r"train\.de is not there; there is train\.en"),
        ("train.txt", "", "the training part has no pair"),
        ("val.jsonl", '{"en": "x", "de": "y"}', "one pair only"),
        ("notes.md", "text", "1 field where"),
    ],
)
def test_malformed_files(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=f"(?s){message}"):
        opened(tmp_path / name)


def test_missing_languages_and_folders(tmp_path):
    for name in ("train", "val"):
        two_files(tmp_path, name, PAIRS, languages=("en", "deu"))
    assert [str(p) for p in failure(tmp_path).problems] == [
        f"data.path={tmp_path}: train.de is not there; there are train.deu, train.en "
        "(did you mean data.target=deu?)"
    ]
    assert len(failure(tmp_path, source="fr", target="es").problems) == 2
    assert "did you mean" in str(failure(str(tmp_path)[:-1] + "X"))
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "it is empty (parallel text is train.en and train.de" in str(failure(empty))
    only_test = two_files(tmp_path / "only", "test", PAIRS)
    assert "no training part; there are test (call it train.en and train.de)" in str(failure(only_test))
    more = tmp_path / "more"
    for name in ("train", "test_a", "test_b"):
        two_files(more, name, PAIRS)
    assert "several test sets, test_a, test_b" in str(failure(more, tests=[str(more)]))


# From text to stores


def test_prepared_pairs_are_what_the_files_say(tmp_path, cache, monkeypatch):
    train = [*PAIRS, ("", "leer"), ("empty", " \u2003"), ("", ""), ("long " * 90, "lang"), ("ok", "ok")]
    two_files(tmp_path, "train", train)
    two_files(tmp_path, "val", [("", "nichts"), *PAIRS[:5]])
    two_files(tmp_path, "test", [PAIRS[0], ("", "")])
    section = data(tmp_path, max_length=60)
    pairs = prepare_pairs(section, SMALL)
    store, tokenizer = pairs.train, pairs.tokenizer
    read = [
        (tokenizer.decode(a.tolist(), "source"), tokenizer.decode(b.tolist())) for a, b in store.sentences()
    ]
    assert read == [*PAIRS, ("ok", "ok")]
    assert (store.one_empty, store.both_empty, store.too_long, store.same) == (2, 1, 1, 1)
    assert store.longest <= 60
    assert store.source_counts.sum() == len(store.source)
    assert len(pairs.validation) == 5
    assert pairs.validation_text == (
        [a for a, _ in [("", ""), *PAIRS[:5]]],
        ["nichts", *(b for _, b in PAIRS[:5])],
    )
    assert [(t.name, t.sources, t.references) for t in pairs.tests] == [
        ("test", [PAIRS[0][0], ""], [PAIRS[0][1], ""])
    ]
    about = pairs.describe()
    for part in ("81 pairs", "6 for validation", "test (2)", "2 with one side empty", "1 empty on both sides",
                 "1 longer than data.max_length=60 tokens"):  # fmt: skip
        assert part in about
    # Again, from the cache: nothing is surveyed, trained or tokenised.
    for name in ("train_pair_tokenizer", "write_pairs"):
        monkeypatch.setattr(parallel, name, None)
    monkeypatch.setattr(pair_sources.ParallelSource, "check", None)
    again = prepare_pairs(section, SMALL)
    assert again.tokenizer.fingerprint == tokenizer.fingerprint
    assert again.describe() == about
    assert prepare_pairs(section, SMALL.model_copy(update={"dropout": 0.1})).train.folder == store.folder
    with pytest.raises(TypeError):
        prepare_pairs(data(tmp_path, max_length=61), SMALL)


def test_changed_text_is_read_anew(tmp_path):
    two_files(tmp_path, "train", PAIRS)
    first = prepare_pairs(data(tmp_path), SMALL)
    two_files(tmp_path, "train", PAIRS[:40])
    second = prepare_pairs(data(tmp_path), first.tokenizer)
    assert second.tokenizer is first.tokenizer
    assert len(first.train) == 76
    assert len(second.train) == 38


def test_the_same_text_on_both_sides_warns(tmp_path, capsys):
    two_files(tmp_path, "train", [(a, a) for a, _ in PAIRS])
    prepare_pairs(data(tmp_path), SMALL)
    assert "76 of 76 training pairs have the same text on both sides" in capsys.readouterr().err


def test_nothing_left_says_why(tmp_path):
    two_files(tmp_path, "train", [("a", "")] * 30)
    with pytest.raises(DataError, match="no pair left in the train part; 28 with one side empty"):
        prepare_pairs(data(tmp_path), SMALL)


def test_measured_on_a_part_or_on_other_text(tmp_path):
    for at, name in enumerate(("train", "val", "test_a", "test_b")):
        two_files(tmp_path, name, PAIRS[at * 10 : at * 10 + 10])
    section = data(tmp_path)
    tokenizer = prepare_pairs(section, SMALL).tokenizer

    def measured(**where):
        test, store = measured_pairs(section, tokenizer, **where)
        assert len(store) == len(test)
        return test.name, list(zip(test.sources, test.references, strict=True))

    assert measured(split="test_b") == ("test_b", PAIRS[30:40])
    assert measured(split="dev") == ("validation", PAIRS[10:20])
    other = two_files(tmp_path / "other", "test", PAIRS[50:60])
    assert measured(source=str(other)) == ("test", PAIRS[50:60])
    assert measured(source=str(tmp_path / "test_a")) == ("test_a", PAIRS[20:30])
    assert measured(source=str(write(tmp_path / "x.tsv", PAIRS[:3]))) == ("x.tsv", PAIRS[:3])
    with pytest.raises(DataError, match=r"--split=test_c.*did you mean"):
        measured(split="test_c")
    with pytest.raises(DataError, match="several test sets"):
        measured(source=str(tmp_path))

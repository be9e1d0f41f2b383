import json
import subprocess
import sys
from itertools import chain

import numpy as np
import pytest
import tokenizers as hf
from hypothesis import given
from hypothesis import strategies as st

from attncli.data.builtin import builtin_documents
from attncli.data.tokenizers import Tokenizer, train_tokenizer
from attncli.errors import DataError
from attncli.recipe.pretrain import TextTokenizer

TEXTS = [
    *builtin_documents()["train"][:30],
    "Żółw naïve ÅNGSTRÖM 東京 ½ <s> [MASK]",
    "new\nlines\ttabs  blanks",
]
KINDS = ["wordpiece", "bytebpe", "bpe", "char", "byte"]
SAMPLES = [
    "The value of x isn't 12.5 (see below)!",
    "Zażółć gęślą jaźń 東京 🦜",
    "",
    " lead\n\ntrail ",
    "[MASK] <mask> </s>",
]


@pytest.fixture(scope="module")
def trained():
    return {kind: train_tokenizer(TextTokenizer(kind=kind, vocabulary=800), TEXTS) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_and_sizes(trained, kind):
    tokenizer = trained[kind]
    names = "[PAD] [UNK] [CLS] [SEP] [MASK]" if kind == "wordpiece" else "<s> <pad> </s> <unk> <mask>"
    assert tokenizer.tokens[:5] == names.split()
    assert tokenizer.special_ids == [0, 1, 2, 3, 4]
    assert tokenizer.tokens[tokenizer.pad_id] in ("[PAD]", "<pad>")
    assert tokenizer.tokens[tokenizer.mask_id] in ("[MASK]", "<mask>")
    assert tokenizer.eos_id == tokenizer.sep_id
    expected = {"char": 5 + len(set("".join(TEXTS))), "byte": 261}.get(kind, 800)
    assert tokenizer.vocabulary == expected == len(set(tokenizer.tokens))


@pytest.mark.parametrize("kind", KINDS)
def test_batches_encode_as_single_texts_and_as_the_library(trained, kind):
    tokenizer = trained[kind]
    texts = [*SAMPLES, *TEXTS[:3]]
    ids, lengths = tokenizer.encode_many(texts)
    assert np.split(ids, np.cumsum(lengths)[:-1])[5].tolist() == tokenizer.encode(texts[5])
    single = [tokenizer.encode(text) for text in texts]
    assert ids.tolist() == list(chain.from_iterable(single))
    assert lengths.tolist() == list(map(len, single))
    assert not set(ids.tolist()) & set(tokenizer.special_ids) - {tokenizer.unk_id}
    assert tokenizer.mask_id in tokenizer.encode(f"a {tokenizer.tokens[tokenizer.mask_id]} b", special=True)


@given(st.text(), st.sampled_from(["bytebpe", "byte"]))
def test_bytes_round_trip(trained, text, kind):
    tokenizer = trained[kind]
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(st.text("".join(sorted(set("".join(TEXTS))))))
def test_characters_round_trip(trained, text):
    assert trained["char"].decode(trained["char"].encode(text)) == text


@pytest.mark.parametrize("lowercase", [True, False])
def test_words_round_trip_up_to_case_and_blanks(lowercase):
    for kind in ("wordpiece", "bpe"):
        tokenizer = train_tokenizer(TextTokenizer(kind=kind, vocabulary=700, lowercase=lowercase), TEXTS)
        text = "The names   are bound"
        plain = "The names are bound"
        assert tokenizer.decode(tokenizer.encode(text)) == (plain.lower() if lowercase else plain)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded(trained, kind, tmp_path):
    trained[kind].save(tmp_path)
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        loaded = Tokenizer.load(path)
        assert loaded.kind == kind
        assert loaded.fingerprint == trained[kind].fingerprint
        assert [loaded.encode(text) for text in SAMPLES] == [trained[kind].encode(text) for text in SAMPLES]


@pytest.mark.parametrize("kind", KINDS)
def test_transformers_loads_it_with_equal_ids(trained, kind, tmp_path):
    transformers = pytest.importorskip("transformers")
    tokenizer = trained[kind]
    tokenizer.save(tmp_path)
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert theirs.mask_token_id == tokenizer.mask_id
    assert theirs.pad_token_id == tokenizer.pad_id
    for text in [*SAMPLES[:4], TEXTS[0]]:
        assert theirs(text, add_special_tokens=False)["input_ids"] == tokenizer.encode(text)
    assert theirs("x")["input_ids"] == [tokenizer.cls_id, *tokenizer.encode("x"), tokenizer.sep_id]


def test_training_is_deterministic_across_processes(trained):
    program = (
        "import sys; from attncli.data.tokenizers import train_tokenizer; "
        "from attncli.recipe.pretrain import TextTokenizer; "
        "from attncli.data.builtin import builtin_documents; texts = builtin_documents()['train'][:20]; "
        "print([train_tokenizer(TextTokenizer(kind=k, vocabulary=600), texts).fingerprint "
        "for k in ('wordpiece', 'bytebpe', 'bpe')])"
    )
    runs = [
        subprocess.run([sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path}; {program}"],
                       capture_output=True, text=True, check=True,
                       env={"RAYON_NUM_THREADS": threads}).stdout
        for threads in ("1", "2", "2")
    ]  # fmt: skip
    assert len(runs[0]) > 100
    assert len(set(runs)) == 1


def words(tokenizer, text):
    """Text of each word as ``starts_word`` divides it."""
    groups = []
    for at in tokenizer.encode(text):
        if tokenizer.starts_word[at] or not groups:
            groups.append([])
        groups[-1].append(at)
    return [tokenizer.decode(group).strip() for group in groups]


@pytest.mark.parametrize("kind", ["wordpiece", "bytebpe", "bpe", "char", "byte"])
def test_word_boundaries(trained, kind):
    text = "statements unquestionably rebind globals, twice"
    tokenizer = trained[kind]
    assert [w for w in words(tokenizer, text) if w] == [
        "statements",
        "unquestionably",
        "rebind",
        "globals",
        ",",
        "twice",
    ]
    assert len(tokenizer.encode("unquestionably")) > 1


@pytest.mark.parametrize("kind", ["wordpiece", "bytebpe", "bpe"])
def test_too_large_a_vocabulary_says_how_many_are_supported(kind):
    text = ["a small text with few words, a text with words"] * 3
    with pytest.raises(DataError, match="the text supports only") as caught:
        train_tokenizer(TextTokenizer(kind=kind, vocabulary=5000), text)
    number = int(str(caught.value).split("supports only ")[1].split()[0])
    assert train_tokenizer(TextTokenizer(kind=kind, vocabulary=number), text).vocabulary == number
    with pytest.raises(DataError, match="alone are"):
        train_tokenizer(TextTokenizer(kind=kind, vocabulary=8), text)


def test_given_tokenizers_are_checked(tmp_path):
    section = TextTokenizer(path=str(tmp_path / "missing"))
    with pytest.raises(DataError, match=r"no tokenizer\.json"):
        train_tokenizer(section, [])
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": "?"}))
    with pytest.raises(DataError, match="not a tokenizer of the tokenizers library"):
        Tokenizer.load(tmp_path)
    plain = hf.Tokenizer(hf.models.BPE({"a": 0, "<|endoftext|>": 1}, []))
    plain.enable_truncation(2)
    plain.save(str(tmp_path / "tokenizer.json"))
    loaded = Tokenizer.load(tmp_path)
    assert loaded.eos_id == 1
    assert loaded.encode("aaaa") == [0, 0, 0, 0]
    loaded.require("eos")
    with pytest.raises(DataError) as caught:
        loaded.require("mask", "pad", "eos", why=", which masked models need")
    assert [p.what for p in caught.value.problems] == [
        "tokenizer: no mask token, which masked models need",
        "tokenizer: no pad token, which masked models need",
    ]

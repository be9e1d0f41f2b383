import json
import random
import unicodedata
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from attncli.data.pair_language import builtin_pairs
from attncli.data.pair_tokenizers import PairTokenizer, train_pair_tokenizer
from attncli.errors import CheckpointError
from attncli.recipe.translate import PairTokenizer as Settings

ENGLISH, GERMAN = (list(side) for side in zip(*builtin_pairs()["train"][:1000], strict=True))


def trained(**settings) -> PairTokenizer:
    return train_pair_tokenizer(Settings(**{"vocabulary": 600, **settings}), ("en", "de"), ENGLISH, GERMAN)


@pytest.fixture(scope="module")
def joint():
    return trained()


@pytest.fixture(scope="module")
def lower():
    return trained(lowercase=True, joint=False)


AWKWARD = "▁ a▁b</s> <0x0A>\u2028\x85\x1c\0\r\n\t e\u0301 \U0010ffff ﬁ İ ß Σ 中文，好。 🙂\u200d🙂 '\"«»"


@settings(deadline=None, max_examples=60)
@given(st.text())
@example(AWKWARD)
@example("")
@example("▁")
@example("\ud800 lone surrogate")
def test_any_text_comes_back_normalised(joint, lower, text):
    for tokenizer, side in ((joint, "source"), (joint, "target"), (lower, "source"), (lower, "target")):
        (ids,) = tokenizer.encode_many([text], side)
        normal = tokenizer.normalise(text, side)
        assert tokenizer.decode(ids, side) == normal == tokenizer.normalise(normal, side)
        assert ids[-1] == tokenizer.eos_id
        assert not set(ids[:-1]) & {tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id}


@settings(deadline=None, max_examples=60)
@given(st.text(st.characters(codec="utf-8")))
def test_normalising_changes_white_space_and_composition_only(joint, text):
    normal = joint.normalise(text)
    composed = unicodedata.normalize("NFC", text)
    assert normal == " ".join(composed.split())


def test_case_is_folded_only_where_asked(joint, lower):
    assert joint.normalise("Zwei ÄPFEL") == "Zwei ÄPFEL"
    assert lower.normalise("Zwei ÄPFEL") == "zwei äpfel"


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 399), max_size=30))
def test_what_any_ids_decode_to_is_one_normal_line(joint, ids):
    text = joint.decode(ids)
    assert len(text.splitlines()) <= 1
    assert joint.normalise(text) == text


def test_words_and_marks_are_apart(joint):
    tokens = joint.source_tokens(joint.encode_source('The dog (my dog), "sleeps".'))
    assert tokens[-1] == "</s>"
    bare = [t.lstrip("▁") for t in tokens[:-1] if len(t) > 1 and not t.startswith("<0x")]
    assert all(t.isalnum() or not any(map(str.isalnum, t)) for t in bare)
    assert joint.source_tokens(joint.encode_source("The dog,"))[-2] == ","


def test_vocabularies_are_bounded_and_alike(joint, lower):
    assert joint.joint
    assert joint.source is joint.target
    assert joint.vocabulary_source == joint.vocabulary_target == 600
    assert not lower.joint
    assert lower.vocabulary_source <= 600
    assert lower.source.get_vocab() != lower.target.get_vocab()
    assert trained(vocabulary=100_000).vocabulary_source < 3000
    for backend in (joint.source, lower.source, lower.target):
        assert [backend.id_to_token(at) for at in range(5)] == ["<pad>", "<s>", "</s>", "<unk>", "<0x00>"]


def test_training_is_repeatable(joint):
    assert trained().fingerprint == joint.fingerprint
    assert trained(vocabulary=599).fingerprint != joint.fingerprint


@pytest.mark.parametrize("kind", ["joint", "lower"])
def test_saved_and_loaded(kind, request, tmp_path):
    tokenizer = request.getfixturevalue(kind)
    tokenizer.save(tmp_path)
    again = PairTokenizer.load(tmp_path)
    assert again.fingerprint == tokenizer.fingerprint
    assert again.languages == ("en", "de")
    assert again.joint == tokenizer.joint
    assert again.encode_target(AWKWARD) == tokenizer.encode_target(AWKWARD)
    assert json.loads((tmp_path / "translation.json").read_text())["tokenizer"]["lowercase"] == (
        kind == "lower"
    )


def test_damaged_files_are_told_at_once(lower, tmp_path):
    with pytest.raises(CheckpointError, match="no tokeniser of a translation run"):
        PairTokenizer.load(tmp_path)
    lower.save(tmp_path)
    (tmp_path / "source.json").write_text("{}")
    (tmp_path / "target.json").unlink()
    with pytest.raises(CheckpointError) as caught:
        PairTokenizer.load(tmp_path)
    assert len(caught.value.problems) == 2
    (tmp_path / "translation.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"translation\.json"):
        PairTokenizer.load(tmp_path)


# BPE-dropout


def test_without_a_drop_the_merges_give_the_ordinary_ids(joint):
    ids, lengths = joint.flat([*ENGLISH, AWKWARD, "", *GERMAN], "source")
    again, sizes = joint.resegment(ids, lengths, "source", 1e-15, np.random.default_rng(0))
    assert np.array_equal(again, ids)
    assert np.array_equal(sizes, lengths)
    # Every word through the rounds, its first drop after the last one.
    found = joint._resegmenters[0]
    sentence = np.repeat(np.arange(len(lengths)), lengths)
    word = np.cumsum(found._opens[ids] | np.diff(sentence, prepend=-1).astype(bool)) - 1
    tokens = np.concatenate([found._atoms[found._first[i] :][: found._count[i]] for i in ids])
    word = np.repeat(word, found._count[ids])
    kept, at = np.ones(len(tokens), bool), np.arange(len(tokens))
    never = np.full(word[-1] + 1, 1 << 40)
    found._merge(
        tokens, kept, at, word, np.zeros(len(at), np.int64), at, never, 0.5, np.random.default_rng(0)
    )
    assert np.array_equal(tokens[kept], ids)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(max_size=30), max_size=6), st.floats(0.01, 0.95), st.integers(0, 9))
def test_dropout_keeps_the_text_and_follows_the_seed(joint, texts, dropout, seed):
    texts = [*texts, ENGLISH[seed], ""]
    found = joint.encode_many(texts, "source", dropout, seed)
    assert [joint.decode(ids, "source") for ids in found] == [joint.normalise(text) for text in texts]
    assert found == joint.encode_many(texts, "source", dropout, seed)


def test_dropout_differs_by_seed(joint):
    seen = {tuple(map(tuple, joint.encode_many(ENGLISH[:20], "source", 0.1, seed))) for seed in range(5)}
    assert len(seen) == 5


def algorithm_1(word: str, ranks: dict, dropout: float, rng: random.Random) -> tuple[str, ...]:
    """Algorithm 1 of Provilkov et al. as it is written."""
    tokens = list(word)
    while True:
        pairs = enumerate(pairwise(tokens))
        left = [(ranks[pair], at) for at, pair in pairs if pair in ranks and rng.random() >= dropout]
        if not left:
            return tuple(tokens)
        _, at = min(left)
        tokens[at : at + 2] = [tokens[at] + tokens[at + 1]]


@pytest.mark.parametrize("dropout", [0.1, 0.5])
@pytest.mark.parametrize("word", ["teacher", "sees"])
def test_segmentations_are_distributed_as_published(joint, word, dropout):
    merges = json.loads(joint.source.to_str())["model"]["merges"]
    ranks = {tuple(pair): rank for rank, pair in enumerate(merges)}
    count, rng = 3000, random.Random(1)
    expected = [Counter(algorithm_1("▁" + word, ranks, dropout, rng) for _ in range(count)) for _ in range(2)]
    ids = joint.encode_many([word] * count, "source", dropout, 7)
    found = Counter(tuple(joint.source_tokens(one[:-1])) for one in ids)

    def apart(a, b):
        return sum(abs(a[key] - b[key]) for key in a.keys() | b.keys()) / 2 / count

    assert apart(found, expected[0]) < 1.5 * apart(expected[1], expected[0]) + 0.015

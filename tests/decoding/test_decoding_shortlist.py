"""Shortlists: what is in them, and that they are found again."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from attncli.decoding import Shortlist
from attncli.decoding import shortlist as module
from attncli.errors import CheckpointError

EOS, S, T = 2, 40, 61


def _pairs(number, seed=0):
    """Source word w becomes w + 20, and now and then w + 21; words 3 and 4 come in nearly every sentence."""
    generator = np.random.default_rng(seed)
    for _ in range(number):
        words = generator.choice(np.arange(5, S), size=generator.integers(2, 8), replace=False)
        target = words + 20 + (generator.random(len(words)) < 0.2)
        yield np.append(words, EOS), np.concatenate([generator.permutation([3, 4]), target, [EOS]])


def _build(number=600, **more):
    options = {"count": 2, "frequent": 3} | more
    return Shortlist.build(_pairs(number), source_vocabulary=S, target_vocabulary=T, eos_id=EOS, **options)


def test_translations_are_found():
    likely = _build(count=6).likely
    for word in range(5, S):
        assert likely[word, 0] == word + 20
        assert word + 21 in likely[word]


def test_words_are_those_of_the_sources_and_the_most_frequent():
    shortlist = _build()
    words = shortlist.words(torch.tensor([[5, 9, EOS], [30, EOS, 0]]))
    assert words.dtype == torch.int64
    assert (words[1:] > words[:-1]).all()
    assert {EOS, 3, 4, 25, 26, 29, 30, 50, 51} <= set(words.tolist())
    assert len(words) == 32


def test_each_sentence_has_its_own():
    shortlist = _build()
    source = torch.tensor([[5, 9, EOS], [30, EOS, 0]])
    words = shortlist.words(source)
    allowed = shortlist.allowed(source, words)
    assert words[allowed[0]].tolist() == [2, 3, 4, 25, 26, 29, 30]
    assert words[allowed[1]].tolist() == [2, 3, 4, 50, 51]
    alone = shortlist.words(source[1:])
    assert alone[shortlist.allowed(source[1:], alone)[0]].tolist() == [2, 3, 4, 50, 51]


def test_a_vocabulary_that_is_no_larger_comes_whole():
    shortlist = _build(frequent=T)
    assert shortlist.words(torch.tensor([[0]])).tolist() == list(range(T))


def test_an_unknown_word_has_the_frequent_ones():
    shortlist = _build()
    words = shortlist.words(torch.tensor([[1]]))
    assert words[shortlist.allowed(torch.tensor([[1]]), words)[0]].tolist() == [2, 3, 4]


def test_no_pairs():
    shortlist = Shortlist.build([], source_vocabulary=4, target_vocabulary=5, eos_id=EOS, count=2, frequent=1)
    assert shortlist.words(torch.tensor([[3]])).tolist() == [0, 1, 2, 3, 4]


def test_as_model_one_in_plain_python():
    texts = [(np.unique(a), np.unique(b)) for a, b in _pairs(30)]
    t = {(a, b): 1.0 for source, target in texts for a in source for b in target}
    for _ in range(5):
        count = dict.fromkeys(t, 0.0)
        for source, target in texts:
            for b in target:
                total = sum(t[a, b] for a in source)
                for a in source:
                    count[a, b] += t[a, b] / total
        sums = {}
        for (a, _), c in count.items():
            sums[a] = sums.get(a, 0.0) + c
        t = {(a, b): c / sums[a] for (a, b), c in count.items()}
    keys, probability = module._model_one(texts, S, T)
    for key, p in zip(keys, probability, strict=True):
        assert p == pytest.approx(t[key // T, key % T], rel=1e-2, abs=1e-4)
    assert len(keys) > 0.3 * len(t)


@given(st.integers(1, 400), st.integers(1, 40))
@settings(max_examples=10, deadline=None)
def test_blocks_do_not_matter(block, number):
    whole = _build(number)
    before, module._BLOCK = module._BLOCK, block
    try:
        parts = _build(number)
    finally:
        module._BLOCK = before
    same = (whole.likely.sort().values == parts.likely.sort().values).float().mean()
    assert same > 0.95  # all but ties, which the order of sums decides
    assert torch.equal(whole.ranking, parts.ranking)


def test_saved_and_read(tmp_path):
    shortlist = _build()
    shortlist.save(tmp_path / "shortlist.safetensors")
    again = Shortlist.load(tmp_path / "shortlist.safetensors")
    source = torch.tensor([[5, 9, EOS], [30, EOS, 0]])
    assert torch.equal(again.words(source), shortlist.words(source))
    assert (again.frequent, again.eos_id) == (3, EOS)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="not a shortlist"):
        Shortlist.load(tmp_path / "none.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(CheckpointError, match="not a shortlist"):
        Shortlist.load(tmp_path / "text.safetensors")
    save_file({"weight": torch.zeros(2)}, tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError, match="not a shortlist"):
        Shortlist.load(tmp_path / "weights.safetensors")

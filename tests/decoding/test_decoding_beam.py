"""Beam search against a search in plain Python, on models in which every earlier token matters."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from decoding_toys import BOS, EOS, PAD, Toy, all_translations, reference_beam_search, same
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from attncli.decoding import Hypothesis, SearchSettings, beam_search

SPECIAL = {"bos_id": BOS, "eos_id": EOS, "pad_id": PAD}


def _search(toy, settings, limits, count=1, sentences=None, **more):
    steps = toy.steps(settings.beam, sentences)
    return beam_search(steps, **SPECIAL, settings=settings, limits=torch.tensor(limits), count=count, **more)


search_settings = st.builds(
    SearchSettings,
    beam=st.integers(1, 6),
    length_penalty=st.sampled_from([0.0, 0.6, 1.0, 2.0]),
    min_length=st.integers(0, 4),
    no_repeat=st.integers(0, 3),
    patience=st.sampled_from([0.5, 1.0, 2.0, math.inf]),
)


@given(st.data())
@hypothesis_settings(max_examples=150, deadline=None)
def test_as_the_plain_search(data):
    settings = data.draw(search_settings)
    toy = Toy(data.draw(st.integers(1, 6)), data.draw(st.integers(4, 9)), data.draw(st.integers(0, 10**6)))
    limits = data.draw(st.lists(st.integers(1, 9), min_size=toy.sentences, max_size=toy.sentences))
    count = data.draw(st.integers(1, settings.beam))
    found = _search(toy, settings, limits, count)
    assert len(found) == toy.sentences
    for sentence, (hypotheses, limit) in enumerate(zip(found, limits, strict=True)):
        read = partial(toy.read, sentence)
        same(hypotheses, reference_beam_search(read, settings=settings, limit=limit, count=count))
        assert len({tuple(h.tokens) for h in hypotheses}) == len(hypotheses)
        assert all(a.score >= b.score for a, b in pairwise(hypotheses))
        assert all(len(h.tokens) < limit for h in hypotheses)
        fewest = min(settings.min_length, limit - 1)
        assert all(len(h.tokens) >= fewest or h.score == -math.inf for h in hypotheses)


@pytest.mark.parametrize("vocabulary", [300, 1000, 1024])
def test_as_the_plain_search_over_many_words(vocabulary):
    """So many that they are looked at in chunks, which need not be even."""
    toy = Toy(4, vocabulary, seed=vocabulary, scale=1.5, dtype=torch.float32)
    settings = SearchSettings(beam=4)
    found = _search(toy, settings, [8, 7, 5, 8], count=4)
    for sentence, limit in enumerate([8, 7, 5, 8]):
        read = partial(toy.read, sentence)
        same(found[sentence], reference_beam_search(read, settings=settings, limit=limit, count=4))


@given(st.integers(0, 10**6), st.sampled_from([0.0, 1.0]), st.integers(1, 4))
@hypothesis_settings(max_examples=25, deadline=None)
def test_a_wide_beam_finds_the_best_of_all(seed, length_penalty, limit):
    toy = Toy(2, 6, seed)
    settings = SearchSettings(beam=6**limit, length_penalty=length_penalty, patience=math.inf)
    found = _search(toy, settings, [limit, limit], count=5)
    for sentence in range(2):
        everything = all_translations(partial(toy.read, sentence), limit=limit, length_penalty=length_penalty)
        same(found[sentence], everything[:5])


@given(st.data())
@hypothesis_settings(max_examples=40, deadline=None)
def test_the_batch_does_not_matter(data):
    settings = data.draw(search_settings)
    toy = Toy(12, 70, data.draw(st.integers(0, 10**6)), scale=1.5)
    limits = data.draw(st.lists(st.integers(1, 12), min_size=12, max_size=12))
    together = _search(toy, settings, limits, count=settings.beam)
    order = data.draw(st.permutations(range(12)))
    cuts = sorted(data.draw(st.lists(st.integers(0, 12), max_size=4)))
    for begin, stop in zip([0, *cuts], [*cuts, 12], strict=True):
        part = order[begin:stop]
        apart = _search(toy, settings, [limits[i] for i in part], settings.beam, part) if part else []
        for sentence, hypotheses in zip(part, apart, strict=True):
            same(hypotheses, together[sentence])


def test_sentences_that_are_decided_leave():
    toy = Toy(16, 30, seed=3)
    steps = toy.steps(3)
    limits = torch.tensor([2] * 8 + [9] * 8)
    beam_search(steps, **SPECIAL, settings=SearchSettings(beam=3, min_length=20), limits=limits)
    assert steps.sizes == [16] * 2 + [8] * 7


class Fixed:
    """The same logits for every hypothesis in each step: [T, B, V]."""

    def __init__(self, logits, beams):
        self.left, self.beams, self.batch = list(logits), beams, logits.shape[1]

    def step(self, tokens, words=None):
        return self.left.pop(0)[:, None].repeat(1, self.beams, 1)

    def reorder(self, beams):
        pass

    def select(self, sentences):
        self.left, self.batch = [logits[sentences] for logits in self.left], len(sentences)


def _fixed(logits, beam, count=None, limit=None, **more):
    settings = SearchSettings(beam=beam, **more)
    limits = torch.full((logits.shape[1],), limit or len(logits))
    return beam_search(
        Fixed(logits.clone(), beam), **SPECIAL, settings=settings, limits=limits, count=count or beam
    )


@pytest.mark.parametrize("vocabulary", [12, 700])
def test_ties_go_to_the_lower_hypothesis_and_token(vocabulary):
    """With equal logits everywhere: 3 4 5 first, then 3 3, 3 4, 3 5."""
    logits = torch.zeros(3, 2, vocabulary)
    logits[:2, :, EOS] = -torch.inf
    for hypotheses in _fixed(logits, beam=3):
        assert [h.tokens for h in hypotheses] == [[3, 3], [3, 4], [3, 5]]


def test_greedy_takes_the_first_of_equals():
    logits = torch.zeros(2, 1, 999)
    logits[0, 0, [70, 500, 900]] = 3.0
    assert _fixed(logits, beam=1)[0][0].tokens == [70]


def test_a_tie_with_one_that_has_finished_stays_behind_it():
    logits = torch.full((2, 1, 5), -torch.inf)
    logits[0, 0, [EOS, 3]] = math.log(0.5)  # "" and then "3" with probability one half
    logits[1, 0, EOS] = 0.0
    found = _fixed(logits, beam=2, length_penalty=0.0, patience=math.inf)[0]
    assert [h.tokens for h in found] == [[], [3]]


@pytest.mark.parametrize("what", [math.nan, math.inf, -math.inf])
def test_logits_that_say_nothing_are_left_out(what):
    logits = torch.randn(4, 2, 300, generator=torch.Generator().manual_seed(1))
    broken, clean = logits.clone(), logits.clone()
    broken[:, :, 5::7], clean[:, :, 5::7] = what, -torch.inf
    broken[1, 1, 10], clean[1, 1, 10] = what, -torch.inf
    for one, other in zip(_fixed(broken, beam=3), _fixed(clean, beam=3), strict=True):
        same(one, other)


@pytest.mark.parametrize("what", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("beam", [1, 3])
def test_a_sentence_without_any_probability_is_empty(what, beam):
    logits = torch.randn(4, 3, 40, generator=torch.Generator().manual_seed(2))
    logits[1, 1] = what
    logits[:, :, EOS] -= 50  # so that no other ends early
    found = _fixed(logits, beam)
    assert found[1] == [Hypothesis([], -math.inf, -math.inf)]
    assert [len(h.tokens) for h in found[0] + found[2]] == [3] * 2 * beam
    assert _fixed(torch.full((2, 2, 40), what), beam) == [[Hypothesis([], -math.inf, -math.inf)]] * 2


@pytest.mark.parametrize("shift", [-1e4, -90.0, 90.0, 1e4])
def test_large_logits_do_not_overflow(shift):
    logits = torch.randn(5, 2, 300, generator=torch.Generator().manual_seed(3)) * 3
    for one, other in zip(_fixed(logits, beam=3), _fixed(logits + shift, beam=3), strict=True):
        same(other, one, tolerance=2e-3)


def test_scores_count_the_end():
    logits = torch.full((2, 1, 5), -torch.inf)
    logits[0, 0, [3, 4]] = torch.tensor([0.75, 0.25]).log()
    logits[1, 0, [EOS, 3]] = torch.tensor([0.5, 0.5]).log()
    best = _fixed(logits, beam=1, length_penalty=1.0)[0][0]
    assert best.tokens == [3]
    assert best.log_probability == pytest.approx(math.log(0.375))
    assert best.score == pytest.approx(math.log(0.375) / 2)


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_waiting_finds_no_worse(penalty):
    toy = Toy(30, 12, seed=1)
    first = _search(toy, SearchSettings(beam=2, length_penalty=penalty), [14] * 30)
    settings = SearchSettings(beam=2, length_penalty=penalty, patience=math.inf)
    found = _search(toy, settings, [14] * 30)
    assert all(b[0].score >= a[0].score for a, b in zip(first, found, strict=True))
    if penalty:
        assert any(b[0].score > a[0].score for a, b in zip(first, found, strict=True))


@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(0, 2))
@hypothesis_settings(max_examples=40, deadline=None)
def test_among_words_only(seed, beam, no_repeat):
    toy = Toy(3, 40, seed)
    drawn = torch.randperm(37, generator=torch.Generator().manual_seed(seed))[:12] + 3
    words = torch.cat([torch.tensor([EOS]), drawn]).sort().values
    settings = SearchSettings(beam=beam, no_repeat=no_repeat)
    found = _search(toy, settings, [6, 4, 7], count=beam, words=words)
    for sentence, limit in enumerate([6, 4, 7]):
        read = partial(toy.read, sentence)
        expected = reference_beam_search(read, settings=settings, limit=limit, count=beam, words=words)
        same(found[sentence], expected)


def test_all_words_are_as_none():
    toy = Toy(5, 40, seed=12)
    settings = SearchSettings(beam=4)
    found = _search(toy, settings, [8] * 5, count=4, words=torch.arange(40))
    for one, other in zip(found, _search(toy, settings, [8] * 5, count=4), strict=True):
        same(one, other)


def test_each_sentence_has_its_own_words():
    toy = Toy(3, 40, seed=5)
    settings = SearchSettings(beam=3)
    words = torch.arange(2, 40)
    allowed = torch.rand(3, 38, generator=torch.Generator().manual_seed(4)) < 0.4
    allowed[:, 0] = True
    found = _search(toy, settings, [7, 7, 4], count=3, words=words, allowed=allowed)
    for sentence, limit in enumerate([7, 7, 4]):
        read, own = partial(toy.read, sentence), words[allowed[sentence]]
        same(
            found[sentence],
            reference_beam_search(read, settings=settings, limit=limit, count=3, words=own),
        )


def test_the_end_may_be_the_beginning():
    toy = Toy(4, 12, seed=6)
    settings = SearchSettings(beam=3)
    found = beam_search(
        toy.steps(3), bos_id=2, eos_id=2, pad_id=2, settings=settings, limits=torch.full((4,), 7), count=3
    )
    for sentence in range(4):
        expected = reference_beam_search(
            partial(toy.read, sentence), settings=settings, limit=7, count=3, special=(2, 2, 2)
        )
        same(found[sentence], expected)


def test_no_sentences():
    assert _search(Toy(0, 9, seed=1), SearchSettings(), []) == []


def test_only_the_end():
    found = _search(Toy(2, 9, seed=1), SearchSettings(beam=3), [4, 4], 3, words=torch.tensor([EOS]))
    assert [[h.tokens for h in hypotheses] for hypotheses in found] == [[[]], [[]]]


def test_impossible_requests_are_refused():
    toy = Toy(2, 9, seed=1)
    for count in (0, 6):
        with pytest.raises(ValueError, match="count"):
            _search(toy, SearchSettings(beam=5), [4, 4], count=count)
    with pytest.raises(ValueError, match="limit"):
        _search(toy, SearchSettings(), [4, 0])
    with pytest.raises(ValueError, match="2 sentences"):
        _search(toy, SearchSettings(), [4, 4, 4])
    with pytest.raises(ValueError, match="not among"):
        _search(toy, SearchSettings(), [4, 4], words=torch.tensor([3, 4]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"beam": 0},
        {"length_penalty": -1.0},
        {"length_penalty": math.nan},
        {"min_length": -1},
        {"max_length": 0.0},
        {"no_repeat": -1},
        {"patience": 0.0},
        {"patience": math.nan},
    ],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        SearchSettings(**wrong)


def test_limits_follow_the_source():
    lengths = torch.tensor([1, 10, 100])
    assert SearchSettings(max_length=1.5).limits(lengths, most=60).tolist() == [11, 25, 60]

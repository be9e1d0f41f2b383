"""Sampled translations: their distribution, their seeds, their scores."""

import math
from collections import Counter
from functools import partial

import pytest
import torch
from decoding_toys import BOS, EOS, PAD, Toy, log_probabilities, same
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from attncli.decoding import Hypothesis, Sampling, SearchSettings, beam_search, sample_translations

SPECIAL = {"bos_id": BOS, "eos_id": EOS, "pad_id": PAD}


def _sample(toy, sampling, limits, *, beam=3, seeds=None, sentences=None, words=None, **settings):
    return sample_translations(
        toy.steps(beam, sentences),
        **SPECIAL,
        settings=SearchSettings(beam=beam, **settings),
        sampling=sampling,
        limits=torch.tensor(limits),
        seeds=seeds,
        words=words,
    )


@given(st.data())
@hypothesis_settings(max_examples=60, deadline=None)
def test_scores_are_the_models(data):
    toy = Toy(3, 12, data.draw(st.integers(0, 10**6)), scale=0.7)
    limits = data.draw(st.lists(st.integers(1, 8), min_size=3, max_size=3))
    penalty, fewest = data.draw(st.sampled_from([0.0, 1.0])), data.draw(st.integers(0, 3))
    no_repeat = data.draw(st.integers(0, 2))
    words = torch.tensor([2, 3, 5, 6, 8, 11]) if data.draw(st.booleans()) else None
    sampling = Sampling(temperature=data.draw(st.sampled_from([0.0, 0.7, 2.0])), top_k=5)
    found = _sample(
        toy,
        sampling,
        limits,
        words=words,
        length_penalty=penalty,
        min_length=fewest,
        no_repeat=no_repeat,
    )
    for sentence, hypotheses in enumerate(found):
        assert len(hypotheses) == 3
        for hypothesis in hypotheses:
            if hypothesis.score == -math.inf:  # no token was left that may follow
                assert hypothesis.tokens == []
                assert no_repeat
                continue
            text = [*hypothesis.tokens, EOS]
            p = sum(
                log_probabilities(toy.read(sentence, [BOS, *text[:i]]), words)[token]
                for i, token in enumerate(text)
            )
            expected = Hypothesis(hypothesis.tokens, p / len(text) ** penalty, p)
            same([hypothesis], [expected])
            assert min(fewest, limits[sentence] - 1) <= len(hypothesis.tokens) < limits[sentence]
            assert not {PAD, BOS, EOS} & set(hypothesis.tokens)
            grams = list(zip(*(hypothesis.tokens[i:] for i in range(no_repeat)), strict=False))
            assert len(set(grams)) == len(grams)


@given(st.integers(0, 10**6), st.permutations(range(6)), st.integers(0, 6))
@hypothesis_settings(max_examples=20, deadline=None)
def test_a_sentence_has_its_own_draws(seed, order, cut):
    toy = Toy(6, 20, seed, scale=0.7)
    limits, seeds = [7, 3, 9, 5, 1, 7], [11, 12, 13, 14, 15, 16]
    draw = partial(_sample, toy, Sampling(temperature=1.0))
    together = draw(limits, seeds=seeds)
    for part in (order[:cut], order[cut:]):
        apart = draw([limits[i] for i in part], seeds=[seeds[i] for i in part], sentences=part)
        for sentence, hypotheses in zip(part, apart, strict=True):
            same(hypotheses, together[sentence])
    assert draw(limits, seeds=[s + 1 for s in seeds]) != together


def test_frequencies_are_the_probabilities():
    toy = Toy(1, 6, seed=4, scale=0.5)
    found = Counter()
    drawn = _sample(toy, Sampling(temperature=1.0), [3], beam=20_000, seeds=[5])[0]
    found.update(tuple(hypothesis.tokens) for hypothesis in drawn)
    chance = {}
    free = [token for token in range(6) if token not in (PAD, BOS)]

    def follow(tokens, p):
        logits = toy.read(0, [BOS, *tokens])
        shares = dict(zip(free, logits[free].softmax(-1).tolist(), strict=True))
        if len(tokens) == 2:
            chance[tokens] = p
            return
        for token, share in shares.items():
            if token == EOS:
                chance[tokens] = p * share
            else:
                follow((*tokens, token), p * share)

    follow((), 1.0)
    assert sum(chance.values()) == pytest.approx(1.0)
    for tokens, p in chance.items():
        assert found[tokens] / 20_000 == pytest.approx(p, abs=5 * math.sqrt(p / 20_000) + 1e-4)
    assert set(found) <= set(chance)


def test_no_temperature_is_greedy():
    toy = Toy(5, 30, seed=6)
    greedy = beam_search(toy.steps(1), **SPECIAL, settings=SearchSettings(beam=1), limits=torch.full((5,), 9))
    for hypotheses, best in zip(_sample(toy, Sampling(), [9] * 5), greedy, strict=True):
        for hypothesis in hypotheses:
            same([hypothesis], best)


def test_without_seeds_pytorchs_generator_draws():
    toy = Toy(2, 30, seed=6, scale=0.5)
    texts = []
    for _ in range(2):
        torch.manual_seed(3)
        texts.append([_sample(toy, Sampling(temperature=1.0), [9, 9]) for _ in range(2)])
    assert texts[0] == texts[1]
    assert texts[0][0] != texts[0][1]


def test_a_sentence_without_any_probability_is_empty():
    toy = Toy(3, 20, seed=1)
    toy.begin[1] = math.nan
    found = _sample(toy, Sampling(temperature=1.0), [6] * 3, seeds=[1, 2, 3], min_length=2)
    assert found[1] == [Hypothesis([], -math.inf, -math.inf)] * 3
    assert all(len(hypothesis.tokens) >= 2 for hypothesis in found[0] + found[2])


def test_those_that_have_ended_leave():
    toy = Toy(8, 20, seed=1)
    steps = toy.steps(2)
    sample_translations(
        steps,
        **SPECIAL,
        settings=SearchSettings(beam=2, min_length=20),
        sampling=Sampling(temperature=1.0),
        limits=torch.tensor([2] * 4 + [5] * 4),
    )
    assert steps.sizes == [8, 8, 4, 4, 4]


def test_seeds_must_be_as_many():
    with pytest.raises(ValueError, match="1 seeds for 2 sentences"):
        _sample(Toy(2, 9, seed=1), Sampling(temperature=1.0), [4, 4], seeds=[1])


def test_no_sentences():
    assert _sample(Toy(0, 9, seed=1), Sampling(temperature=1.0), []) == []


@pytest.mark.parametrize("top_k", [0, 3])
def test_a_uniform_number_draws_by_the_distribution(top_k):
    sampling = Sampling(temperature=1.0, top_k=top_k)
    logits = torch.randn(1, 11, generator=torch.Generator().manual_seed(1))
    uniform = (torch.arange(10_000) + 0.5) / 10_000
    chosen = sampling.choose(logits.expand(10_000, -1), uniform=uniform)
    share = torch.bincount(chosen, minlength=11) / 10_000
    torch.testing.assert_close(share, sampling.probabilities(logits)[0], atol=2e-4, rtol=0)


def test_the_ends_of_the_uniform_numbers_draw_what_is_possible():
    logits = torch.tensor([[-math.inf, 1.0, -math.inf, 2.0, -math.inf]] * 2)
    uniform = torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)
    assert Sampling(temperature=1.0).choose(logits, uniform=uniform).tolist() == [1, 3]

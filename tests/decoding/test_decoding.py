"""Generation against a model whose next token is known."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attncli.decoding import Sampling, generate

V = 11


class Counter:
    """The next token is the sum of those in the context, modulo V. Its cache is the list of tokens read."""

    def __init__(self):
        self.read = []

    def step(self, tokens, cache):
        self.read.append(tokens.shape[1])
        if cache is not None:
            cache.append(tokens)
            tokens = torch.cat(cache, dim=1)
        return torch.nn.functional.one_hot(tokens.sum(1) % V, V).float()[:, None] * 5


def _text(found):
    return torch.stack(list(found), dim=1).tolist()


def test_greedy_follows_the_model():
    prompt = torch.tensor([[1, 2], [5, 0]])
    assert _text(generate(Counter().step, prompt, length=32, limit=4)) == [[3, 6, 1, 2], [5, 10, 9, 7]]


@pytest.mark.parametrize(
    "sampling", [Sampling(), Sampling(temperature=1.5), Sampling(1.0, top_k=3, top_p=0.9)]
)
@pytest.mark.parametrize("size", [1, 5, 8, 20])
def test_cached_equals_uncached_beyond_the_length_too(sampling, size):
    prompt = torch.randint(V, (2, size), generator=torch.Generator().manual_seed(size))
    settings = {"length": 8, "limit": 30, "sampling": sampling, "seed": 4}
    plain, cached = Counter(), Counter()
    assert _text(generate(plain.step, prompt, **settings)) == _text(
        generate(cached.step, prompt, new_cache=list, **settings)
    )
    assert max(plain.read) == max(min(8, size), 8)
    assert sum(cached.read) < sum(plain.read) / 1.5
    assert max(cached.read[1:]) <= 6, "a full cache is filled again to three quarters"


def test_a_row_that_has_ended_waits_for_the_others():
    prompt = torch.tensor([[1, 2], [5, 0]])
    assert _text(generate(Counter().step, prompt, length=32, limit=9, stop=[6, 7])) == [
        [3, 6, 6, 6],
        [5, 10, 9, 7],
    ]


def test_tokens_come_as_soon_as_they_are_known():
    model = Counter()
    stream = generate(model.step, torch.tensor([[1]]), length=8, limit=100)
    assert next(stream).tolist() == [1]
    assert next(stream).tolist() == [2]
    assert len(model.read) == 2
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_a_seed_repeats_and_leaves_the_global_generator_alone():
    settings = {"length": 8, "limit": 20, "sampling": Sampling(temperature=3.0)}
    prompt = torch.tensor([[1]])
    state = torch.get_rng_state()
    first = _text(generate(Counter().step, prompt, seed=1, **settings))
    assert first == _text(generate(Counter().step, prompt, seed=1, **settings))
    assert first != _text(generate(Counter().step, prompt, seed=2, **settings))
    assert torch.equal(state, torch.get_rng_state())


def test_an_empty_prompt_is_refused():
    with pytest.raises(ValueError, match="at least one token"):
        next(generate(Counter().step, torch.zeros(1, 0, dtype=torch.long), length=8, limit=1))


@given(st.integers(0, 10_000), st.floats(0.1, 3), st.integers(0, 12), st.floats(0.05, 1))
@settings(max_examples=60, deadline=None)
def test_the_distribution_keeps_the_likeliest(seed, temperature, top_k, top_p):
    logits = torch.randn(3, V, generator=torch.Generator().manual_seed(seed)) * 3
    full = (logits / temperature).softmax(-1)
    kept = Sampling(temperature, top_k, top_p).probabilities(logits)
    torch.testing.assert_close(kept.sum(-1), torch.ones(3))
    for before, after in zip(full, kept, strict=True):
        chosen = after > 0
        assert chosen[before.argmax()]
        if 0 < top_k < V:
            assert chosen.sum() <= top_k
        if not chosen.all():
            assert before[chosen].min() >= before[~chosen].max()
        # Within what stays, the proportions are the model's.
        torch.testing.assert_close(after[chosen], before[chosen] / before[chosen].sum(), atol=1e-5, rtol=1e-4)
        if top_k == 0:  # the nucleus holds top_p, and no smaller set does
            mass = before[chosen].sum()
            assert mass >= top_p - 1e-5
            assert mass - before[chosen].min() < top_p + 1e-5


def test_draws_have_the_distribution():
    sampling, logits = (
        Sampling(temperature=0.7, top_k=4),
        torch.randn(1, V, generator=torch.Generator().manual_seed(1)),
    )
    drawn = sampling.choose(logits.expand(20_000, V), torch.Generator().manual_seed(2))
    share = torch.bincount(drawn, minlength=V) / 20_000
    torch.testing.assert_close(share, sampling.probabilities(logits)[0], atol=0.015, rtol=0)


def test_a_tiny_temperature_does_not_overflow():
    probabilities = Sampling(temperature=1e-30).probabilities(torch.tensor([[1.0, 3.0, 2.0]]))
    assert probabilities.tolist() == [[0.0, 1.0, 0.0]]


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"temperature": float("nan")}]
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Sampling(**wrong)

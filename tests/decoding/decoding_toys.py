"""Toy models for the searches, and the searches in plain Python: one sentence, no cache, no batch."""

import math

import torch

from attncli.decoding import Hypothesis

PAD, BOS, EOS = 0, 1, 2


class Toy:
    """Next-token logits that depend on everything read so far: a recurrent net with random weights.

    In float64, so that two candidates are never closer than what the order of a sum changes.
    """

    def __init__(self, sentences, vocabulary, seed, scale=2.0, width=6, dtype=torch.float64):
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape):
            return torch.randn(*shape, generator=generator, dtype=dtype)

        self.sentences, self.vocabulary, self.width = sentences, vocabulary, width
        self.begin = draw(sentences, width)  # the source of each sentence
        self.embedding, self.recurrent = draw(vocabulary, width), draw(width, width)
        self.out, self.bias = draw(width, vocabulary) * scale, draw(vocabulary) * scale

    def state(self, before, tokens):
        return torch.tanh(before @ self.recurrent + self.embedding[tokens])

    def logits(self, state):
        return state @ self.out + self.bias

    def read(self, sentence, prefix):
        """Logits [V] in float64 after a whole prefix, from the beginning."""
        state = self.begin[sentence].double()
        for token in prefix:
            state = torch.tanh(state @ self.recurrent.double() + self.embedding[token].double())
        return state @ self.out.double() + self.bias.double()

    def steps(self, beams, sentences=None):
        return ToySteps(self, beams, range(self.sentences) if sentences is None else sentences)


class ToySteps:
    """The toy as `Steps`: a state for each hypothesis, so that a wrong order of hypotheses shows."""

    def __init__(self, toy, beams, sentences):
        self.toy, self.beams, self.batch = toy, beams, len(sentences)
        self.memory = toy.begin[list(sentences)][:, None].expand(-1, beams, -1)
        self.sizes = []

    def step(self, tokens, words=None):
        assert tokens.shape == (self.batch, self.beams)
        self.sizes.append(self.batch)
        self.memory = self.toy.state(self.memory, tokens)
        logits = self.toy.logits(self.memory)
        return logits if words is None else logits[..., words].contiguous()

    def reorder(self, beams):
        assert beams.shape == (self.batch, self.beams)
        self.memory = self.memory.gather(1, beams[..., None].expand_as(self.memory))

    def select(self, sentences):
        self.memory, self.batch = self.memory[sentences], len(sentences)


def log_probabilities(logits, words=None):
    """Float64 [V], -inf outside the words."""
    logits = torch.where(torch.isfinite(logits), logits, -torch.inf)
    if words is not None:
        outside = torch.ones(len(logits), dtype=torch.bool)
        outside[words] = False
        logits = logits.masked_fill(outside, -torch.inf)
    return [p if p == p else -math.inf for p in logits.log_softmax(-1).tolist()]


def reference_beam_search(read, *, settings, limit, count, words=None, special=(PAD, BOS, EOS)):
    """What `beam_search` finds for one sentence. ``read(prefix)`` gives logits [V]."""
    pad, bos, eos = special
    alive, finished = [([], 0.0)], []
    for step in range(1, limit + 1):
        candidates = []
        for rank, (tokens, total) in enumerate(alive):
            for token, p in enumerate(log_probabilities(read([bos, *tokens]), words)):
                text = [*tokens, token]
                again = settings.no_repeat and any(
                    text[i : i + settings.no_repeat] == text[len(text) - settings.no_repeat :]
                    for i in range(len(text) - settings.no_repeat)
                )
                if token == eos:
                    possible = step == limit or len(tokens) >= settings.min_length
                else:
                    possible = step < limit and token not in (pad, bos) and not again
                if possible and total + p > -math.inf:
                    candidates.append((-(total + p), rank, token, tokens))
        candidates.sort()
        for negative, _, token, tokens in candidates[: settings.beam]:
            if token == eos:
                finished.append(Hypothesis(tokens, -negative / step**settings.length_penalty, -negative))
        alive = [([*tokens, token], -negative) for negative, _, token, tokens in candidates if token != eos]
        alive = alive[: settings.beam]
        finished.sort(key=lambda hypothesis: -hypothesis.score)
        if not alive or len(finished) >= settings.patience * settings.beam:
            break
    return finished[:count] or [Hypothesis([], -math.inf, -math.inf)]


def all_translations(read, *, limit, length_penalty, special=(PAD, BOS, EOS)):
    """Every translation of at most ``limit`` tokens, the end counted, best first."""
    pad, bos, eos = special
    found, open_ = [], [([], 0.0)]
    for step in range(1, limit + 1):
        longer = []
        for tokens, total in open_:
            ahead = log_probabilities(read([bos, *tokens]))
            found.append(Hypothesis(tokens, (total + ahead[eos]) / step**length_penalty, total + ahead[eos]))
            longer += [
                ([*tokens, token], total + p) for token, p in enumerate(ahead) if token not in (pad, bos, eos)
            ]
        open_ = longer
    return sorted(found, key=lambda hypothesis: -hypothesis.score)


def same(found, expected, tolerance=2e-5):
    """The same hypotheses with the same numbers, but for near ties."""
    assert len(found) == len(expected), (found, expected)
    for one, other in zip(found, expected, strict=True):
        assert one.tokens == other.tokens, (found, expected)
        for a, b in ((one.score, other.score), (one.log_probability, other.log_probability)):
            assert a == b or abs(a - b) <= tolerance * max(1, abs(b)), (found, expected)

"""Hierarchical attention networks against their formula, sentence by sentence in float64."""

import pytest
import torch
from torch.nn import functional as F

from attncli.attention import Padding, record
from attncli.errors import RecipeError
from attncli.layers.recurrent import turned_places
from attncli.models.han import HanModel
from attncli.models.han_config import HanConfig, resolve_han
from attncli.recipe.classify import HanModel as HanSection

ENCODERS = ("gru", "lstm", "transformer")
ATTENTIONS = ("additive", "dot", "mean", "max")
LENGTHS = [[3, 1, 5], [2], [4, 4]]  # words of the sentences of three documents


def build(**options):
    torch.manual_seed(1)
    options = {"vocabulary": 20, "labels": 3, "embedding": 6, "width": 4, "heads": 2} | options
    return HanModel(HanConfig(**options)).double().eval()


def documents(sentences=4, words=6, seed=2):
    """Token ids, padding included, and what is no padding."""
    generator = torch.Generator().manual_seed(seed)
    keep = torch.zeros(len(LENGTHS), sentences, words, dtype=torch.bool)
    for b, lengths in enumerate(LENGTHS):
        for s, length in enumerate(lengths):
            keep[b, s, :length] = True
    tokens = torch.randint(2, 20, (3, 3, 5), generator=generator)
    padded = torch.zeros(len(LENGTHS), sentences, words, dtype=torch.int64)
    padded[:, :3, :5] = tokens
    return padded.masked_fill(~keep, 0), keep


def level_formula(level, rows):
    """A list of [T, I] to vectors [C] and weights [T], one row at a time."""
    vectors, weights = [], []
    for row in rows:
        x = row.unsqueeze(0)
        if hasattr(level.encoder, "stack"):
            encoder, keep = level.encoder, torch.ones(1, len(row), dtype=torch.bool)
            codes = encoder.position.codes(torch.arange(len(row))).double()
            x = encoder.stack(encoder.norm(encoder.project(x)) + codes, Padding(keep))
        else:
            for layer in level.encoder.layers:
                x = layer(x, turned_places(torch.tensor([len(row)]), len(row)))
        h = x[0]
        pooling = level.pooling
        if hasattr(pooling, "context"):
            inner = h if pooling.project is None else torch.tanh(pooling.project(h))
            scores = torch.exp(inner @ pooling.context)
            weights.append(scores / scores.sum())
            vectors.append((weights[-1].unsqueeze(1) * h).sum(0))
        else:
            vectors.append(h.mean(0) if type(pooling).__name__ == "MeanPooling" else h.max(0).values)
    return vectors, weights


def formula(model, tokens):
    """Logits [B, L] and the weights of words and sentences of every document."""
    logits, of_words, of_sentences = [], [], []
    for b, lengths in enumerate(LENGTHS):
        embedded = [model.embedding(tokens[b, s, :length]) for s, length in enumerate(lengths)]
        vectors, weights = level_formula(model.words, embedded)
        of_words.append(weights)
        (vector,), weights = level_formula(model.sentences, [torch.stack(vectors)])
        of_sentences.append(weights)
        logits.append(model.output(vector))
    return torch.stack(logits), of_words, of_sentences


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_formula_and_recorded_weights(encoder, attention, layers):
    model = build(encoder=encoder, attention=attention, layers=layers)
    tokens, keep = documents()
    logits = model(tokens, keep)
    want, of_words, of_sentences = formula(model, tokens)
    torch.testing.assert_close(logits, want, rtol=1e-10, atol=1e-12)
    with record(model) as recorded:
        torch.testing.assert_close(model(tokens, keep), logits, rtol=1e-10, atol=1e-12)
    found = dict(recorded.weights)
    if attention in ("mean", "max"):
        assert not found.keys() & {"words", "sentences"}
        return
    words, sentences = found["words"], found["sentences"]
    assert words.shape == (3, 1, 4, 6)
    assert sentences.shape == (3, 1, 1, 4)
    assert not words[:, 0][~keep].any()
    assert not sentences[:, 0, 0][~keep.any(2)].any()
    for b, lengths in enumerate(LENGTHS):
        torch.testing.assert_close(sentences[b, 0, 0, : len(lengths)], of_sentences[b][0])
        for s, length in enumerate(lengths):
            torch.testing.assert_close(words[b, 0, s, :length], of_words[b][s])


@pytest.mark.parametrize("encoder", ENCODERS)
def test_padding_empty_sentences_and_neighbours_change_nothing(encoder):
    model = build(encoder=encoder, layers=2)
    tokens, keep = documents()
    want = model(tokens, keep)
    larger, larger_keep = documents(sentences=7, words=9)
    garbage = torch.where(larger_keep, larger, 7)
    torch.testing.assert_close(model(garbage, larger_keep), want, rtol=1e-10, atol=1e-12)
    order = torch.tensor([3, 0, 4, 1, 5, 6, 2])  # empty sentences between the real 0, 1, 2
    torch.testing.assert_close(model(larger[:, order], larger_keep[:, order]), want, rtol=1e-10, atol=1e-12)
    for b in range(3):
        alone = model(tokens[b : b + 1], keep[b : b + 1])
        torch.testing.assert_close(alone, want[b : b + 1], rtol=1e-10, atol=1e-12)
    with_empty = model(torch.cat([tokens, tokens[:1]]), torch.cat([keep, torch.zeros_like(keep[:1])]))
    torch.testing.assert_close(with_empty[:3], want, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(with_empty[3], model.output.bias)
    assert model(tokens[:1], torch.zeros_like(keep[:1])).tolist() == [model.output.bias.tolist()]


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_gradients_are_those_of_the_formula(encoder, attention):
    model = build(encoder=encoder, attention=attention)
    tokens, keep = documents()
    target = torch.tensor([0, 2, 1])
    parameters = list(model.parameters())
    got = torch.autograd.grad(F.cross_entropy(model(tokens, keep), target), parameters)
    want = torch.autograd.grad(F.cross_entropy(formula(model, tokens)[0], target), parameters)
    for (name, _), a, b in zip(model.named_parameters(), got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10, msg=name)


def test_dropout_and_word_dropout_act_in_training_only():
    model = build(dropout=0.0, word_dropout=0.999, unk_id=1)
    tokens, keep = documents()
    unknown = model(torch.ones_like(tokens), keep)
    assert not torch.allclose(model(tokens, keep), unknown)
    model.train()
    torch.manual_seed(3)
    torch.testing.assert_close(model(tokens, keep), unknown)
    model = build(dropout=0.5).train()
    torch.manual_seed(3)
    first = model(tokens, keep)
    assert not torch.allclose(first, model(tokens, keep))
    torch.manual_seed(3)
    torch.testing.assert_close(model(tokens, keep), first)


def test_it_learns_which_words_count():
    """One word of each document decides; word weights find it, in documents that were not learnt from."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    rows = torch.arange(256)
    tokens = torch.randint(5, 30, (256, 3, 5), generator=generator)
    sentence, word = (torch.randint(0, most, (256,), generator=generator) for most in (3, 5))
    target = rows % 2
    tokens[rows, sentence, word] = 3 + target
    keep = torch.ones_like(tokens, dtype=torch.bool)
    model = HanModel(HanConfig(vocabulary=30, labels=2, embedding=12, width=8, dropout=0.0))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(40):
        loss = F.cross_entropy(model(tokens[:128], keep[:128]), target[:128])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad(), record(model.eval()) as recorded:
        found = model(tokens[128:], keep[128:]).argmax(1)
    assert (found == target[128:]).float().mean() > 0.95
    words = dict(recorded.weights)["words"][:, 0]
    at = torch.arange(128), sentence[128:], word[128:]
    assert words[at].mean() > 0.3  # an even share is 0.2


def test_resolving_a_section():
    section = HanSection(encoder="lstm", embedding=20, width=10, attention="dot", word_dropout=0.1)
    config = resolve_han(section, vocabulary=99, labels=4, pad_id=3, unk_id=5)
    assert (config.vocabulary, config.labels, config.pad_id, config.unk_id) == (99, 4, 3, 5)
    assert (config.encoder, config.embedding, config.width, config.attention) == ("lstm", 20, 10, "dot")
    assert config.word_dropout == 0.1
    assert "lstm 10" in config.describe()
    HanModel(resolve_han(HanSection(encoder="transformer"), vocabulary=9, labels=2))  # the defaults fit
    resolve_han(HanSection(width=5, heads=3), vocabulary=9, labels=2)  # heads are the Transformer's
    with pytest.raises(RecipeError, match=r"model\.heads=3 .* 10"):
        resolve_han(HanSection(encoder="transformer", width=5, heads=3), vocabulary=9, labels=2)

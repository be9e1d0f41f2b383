"""The Transformer that translates, whatever it is made of: whole and step by step, padded and not."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from attncli.attention import MECHANISMS, record
from attncli.errors import DataError, RecipeError
from attncli.models import build_translation, count_parameters, resolve_translation, translation_flops
from attncli.recipe.translate import TransformerModel

V, W = 37, 29  # source and target words where they differ
POSITIONS = ["none", "sinusoidal", "learned", "shaw", "t5", "rotary", "alibi"]
OPTIONS = {
    "topk": {"topk": 2},
    "window": {"window": 2},
    "longformer": {"window": 2},
    "bigbird": {"block": 2},
    "nystrom": {"landmarks": 3},
    "linformer": {"rank": 3},
    "convolution": {"kernel": 3},
    "global_local": {"window": 1},
}


def _chosen(mechanism, position):
    """The mechanism with its options, and the position where both go together."""
    support = MECHANISMS[mechanism].support
    return {
        "mechanism": mechanism,
        "position": position if position != "t5" or support.bias else "sinusoidal",
        "backend": "reference" if support.backends else "auto",
        **OPTIONS.get(mechanism, {}),
    }


def _section(attention=None, **values):
    small = {"width": 16, "intermediate": 24, "encoder_layers": 2, "decoder_layers": 2, "length": 12}
    chosen = {"heads": 4, "position": "sinusoidal", "backend": "reference"} | (attention or {})
    return TransformerModel(**small | {"dropout": 0.0, "attention": chosen} | values)


def _config(attention=None, target=V, **values):
    return resolve_translation(_section(attention, **values), source_vocabulary=V, target_vocabulary=target)


def _model(attention=None, target=V, dtype=torch.float64, **values):
    """A model with weights large enough that every part of it matters."""
    torch.manual_seed(0)
    model = build_translation(_config(attention, target, **values)).to(dtype).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.add_(torch.randn_like(parameter) * 0.15)
    return model


def _words(*shape, seed=0):
    return torch.randint(4, W, shape, generator=torch.Generator().manual_seed(seed))


def _source(seed=0):
    """Three sentences of 7, 5 and 3 tokens, padded."""
    keep = torch.arange(7) < torch.tensor([[7], [5], [3]])
    return _words(3, 7, seed=seed) * keep, keep


def _walk(model, *, beams=3, limit=5, seed=0, first=None):
    """Random hypotheses, reordered and selected: the largest difference to the whole forward pass."""
    g = torch.Generator().manual_seed(seed)
    source, keep = _source()
    steps = model.decoding(source, keep, beams, limit)
    sentences, worst = torch.arange(3), 0.0
    written = torch.zeros(3, first or beams, 0, dtype=torch.long)  # [B, K, t]
    for place in range(limit):
        batch, count = written.shape[:2]
        new = torch.randint(4, W, (batch, count), generator=g)
        written = torch.cat((written, new[..., None]), -1)
        got = steps.step(new)
        rows = sentences.repeat_interleave(count)
        with torch.no_grad():
            want = model(source[rows], written.flatten(0, 1), keep[rows])[:, -1]
        assert got.shape == (batch, count, want.shape[-1])
        worst = max(worst, (got.flatten(0, 1) - want).abs().max().item())
        come_from = torch.randint(0, count, (batch, beams), generator=g)
        steps.reorder(come_from)
        written = written.gather(1, come_from[..., None].expand(-1, -1, place + 1))
        if place == 2:
            kept = torch.tensor([2, 0])
            steps.select(kept)
            written, sentences = written[kept], sentences[kept]
            assert steps.batch == 2
    return worst


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("position", POSITIONS)
def test_steps_are_the_forward_pass(position, norm):
    for kv_heads in (None, 2):
        model = _model({"position": position, "kv_heads": kv_heads, "qk_norm": kv_heads == 2}, norm=norm)
        assert _walk(model) < 1e-10
    for latent in (3, 20):  # the narrow one is attended to itself, the wide one expanded
        model = _model({"position": position, "kv_latent": latent, "kv_heads": 2}, norm=norm)
        assert _walk(model) < 1e-10


@pytest.mark.parametrize(
    ("mechanism", "position"), list(itertools.product(MECHANISMS, ["sinusoidal", "rotary", "t5"]))
)
def test_steps_of_every_mechanism(mechanism, position):
    assert _walk(_model(_chosen(mechanism, position)), seed=1) < 1e-10


@pytest.mark.parametrize("backend", ["auto", "fused", "chunked"])
def test_steps_in_float32_under_every_backend(backend):
    assert _walk(_model({"backend": backend}, dtype=torch.float32)) < 1e-5


def test_steps_of_one_hypothesis_and_of_growing_and_shrinking_numbers():
    model = _model()
    assert _walk(model, beams=1) < 1e-10
    assert _walk(model, beams=4, first=1) < 1e-10
    source, keep = _source()
    steps = model.decoding(source, keep, 3, 5)
    steps.step(_words(3, 3))
    steps.reorder(torch.tensor([[2], [0], [1]]))
    got = steps.step(_words(3, 1, seed=5))
    before = _words(3, 3)[torch.arange(3), torch.tensor([2, 0, 1])]
    whole = torch.cat((before[:, None], _words(3, 1, seed=5)), 1)
    torch.testing.assert_close(got[:, 0], model(source, whole, keep)[:, -1], atol=1e-10, rtol=0)


def test_a_step_gives_the_logits_of_asked_words_and_ends_at_the_limit():
    model = _model(dtype=torch.bfloat16)
    source, keep = _source()
    words = torch.tensor([2, 30, 7])
    whole, some = (model.decoding(source, keep, 2, 2) for _ in range(2))
    for place in range(2):
        tokens = _words(3, 2, seed=place)
        got = some.step(tokens, words)
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, whole.step(tokens)[..., words], atol=0.05, rtol=0.02)
    with pytest.raises(DataError, match="do not fit"):
        whole.step(tokens)


def test_half_precision_steps_stay_near():
    model = _model(dtype=torch.float32)
    source, keep = _source()
    tokens = _words(3, 4)
    whole, half = (
        model.decoding(source, keep, 4, 1).step(tokens),
        model.bfloat16().decoding(source, keep, 4, 1),
    )
    got = half.step(tokens)
    assert (got - whole).norm() < 0.03 * whole.norm()


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("position", POSITIONS)
def test_padding_changes_nothing(position, norm):
    model = _model({"position": position}, norm=norm)
    source, keep = _source()
    tokens = _words(3, 4, seed=2)
    with torch.no_grad():
        together = model(source, tokens, keep)
        other = model(torch.where(keep, source, _words(3, 7, seed=9)), tokens, keep)
        longer = model(source, F.pad(tokens, (0, 3)), keep)[:, :4]
        for row, length in enumerate([7, 5, 3]):
            alone = model(source[row : row + 1, :length], tokens[row : row + 1])
            torch.testing.assert_close(together[row], alone[0], atol=1e-10, rtol=0)
    torch.testing.assert_close(together, other, atol=1e-10, rtol=0)
    torch.testing.assert_close(together, longer, atol=1e-10, rtol=0)


_CAUSAL = {name: _model({"position": name}) for name in ("sinusoidal", "t5", "shaw")}


@settings(max_examples=25, deadline=None)
@given(st.data(), st.sampled_from(sorted(_CAUSAL)), st.integers(2, 9), st.integers(0, 10**6))
def test_no_word_sees_what_follows(data, position, length, seed):
    model = _CAUSAL[position]
    place = data.draw(st.integers(0, length - 2))
    source, keep = _source(seed)
    tokens = _words(3, length, seed=seed)
    changed = tokens.clone()
    changed[:, place + 1 :] = _words(3, length - place - 1, seed=seed + 1)
    with torch.no_grad():
        before, after = model(source, tokens, keep), model(source, changed, keep)
    torch.testing.assert_close(before[:, : place + 1], after[:, : place + 1], atol=1e-12, rtol=0)
    if not torch.equal(tokens[:, -1], changed[:, -1]):
        assert not torch.allclose(before[:, -1], after[:, -1], atol=1e-6)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_gradients(mechanism, norm):
    attention = _chosen(mechanism, "t5") | {"heads": 2}
    model = _model(attention, width=4, intermediate=6, encoder_layers=1, decoder_layers=1, norm=norm)
    source, keep = _source()
    tokens, at = _words(3, 3), torch.tensor([0, 1, 4, 8])
    names, parameters = zip(*model.named_parameters(), strict=True)

    def loss(*values):
        given = dict(zip(names, values, strict=True))
        logits = torch.func.functional_call(model, given, (source, tokens, keep, at))
        return F.cross_entropy(logits, torch.tensor([4, 5, 6, 7]), reduction="sum")

    values = tuple(p.detach().clone().requires_grad_() for p in parameters)
    assert torch.autograd.gradcheck(loss, values, fast_mode=True, atol=1e-6)


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("position", POSITIONS)
def test_every_weight_is_trained_and_recomputing_gives_the_same(position, norm):
    source, keep = _source()
    at = torch.tensor([0, 3, 7, 11])
    found = []
    for recompute in (False, True):
        model = _model(
            {"position": position, "dropout": 0.1}, norm=norm, dropout=0.2, tie_embeddings="none"
        ).train()
        model.gradient_checkpointing(recompute)
        torch.manual_seed(3)
        loss = model(source, _words(3, 4), keep, at).square().mean()
        loss.backward()
        gradients = {name: p.grad for name, p in model.named_parameters()}
        assert all(g is not None for g in gradients.values())
        silent = {name for name, g in gradients.items() if not g.any()}
        assert silent <= {"decoder.positions.0.weight"} if position == "t5" else not silent
        found.append((loss, *gradients.values()))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-9)


def test_logits_where_labels_are():
    model = _model()
    source, keep = _source()
    tokens, at = _words(3, 4), torch.tensor([11, 0, 6])
    want = model(source, tokens, keep).flatten(0, 1)[at]
    torch.testing.assert_close(model(source, tokens, keep, at), want, atol=1e-12, rtol=0)


def test_embeddings_are_tied_three_ways():
    every, decoder, none = (_model(tie_embeddings=tie) for tie in ("all", "decoder", "none"))
    word = every.source_embeddings.word.weight
    assert every.target_embeddings.word.weight is word
    assert every.output_weight is word
    assert decoder.output_weight is decoder.target_embeddings.word.weight
    assert decoder.output_weight is not decoder.source_embeddings.word.weight
    assert none.output_weight is none.output.weight
    sizes = [sum(p.numel() for p in model.parameters()) for model in (every, decoder, none)]
    assert [b - a for a, b in itertools.pairwise(sizes)] == [V * 16, V * 16]
    assert _model(target=W, tie_embeddings="decoder")(*_source()[:1], _words(3, 2)).shape == (3, 2, W)


def test_embeddings_are_scaled_and_start_at_the_scale_of_positions():
    model = build_translation(_config(width=256))
    weight = model.source_embeddings.word.weight
    assert weight[1:].std().item() == pytest.approx(1 / 16, rel=0.05)
    assert not weight[0].any()  # padding
    x = model.eval().source_embeddings(torch.tensor([[5, 0]]))
    torch.testing.assert_close(x[0, 0, :128], weight[5, :128] * 16)  # place 0: sines are 0,
    torch.testing.assert_close(x[0, 0, 128:], weight[5, 128:] * 16 + 1)  # cosines 1


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_it_learns_to_reverse(norm):
    torch.manual_seed(0)
    model = build_translation(_config(width=32, intermediate=64, norm=norm, encoder_layers=2))
    optimizer = torch.optim.Adam(model.parameters(), 3e-3, betas=(0.9, 0.98))
    g = torch.Generator().manual_seed(1)
    for _ in range(180):
        words = torch.randint(4, 14, (32, 5), generator=g)
        tokens = F.pad(words.flip(1), (1, 0), value=1)
        loss = F.cross_entropy(model(words, tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss.item() < 0.2


def test_recorded_cross_attention():
    model = _model({"mechanism": "window", "window": 1, "position": "rotary"})
    source, keep = _source()
    with record(model) as maps:
        model(source, _words(3, 4), keep)
    cross = {name: weights for name, weights in maps.weights if "cross" in name}
    assert sorted(cross) == [f"decoder.blocks.{index}.cross_attention" for index in range(2)]
    for weights in cross.values():  # a window acts in self attention; cross attention sees the whole source
        assert weights.shape == (3, 4, 4, 7)
        assert torch.equal(weights > 0, keep[:, None, None].expand_as(weights))
    own = dict(maps.weights)["encoder.blocks.0.attention"]
    assert not own[0, :, 0, 2:].any()
    assert own[0, :, 0, :2].all()
    assert "scaled_dot across the two sentences" in model.config.describe()


def test_maps_recorded_around_steps_are_those_of_the_forward_pass():
    model = _model()
    source, keep = _source()
    first, second = _words(3, 2, seed=1), _words(3, 2, seed=2)
    swap = torch.tensor([[1, 0]] * 3)
    steps = model.decoding(source, keep, 2, 3)
    steps.step(first)
    steps.reorder(swap)
    with record(model) as maps:
        steps.step(second)
    written = torch.stack((first.gather(1, swap), second), -1)  # [B, K, 2]
    with record(model) as whole, torch.no_grad():
        model(source.repeat_interleave(2, 0), written.flatten(0, 1), keep.repeat_interleave(2, 0))
    want = dict(whole.weights)
    for name, weights in maps.weights:
        if "cross" in name:  # [B, H, K, S], rows of hypotheses
            last = want[name][:, :, -1].unflatten(0, (3, 2)).transpose(1, 2)
            torch.testing.assert_close(weights, last, atol=1e-10, rtol=0)


def test_published_sizes():
    def count(size, vocabulary, **more):
        config = resolve_translation(
            TransformerModel(size=size, **more), source_vocabulary=vocabulary, target_vocabulary=vocabulary
        )
        return count_parameters(config)

    assert count("tiny", 10_000).total == 2_605_056  # 2.6 M in Wu et al. 2021
    assert round(count("base", 37_000).total / 1e6) == 63  # about 65 M in Vaswani et al. 2017
    assert round(count("big", 37_000).total / 1e6) == 214  # about 213 M
    config = _config(tie_embeddings="decoder")
    real = build_translation(config)
    parameters = count_parameters(config)
    assert parameters.total == sum(p.numel() for p in real.parameters())
    assert parameters.embeddings == 2 * V * 16
    assert _config(width=64).decoder.head_dim == 16
    halved = resolve_translation(TransformerModel(width=64), source_vocabulary=V, target_vocabulary=V)
    assert halved.decoder.intermediate == 128


@pytest.mark.parametrize(
    "attention",
    [{}, {"kv_heads": 2}, {"kv_latent": 5}, {"kv_latent": 5, "kv_heads": 2, "position": "rotary"}],
)
@pytest.mark.parametrize("activation", ["relu", "swiglu"])
def test_flops_are_those_that_torch_counts(attention, activation):
    config = _config(attention, activation=activation, encoder_layers=3)
    model = build_translation(config).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(_words(2, 7), _words(2, 5), None, torch.arange(6))
    expected = translation_flops(config, source=7, target=5, predicted=3)
    assert counter.get_total_flops() == 2 * expected.forward


def test_what_does_not_go_together_is_refused_at_once():
    with pytest.raises(RecipeError) as caught:
        _config({"heads": 3, "mechanism": "additive", "position": "shaw"}, target=W)
    text = str(caught.value)
    for part in ("model.width=16", "mechanism=additive", "model.tie_embeddings=all", "37 and 29 words"):
        assert part in text
    assert len(caught.value.problems) == 3
    with pytest.raises(DataError, match="12 positions"):
        _model({"position": "learned"})(_words(1, 13), _words(1, 2))


def test_names_of_weights_are_those_of_the_other_models():
    names = set(_model().state_dict())
    assert "encoder.blocks.0.attention.qkv.weight" in names
    assert "decoder.blocks.1.cross_attention.qkv.weight" in names
    assert not [name for name in names if name.startswith("encoder") and "cross" in name]

"""What every language model must do, whatever it is made of."""

import dataclasses
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from attncli.attention import MECHANISMS, Attention
from attncli.attention.table import options_of
from attncli.decoding import Sampling, generate
from attncli.errors import RecipeError
from attncli.models.build import build_model
from attncli.models.config import DecoderConfig, EncoderConfig

V, T, C = 37, 16, 16
SMALL = {"vocabulary": V, "pad_id": 0, "length": T, "layers": 2, "width": C, "intermediate": 24, "heads": 4}
SMALL["backend"] = "reference"  # auto first measures which is the fastest
POSITIONS = ["none", "sinusoidal", "learned", "shaw", "t5", "rotary", "alibi"]
OPTIONS = {
    "topk": {"topk": 3},
    "window": {"window": 3},
    "longformer": {"window": 2},
    "bigbird": {"block": 2},
    "nystrom": {"landmarks": 5},
    "linformer": {"rank": 5},
}


def _build(kind, seed=0, **values):
    """A model with weights large enough that every part of it matters."""
    torch.manual_seed(seed)
    model = build_model(kind(**SMALL | {"dropout": 0.0} | values)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.add_(torch.randn_like(parameter) * 0.15)
    return model


def _tokens(batch=3, length=T, seed=0):
    return torch.randint(1, V, (batch, length), generator=torch.Generator().manual_seed(seed))


def _logits(model, *args, **keys):
    out = model(*args, **keys)
    return out if isinstance(out, torch.Tensor) else out.logits


def _fit(mechanism, position):
    """Whether the mechanism can do what the position scheme asks of it."""
    need = {"shaw": "relative", "t5": "bias", "alibi": "bias"}.get(position)
    return need is None or getattr(MECHANISMS[mechanism].support, need)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_what_a_mechanism_cannot_do_is_said_before_training(mechanism):
    support = MECHANISMS[mechanism].support
    values = SMALL | {"mechanism": mechanism, "backend": "auto"}
    for position in ("shaw", "t5", "alibi"):
        if not _fit(mechanism, position):
            with pytest.raises(RecipeError, match=f"position {position}.*these do: scaled_dot"):
                build_model(EncoderConfig(**values, position=position))
    if not support.causal:
        with pytest.raises(RecipeError, match=r"causal masks.*scaled_dot"):
            build_model(DecoderConfig(**values))
    if "length" in options_of(mechanism):
        layer = next(m for m in build_model(EncoderConfig(**values)).modules() if isinstance(m, Attention))
        assert layer.mechanism.length == T


@pytest.mark.parametrize(
    ("mechanism", "position"),
    [pair for pair in itertools.product(MECHANISMS, POSITIONS) if _fit(*pair)],
)
def test_every_combination_trains(mechanism, position):
    tokens, support = _tokens(), MECHANISMS[mechanism].support
    combinations = itertools.product(["post", "pre"], ["gelu", "gelu_tanh", "relu", "swiglu", "geglu"])
    for index, (norm, activation) in enumerate(combinations, start=len(position)):
        decoder = index % 2 and support.causal
        model = build_model(
            (EncoderConfig, DecoderConfig)[decoder](
                **SMALL | {"backend": "reference" if support.backends else "auto"},
                mechanism_options=OPTIONS.get(mechanism, {}),
                position=position,
                mechanism=mechanism,
                norm=norm,
                norm_kind=("layer", "rms")[index // 2 % 2],
                activation=activation,
                kv_heads=2 if index % 3 else None,
            )
        )
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        loss = F.cross_entropy(_logits(model, tokens).flatten(0, 1), tokens.flatten())
        loss.backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
        optimizer.step()
        assert _logits(model, tokens).isfinite().all()


VARIANTS = {
    "bert": (EncoderConfig, {}),
    "rotary": (
        EncoderConfig,
        {"position": "rotary", "norm": "pre", "first_norm": False, "activation": "geglu"},
    ),
    "alibi": (EncoderConfig, {"position": "alibi", "kv_heads": 1}),
    "t5": (EncoderConfig, {"position": "t5", "norm_kind": "rms"}),
    "albert": (EncoderConfig, {"embedding_width": 8, "share_layers": True}),
    "local": (
        EncoderConfig,
        {"position": "rotary", "local_window": 2, "global_every": 2, "local_rotary_base": 100.0},
    ),
    "gpt": (DecoderConfig, {}),
    "gpt-modern": (
        DecoderConfig,
        {"position": "rotary", "norm_kind": "rms", "activation": "swiglu", "kv_heads": 2},
    ),
    "latent": (EncoderConfig, {"kv_latent": 5, "position": "t5"}),
    "gpt-latent": (DecoderConfig, {"kv_latent": 5, "position": "rotary", "kv_heads": 2}),
    "gpt-latent-window": (
        DecoderConfig,
        {"kv_latent": 3, "mechanism": "window", "mechanism_options": {"window": 4}, "position": "rotary"},
    ),
    "gpt-shaw": (DecoderConfig, {"position": "shaw"}),
    "gpt-alibi": (DecoderConfig, {"position": "alibi"}),
    "gpt-t5-shared": (DecoderConfig, {"position": "t5", "share_layers": True, "embedding_width": 8}),
    "gpt-local": (DecoderConfig, {"local_window": 3, "global_every": 2}),
    "gpt-window": (DecoderConfig, {"mechanism": "window", "mechanism_options": {"window": 4}}),
    "gpt-topk": (DecoderConfig, {"mechanism": "topk", "mechanism_options": {"topk": 3}}),
}
DECODERS = [name for name in VARIANTS if name.startswith("gpt")]
MODELS = {}


def _variant(name):
    if name not in MODELS:
        kind, values = VARIANTS[name]
        MODELS[name] = _build(kind, **values)
    return MODELS[name]


def _close(a, b, atol=2e-5):
    torch.testing.assert_close(a, b, atol=atol, rtol=1e-4)


@pytest.mark.parametrize("name", DECODERS)
@given(place=st.integers(1, T - 1), seed=st.integers(0, 99))
@settings(max_examples=6, deadline=None)
def test_no_token_sees_those_after_it(name, place, seed):
    model, tokens = _variant(name), _tokens(2, seed=seed)
    changed = tokens.clone()
    changed[:, place:] = 1 + (changed[:, place:] + 5) % (V - 1)
    with torch.no_grad():
        before, after = model(tokens), model(changed)
    assert (
        torch.equal(before[:, :place], after[:, :place])
        or _close(before[:, :place], after[:, :place]) is None
    )
    assert not torch.allclose(before[:, place:], after[:, place:], atol=1e-3)


@pytest.mark.parametrize("name", list(VARIANTS))
@given(length=st.integers(1, T - 1), seed=st.integers(0, 99))
@settings(max_examples=5, deadline=None)
def test_padding_changes_nothing(name, length, seed):
    model, tokens = _variant(name), _tokens(2, length, seed)
    row = torch.randint(0, V, (2, T), generator=torch.Generator().manual_seed(seed + 1))
    row[:, :length] = tokens
    keep = (torch.arange(T) < length).expand(2, T)
    with torch.no_grad():
        _close(_logits(model, row, keep=keep)[:, :length], _logits(model, tokens))


@pytest.mark.parametrize("name", list(VARIANTS))
@given(order=st.permutations(range(4)), seed=st.integers(0, 99))
@settings(max_examples=4, deadline=None)
def test_rows_do_not_touch_each_other(name, order, seed):
    model, tokens = _variant(name), _tokens(4, seed=seed)
    keep = torch.arange(T) < torch.tensor([[T], [3], [9], [1]])
    with torch.no_grad():
        together = _logits(model, tokens, keep=keep)
        shuffled = _logits(model, tokens[order], keep=keep[order])
    _close(shuffled[keep[order]], together[order][keep[order]])


@pytest.mark.parametrize("name", list(VARIANTS))
@given(first=st.integers(1, T - 1), seed=st.integers(0, 99))
@settings(max_examples=5, deadline=None)
def test_packed_documents_are_as_alone(name, first, seed):
    model, tokens = _variant(name), _tokens(1, seed=seed)
    documents = (torch.arange(T) >= first).long()[None]
    positions = torch.cat([torch.arange(first), torch.arange(T - first)])[None]
    with torch.no_grad():
        packed = _logits(model, tokens, documents=documents, positions=positions)
        alone = torch.cat([_logits(model, tokens[:, :first]), _logits(model, tokens[:, first:])], dim=1)
    _close(packed, alone)


@pytest.mark.parametrize("name", DECODERS)
def test_the_cache_changes_nothing(name):
    model, tokens = _variant(name), _tokens(2)
    with torch.no_grad():
        whole, cache, parts = model(tokens), model.new_cache(2, T), []
        for piece in tokens.split([5, 1, 1, 4, 5], dim=1):
            parts.append(model(piece, cache=cache))
        assert cache.length == T
        _close(torch.cat(parts, dim=1), whole)
        _close(model(tokens, last=True), whole[:, -1:])
        cache.truncate(6)
        assert cache.length == 6
        _close(model(tokens[:, 6:9], cache=cache), whole[:, 6:9])
        cache.reorder(torch.tensor([1, 1]))
        again = model(tokens[[1, 1], 9:10], cache=cache)
        _close(again, whole[[1, 1], 9:10])


@pytest.mark.parametrize("name", DECODERS)
def test_generation_with_and_without_the_cache(name):
    model = _variant(name)
    settings = {"length": T, "limit": 30, "sampling": Sampling(temperature=0.8, top_k=8), "seed": 3}

    def step(tokens, cache):
        return model(tokens, cache=cache, last=True)

    plain = torch.stack(list(generate(step, _tokens(2, 5), **settings)))
    cached = torch.stack(
        list(generate(step, _tokens(2, 5), new_cache=lambda: model.new_cache(2, T), **settings))
    )
    assert torch.equal(plain, cached)
    assert len(set(plain.flatten().tolist())) > 3


def test_logits_at_the_labels_alone_are_those_of_all():
    model, tokens = _variant("albert"), _tokens()
    at = torch.tensor([0, 7, 20, 47])
    with torch.no_grad():
        _close(model(tokens, labels_at=at).logits, model(tokens).logits.flatten(0, 1)[at])
        assert model(tokens, labels_at=at[:0]).logits.shape == (0, V)


def test_the_pair_head_reads_both_segments():
    model, tokens = _build(EncoderConfig, pair=True), _tokens()
    segments = (torch.arange(T) > 6).long().expand(3, T)
    first = model(tokens, segments).pair
    assert first.shape == (3, 2)
    assert not torch.allclose(first, model(tokens, 1 - segments).pair, atol=1e-3)
    assert _variant("bert")(tokens).pair is None


@pytest.mark.parametrize("name", list(VARIANTS))
def test_gradient_checkpointing_gives_the_same_numbers(name):
    kind, values = VARIANTS[name]
    results = []
    for on in (False, True):
        model = _build(kind, **values | {"dropout": 0.2, "attention_dropout": 0.1}).train()
        model.gradient_checkpointing(on)
        torch.manual_seed(5)
        loss = F.cross_entropy(_logits(model, _tokens()).flatten(0, 1), _tokens().flatten())
        loss.backward()
        results.append((loss.detach(), torch.get_rng_state(), [p.grad for p in model.parameters()]))
    (loss, state, grads), (other_loss, other_state, other_grads) = results
    assert torch.equal(loss, other_loss)
    assert torch.equal(state, other_state)
    for grad, other in zip(grads, other_grads, strict=True):
        assert (grad is None and other is None) or torch.equal(grad, other)


def test_gradient_checkpointing_recomputes():
    model = _build(EncoderConfig).train()
    calls = []
    for block in model.encoder.stack.blocks:
        block.feed_forward.register_forward_hook(lambda *_: calls.append(1))
    model.gradient_checkpointing(True)
    _logits(model, _tokens()).sum().backward()
    assert len(calls) == 4
    calls.clear()
    model.eval()
    _logits(model, _tokens()).sum().backward()
    assert len(calls) == 2


def test_sharing_shares_and_sums_gradients():
    """A shared stack is the unshared one with equal weights; its gradient is the sum over the layers."""
    shared = _build(EncoderConfig, share_layers=True, layers=3, position="rotary")
    config = dataclasses.replace(shared.config, share_layers=False)
    own = build_model(config).eval()
    state = dict(shared.state_dict())
    for name, value in list(state.items()):
        for index in (1, 2):
            state[name.replace("blocks.0", f"blocks.{index}")] = value
    own.load_state_dict(state)
    tokens = _tokens()
    for model in (shared, own):
        F.cross_entropy(_logits(model, tokens).flatten(0, 1), tokens.flatten()).backward()
    _close(_logits(shared, tokens), _logits(own, tokens))
    total = sum(block.feed_forward.expand.weight.grad for block in own.encoder.stack.blocks)
    _close(shared.encoder.stack.blocks[0].feed_forward.expand.weight.grad, total)
    assert len(shared.encoder.stack.blocks) == 1


def test_local_layers_see_their_window_only():
    """One local layer of two tokens on each side: farther tokens change nothing."""
    model = _build(EncoderConfig, layers=2, local_window=2, global_every=2, position="rotary")
    model.encoder.stack.local = frozenset({0, 1})
    tokens, changed = _tokens(1), _tokens(1)
    changed[0, 15] = 1 + changed[0, 15] % (V - 1)
    with torch.no_grad():
        before, after = model(tokens).logits, model(changed).logits
    _close(before[:, :11], after[:, :11])
    assert not torch.allclose(before[:, 11:], after[:, 11:], atol=1e-4)


@pytest.mark.parametrize("name", list(VARIANTS))
def test_weights_survive_a_state_dict(name):
    kind, values = VARIANTS[name]
    model, other = _variant(name), _build(kind, seed=9, **values)
    state = model.state_dict()
    pointers = [value.data_ptr() for value in state.values() if value.numel()]
    assert len(pointers) == len(set(pointers)), "every tensor is stored once"
    other.load_state_dict(state)
    with torch.no_grad():
        assert torch.equal(_logits(model, _tokens()), _logits(other, _tokens()))

"""Heads switched off are as if their part of the output projection met zeros."""

import copy

import pytest
import torch
from torch import nn

from attncli.attention import MECHANISMS, Attention, Head, KeyValueCache, new_caches, record, without_heads
from attncli.attention.alignment import Alignment
from attncli.attention.masks import Causal

C, H, D = 24, 4, 6
OPTIONS = {
    "topk": {"topk": 3},
    "window": {"window": 2},
    "dilated": {"window": 2},
    "longformer": {"window": 2},
    "global_local": {"window": 1},
    "linformer": {"length": 8},
    "adaptive_span": {"span": 8},
}


def cut(layer, heads):
    """The layer with the output projection's columns of these heads emptied."""
    other = copy.deepcopy(layer)
    with torch.no_grad():
        for head in heads:
            other.out.weight[:, head * D : (head + 1) * D] = 0
    return other


@pytest.mark.parametrize("name", MECHANISMS)
def test_without_a_head_is_without_its_columns(name):
    layer = Attention(C, heads=H, mechanism=name, **OPTIONS.get(name, {})).eval()
    x = torch.randn(2, 8, C)
    with torch.no_grad():
        whole = layer(x)
        with without_heads(layer, [Head("", 1), Head("", 3)]):
            off = layer(x)
        assert torch.allclose(off, cut(layer, [1, 3])(x), atol=1e-6)
        assert not torch.allclose(off, whole, atol=1e-4)
        assert torch.equal(layer(x), whole)  # all are back


def test_it_acts_with_a_cache_a_context_and_while_recording():
    layer = Attention(C, heads=H, kv_heads=2).eval()
    x, context, head = torch.randn(1, 5, C), torch.randn(1, 7, C), [Head("", 2)]
    other = cut(layer, [2])
    with torch.no_grad(), without_heads(layer, head), record() as recorded:
        assert torch.allclose(layer(x, context), other(x, context), atol=1e-6)
        (cache,) = new_caches(1, 5)
        steps = torch.cat([layer(x[:, at : at + 1], mask=Causal(), cache=cache) for at in range(5)], 1)
    assert torch.allclose(steps, other(x, mask=Causal()), atol=1e-6)
    assert isinstance(cache, KeyValueCache)
    assert len(recorded.weights) == 7
    assert recorded.weights[0][1][:, 2].sum() > 0  # where it would have looked


class Shared(nn.Module):
    """One layer, used twice."""

    def __init__(self):
        super().__init__()
        self.attention = Attention(C, heads=H)

    def forward(self, x):
        return self.attention(self.attention(x))


def test_a_shared_layer_can_lose_a_head_in_one_of_its_uses():
    model, x = Shared().eval(), torch.randn(1, 6, C)
    other = cut(model.attention, [0])
    with torch.no_grad():
        for use, want in (
            (0, model.attention(other(x))),
            (1, other(model.attention(x))),
            (None, other(other(x))),
        ):
            with without_heads(model, [Head("attention", 0, use)]):
                assert torch.allclose(model(x), want, atol=1e-6)


def test_heads_of_recurrent_attention():
    layer = Alignment(C, heads=2).eval()
    memory = layer.memory(torch.randn(1, 5, C), torch.ones(1, 5, dtype=torch.bool))
    states = torch.randn(1, 3, C)
    with torch.no_grad(), without_heads(layer, [Head("", 0)]):
        found = layer(states, memory)
    assert (found[..., : C // 2] == 0).all()
    assert (found[..., C // 2 :] != 0).all()


def test_what_is_no_head_is_refused():
    model = Shared()
    with pytest.raises(KeyError), without_heads(model, [Head("nothing", 0)]):
        pass
    with (
        pytest.raises(KeyError, match="no layer of attention"),
        without_heads(model, [Head("attention.out", 0)]),
    ):
        pass
    with pytest.raises(IndexError, match="4 heads"), without_heads(model, [Head("attention", 4)]):
        pass
    assert not model.attention.out._forward_pre_hooks

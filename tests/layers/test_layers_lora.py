"""Low-rank updates: they start as nothing, learn, and merge into plain layers."""

import pytest
import torch
from torch import nn

from attncli.attention import Attention
from attncli.layers.lora import LowRankLinear, add_low_rank, merge_low_rank, merged_state


def learnt(linear, rank=2, parts=1):
    low = LowRankLinear(linear, rank, alpha=6.0, parts=parts)
    nn.init.normal_(low.up)
    return low


@pytest.mark.parametrize("parts", [1, 3])
def test_the_update_is_the_product_of_its_matrices(parts):
    torch.manual_seed(0)
    linear = nn.Linear(8, 12)
    low = learnt(linear, parts=parts)
    x = torch.randn(5, 8)
    blocks = [
        low.up[i * 12 // parts : (i + 1) * 12 // parts] @ low.down[2 * i : 2 * i + 2] for i in range(parts)
    ]
    expected = x @ (linear.weight + 3.0 * torch.cat(blocks)).T + linear.bias
    torch.testing.assert_close(low(x), expected)
    torch.testing.assert_close(low.merged()(x), expected)
    for rows in (slice(0, 4), slice(4, 12), slice(8, 12)):
        if parts == 3:
            torch.testing.assert_close(low(x, rows=rows), expected[:, rows])


def test_it_starts_as_the_layer_and_only_the_update_learns():
    linear = nn.Linear(6, 4)
    low = LowRankLinear(linear, 3)
    x = torch.randn(2, 6)
    assert torch.equal(low(x), linear(x))
    low(x).sum().backward()
    assert low.weight is linear.weight
    assert low.weight.grad is None
    assert low.up.grad.any()
    assert [n for n, p in low.named_parameters() if p.requires_grad] == ["down", "up"]


@pytest.mark.parametrize("kv_heads", [4, 2])
def test_attention_under_updates_equals_the_merged_one(kv_heads):
    torch.manual_seed(1)
    attention = Attention(16, heads=4, kv_heads=kv_heads).double()
    plain = attention.state_dict()
    assert add_low_rank(attention, 2) == 2
    assert attention.qkv.parts == (3 if kv_heads == 4 else 1)
    for module in attention.modules():
        if isinstance(module, LowRankLinear):
            nn.init.normal_(module.up, std=0.3)
    x, context = (torch.randn(2, length, 16, dtype=torch.float64) for length in (5, 3))
    own, cross = attention(x), attention(x, context)
    state = merged_state(attention)
    assert merge_low_rank(attention) == 2
    torch.testing.assert_close(attention(x), own)
    torch.testing.assert_close(attention(x, context), cross)
    assert state.keys() == plain.keys()
    for name, tensor in attention.state_dict().items():
        assert torch.equal(tensor, state[name])

"""Long-sequence attention of ours beside transformers' layers of the same name, at equal shapes.

    python tests/comparisons/attention_peers.py [--length 4096] [--heads 8] [--backward]

A layer each: projections of queries, keys and values, the attention, and the output projection, which stands
in a module of its own in transformers. Prints medians of interleaved rounds in milliseconds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import BigBirdConfig, LongformerConfig, NystromformerConfig
from transformers.models.big_bird.modeling_big_bird import BigBirdBlockSparseAttention, BigBirdModel
from transformers.models.longformer.modeling_longformer import LongformerSelfAttention
from transformers.models.nystromformer.modeling_nystromformer import NystromformerSelfAttention

from attncli.attention import Attention
from attncli.bench.timing import interleave


def longformer(width: int, heads: int, length: int, window: int) -> Callable[[Tensor], Tensor]:
    """``window`` tokens on each side, the first one global."""
    config = LongformerConfig(
        hidden_size=width, num_attention_heads=heads, attention_window=[2 * window], num_hidden_layers=1,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    layer = LongformerSelfAttention(config, 0)
    mask = torch.zeros(1, length)
    mask[:, 0] = 10_000.0
    masked, seen = mask < 0, mask > 0
    return lambda x: layer(
        x, attention_mask=mask, is_index_masked=masked, is_index_global_attn=seen, is_global_attn=True
    )[0]


def bigbird(width: int, heads: int, length: int, block: int) -> Callable[[Tensor], Tensor]:
    """Blocks of ``block``, three random ones, the first and last global (ours has the first alone)."""
    config = BigBirdConfig(
        hidden_size=width, num_attention_heads=heads, block_size=block, num_random_blocks=3,
        attention_probs_dropout_prob=0.0, max_position_embeddings=length,
    )  # fmt: skip
    layer = BigBirdBlockSparseAttention(config, seed=1)
    masks = BigBirdModel.create_masks_for_block_sparse_attn(torch.ones(1, length), block)
    blocked, band, rows, cols = masks
    return lambda x: layer(x, band, rows, cols, blocked, blocked)[0]


def nystrom(width: int, heads: int, length: int, landmarks: int) -> Callable[[Tensor], Tensor]:
    """Without the convolution of the values."""
    config = NystromformerConfig(
        hidden_size=width, num_attention_heads=heads, num_landmarks=landmarks, segment_means_seq_len=length,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    object.__setattr__(config, "conv_kernel_size", None)
    layer = NystromformerSelfAttention(config)
    return lambda x: layer(x)[0]


def step(layer: Callable[[Tensor], Tensor], x: Tensor, backward: bool) -> None:
    if not backward:
        with torch.no_grad():
            layer(x)
        return
    layer(x).sum().backward()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--backward", action="store_true")
    args = parser.parse_args()
    width = 64 * args.heads
    pairs = {
        "longformer": (
            {"window": 256, "global_tokens": 1},
            longformer(width, args.heads, args.length, 256),
        ),
        "bigbird": (
            {"block": 64, "global_blocks": 1, "random_blocks": 3},
            bigbird(width, args.heads, args.length, 64),
        ),
        "nystrom": ({"landmarks": 64}, nystrom(width, args.heads, args.length, 64)),
    }
    out = nn.Linear(width, width)
    x = torch.randn(1, args.length, width, requires_grad=args.backward)
    for name, (options, peer) in pairs.items():
        ours: nn.Module = Attention(width, heads=args.heads, mechanism=name, **options)
        cases = {
            "ours": lambda ours=ours: step(ours, x, args.backward),
            "transformers": lambda peer=peer: step(lambda x: out(peer(x)), x, args.backward),
        }
        timed = interleave(cases, rounds=args.rounds, warmup=1)
        mine, other = (1e3 * timed[case].median for case in cases)
        print(
            f"{name:11} ours {mine:8.1f} ms  transformers {other:8.1f} ms  {other / mine:5.2f} times as fast"
        )


if __name__ == "__main__":
    main()

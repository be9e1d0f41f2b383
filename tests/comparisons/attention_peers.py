"""Attention layers of ours beside those of other libraries that have the same mechanism, at equal shapes.

    python tests/comparisons/attention_peers.py [NAME...] [--length 4096] [--heads 8] [--backward] [--causal]

A layer each: projections of queries, keys and values, the attention, and the output projection. Peers are
transformers (Longformer, BigBird, Nystromformer), x-transformers, performer-pytorch, local-attention and
entmax, as far as they are installed. Prints medians of interleaved rounds in milliseconds, and how many times
as fast ours is; the spread is that of the slower of the two (quartiles over median).
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from attncli.attention import Attention, Causal
from attncli.bench.timing import interleave

Layer = Callable[[Tensor], Tensor]


@dataclass
class Pair:
    """A mechanism of ours, its options, and who else has it."""

    name: str
    peer: str
    build: Callable[[], Layer]
    options: dict[str, Any] = field(default_factory=dict)
    mechanism: str = ""
    """Ours, where it is not the name."""


class Shapes:
    """Sizes of all layers."""

    def __init__(self, length: int, heads: int, causal: bool) -> None:
        self.length, self.heads, self.causal = length, heads, causal
        self.width = 64 * heads


def longformer(shapes: Shapes, window: int) -> Layer:
    """``window`` tokens on each side, the first one global."""
    from transformers import LongformerConfig
    from transformers.models.longformer.modeling_longformer import LongformerSelfAttention

    config = LongformerConfig(
        hidden_size=shapes.width, num_attention_heads=shapes.heads, attention_window=[2 * window],
        num_hidden_layers=1, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    layer, out = LongformerSelfAttention(config, 0), nn.Linear(shapes.width, shapes.width)
    mask = torch.zeros(1, shapes.length)
    mask[:, 0] = 10_000.0
    masked, seen = mask < 0, mask > 0
    return lambda x: out(
        layer(x, attention_mask=mask, is_index_masked=masked, is_index_global_attn=seen, is_global_attn=True)[
            0
        ]
    )


def bigbird(shapes: Shapes, block: int) -> Layer:
    """Blocks of ``block``, three random ones, the first and last global (ours has the first alone)."""
    from transformers import BigBirdConfig
    from transformers.models.big_bird.modeling_big_bird import BigBirdBlockSparseAttention, BigBirdModel

    config = BigBirdConfig(
        hidden_size=shapes.width, num_attention_heads=shapes.heads, block_size=block, num_random_blocks=3,
        attention_probs_dropout_prob=0.0, max_position_embeddings=shapes.length,
    )  # fmt: skip
    layer, out = BigBirdBlockSparseAttention(config, seed=1), nn.Linear(shapes.width, shapes.width)
    blocked, band, rows, cols = BigBirdModel.create_masks_for_block_sparse_attn(
        torch.ones(1, shapes.length), block
    )
    return lambda x: out(layer(x, band, rows, cols, blocked, blocked)[0])


def nystrom(shapes: Shapes, landmarks: int) -> Layer:
    """Without the convolution of the values."""
    from transformers import NystromformerConfig
    from transformers.models.nystromformer.modeling_nystromformer import NystromformerSelfAttention

    config = NystromformerConfig(
        hidden_size=shapes.width, num_attention_heads=shapes.heads, num_landmarks=landmarks,
        segment_means_seq_len=shapes.length, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    object.__setattr__(config, "conv_kernel_size", None)
    layer, out = NystromformerSelfAttention(config), nn.Linear(shapes.width, shapes.width)
    return lambda x: out(layer(x)[0])


def x_transformers(shapes: Shapes, **options: Any) -> Layer:
    """Its one class, with the options that make the mechanism."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from x_transformers.x_transformers import Attention as Other
    return Other(shapes.width, dim_head=64, heads=shapes.heads, causal=shapes.causal, **options).eval()


def performer(shapes: Shapes, features: int) -> Layer:
    """The public code of FAVOR+ in PyTorch."""
    from performer_pytorch import SelfAttention

    return SelfAttention(
        shapes.width, causal=shapes.causal, heads=shapes.heads, dim_head=64, nb_features=features
    ).eval()


def local(shapes: Shapes, window: int) -> Layer:
    """Blocks that see themselves and their neighbours, before and after: three blocks of ``window``."""
    from local_attention import LocalMHA

    return LocalMHA(
        dim=shapes.width, window_size=window, heads=shapes.heads, dim_head=64, causal=shapes.causal,
        look_backward=1, look_forward=0 if shapes.causal else 1, use_rotary_pos_emb=False, prenorm=False,
        exact_windowsize=False,
    ).eval()  # fmt: skip


class Normalised(nn.Module):
    """The formula with another function in the place of the softmax, as one uses a library of those."""

    def __init__(self, shapes: Shapes, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.shapes, self.function = shapes, function
        self.qkv = nn.Linear(shapes.width, 3 * shapes.width)
        self.out = nn.Linear(shapes.width, shapes.width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] to [B, T, C]."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.shapes.heads, 64)).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / 8
        if self.shapes.causal:
            hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
            scores = scores.masked_fill(hidden, -1e9)
        return self.out((self.function(scores, dim=-1) @ v).transpose(1, 2).flatten(2))


def entmax(shapes: Shapes, name: str) -> Layer:
    """A function of the entmax package between two products."""
    import entmax as package

    return Normalised(shapes, getattr(package, name))


def pairs(shapes: Shapes) -> Iterator[Pair]:
    """Every mechanism that somebody else has too."""
    other = partial(partial, x_transformers, shapes)
    if not shapes.causal:
        yield Pair(
            "longformer",
            "transformers",
            partial(longformer, shapes, 256),
            {"window": 256, "global_tokens": 1},
        )
        yield Pair(
            "bigbird", "transformers", partial(bigbird, shapes, 64),
            {"block": 64, "global_blocks": 1, "random_blocks": 3},
        )  # fmt: skip
        yield Pair("nystrom", "transformers", partial(nystrom, shapes, 64), {"landmarks": 64})
    yield Pair("performer", "performer-pytorch", partial(performer, shapes, 128), {"features": 128})
    yield Pair(
        "window", "local-attention", partial(local, shapes, 64), {"window": 127 if shapes.causal else 96}
    )
    yield Pair("scaled_dot", "x-transformers, flash", other(flash=True))
    yield Pair("scaled_dot, 2 kv heads", "x-transformers, flash", other(flash=True, kv_heads=2),
               {"kv_heads": 2}, "scaled_dot")  # fmt: skip
    yield Pair("cosine", "x-transformers, flash", other(flash=True, qk_norm=True))
    yield Pair("gated", "x-transformers, flash", other(flash=True, gate_values=True))
    yield Pair("topk", "x-transformers", other(sparse_topk=8), {"topk": 8})
    yield Pair("sinks", "x-transformers", other(head_learned_sink=True))
    yield Pair("sigmoid", "x-transformers", other(sigmoid=True))
    yield Pair("talking_heads", "x-transformers", other(pre_talking_heads=True, post_talking_heads=True))
    yield Pair("sparsemax", "entmax", partial(entmax, shapes, "sparsemax"))
    yield Pair("entmax15", "entmax", partial(entmax, shapes, "entmax15"))


def step(layer: Layer, x: Tensor, backward: bool) -> None:
    """One pass."""
    if not backward:
        with torch.no_grad():
            layer(x)
        return
    layer(x).sum().backward()


def main() -> None:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="mechanisms; default all")
    parser.add_argument("--length", type=int, default=4096)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--backward", action="store_true")
    parser.add_argument("--causal", action="store_true")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    shapes = Shapes(args.length, args.heads, args.causal)
    x = torch.randn(args.batch, args.length, shapes.width, requires_grad=args.backward)
    mask = Causal() if args.causal else None
    for pair in pairs(shapes):
        if args.names and pair.name.split(",")[0] not in args.names:
            continue
        try:
            peer = pair.build()
        except ImportError as error:
            print(f"{pair.name:24} no {pair.peer}: {error}")
            continue
        ours = Attention(
            shapes.width, heads=args.heads, mechanism=pair.mechanism or pair.name, **pair.options
        ).eval()
        cases = {
            "ours": partial(step, lambda x, ours=ours: ours(x, mask=mask), x, args.backward),
            "peer": partial(step, peer, x, args.backward),
        }
        timed = interleave(cases, rounds=args.rounds, warmup=1)
        mine, other = (1e3 * timed[case].median for case in cases)
        spread = 100 * max(timing.spread for timing in timed.values())
        print(
            f"{pair.name:24} ours {mine:8.1f} ms  {pair.peer:22} {other:8.1f} ms  "
            f"{other / mine:5.2f} times as fast  spread {spread:3.0f} %",
            flush=True,
        )


if __name__ == "__main__":
    main()

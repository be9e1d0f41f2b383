"""BigBird: neighbouring blocks, global blocks and random blocks.

    weights = softmax over the keys of blocks a - 1, a, a + 1, the first ones, and some drawn for block a

Zaheer et al. 2020, "Big Bird: Transformers for Longer Sequences", https://arxiv.org/abs/2007.14062. Random
blocks are drawn from a hash of the block's number, so that neither length nor padding moves them.
"""

from __future__ import annotations

from attncli.attention.mechanisms.sparse import SparseDot
from attncli.attention.patterns import BlockAndRandom


class BigBird(SparseDot):
    """Scaled dot products under the rule; ``block`` places in a block."""

    name = "bigbird"
    by_place = True
    time = "O(T block (3 + globals + random) D)"
    use = "long documents; random blocks shorten the way between any two tokens"

    def __init__(
        self, *, heads: int, kv_heads: int, head_dim: int,
        block: int = 64, global_blocks: int = 1, random_blocks: int = 2,
    ) -> None:  # fmt: skip
        super().__init__(heads=heads, kv_heads=kv_heads, head_dim=head_dim)
        self.at_least(block=(block, 1), global_blocks=(global_blocks, 0), random_blocks=(random_blocks, 0))
        self.rule = BlockAndRandom(block, global_blocks, random_blocks)
        self.options = {"block": block, "global_blocks": global_blocks, "random_blocks": random_blocks}

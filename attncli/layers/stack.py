"""A stack of blocks: shared parameters, local and global layers, recomputed activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from attncli.attention.recording import recorders
from attncli.layers.block import Block


class LayerStack(nn.Module):
    """``layers`` blocks, one after the other, then ``norm`` where there is one.

    Args:
        make: builds the block of a layer index.
        layers: depth.
        share: one block serves all layers (ALBERT, Lan et al. 2020, https://arxiv.org/abs/1909.11942).
        local: indices of the layers that get the local mask (Gemma 2, ModernBERT).
        norm: after the last block, as pre-norm needs.
        positions: position schemes with parameters or tables that several blocks use. The stack owns
            them, so that they are stored once.
    """

    def __init__(
        self,
        make: Callable[[int], Block],
        layers: int,
        *,
        share: bool = False,
        local: Sequence[int] = (),
        norm: nn.Module | None = None,
        positions: Sequence[nn.Module] = (),
    ) -> None:
        super().__init__()
        self.depth = layers
        self.blocks = nn.ModuleList(make(index) for index in range(1 if share else layers))
        self.local = frozenset(local)
        self.norm = norm
        self.positions = nn.ModuleList(positions)
        self.checkpointing = False
        owned = set(map(id, positions))
        for module in self.blocks.modules():
            for name, child in list(module.named_children()):
                if id(child) in owned:  # a plain attribute: used here, registered in the stack
                    delattr(module, name)
                    object.__setattr__(module, name, child)

    def block(self, index: int) -> Block:
        """The block of layer ``index``."""
        return self.blocks[index % len(self.blocks)]

    def forward(
        self,
        x: Tensor,
        mask=None,
        local_mask=None,
        caches: Sequence | None = None,
        positions: Tensor | None = None,
        context: Tensor | None = None,
        context_mask=None,
        context_caches: Sequence | None = None,
        first: bool = False,
    ) -> Tensor:
        """[B, T, C] to [B, T, C], or with ``first`` to [B, 1, C]: the first place alone.

        ``caches``, ``context_caches``: one key/value cache a layer, of self and of cross attention. Masks,
        ``positions`` and ``context`` [B, S, C'] as :class:`attncli.attention.Attention`.
        """
        recompute = self.checkpointing and self.training and caches is None
        for index in range(self.depth):
            chosen = local_mask if index in self.local else mask
            cache = None if caches is None else caches[index]
            context_cache = None if context_caches is None else context_caches[index]
            block = self.block(index)
            if first and index == self.depth - 1:
                x = self._first(block, x, chosen, positions)
                break
            inputs = (x, chosen, cache, positions, context, context_mask, context_cache)
            x = checkpoint(block, *inputs, use_reentrant=False) if recompute else block(*inputs)
        return x if self.norm is None else self.norm(x)

    def _first(self, block: Block, x: Tensor, mask, positions: Tensor | None) -> Tensor:
        """The last block's output at the first place, [B, 1, C]."""
        if block.reads_one and self.depth - 1 not in self.local and not recorders():
            return block.first(x, mask)
        return block(x, mask, None, positions)[:, :1]

"""Initial weights, as published."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

from torch import Tensor, nn

from attncli.layers.stack import LayerStack


def initialise(
    model: nn.Module, *, std: float = 0.02, cutoff: float | None = 2.0, scale_residual: bool = False
) -> None:
    """Draw the weights of every linear layer and embedding in ``model``; biases are zero, norms the identity.

    ``std``: of the normal distribution; 0.02 in BERT, RoBERTa, ALBERT, GPT-2 and ModernBERT alike.
    ``cutoff``: values beyond so many ``std`` are drawn again, as ModernBERT's code does with 2; None does
    not cut (RoBERTa, GPT-2; BERT here as in transformers, whose first code cut at 2 without making up for
    the spread it lost).
    ``scale_residual``: the last linear layer of every sub-layer gets ``std / sqrt(2 layers)``, so that the
    residual stream does not grow with depth (GPT-2, Radford et al. 2019; ModernBERT).
    """

    def draw(weight, std: float) -> None:
        if cutoff is None:
            nn.init.normal_(weight, std=std)
        else:
            nn.init.trunc_normal_(weight, std=std, a=-cutoff * std, b=cutoff * std)

    for module in model.modules():
        if isinstance(module, nn.Linear):
            draw(module.weight, std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            draw(module.weight, std)
            if module.padding_idx is not None:
                nn.init.zeros_(module.weight[module.padding_idx].detach())
    if scale_residual:
        for stack in (m for m in model.modules() if isinstance(m, LayerStack)):
            for block in stack.blocks:
                for linear in (block.attention.out, block.feed_forward.contract):
                    draw(linear.weight, std / math.sqrt(2 * stack.depth))


@contextlib.contextmanager
def undrawn() -> Iterator[None]:
    """What is built within keeps whatever its memory holds: all of its weights are about to be read.

    To draw them first takes longer than to read them.
    """
    known = vars(nn.init)
    kept = {name: draw for name, draw in known.items() if name.endswith("_") and not name.startswith("_")}
    known.update(dict.fromkeys(kept, _left))
    try:
        yield
    finally:
        known.update(kept)


def _left(tensor: Tensor, *_: object, **__: object) -> Tensor:
    return tensor


def initialise_xavier(model: nn.Module, *, embedding_std: float) -> None:
    """Draw linear layers Xavier-uniform (Glorot and Bengio 2010,
    https://proceedings.mlr.press/v9/glorot10a.html) and embeddings normal; biases are zero.

    Queries, keys and values that are one matrix count as one, which makes them smaller by the square
    root of two: with norms after the sums this trains from the first step on.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=embedding_std)
            if module.padding_idx is not None:
                nn.init.zeros_(module.weight[module.padding_idx].detach())

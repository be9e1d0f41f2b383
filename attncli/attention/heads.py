"""Switching heads off around any forward pass, to see what each is worth.

    with without_heads(model, [Head("encoder.blocks.0.attention", 3)]):
        model(tokens)

Michel et al. 2019, "Are Sixteen Heads Really Better than One?", https://arxiv.org/abs/1905.10650
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from attncli.attention.alignment import Alignment
from attncli.attention.module import Attention


class Head(NamedTuple):
    """A head of a layer of attention."""

    layer: str
    """Its path in the model, as :func:`attncli.attention.record` names it."""
    number: int
    """From 0."""
    use: int | None = None
    """Which of its uses in the context, from 0, where several layers share one module; None is every use."""


@contextmanager
def without_heads(model: nn.Module, heads: Iterable[Head]) -> Iterator[None]:
    """In the context these heads of ``model`` give zeros, as if they looked at nothing.

    What they would have given never meets the output projection; its bias stays. Under any mechanism and
    backend, with a cache and inside search. A layer without heads raises KeyError, a head that the layer
    has not IndexError.
    """
    off: dict[str, list[Head]] = {}
    for head in heads:
        off.setdefault(head.layer, []).append(head)
    layers = {name: module for name, module in model.named_modules() if name in off}
    with ExitStack() as stack:
        for name, chosen in off.items():
            stack.enter_context(_silenced(layers[name], name, chosen))
        yield


@contextmanager
def _silenced(layer: nn.Module, name: str, heads: list[Head]) -> Iterator[None]:
    if not isinstance(layer, Attention | Alignment):
        raise KeyError(f"{name} is no layer of attention")
    beyond = [head.number for head in heads if not 0 <= head.number < layer.heads]
    if beyond:
        raise IndexError(f"{name} has {layer.heads} heads, none is number {beyond[0]}")
    uses = 0

    def silence(x: Tensor) -> Tensor:  # [B, T, H D]
        nonlocal uses
        numbers = [head.number for head in heads if head.use in (None, uses)]
        uses += 1
        if not numbers:
            return x
        parts = x.unflatten(-1, (layer.heads, -1)).clone()
        parts[..., numbers, :] = 0
        return parts.flatten(-2)

    handle = _on_heads(layer, silence)
    try:
        yield
    finally:
        handle.remove()


def _on_heads(layer: Attention | Alignment, change: Callable[[Tensor], Tensor]) -> RemovableHandle:
    """Have ``change`` act on what the heads of ``layer`` give, side by side, before it goes on."""
    if isinstance(layer, Attention):
        return layer.out.register_forward_pre_hook(lambda module, args: (change(args[0]), *args[1:]))
    return layer.register_forward_hook(lambda module, args, output: change(output))

"""Low-rank updates of linear layers (Hu et al. 2022, "LoRA", https://arxiv.org/abs/2106.09685).

The weight stays as it is; what is learnt is the product of two thin matrices beside it. Merged, the layer
is a plain linear one again.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LowRankLinear(nn.Linear):
    """``x W' + b + scale (x down') up'`` with ``W`` and ``b`` frozen; starts as the layer it stands for.

    Takes over ``linear``'s parameters. ``rank``: columns between the two matrices; ``alpha / rank`` is the
    scale. ``parts``: equal blocks of outputs (queries, keys and values in one layer) that have matrices of
    their own, each of ``rank``.

    Parameters: ``down`` [parts rank, in], Kaiming-uniform, and ``up`` [out, rank], zero.
    """

    def __init__(self, linear: nn.Linear, rank: int, alpha: float = 16.0, parts: int = 1) -> None:
        out, width = linear.weight.shape
        if rank < 1 or out % parts:
            raise ValueError(f"rank {rank} with {out} outputs in {parts} parts")
        with torch.device("meta"):  # the parameters are the given layer's
            super().__init__(width, out, bias=linear.bias is not None)
        self.weight, self.bias = linear.weight, linear.bias
        self.weight.requires_grad_(False)
        if self.bias is not None:
            self.bias.requires_grad_(False)
        self.rank, self.parts, self.scale = rank, parts, alpha / rank
        self.down = nn.Parameter(self.weight.new_empty(parts * rank, width))
        self.up = nn.Parameter(self.weight.new_zeros(out, rank))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, x: Tensor, rows: slice | None = None) -> Tensor:
        """[..., in] to [..., out]; ``rows``: a stretch of the outputs that begins and ends at a part's."""
        weight, bias, up, down = self.weight, self.bias, self.up, self.down
        size, rank = self.out_features // self.parts, self.rank
        parts = self.parts
        if rows is not None:
            weight, up = weight[rows], up[rows]
            bias = None if bias is None else bias[rows]
            first, last = rows.start // size, -(-rows.stop // size)
            down, parts = down[first * rank : last * rank], last - first
        y = F.linear(x, down) * self.scale  # [..., parts rank]
        pieces = [
            F.linear(part, up[i * size : (i + 1) * size]) for i, part in enumerate(y.split(rank, -1))
        ]  # [..., out / parts] each
        update = pieces[0] if parts == 1 else torch.cat(pieces, -1)
        return F.linear(x, weight, bias) + update

    def update(self) -> Tensor:
        """What merging adds to the weight, [out, in]."""
        size = self.out_features // self.parts
        ups, downs = self.up.split(size), self.down.split(self.rank)
        return torch.cat([up @ down for up, down in zip(ups, downs, strict=True)]) * self.scale

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """A plain linear layer with the update in its weight."""
        kind = {"device": self.weight.device, "dtype": self.weight.dtype}
        linear = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None, **kind)
        linear.weight.copy_(self.weight + self.update())
        if self.bias is not None:
            linear.bias.copy_(self.bias)
        return linear

    def extra_repr(self) -> str:
        """Shown in the module's repr."""
        return f"{super().extra_repr()}, rank={self.rank}, scale={self.scale}"


def add_low_rank(module: nn.Module, rank: int, alpha: float = 16.0) -> int:
    """Put a :class:`LowRankLinear` in place of each linear layer inside ``module``; how many there are now.

    Queries, keys and values of one matrix are three parts where they are equally wide.
    """
    count = 0
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Linear:
                equal = name == "qkv" and getattr(parent, "heads", 0) == getattr(parent, "kv_heads", 1)
                setattr(parent, name, LowRankLinear(child, rank, alpha, parts=3 if equal else 1))
                count += 1
    return count


def merge_low_rank(module: nn.Module) -> int:
    """Put plain linear layers back, with the updates in their weights; how many there were."""
    count = 0
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LowRankLinear):
                setattr(parent, name, child.merged())
                count += 1
    return count


def merged_state(module: nn.Module) -> dict[str, Tensor]:
    """The state dict that ``module`` would have after :func:`merge_low_rank`; it stays as it is."""
    state = dict(module.state_dict())
    for name, child in module.named_modules():
        if isinstance(child, LowRankLinear):
            prefix = f"{name}." if name else ""
            del state[f"{prefix}down"], state[f"{prefix}up"]
            state[f"{prefix}weight"] = child.merged().weight.detach()
    return state

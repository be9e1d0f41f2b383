"""Encoders of space and time: from the tokens of a clip to one vector.

    joint        every token sees every token of the clip       ViViT model 1, https://arxiv.org/abs/2103.15691
    factorised   tokens of a moment, then moments               ViViT model 2, the factorised encoder
    divided      in each layer time, then space, then the feed-forward net
                                                                TimeSformer, https://arxiv.org/abs/2102.05095
    pooled       each frame for itself, then weights over frames
    frame        one frame alone, to compare with

Legend: B clips, P moments (tubelets in time), N tokens of a moment, C width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from attncli.attention import Attention, Padding
from attncli.layers import FeedForward, LayerStack, build_pooling
from attncli.models.config import TransformerConfig
from attncli.models.parts import ABSOLUTE, build_stack, mechanism_options, norm_of, position_of
from attncli.models.vision.video_config import VideoConfig
from attncli.ops.dropout import Dropout, dropout_add

_TIME, _SPACE, _ALL = slice(0, 1), slice(1, 3), slice(0, 3)


class _Places(nn.Module):
    """Absolute positions and the class token, put to tokens on a grid; ``std`` of learnt positions."""

    def __init__(self, config: TransformerConfig, std: float = 0.02, told: bool = True) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.empty(config.width)) if config.prefix else None
        learnt = {"std": std} if config.position.startswith("learned") else {}
        told = told and config.position in ABSOLUTE
        self.position = position_of(config, config.width, **learnt) if told else None
        self.dropout = Dropout(config.dropout)
        if self.first is not None:
            nn.init.normal_(self.first, std=0.02)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """[B, T, C] to [B, 1 + T, C], or [B, T, C] without a class token; ``keep`` [B, T] alike."""
        if self.first is not None:
            x = torch.cat((self.first.to(x.dtype).expand(x.shape[0], 1, -1), x), 1)
            if keep is not None:
                keep = torch.cat((torch.ones_like(keep[:, :1]), keep), 1)
        if self.position is not None:
            x = self.position.embed(x)
        return self.dropout(x), keep


class JointEncoder(nn.Module):
    """Every token sees every token of the clip."""

    def __init__(self, config: VideoConfig) -> None:
        super().__init__()
        stage = config.stage(_ALL, config.encoder.layers)
        self.places = _Places(stage)
        self.stack: LayerStack = build_stack(stage, causal=False)
        self.pool = build_pooling(config.pools, stage.width)

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """Tokens [B, P, N, C], moments that are there [B, P], to [B, C]."""
        if keep is not None:
            keep = keep.repeat_interleave(x.shape[2], 1)  # [B, P N]
        x, keep = self.places(x.flatten(1, 2), keep)
        x = self.stack(x, None if keep is None else Padding(keep))
        return self.pool(x, keep)


class FrameEncoder(nn.Module):
    """The tokens of each moment see each other, and become one vector."""

    def __init__(self, config: VideoConfig) -> None:
        super().__init__()
        stage = config.stage(_SPACE, config.encoder.layers)
        self.places = _Places(stage)
        self.stack: LayerStack = build_stack(stage, causal=False)
        self.pool = build_pooling(config.pools, stage.width)
        self.one = config.pooling == "class"  # nothing else of the last layer is read

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [B, P, N, C] to [B, P, C]."""
        batch = x.shape[0]
        x, _ = self.places(x.flatten(0, 1))  # [B P, N, C]
        return self.pool(self.stack(x, first=self.one)).unflatten(0, (batch, -1))


class FactorisedEncoder(nn.Module):
    """Space first, then time."""

    def __init__(self, config: VideoConfig) -> None:
        super().__init__()
        self.space = FrameEncoder(config)
        stage = config.stage(_TIME, config.temporal_layers)
        if not config.ordered:
            stage = replace(stage, position="none")
        self.places = _Places(stage, std=1.0)  # as large as the normalised vectors that they are added to
        self.time: LayerStack = build_stack(stage, causal=False)
        self.pool = build_pooling(config.pools, stage.width)

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """Tokens [B, P, N, C], moments that are there [B, P], to [B, C]."""
        x, keep = self.places(self.space(x), keep)  # [B, P, C]
        x = self.time(x, None if keep is None else Padding(keep))
        return self.pool(x, keep)


class PooledEncoder(nn.Module):
    """Each frame for itself; the clip is a weighted sum of its frames."""

    def __init__(self, config: VideoConfig) -> None:
        super().__init__()
        self.space = FrameEncoder(config)
        stage = config.stage(_TIME, 0, prefix=0)
        if stage.position == "rotary":  # nothing here turns queries and keys, so the place in time is added
            stage = replace(stage, position="sinusoidal")
        self.places = _Places(stage, std=1.0, told=config.ordered)
        self.pool = build_pooling("mean" if config.pooling == "mean" else "attention", stage.width)

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """Tokens [B, P, N, C], moments that are there [B, P], to [B, C]."""
        x, _ = self.places(self.space(x))  # [B, P, C]
        return self.pool(x, keep)


class OneFrameEncoder(nn.Module):
    """One frame."""

    def __init__(self, config: VideoConfig) -> None:
        super().__init__()
        self.space = FrameEncoder(config)

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """Tokens [B, 1, N, C] to [B, C]."""
        return self.space(x)[:, 0]


def _attention(config: TransformerConfig, position: nn.Module | None) -> Attention:
    return Attention(
        config.width,
        heads=config.heads,
        kv_heads=config.kv_heads,
        kv_latent=config.kv_latent,
        mechanism=config.mechanism,
        position=position,
        bias=config.bias,
        dropout=config.attention_dropout,
        qk_norm=config.qk_norm,
        backend=config.backend,
        **mechanism_options(config),
    )


class DividedBlock(nn.Module):
    """Attention over time, then over space, then the feed-forward net, each with its residual connection.

    As published, a further linear layer, zero at first, follows the attention over time; the class token
    takes no part in it, stands among the tokens of every moment, and becomes the mean of what each moment
    made of it.
    """

    def __init__(
        self, config: TransformerConfig, time: nn.Module | None = None, space: nn.Module | None = None
    ) -> None:
        """``time``, ``space``: position schemes inside the two attentions."""
        super().__init__()
        width = config.width
        self.time_norm, self.space_norm, self.feed_forward_norm = (norm_of(config, width) for _ in range(3))
        self.time, self.space = _attention(config, time), _attention(config, space)
        self.time_out = nn.Linear(width, width, bias=config.bias)
        self.feed_forward = FeedForward(
            width, config.intermediate, activation=config.activation, bias=config.bias
        )
        self.pre, self.dropout = config.norm == "pre", config.dropout

    def forward(self, x: Tensor, first: Tensor | None, keep: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Tokens [B, P, N, C] and the class token [B, 1, C]; ``keep`` [B, P]: the same after a layer."""
        batch, moments, count, _ = x.shape

        def over_time(y: Tensor) -> Tensor:
            y = y.transpose(1, 2).flatten(0, 1)  # [B N, P, C]
            mask = None if keep is None else Padding(keep.repeat_interleave(count, 0))
            y = self.time_out(self.time(y, mask=mask))
            return y.unflatten(0, (batch, count)).transpose(1, 2)

        x = self._residual(x, self.time_norm, over_time)
        if first is not None:
            x = torch.cat((first.unsqueeze(1).expand(-1, moments, -1, -1), x), 2)  # [B, P, 1 + N, C]
        y = self.space_norm(x) if self.pre else x
        y = self.space(y.flatten(0, 1)).unflatten(0, (batch, moments))
        x = dropout_add(y, x, self.dropout, self.training)
        x = x if self.pre else self.space_norm(x)
        if first is not None:
            first, x = _mean(x[:, :, 0], keep), x[:, :, 1:]
            first = self._residual(first, self.feed_forward_norm, self.feed_forward)
        return self._residual(x, self.feed_forward_norm, self.feed_forward), first

    def _residual(self, x: Tensor, norm: nn.Module, layer: Callable[[Tensor], Tensor]) -> Tensor:
        if self.pre:
            return dropout_add(layer(norm(x)), x, self.dropout, self.training)
        return norm(dropout_add(layer(x), x, self.dropout, self.training))


def _mean(x: Tensor, keep: Tensor | None) -> Tensor:
    """The mean over the moments that are there, [B, P, C] to [B, 1, C]."""
    if keep is None:
        return x.mean(1, keepdim=True)
    share = (keep / keep.sum(1, keepdim=True).clamp(min=1)).to(x.dtype)  # [B, P]
    return torch.bmm(share.unsqueeze(1), x)


class DividedEncoder(nn.Module):
    """Time and space by turns."""

    def __init__(self, config: VideoConfig) -> None:
        super().__init__()
        stage = config.stage(_ALL, config.encoder.layers, prefix=0)  # the class token stands nowhere in time
        self.places = _Places(stage)
        self.first = nn.Parameter(torch.empty(stage.width)) if config.prefix else None
        if self.first is not None:
            nn.init.normal_(self.first, std=0.02)
        self.turning = nn.ModuleList()
        if stage.position not in (*ABSOLUTE, "none"):
            stages = config.stage(_TIME, 0, prefix=0), config.stage(_SPACE, 0)
            self.turning.extend(position_of(one, one.width) for one in stages)
        self.blocks = nn.ModuleList(DividedBlock(stage, *self.turning) for _ in range(stage.layers))
        self.norm = norm_of(stage, stage.width) if stage.norm == "pre" else nn.Identity()
        self.pool = build_pooling(config.pools, stage.width)
        self.checkpointing = False

    def after_drawing(self) -> None:
        """What attention over time adds is nothing at first."""
        for block in self.blocks:
            nn.init.zeros_(block.time_out.weight)

    def forward(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """Tokens [B, P, N, C], moments that are there [B, P], to [B, C]."""
        shape = x.shape[1:3]
        x = self.places(x.flatten(1, 2))[0].unflatten(1, shape)
        first = None if self.first is None else self.first.to(x.dtype).expand(x.shape[0], 1, -1)
        recompute = self.checkpointing and self.training
        for block in self.blocks:
            inputs = (x, first, keep)
            x, first = checkpoint(block, *inputs, use_reentrant=False) if recompute else block(*inputs)
        if first is not None:
            return self.norm(first)[:, 0]
        keep = None if keep is None else keep.repeat_interleave(shape[1], 1)
        return self.pool(self.norm(x).flatten(1, 2), keep)


ENCODERS: dict[str, type[nn.Module]] = {
    "joint": JointEncoder,
    "factorised": FactorisedEncoder,
    "divided": DividedEncoder,
    "pooled": PooledEncoder,
    "frame": OneFrameEncoder,
}
"""``model.space_time`` to the encoder."""

"""Swin Transformers: stages of falling resolution, attention in windows that shift from layer to layer.

    pixels -> patches -> blocks -> merging -> blocks -> merging -> ... -> norm -> mean of the tokens -> logits

Liu et al. 2021, "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows",
https://arxiv.org/abs/2103.14030. The windows are :class:`attncli.attention.images.ShiftedWindowAttention`.

Legend: B pictures, K channels, R rows and S columns of tokens, C width, L labels.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from attncli.attention import build_position
from attncli.attention.images import ShiftedWindowAttention
from attncli.layers import Block, FeedForward, LayerStack, build_norm, build_pooling, initialise
from attncli.layers.pictures import PatchTokens
from attncli.models.parts import ABSOLUTE
from attncli.models.vision.swin_config import SwinConfig
from attncli.models.vision.vit_config import POOLINGS
from attncli.ops.dropout import Dropout

_EPSILON = 1e-5


class Merging(nn.Module):
    """Four neighbouring tokens become one of twice the width, [B, R, S, C] to [B, R / 2, S / 2, 2 C].

    A grid of an odd number of rows or columns is padded by zeros.
    """

    def __init__(self, width: int, norm_kind: str) -> None:
        super().__init__()
        self.norm = build_norm(norm_kind, 4 * width, epsilon=_EPSILON)
        self.reduce = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, R, S, C] to [B, ceil(R / 2), ceil(S / 2), 2 C]."""
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        batch, rows, columns, width = x.shape
        x = x.view(batch, rows // 2, 2, columns // 2, 2, width).permute(0, 1, 3, 4, 2, 5)
        return self.reduce(self.norm(x.flatten(3)))  # as published: down, then right


class SwinEmbeddings(nn.Module):
    """Patches with a norm, and absolute positions where there are some."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.grid, width = config.grids[0], config.width
        self.tokens = PatchTokens(config.channels, config.tokens.patch, width)
        self.norm = build_norm(config.norm_kind, width, epsilon=_EPSILON)
        cells = self.grid[0] * self.grid[1]
        self.position = None
        if config.position in ABSOLUTE:
            self.position = build_position(
                config.position, width=width, heads=1, head_dim=width, max_length=cells, grid=self.grid
            )
        self.dropout = Dropout(config.dropout)

    def forward(self, images: Tensor) -> Tensor:
        """[B, K, H, W] to [B, R, S, C]."""
        x = self.norm(self.tokens(images))
        if self.position is not None:
            x = self.position.embed(x)
        return self.dropout(x).unflatten(1, self.grid)


class SwinModel(nn.Module):
    """A classifier of pictures; weights are drawn from PyTorch's generator."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = SwinEmbeddings(config)
        self.stages = nn.ModuleList(_stage(config, stage) for stage in range(len(config.depths)))
        self.mergings = nn.ModuleList(Merging(width, config.norm_kind) for width in config.widths[:-1])
        self.norm = build_norm(config.norm_kind, config.widths[-1], epsilon=_EPSILON, bias=config.bias)
        self.pooling = build_pooling(POOLINGS[config.pooling], config.widths[-1])
        self.pooling.muon = False
        self.dropout = Dropout(config.head_dropout)
        self.head = nn.Linear(config.widths[-1], config.labels)
        self.head.muon = False  # an output layer, which AdamW trains
        initialise(self, cutoff=None)

    def forward(self, images: Tensor) -> Tensor:
        """Pictures [B, K, H, W], brought to mean 0 and deviation 1, to logits [B, L]."""
        return self.head(self.dropout(self.picture(images)))

    def picture(self, images: Tensor) -> Tensor:
        """The vector of each picture, [B, C]."""
        x = self.embeddings(images)  # [B, R, S, C]
        for number, stage in enumerate(self.stages):
            x = stage(self.mergings[number - 1](x) if number else x)
        return self.pooling(self.norm(x).flatten(1, 2))

    def gradient_checkpointing(self, on: bool = True) -> None:
        """Whether training recomputes each block's activations in the backward pass."""
        for stage in self.stages:
            stage.checkpointing = on

    def windows(self) -> list[tuple[str, ShiftedWindowAttention, tuple[int, int]]]:
        """Every layer of windows in order: the name of its attention, itself, and its grid of tokens."""
        return [
            (f"stages.{number}.blocks.{index}.attention.attention", block.attention, grid)
            for number, (stage, grid) in enumerate(zip(self.stages, self.config.grids, strict=True))
            for index, block in enumerate(stage.blocks)
        ]


def _stage(config: SwinConfig, stage: int) -> LayerStack:
    width, heads, total = config.widths[stage], config.heads << stage, sum(config.depths)

    def norm() -> nn.Module:
        return build_norm(config.norm_kind, width, epsilon=_EPSILON, bias=config.bias)

    def block(index: int) -> Block:
        attention = ShiftedWindowAttention(
            width,
            heads=heads,
            kv_heads=None if config.kv_heads is None else config.kv_heads << stage,
            kv_latent=None if config.kv_latent is None else config.kv_latent << stage,
            window=config.window,
            shift=config.window // 2 if index % 2 else 0,
            relative=config.position == "relative_2d",
            mechanism=config.mechanism,
            bias=config.bias,
            dropout=config.attention_dropout,
            qk_norm=config.qk_norm,
            backend=config.backend,
            **config.mechanism_options,
        )
        depth = sum(config.depths[:stage]) + index
        return Block(
            attention,
            FeedForward(width, round(config.ratio * width), activation=config.activation, bias=config.bias),
            norm(),
            norm(),
            place="pre",
            dropout=config.dropout,
            drop_path=config.drop_path * depth / max(total - 1, 1),
            layer_scale=config.layer_scale,
        )

    return LayerStack(block, config.depths[stage])


def spread_windows(weights: Tensor, layer: ShiftedWindowAttention, grid: tuple[int, int]) -> Tensor:
    """How much each place of a ``grid`` of one picture is looked at by the places of its window: [H, R, S].

    ``weights`` [windows, H, T, T] as recorded of ``layer``.
    """
    w, (height, width) = layer.window, grid
    down, right = (layer.shift if length > w else 0 for length in grid)
    rows, columns = -(-height // w), -(-width // w)
    received = weights.mean(2).transpose(0, 1)  # [H, windows, T]
    found = received.unflatten(2, (w, w)).unflatten(1, (rows, columns)).transpose(2, 3)
    found = found.reshape(-1, rows * w, columns * w).roll((down, right), (1, 2))
    return found[:, :height, :width]

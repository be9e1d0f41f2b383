"""From pictures to tokens: patches cut out, or what convolutions find.

Legend: B pictures, K channels, R rows and S columns of pixels, N tokens (row by row), C width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attncli.ops.group_norm import group_norm


class PatchTokens(nn.Module):
    """Patches that do not overlap, each through one linear layer.

    Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", https://arxiv.org/abs/2010.11929. The layer's
    ``weight`` [C, K p p] is that of a convolution with kernel and stride p, flattened: one matrix product is
    faster than the convolution.
    """

    def __init__(self, channels: int, size: tuple[int, int], width: int) -> None:
        super().__init__()
        self.size = size
        self.project = nn.Linear(channels * size[0] * size[1], width)
        self.project.muon = False  # part of the embeddings, which AdamW trains

    def forward(self, images: Tensor) -> Tensor:
        """[B, K, R, S] to [B, N, C]; R and S are multiples of the patch."""
        return self.project(cut_patches(images, self.size))


def cut_patches(images: Tensor, size: tuple[int, int]) -> Tensor:
    """[B, K, R, S] to patches [B, N, K p q], each channel by channel, row by row; ``size`` is (p, q)."""
    batch, channels, rows, columns = images.shape
    p, q = size
    x = images.reshape(batch, channels, rows // p, p, columns // q, q)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * p * q)


class ConvolutionTokens(nn.Module):
    """Convolutions, each with max-pooling and ReLU, whose cells are the tokens.

    Hassani et al. 2021, "Escaping the Big Data Paradigm with Compact Transformers" (CCT),
    https://arxiv.org/abs/2104.05704: without biases, kernel and pool as published 3 and 3 with stride 2. ReLU
    comes after the pooling, which gives the same and is cheaper.

    Args:
        channels: K.
        widths: features after each convolution; the last is the width of the tokens.
        kernel, stride: of the convolutions, padded to keep the size where the stride is 1.
        pool: side of the pool, whose stride is 2; 0 pools nothing.
        groups: of channels that are normalised between the pooling and ReLU (Wu and He 2018,
            https://arxiv.org/abs/1803.08494), or as many as divide the features; 0 normalises nothing, as
            published.
        blocks: residual blocks behind each of them (:class:`ResidualBlock`); 0 as published.
    """

    def __init__(
        self,
        channels: int,
        widths: Sequence[int],
        *,
        kernel: int = 3,
        stride: int = 1,
        pool: int = 3,
        groups: int = 0,
        blocks: int = 0,
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.pool = kernel, stride, pool
        inputs = [channels, *widths[:-1]]
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=False)
            for before, after in zip(inputs, widths, strict=True)
        )
        self.norms = None
        if groups:
            self.norms = nn.ModuleList(nn.GroupNorm(math.gcd(groups, width), width) for width in widths)
        self.blocks = None
        if blocks:
            self.blocks = nn.ModuleList(
                nn.Sequential(*(ResidualBlock(width, kernel, math.gcd(groups, width)) for _ in range(blocks)))
                for width in widths
            )
        self.layers[0].muon = False  # sees pixels: AdamW trains it
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Kaiming normal, as published."""
        for layer in self.layers:
            nn.init.kaiming_normal_(layer.weight)

    def forward(self, images: Tensor) -> Tensor:
        """[B, K, R, S] to [B, N, C]."""
        x = images.contiguous(memory_format=torch.channels_last)
        for number, layer in enumerate(self.layers):
            x = layer(x)
            if self.pool:
                x = F.max_pool2d(x, self.pool, 2, self.pool // 2)
            x = F.relu(x) if self.norms is None else _normed(x, self.norms[number])
            if self.blocks is not None:
                x = self.blocks[number](x)
        return x.flatten(2).transpose(1, 2)


class ResidualBlock(nn.Module):
    """``x + f(x)``, f two convolutions with normalisation by groups and ReLU, [B, C, R, S] to the same.

    He et al. 2016, "Deep Residual Learning for Image Recognition", https://arxiv.org/abs/1512.03385. The last
    normalisation starts at 0: a block is nothing at first (Goyal et al. 2017, https://arxiv.org/abs/1706.02677).
    """

    def __init__(self, width: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(width, width, kernel, padding=kernel // 2, bias=False) for _ in range(2)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(max(groups, 1), width) for _ in range(2))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Kaiming normal; the last norm 0."""
        for layer in self.convolutions:
            nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(self.norms[1].weight)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, R, S] to the same."""
        first, second = self.convolutions
        y = second(_normed(first(x), self.norms[0]))
        return x + _normed(y, self.norms[1], relu=False)


def _normed(x: Tensor, norm: nn.GroupNorm, relu: bool = True) -> Tensor:
    return group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps, relu=relu)


class Normalise(nn.Module):
    """Pictures of bytes brought to mean 0 and deviation 1: ``(value / 255 - mean) / std``, float32.

    Buffers are not stored with the weights.

    Args:
        mean, std: of each channel, of values between 0 and 1.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        scale = 1 / (255 * torch.tensor(std, dtype=torch.float64))
        shift = -torch.tensor(mean, dtype=torch.float64) / torch.tensor(std, dtype=torch.float64)
        self.register_buffer("scale", scale.float().view(-1, 1, 1), persistent=False)
        self.register_buffer("shift", shift.float().view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [..., K, R, S] to float32; the layout in memory stays."""
        return torch.addcmul(self.shift, images.float(), self.scale)

"""U-Net: a way down that sees ever more and a way up that tells it of every pixel, with skips between them.

    picture -- block ----------------------- gate -- block -- logits       level 0, width C0
                 | pool            (gating)--/  up |
               block ------------- gate -- block --+                       level 1
                 | pool                    up |
               block, Transformer layers -----+                            the lowest level

Ronneberger et al. 2015, "U-Net", https://arxiv.org/abs/1505.04597; the gates on the skips: Oktay et al.
2018, "Attention U-Net", https://arxiv.org/abs/1804.03999; inputs of every scale and deep supervision with
them: Abraham and Khan 2018, https://arxiv.org/abs/1810.07842. Convolutions are padded, so that the output
is as large as the picture; the way up enlarges by repeating pixels, after one convolution of 1x1 has made
the maps as narrow as the skip they meet.

Fast on CPUs: channels-last order from the first convolution to the logits, norms that take ReLU with them
(:mod:`attncli.ops.group_norm`), and maps that are made narrow before they are made large.

Legend: B pictures, K channels, L classes, H and W pixels of a side, C features of a level.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from attncli.attention.images import CBAM, AdditiveGate, EfficientChannel, SqueezeExcite
from attncli.models.vision.bottleneck import Bottleneck
from attncli.models.vision.pixels import Normalise
from attncli.models.vision.unet_config import UNetConfig
from attncli.ops.group_norm import group_norm

_FEATURE = {"squeeze_excite": SqueezeExcite, "eca": EfficientChannel, "cbam": CBAM}


class UNet(nn.Module):
    """Logits of every pixel; weights are drawn from PyTorch's generator.

    ``mean`` and ``std`` [K] of pixels from 0 to 1 are what :class:`Normalise` takes. Recorded factors (by
    ``record(model)``): ``up.N.gate`` [B, 1, H, W], the gate of level N, and those of feature attention;
    recorded weights: ``bottleneck...`` [B, heads, cells, cells] of the layers at the lowest level.
    """

    def __init__(self, config: UNetConfig, mean: Tensor | None = None, std: Tensor | None = None) -> None:
        super().__init__()
        self.config = config
        widths, channels = config.widths, config.channels
        self.normalise = Normalise(channels, mean, std)
        self.inputs = nn.ModuleList()
        self.down = nn.ModuleList()
        for level, width in enumerate(widths):
            before = widths[level - 1] if level else channels
            scaled = config.multi_scale and level > 0
            if scaled:
                self.inputs.append(Unit(config, channels, before))
            self.down.append(ConvolutionBlock(config, before * (1 + scaled), width))
        self.bottleneck = None if config.bottleneck is None else Bottleneck(config.bottleneck)
        self.up = nn.ModuleList(
            UpBlock(config, widths[level + 1], widths[level]) for level in range(len(widths) - 1)
        )
        self.output = nn.Conv2d(widths[0], config.classes, 1)
        lower = range(1, len(widths) - 1) if config.deep_supervision else ()
        self.auxiliary = nn.ModuleList(nn.Conv2d(widths[level], config.classes, 1) for level in lower)
        self.checkpointing = False
        for module in self.modules():
            if isinstance(module, Unit):
                nn.init.kaiming_normal_(module.convolution.weight, nonlinearity="relu")
        for output in self.outputs:
            nn.init.normal_(output.weight, std=0.1)
            nn.init.zeros_(output.bias)
            output.muon = False  # an output layer, which AdamW trains, as it does what sees pixels and gates
        for unit in (self.down[0].units[0], *self.inputs):
            unit.convolution.muon = False
        for block in self.up:
            if block.gate is not None:
                block.gate.score.muon = False
        self.to(memory_format=torch.channels_last)

    @property
    def outputs(self) -> list[nn.Conv2d]:
        """The layers that give logits."""
        return [self.output, *self.auxiliary]  # type: ignore[list-item]

    def gradient_checkpointing(self, on: bool = True) -> None:
        """Whether blocks are computed again in the backward pass."""
        self.checkpointing = on

    def forward(self, images: Tensor) -> list[Tensor]:
        """``images`` [B, K, H, W], uint8 or float from 0 to 255, to logits.

        The first are [B, L, H, W]; with deep supervision and in training those of the lower levels follow,
        each half as large as the one before, [B, L, ceil(H / 2), ceil(W / 2)] and so on.
        """
        height, width = images.shape[2:]
        step = self.config.step
        x = self.normalise(images)
        if height % step or width % step:
            x = F.pad(x, (0, -width % step, 0, -height % step), mode="replicate")
        x = x.contiguous(memory_format=torch.channels_last)
        scaled, skips = x, []
        for level, block in enumerate(self.down):
            if level:
                x = F.max_pool2d(x, 2)
                if self.config.multi_scale:
                    scaled = F.avg_pool2d(scaled, 2)
                    x = torch.cat([x, self.inputs[level - 1](scaled)], 1)
            x = self._run(block, x)
            skips.append(x)
        x = skips.pop()
        if self.training and self.config.dropout:
            x = F.dropout2d(x, self.config.dropout)
        if self.bottleneck is not None:
            x = self.bottleneck(x)
        outputs = []
        for level in reversed(range(len(self.up))):
            x = self._run(self.up[level], x, skips[level])
            if level and self.auxiliary and self.training:
                outputs.append(_cut(self.auxiliary[level - 1](x), height, width, level))
        outputs.append(self.output(x)[:, :, :height, :width])
        return outputs[::-1]

    def _run(self, block: nn.Module, *inputs: Tensor) -> Tensor:
        if self.checkpointing and self.training:
            return checkpoint(block, *inputs, use_reentrant=False)
        return block(*inputs)


def _cut(logits: Tensor, height: int, width: int, level: int) -> Tensor:
    """Logits of a lower level without what padding added."""
    return logits[:, :, : -(-height // 2**level), : -(-width // 2**level)]


class Unit(nn.Module):
    """A convolution of 3x3, or 1x1, with its norm and, where ``relu``, ReLU."""

    def __init__(
        self, config: UNetConfig, inputs: int, outputs: int, *, kernel: int = 3, relu: bool = True
    ) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        self.relu, self.groups = relu, None
        if config.norm == "batch":
            self.norm = nn.BatchNorm2d(outputs)
            return
        groups = outputs if config.norm == "instance" else config.groups
        self.groups = groups if outputs % groups == 0 else 1
        self.weight = nn.Parameter(torch.ones(outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] to [B, outputs, H, W]."""
        x = self.convolution(x)
        if self.groups is not None:
            return group_norm(x, self.groups, self.weight, self.bias, relu=self.relu)
        x = self.norm(x)
        return F.relu(x, inplace=True) if self.relu else x


class ConvolutionBlock(nn.Module):
    """Units one after the other, then attention over features; with ``residual`` around the sum's ReLU."""

    def __init__(self, config: UNetConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        count = config.convolutions
        self.units = nn.Sequential(
            *(
                Unit(
                    config,
                    outputs if number else inputs,
                    outputs,
                    relu=not (config.residual and number == count - 1),
                )
                for number in range(count)
            )
        )
        self.shortcut = None
        if config.residual:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()
        kind = config.feature_attention
        self.attention = None if kind == "none" else _FEATURE[kind](outputs)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] to [B, outputs, H, W]."""
        y = self.units(x)
        if self.attention is not None:
            y = self.attention(y)
        return y if self.shortcut is None else F.relu(self.shortcut(x) + y)


class UpBlock(nn.Module):
    """What comes from below, made narrow and large, meets the skip, which it has gated."""

    def __init__(self, config: UNetConfig, below: int, width: int) -> None:
        super().__init__()
        self.gate = AdditiveGate(width, below) if config.gates else None
        self.narrow = Unit(config, below, width, kernel=1)
        self.block = ConvolutionBlock(config, 2 * width, width)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """``x`` [B, below, H / 2, W / 2] and ``skip`` [B, C, H, W] to [B, C, H, W]."""
        if self.gate is not None:
            skip = self.gate(skip, x)
        x = F.interpolate(self.narrow(x), scale_factor=2, mode="nearest")
        return self.block(torch.cat([skip, x], 1))

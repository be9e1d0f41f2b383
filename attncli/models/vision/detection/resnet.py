"""Residual networks (He et al. 2016, https://arxiv.org/abs/1512.03385) that give maps of several scales.

Parameters have the names of timm's ``resnet18`` ... ``resnet50``, so that its weights load; the first stage's
width may be smaller than the published 64.

GroupNorm (Wu and He 2018, https://arxiv.org/abs/1803.08494) is the default: what it does to a picture does
not depend on the others of the batch. So a batch may be small, as of large pictures it must be, a batch that
is cut into rounds or over processes learns the same, and averaged weights need no statistics of their own.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attncli.attention.images import IMAGES
from attncli.errors import CheckpointError, Problem
from attncli.ops.group_norm import group_norm

DEPTHS = {
    "resnet10": (1, 1, 1, 1),
    "resnet14": (1, 2, 2, 1),
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
}
_GROUP = 16  # channels of a group


class GroupNorm(nn.GroupNorm):
    """``nn.GroupNorm`` of maps, trained faster on a CPU."""

    def forward(self, x: Tensor, relu: bool = False) -> Tensor:
        """[B, C, H, W] to the same, cut at 0 with ``relu``."""
        return group_norm(x, self.num_groups, self.weight, self.bias, self.eps, relu)


class BatchNorm(nn.BatchNorm2d):
    """``nn.BatchNorm2d`` with the ReLU that may follow."""

    def forward(self, x: Tensor, relu: bool = False) -> Tensor:
        """[B, C, H, W] to the same, cut at 0 with ``relu``."""
        y = super().forward(x)
        return F.relu(y, inplace=True) if relu else y


def build_norm2d(kind: str, channels: int) -> GroupNorm | BatchNorm:
    """``group`` or ``batch`` normalisation of maps [B, C, H, W]."""
    if kind == "batch":
        return BatchNorm(channels)
    return GroupNorm(channels // _GROUP if channels % _GROUP == 0 else 1, channels)


class ConvNormRelu(nn.Module):
    """A convolution of 3x3, GroupNorm and ReLU, as the heads use them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = build_norm2d("group", channels)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to the same."""
        return self.norm(self.conv(x), relu=True)


class BasicBlock(nn.Module):
    """Two convolutions of 3x3 around a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, planes: int, stride: int, norm: str, attention: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn1 = build_norm2d(norm, planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = build_norm2d(norm, planes)
        self.attention = _attention(attention, planes)
        self.downsample = _shortcut(inputs, planes, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, planes, H / stride, W / stride]."""
        y = self.bn1(self.conv1(x), relu=True)
        y = self.attention(self.bn2(self.conv2(y)))
        return F.relu(y + self.downsample(x), inplace=True)

    @property
    def last_norm(self) -> nn.Module:
        """The norm before the sum."""
        return self.bn2


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions around a shortcut; four times as many channels come out as are inside."""

    expansion = 4

    def __init__(self, inputs: int, planes: int, stride: int, norm: str, attention: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn1 = build_norm2d(norm, planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = build_norm2d(norm, planes)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=False)
        self.bn3 = build_norm2d(norm, 4 * planes)
        self.attention = _attention(attention, 4 * planes)
        self.downsample = _shortcut(inputs, 4 * planes, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] to [B, 4 planes, H / stride, W / stride]."""
        y = self.bn1(self.conv1(x), relu=True)
        y = self.bn2(self.conv2(y), relu=True)
        y = self.attention(self.bn3(self.conv3(y)))
        return F.relu(y + self.downsample(x), inplace=True)

    @property
    def last_norm(self) -> nn.Module:
        """The norm before the sum."""
        return self.bn3


def _attention(kind: str, channels: int) -> nn.Module:
    return nn.Identity() if kind == "none" else IMAGES[kind](channels)


def _shortcut(inputs: int, outputs: int, stride: int, norm: str) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
    return nn.Sequential(conv, build_norm2d(norm, outputs))


class ResNet(nn.Module):
    """Pictures to maps at strides 4, 8, 16 and 32, of the levels 2, 3, 4 and 5 up to ``highest``.

    ``mean`` and ``deviation`` [3], of pixels from 0 to 1, are part of the model and stored with it.
    """

    def __init__(
        self,
        kind: str = "resnet18",
        *,
        width: int = 64,
        norm: str = "group",
        attention: str = "none",
        highest: int = 5,
    ) -> None:
        super().__init__()
        self.kind, self.highest = kind, min(highest, 5)
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = build_norm2d(norm, width)
        block = Bottleneck if kind == "resnet50" else BasicBlock
        self.channels: dict[int, int] = {}
        """Of each level."""
        inputs = width
        for stage, depth in enumerate(DEPTHS[kind][: self.highest - 1], 1):
            planes = width * 2 ** (stage - 1)
            blocks = []
            for number in range(depth):
                stride = 2 if number == 0 and stage > 1 else 1
                blocks.append(block(inputs, planes, stride, norm, attention))
                inputs = planes * block.expansion
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
            self.channels[stage + 1] = inputs
        self.register_buffer("mean", torch.full((3,), 0.5))
        self.register_buffer("deviation", torch.full((3,), 0.5))
        self.initialise()

    def initialise(self) -> None:
        """He's normal weights; each block begins as its shortcut (Goyal et al. 2017)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if isinstance(module, BasicBlock | Bottleneck):
                nn.init.zeros_(module.last_norm.weight)

    def forward(self, images: Tensor) -> dict[int, Tensor]:
        """uint8 [B, 3, H, W], or float of the same range, to maps by level."""
        kind = images.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.mean.dtype
        scale = (1 / (255 * self.deviation)).view(1, 3, 1, 1)
        x = (images.float() * scale - (self.mean / self.deviation).view(1, 3, 1, 1)).to(dtype)
        x = x.contiguous(memory_format=torch.channels_last)
        x = self.bn1(self.conv1(x), relu=True)
        x = F.max_pool2d(x, 3, 2, 1)
        maps = {}
        for level in range(2, self.highest + 1):
            x = getattr(self, f"layer{level - 1}")(x)
            maps[level] = x
        return maps


def load_backbone(model: ResNet, path: Path) -> int:
    """Weights of a ``.safetensors`` file under timm's names into ``model``; how many tensors they are.

    What the file has beyond the backbone, such as a classifier, is passed over.

    Raises:
        CheckpointError: no such file, or a tensor that is missing or of another shape.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        what = f"cannot be read as safetensors: {error}"
        raise CheckpointError(Problem(what, str(path), "model.backbone.weights")) from None
    own = model.state_dict()
    wanted = [name for name in own if name not in ("mean", "deviation")]
    prefix = next((p for p in ("", "backbone.", "model.", "module.") if p + "conv1.weight" in tensors), "")
    wrong = []
    for name in wanted:
        given = tensors.get(prefix + name)
        if given is None and not name.endswith("num_batches_tracked"):
            wrong.append(f"{name} is missing")
        elif given is not None and given.shape != own[name].shape:
            wrong.append(f"{name} is {list(given.shape)}, and the model's {list(own[name].shape)}")
    if wrong:
        hint = f"it is not of {model.kind} with this width, norm and attention"
        shown = wrong[:6] + ([f"and {len(wrong) - 6} more"] if len(wrong) > 6 else [])
        raise CheckpointError(*(Problem(what, str(path), hint) for what in shown))
    found = {name: tensors[prefix + name] for name in wanted if prefix + name in tensors}
    model.load_state_dict(found, strict=False)
    return len(found)

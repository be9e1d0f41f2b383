"""Segmenter: a plain Vision Transformer gives every patch its classes, which are enlarged to pixels.

    linear head: patches -- one linear layer -- scores [rows, columns, L] -- bilinear -- logits
    mask head:   patches and a token of each class -- layers -- products of patches and classes -- the same

Strudel et al. 2021, "Segmenter: Transformer for Semantic Segmentation", https://arxiv.org/abs/2105.05633.

Legend: B pictures, K channels, L classes, H and W pixels of a side, N patches, C width.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attncli.layers import build_norm, initialise
from attncli.models.parts import build_stack
from attncli.models.vision.pixels import Normalise
from attncli.models.vision.segmenter_config import SegmenterConfig
from attncli.models.vision.vit import VitEncoder
from attncli.models.vision.vit_config import Tokens


class Segmenter(nn.Module):
    """Logits of every pixel; weights are drawn from PyTorch's generator.

    ``mean`` and ``std`` [K] as in :class:`Normalise`. Recorded weights (by ``record(model)``) are those of
    the encoder's layers [B, heads, N, N] and of the mask head's [B, heads, N + L, N + L].
    """

    def __init__(
        self, config: SegmenterConfig, mean: Tensor | None = None, std: Tensor | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.normalise = Normalise(config.channels, mean, std)
        self.encoder = VitEncoder(Tokens(patch=(config.patch,) * 2), config.channels, config.encoder)
        self.head: nn.Module = MaskHead(config) if config.head == "mask" else LinearHead(config)
        initialise(self)

    @property
    def outputs(self) -> list[nn.Module]:
        """The layer whose bias is that of the logits."""
        return [self.head.norm if isinstance(self.head, MaskHead) else self.head.score]  # type: ignore[list-item]

    def gradient_checkpointing(self, on: bool = True) -> None:
        """Whether training recomputes each block's activations in the backward pass."""
        self.encoder.stack.checkpointing = on

    def forward(self, images: Tensor) -> list[Tensor]:
        """``images`` [B, K, H, W], uint8 or float from 0 to 255, of the configuration's size, to [logits]
        [B, L, H, W]."""
        height, width = images.shape[2:]
        patch = self.config.patch
        x = self.normalise(images)
        if height % patch or width % patch:
            x = F.pad(x, (0, -width % patch, 0, -height % patch), mode="replicate")
        scores = self.head(self.encoder(x))  # [B, N, L]
        rows, columns = self.config.grid
        maps = scores.transpose(1, 2).unflatten(2, (rows, columns))  # [B, L, rows, columns]
        maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
        logits = F.interpolate(maps, (rows * patch, columns * patch), mode="bilinear", align_corners=False)
        return [logits[:, :, :height, :width]]


class LinearHead(nn.Module):
    """Scores of each patch on its own."""

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__()
        self.score = nn.Linear(config.encoder.width, config.classes)
        self.muon = False  # an output layer, which AdamW trains

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, C] to [B, N, L]."""
        return self.score(x)


class MaskHead(nn.Module):
    """Layers over patches and a learnt token of each class; a score is the product of the two, both of unit
    length."""

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__()
        width, classes = config.encoder.width, config.classes
        inner = replace(
            config.encoder,
            layers=config.mask_layers,
            grid=(),
            length=config.encoder.length + classes,
            position="none",  # patches know their places already
        )
        self.classes = nn.Parameter(torch.empty(classes, width))
        nn.init.trunc_normal_(self.classes, std=0.02)
        self.project = nn.Linear(width, width)
        self.stack = build_stack(inner, causal=False)
        self.of_patch = nn.Linear(width, width, bias=False)
        self.of_class = nn.Linear(width, width, bias=False)
        self.norm = build_norm("layer", classes)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, C] to [B, N, L]."""
        patches = x.shape[1]
        x = self.project(x)
        classes = self.classes.to(x.dtype).expand(len(x), -1, -1)
        x = self.stack(torch.cat((x, classes), 1))
        patch, token = self.of_patch(x[:, :patches]), self.of_class(x[:, patches:])
        wide = torch.promote_types(patch.dtype, torch.float32)
        patch, token = F.normalize(patch.to(wide), dim=-1), F.normalize(token.to(wide), dim=-1)
        return self.norm(patch @ token.transpose(1, 2))

"""Models that give every pixel a class, from a recipe's ``model`` section."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from attncli.models.onnx import export_logits
from attncli.models.vision.segmenter import Segmenter
from attncli.models.vision.segmenter_config import resolve_vit_segmenter
from attncli.models.vision.unet import UNet
from attncli.models.vision.unet_config import resolve_unet
from attncli.recipe.segment import SegmentModel


def build_segmenter(
    section: SegmentModel,
    *,
    channels: int,
    classes: int,
    size: tuple[int, int],
    mean: Tensor | None = None,
    std: Tensor | None = None,
) -> nn.Module:
    """The model that ``section`` describes, with fresh weights from PyTorch's generator.

    Args:
        section: the recipe's ``model``.
        channels, classes: of the pictures and the masks.
        size: height and width of the pictures in training.
        mean, std: [channels] of pixels from 0 to 1.

    Raises:
        RecipeError: settings that do not go together, all at once.
    """
    if section.family == "vit":
        config = resolve_vit_segmenter(section, channels=channels, classes=classes, size=size)
        return Segmenter(config, mean, std)
    config = resolve_unet(section, channels=channels, classes=classes, size=size)
    return UNet(config, mean, std)


@torch.no_grad()
def start_from(model: nn.Module, shares: Tensor) -> None:
    """Let fresh outputs give each class its share [L] of the pixels: nothing else is to be learnt of them.

    Without it the first hundreds of updates only find out that most is background (Lin et al. 2017, section
    3.3, https://arxiv.org/abs/1708.02002). A class without a pixel gets a hundredth of an even share.
    """
    shares = shares.float().clamp(min=0.01 / len(shares))
    for output in model.outputs:  # type: ignore[union-attr]
        output.bias.copy_((shares / shares.sum()).log())


def fixed_size(model: nn.Module) -> bool:
    """Whether it reads pictures of its training size only."""
    return model.config.fixed  # type: ignore[union-attr]


class _Logits(nn.Module):
    """A model whose output is the logits of the pixels alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """[B, K, H, W] to [B, L, H, W]."""
        return self.model(images)[0]


def export_segmenter(model: nn.Module, size: tuple[int, int], path: Path) -> None:
    """Write ``model`` to ``path`` as ONNX in float32, for any number of pictures of height and width
    ``size``.

    The input is ``images`` float32 [B, K, H, W] from 0 to 255, the output ``logits`` [B, L, H, W].

    Raises:
        RecipeError: a package is not installed, or the attention has no form in ONNX.
    """
    export_logits(_Logits(model), torch.zeros(2, model.config.channels, *size), "images", path)

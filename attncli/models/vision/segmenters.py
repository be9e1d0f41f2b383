"""Models that give every pixel a class, from a recipe's ``model`` section."""

from __future__ import annotations

from torch import Tensor, nn

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


def fixed_size(model: nn.Module) -> bool:
    """Whether it reads pictures of its training size only."""
    return model.config.fixed  # type: ignore[union-attr]

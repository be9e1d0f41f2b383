"""What a Segmenter is made of, as plain values. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from attncli.errors import Problem, RecipeError
from attncli.models.config import TransformerConfig
from attncli.models.vision.unet_config import grid_encoder
from attncli.recipe.segment import SegmentModel

_LAYERS = 6
_MASK_LAYERS = 2  # of the mask head, as published


@dataclass(frozen=True, kw_only=True)
class SegmenterConfig:
    """A plain Vision Transformer whose patches are told apart."""

    channels: int = 3
    classes: int
    patch: int = 8
    """Side, pixels."""
    size: tuple[int, int] = (256, 256)
    """Height and width of the pictures, pixels."""
    encoder: TransformerConfig
    """Its ``grid`` is that of the patches."""
    head: str = "linear"
    """linear or mask."""
    mask_layers: int = _MASK_LAYERS

    fixed = True

    @property
    def step(self) -> int:
        """Pixels of a side that become one place."""
        return self.patch

    @property
    def grid(self) -> tuple[int, ...]:
        """Rows and columns of patches."""
        return self.encoder.grid

    def describe(self) -> str:
        """Size and head in words."""
        rows, columns = self.encoder.grid
        return (
            f"Segmenter, {self.encoder.layers} layers of {self.encoder.width} on {rows}x{columns} patches of "
            f"{self.patch}x{self.patch}, {self.encoder.mechanism}, {self.encoder.position}; {self.head} head"
        )


def resolve_vit_segmenter(
    section: SegmentModel, *, channels: int, classes: int, size: tuple[int, int]
) -> SegmenterConfig:
    """The values of a recipe's ``model`` section with family vit.

    ``size``: of the pictures in training. Raises RecipeError for settings that do not go together.
    """
    grid = -(-size[0] // section.patch), -(-size[1] // section.patch)
    encoder, wrong = grid_encoder(section, width=section.width, layers=section.layers or _LAYERS, grid=grid)
    if section.patch > min(size):
        what = f"model.patch={section.patch} is larger than the pictures' {size[0]}x{size[1]} pixels"
        wrong.append(Problem(what, hint=f"model.patch={max(1, min(size) // 8)}"))
    if wrong:
        raise RecipeError(*wrong)
    return SegmenterConfig(
        channels=channels,
        classes=classes,
        patch=section.patch,
        size=size,
        encoder=encoder,
        head=section.head,
    )

"""What a Swin Transformer is made of, as plain values. No torch.

``tiny`` to ``large``: Liu et al. 2021 (https://arxiv.org/abs/2103.14030); the ``lite`` sizes are ours, for
small pictures.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from attncli.errors import CheckpointError, Problem, RecipeError
from attncli.models.vision.vit_config import Tokens, tokens_wrong
from attncli.recipe.image import ImageModel


class SwinSize(NamedTuple):
    """Layers of each stage; width and heads of the first, which double from stage to stage."""

    depths: tuple[int, ...]
    width: int
    heads: int


SWIN_SIZES = {
    "lite2": SwinSize((2, 2), 64, 2),
    "lite4": SwinSize((2, 4), 96, 3),
    "lite6": SwinSize((2, 2, 2), 96, 3),
    "lite7": SwinSize((2, 4, 2), 96, 3),
    "tiny": SwinSize((2, 2, 6, 2), 96, 3),
    "small": SwinSize((2, 2, 18, 2), 96, 3),
    "base": SwinSize((2, 2, 18, 2), 128, 4),
    "large": SwinSize((2, 2, 18, 2), 192, 6),
}
"""Size name to dimensions."""


@dataclass(frozen=True, kw_only=True)
class SwinConfig:
    """A Swin Transformer and its head."""

    image: tuple[int, int]
    """Rows and columns in pixels."""
    channels: int = 3
    tokens: Tokens = field(default_factory=Tokens)
    depths: tuple[int, ...] = (2, 2, 6, 2)
    """Layers of each stage."""
    width: int = 96
    """Features of a token in the first stage; doubled from stage to stage."""
    heads: int = 3
    """Of the first stage; doubled from stage to stage."""
    kv_heads: int | None = None
    """As heads; None is as many."""
    kv_latent: int | None = None
    """Features of a latent that keys and values come from, of the first stage and doubled; None is none."""
    window: int = 7
    """Tokens on a side of a window."""
    ratio: float = 4.0
    """Width inside the feed-forward nets, over the width."""
    mechanism: str = "scaled_dot"
    mechanism_options: dict[str, int] = field(default_factory=dict, hash=False)
    position: str = "relative_2d"
    """relative_2d inside the windows, none, or a scheme that is added to the first stage's tokens."""
    qk_norm: bool = False
    attention_dropout: float = 0.0
    backend: str = "auto"
    dropout: float = 0.0
    drop_path: float = 0.0
    layer_scale: float | None = None
    norm_kind: str = "layer"
    activation: str = "gelu"
    bias: bool = True
    pooling: str = "mean"
    """mean or attention."""
    labels: int = 10
    head_dropout: float = 0.0
    family: str = "swin"

    @property
    def grids(self) -> list[tuple[int, int]]:
        """Rows and columns of tokens in each stage."""
        rows, columns = self.tokens.grid(self.image)
        found = []
        for _ in self.depths:
            found.append((rows, columns))
            rows, columns = -(-rows // 2), -(-columns // 2)
        return found

    @property
    def widths(self) -> list[int]:
        """Features of a token in each stage."""
        return [self.width << stage for stage in range(len(self.depths))]

    def plain(self) -> dict[str, Any]:
        """As JSON values; :func:`swin_config` reads them."""
        return asdict(self)

    def describe(self) -> str:
        """Stages and tokens in words."""
        (rows, columns), (height, width) = self.grids[0], self.image
        layers = "+".join(map(str, self.depths))
        return (
            f"swin, {layers} layers of {self.width} to {self.widths[-1]} in windows of {self.window}x"
            f"{self.window}, {rows}x{columns} tokens of {height}x{width} pixels at first"
        )


def swin_config(raw: dict[str, Any]) -> SwinConfig:
    """The configuration that :meth:`SwinConfig.plain` wrote. Raises CheckpointError for anything else."""
    try:
        tokens = dict(raw["tokens"])
        tokens |= {"patch": tuple(tokens["patch"]), "widths": tuple(tokens["widths"])}
        parts = {"tokens": Tokens(**tokens), "image": tuple(raw["image"]), "depths": tuple(raw["depths"])}
        return SwinConfig(**raw | parts)
    except (TypeError, KeyError) as error:
        raise CheckpointError(f"these settings make no model of images: {error}") from None


def resolve_swin(section: ImageModel, *, image: tuple[int, int], channels: int, labels: int) -> SwinConfig:
    """The model that a recipe's ``model`` section describes, for images of one size.

    Raises:
        RecipeError: settings that do not go together, or do not suit the images; all at once.
    """
    size, attention = SWIN_SIZES[section.size], section.attention
    width, depths = section.width or size.width, tuple(section.depths) or size.depths
    tokens = Tokens(patch=(section.patch, section.patch))
    config = SwinConfig(
        image=image,
        channels=channels,
        tokens=tokens,
        depths=depths,
        width=width,
        heads=attention.heads or size.heads,
        kv_heads=attention.kv_heads,
        kv_latent=attention.kv_latent,
        window=section.window,
        ratio=section.intermediate / width if section.intermediate else 4.0,
        mechanism=attention.mechanism,
        mechanism_options=attention.options(),
        position=attention.position,
        qk_norm=attention.qk_norm,
        attention_dropout=attention.dropout,
        backend=attention.backend,
        dropout=section.dropout,
        drop_path=section.drop_path,
        layer_scale=section.layer_scale,
        norm_kind=section.norm_kind,
        activation=section.activation,
        bias=section.bias,
        pooling="mean" if section.pooling == "auto" else section.pooling,
        labels=labels,
        head_dropout=section.head_dropout,
    )
    problems = tokens_wrong(tokens, image)
    if not problems and math.prod(config.grids[-1]) < 1:
        problems.append(
            Problem(f"model.depths={list(depths)} leaves no token of {image[0]}x{image[1]} pixels")
        )
    if config.heads % (config.kv_heads or config.heads):
        what = (
            f"model.attention.kv_heads={config.kv_heads} does not divide model.attention.heads={config.heads}"
        )
        problems.append(Problem(what, hint="each key/value head serves equally many query heads"))
    if width % config.heads:
        what = f"model.width={width} is not divisible by model.attention.heads={config.heads}"
        hint = f"the nearest width is {max(1, round(width / config.heads)) * config.heads}"
        problems.append(Problem(what, hint=hint))
    if problems:
        raise RecipeError(*problems)
    return config

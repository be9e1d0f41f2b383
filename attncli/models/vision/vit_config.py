"""What a Vision Transformer is made of, as plain values. No torch.

``lite2`` to ``lite7``: Hassani et al. 2021 (https://arxiv.org/abs/2104.05704), ViT-Lite and CCT alike;
``tiny``: DeiT (Touvron et al. 2021, https://arxiv.org/abs/2012.12877); ``small``: the same and Steiner et al.
2021; ``base`` and ``large``: Dosovitskiy et al. 2021 (https://arxiv.org/abs/2010.11929).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from attncli.errors import CheckpointError, Problem, RecipeError
from attncli.models.config import TransformerConfig
from attncli.models.families import broken_rules
from attncli.models.sizes import Size
from attncli.recipe.image import ImageModel

VIT_SIZES = {
    "lite2": Size(2, 128, 2, 128),
    "lite4": Size(4, 128, 2, 128),
    "lite6": Size(6, 256, 4, 512),
    "lite7": Size(7, 256, 4, 512),
    "tiny": Size(12, 192, 3, 768),
    "small": Size(12, 384, 6, 1536),
    "base": Size(12, 768, 12, 3072),
    "large": Size(24, 1024, 16, 4096),
}
"""Size name to dimensions."""

_GROUPS = 8
POOLINGS = {"class": "first", "mean": "mean", "attention": "dot"}
"""To the kind of :func:`attncli.layers.build_pooling`."""


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """How pixels become tokens."""

    kind: str = "patch"
    """patch or convolution."""
    patch: tuple[int, int] = (4, 4)
    widths: tuple[int, ...] = ()
    """Features after each convolution."""
    kernel: int = 3
    stride: int = 1
    pool: int = 3
    groups: int = 0
    """Of channels that are normalised after each convolution; 0 normalises nothing."""
    blocks: int = 0
    """Residual blocks behind each convolution."""

    def grid(self, image: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the tokens of an image."""
        if self.kind == "patch":
            return image[0] // self.patch[0], image[1] // self.patch[1]
        rows, columns = (self.sizes(side)[-1] for side in image)
        return rows, columns

    def sizes(self, side: int) -> list[int]:
        """Rows, or columns, after each convolution and its pooling."""
        found = []
        for _ in self.widths:
            side = self.convolved(side)
            if self.pool:
                side = (side + 2 * (self.pool // 2) - self.pool) // 2 + 1
            found.append(side)
        return found

    def convolved(self, side: int) -> int:
        """Rows, or columns, that a convolution makes of ``side``."""
        return (side + 2 * (self.kernel // 2) - self.kernel) // self.stride + 1


@dataclass(frozen=True, kw_only=True)
class VitConfig:
    """A Vision Transformer and its head."""

    image: tuple[int, int]
    """Rows and columns in pixels."""
    channels: int = 3
    tokens: Tokens = Tokens()
    encoder: TransformerConfig
    """Its ``grid`` and ``prefix`` are those of the tokens."""
    pooling: str = "class"
    """class, mean or attention."""
    registers: int = 0
    labels: int = 10
    """Outputs."""
    head_dropout: float = 0.0
    family: str = "vit"

    @property
    def class_token(self) -> bool:
        """Whether there is a token of no place that the head reads."""
        return self.pooling == "class"

    @property
    def pools(self) -> str:
        """The kind of :func:`attncli.layers.build_pooling`."""
        return POOLINGS[self.pooling]

    def plain(self) -> dict[str, Any]:
        """As JSON values; :func:`vit_config` reads them."""
        return asdict(self)

    def describe(self) -> str:
        """Size and tokens in words."""
        rows, columns = self.encoder.grid
        cut = self.tokens
        how = (
            f"{len(cut.widths)} convolutions"
            if cut.kind == "convolution"
            else "patches of {}x{}".format(*cut.patch)
        )
        more = [f"{self.pooling} token" if self.class_token else f"{self.pooling} pooling"]
        if self.registers:
            more.append(f"{self.registers} registers")
        height, width = self.image
        return (
            f"{self.encoder.layers} layers of {self.encoder.width} on {rows}x{columns} tokens of "
            f"{height}x{width} pixels ({how}), {', '.join(more)}"
        )


def vit_config(raw: dict[str, Any]) -> VitConfig:
    """The configuration that :meth:`VitConfig.plain` wrote. Raises CheckpointError for anything else."""
    try:
        encoder, tokens = dict(raw["encoder"]), dict(raw["tokens"])
        encoder["grid"] = tuple(encoder["grid"])
        tokens |= {"patch": tuple(tokens["patch"]), "widths": tuple(tokens["widths"])}
        parts = {
            "encoder": TransformerConfig(**encoder),
            "tokens": Tokens(**tokens),
            "image": tuple(raw["image"]),
        }
        return VitConfig(**raw | parts)
    except (TypeError, KeyError) as error:
        raise CheckpointError(f"these settings make no model of images: {error}") from None


def resolve_vit(section: ImageModel, *, image: tuple[int, int], channels: int, labels: int) -> VitConfig:
    """The model that a recipe's ``model`` section describes, for images of one size.

    A setting of the recipe comes first, then the published size. Without an explicit ``intermediate`` a
    changed ``width`` keeps the size's ratio of the two.

    Raises:
        RecipeError: settings that do not go together, or do not suit the images; all at once.
    """
    size, attention = VIT_SIZES[section.size], section.attention
    width = section.width or size.width
    tokens = _tokens(section, image, width)
    problems = tokens_wrong(tokens, image)
    grid = tokens.grid(image)
    pooling = "class" if section.pooling == "auto" else section.pooling
    prefix = (pooling == "class") + section.registers
    encoder = TransformerConfig(
        length=math.prod(grid) + prefix,
        grid=grid,
        prefix=prefix,
        layers=section.layers or size.layers,
        width=width,
        intermediate=section.intermediate or max(1, round(size.intermediate * width / size.width)),
        heads=attention.heads or size.heads,
        kv_heads=attention.kv_heads,
        kv_latent=attention.kv_latent,
        mechanism=attention.mechanism,
        mechanism_options=attention.options(),
        position=attention.position,
        qk_norm=attention.qk_norm,
        attention_dropout=attention.dropout,
        backend=attention.backend,
        dropout=section.dropout,
        drop_path=section.drop_path,
        layer_scale=section.layer_scale,
        norm="pre",
        norm_kind=section.norm_kind,
        norm_epsilon=1e-6,
        activation=section.activation,
        bias=section.bias,
        embedding_norm=False,
        init_cutoff=None,
    )
    problems += broken_rules(encoder) + _grid_wrong(encoder)
    if problems:
        raise RecipeError(*problems)
    return VitConfig(
        image=image,
        channels=channels,
        tokens=tokens,
        encoder=encoder,
        pooling=pooling,
        registers=section.registers,
        labels=labels,
        head_dropout=section.head_dropout,
    )


def _tokens(section: ImageModel, image: tuple[int, int], width: int) -> Tokens:
    if section.tokenizer == "patch":
        return Tokens(patch=(section.patch, section.patch))
    shape = {"kernel": section.kernel, "stride": section.stride, "pool": section.pool}
    shape |= {"groups": _GROUPS if section.convolution_norm == "group" else 0}
    shape |= {"blocks": section.convolution_blocks}
    found = Tokens()
    for count in range(1, (section.convolutions or 8) + 1):
        widths = (section.convolution_width,) * (count - 1) + (width,)
        found = Tokens(kind="convolution", widths=widths, **shape)
        if section.convolutions is None and max(found.grid(image)) <= 8:
            break
    return found


def tokens_wrong(tokens: Tokens, image: tuple[int, int]) -> list[Problem]:
    """Why images of a size cannot be cut so; empty where they can."""
    height, width = image
    if tokens.kind == "patch":
        patch = tokens.patch[0]
        if height % patch or width % patch:
            near = [p for p in range(1, min(image) + 1) if height % p == 0 and width % p == 0]
            best = min(near, key=lambda p: (abs(p - patch), p))
            what = f"model.patch={patch} does not divide the images' {height}x{width} pixels"
            return [Problem(what, hint=f"model.patch={best}, or another image.size")]
    elif min(tokens.grid(image)) < 1:
        what = (
            f"model.convolutions={len(tokens.widths)} leaves no token of the images' {height}x{width} pixels"
        )
        return [Problem(what, hint="fewer convolutions, a smaller stride, or a larger image.size")]
    return []


def _grid_wrong(encoder: TransformerConfig) -> list[Problem]:
    """Rules of positions on a grid."""
    if encoder.width % encoder.heads:
        return []  # told already
    found = []
    if encoder.position == "rotary_2d" and (encoder.turned_dim % 2 or encoder.turned_dim < 4):
        least = "from 4 on" if encoder.kv_latent is None else "from 8 on beside a latent"
        what = (
            f"model.attention.position=rotary_2d needs heads of an even width {least}, not {encoder.head_dim}"
        )
        found.append(Problem(what, hint="change model.width or model.attention.heads"))
    return found


def with_image(config: VitConfig, image: tuple[int, int]) -> VitConfig:
    """``config`` for images of another size; RecipeError where its tokens do not fit them."""
    if problems := tokens_wrong(config.tokens, image):
        raise RecipeError(*problems)
    grid = config.tokens.grid(image)
    encoder = replace(config.encoder, grid=grid, length=math.prod(grid) + config.encoder.prefix)
    return replace(config, image=image, encoder=encoder)

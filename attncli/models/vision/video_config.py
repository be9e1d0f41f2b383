"""What a model of video is made of, as plain values. No torch."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from attncli.errors import CheckpointError, Problem, RecipeError
from attncli.models.config import TransformerConfig
from attncli.models.families import broken_rules
from attncli.recipe.video import VideoModel, VideoRecipe, tubelet_of

_POOLINGS = {"class": "first", "mean": "mean", "attention": "attention"}


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """Clips of ``scales`` times ``frames`` pictures to logits."""

    labels: int
    channels: int
    image: tuple[int, int]
    """Rows and columns in pixels."""
    frames: int
    """Frames of a clip at one scale."""
    scales: int = 1
    motion: str = "none"
    space_time: str = "factorised"
    tokenizer: str = "convolution"
    patch: int = 8
    tubelet: int = 2
    encoder: TransformerConfig
    """Of space, or of space and time together; its grid is that of all tokens, its position a kind without
    axes."""
    temporal_layers: int = 2
    ordered: bool = True
    pooling: str = "attention"
    fusion: str = "attention"
    head_dropout: float = 0.0
    family: str = "video"

    @property
    def seen(self) -> int:
        """Channels of a frame that tokens are made of."""
        return self.channels * (2 if self.motion == "beside" else 1)

    @property
    def widths(self) -> tuple[int, ...]:
        """Features after each convolution of the tokeniser, each of which halves rows and columns."""
        layers = self.patch.bit_length() - 1
        return tuple(max(16, self.encoder.width >> (layers - 1 - at)) for at in range(layers))

    @property
    def prefix(self) -> int:
        """Class tokens."""
        return int(self.pooling == "class")

    @property
    def pools(self) -> str:
        """The kind of :func:`attncli.layers.build_pooling`."""
        return _POOLINGS[self.pooling]

    def stage(self, axes: slice, layers: int, prefix: int | None = None) -> TransformerConfig:
        """The encoder over some axes of the grid (time, rows, columns), its position on that many axes."""
        grid = self.encoder.grid[axes]
        prefix = self.prefix if prefix is None else prefix
        kind = self.encoder.position
        if kind != "none" and len(grid) > 1 and not (kind == "learned" and len(grid) == 2):
            kind = f"{kind}_{len(grid)}d"  # in a picture, learned is one vector a token, as in ViT
        length = math.prod(grid) + prefix
        return replace(self.encoder, grid=grid, prefix=prefix, length=length, layers=layers, position=kind)

    def plain(self) -> dict[str, Any]:
        """As JSON values; :func:`video_config` reads them."""
        return asdict(self)

    def describe(self) -> str:
        """Words for the console."""
        time, rows, columns = self.encoder.grid
        depth = f"{self.encoder.layers} layers"
        if self.space_time == "factorised":
            depth += f" over space and {self.temporal_layers} over time"
        scales = f" at each of {self.scales} scales" if self.scales > 1 else ""
        return (
            f"{self.space_time}: {depth} of {self.encoder.width} on {time}x{rows}x{columns} tokens of "
            f"{self.frames} frames of {self.image[0]}x{self.image[1]} pixels{scales}"
        )


def video_config(raw: dict[str, Any]) -> VideoConfig:
    """The configuration that :meth:`VideoConfig.plain` wrote. Raises CheckpointError for anything else."""
    try:
        encoder = dict(raw["encoder"])
        encoder["grid"] = tuple(encoder["grid"])
        return VideoConfig(**raw | {"encoder": TransformerConfig(**encoder), "image": tuple(raw["image"])})
    except (TypeError, KeyError) as error:
        raise CheckpointError(f"these settings make no model of video: {error}") from None


def resolve_video(recipe: VideoRecipe, *, labels: int, channels: int, image: tuple[int, int]) -> VideoConfig:
    """The model that a recipe describes, for frames of one size.

    Raises:
        RecipeError: settings that do not go together, or do not suit the frames; all at once.
    """
    section: VideoModel = recipe.model
    attention = section.attention
    tubelet = tubelet_of(section)
    frames = 1 if section.space_time == "frame" else recipe.clip.frames // tubelet
    grid = (frames, image[0] // section.patch, image[1] // section.patch)
    encoder = TransformerConfig(
        layers=section.layers,
        width=section.width,
        intermediate=section.intermediate or 4 * section.width,
        grid=grid,
        heads=attention.heads or max(1, section.width // 32),
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
        norm=section.norm,
        norm_kind=section.norm_kind,
        norm_epsilon=1e-6,
        activation=section.activation,
        bias=section.bias,
        embedding_norm=False,
        init_cutoff=None,
    )
    problems = _patches_wrong(section.patch, image) + broken_rules(encoder)
    least = {"joint": 6, "factorised": 4, "divided": 4}.get(section.space_time, 4)
    if attention.position == "rotary" and section.width % encoder.heads == 0 and encoder.head_dim < least:
        what = f"model.attention.position=rotary needs heads of {least} and more, not {encoder.head_dim}"
        problems.append(Problem(what, hint="change model.width or model.attention.heads"))
    if problems:
        raise RecipeError(*problems)
    return VideoConfig(
        labels=labels,
        channels=channels,
        image=image,
        frames=recipe.clip.frames,
        scales=len(recipe.clip.stride),
        motion=recipe.clip.motion,
        space_time=section.space_time,
        tokenizer=section.tokenizer,
        patch=section.patch,
        tubelet=tubelet,
        encoder=encoder,
        temporal_layers=section.temporal_layers,
        ordered=section.space_time != "pooled" if section.ordered is None else section.ordered,
        pooling=section.pooling,
        fusion=section.fusion,
        head_dropout=section.head_dropout,
    )


def _patches_wrong(patch: int, image: tuple[int, int]) -> list[Problem]:
    if image[0] % patch == 0 and image[1] % patch == 0:
        return []
    near = [max(patch, round(side / patch) * patch) for side in image]
    what = f"frames of {image[0]}x{image[1]} pixels are not whole patches of model.patch={patch}"
    return [Problem(what, hint=f"clip.size=[{near[0]},{near[1]}]")]

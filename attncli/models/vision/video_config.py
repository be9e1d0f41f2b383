"""What a model of video is made of, as plain values. No torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from attncli.errors import Problem, RecipeError
from attncli.recipe.sections import AttentionSection
from attncli.recipe.video import VideoModel, VideoRecipe, tubelet_of


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """Clips [scales x frames, channels, height, width] to logits."""

    labels: int
    channels: int
    frames: int
    """Frames of a clip at one scale."""
    size: tuple[int, int]
    """Height and width in pixels."""
    scales: int = 1
    space_time: str = "factorised"
    stem: str = "convolution"
    patch: tuple[int, int] = (8, 8)
    tubelet: int = 2
    layers: int = 4
    temporal_layers: int = 2
    width: int = 128
    intermediate: int = 512
    heads: int = 4
    kv_heads: int | None = None
    mechanism: str = "scaled_dot"
    mechanism_options: dict[str, int] = field(default_factory=dict, hash=False)
    position: str = "learned"
    ordered: bool = True
    pooling: str = "attention"
    fusion: str = "attention"
    qk_norm: bool = False
    attention_dropout: float = 0.0
    backend: str = "auto"
    dropout: float = 0.0
    drop_path: float = 0.0
    head_dropout: float = 0.0
    norm: str = "pre"
    norm_kind: str = "layer"
    activation: str = "gelu_tanh"
    bias: bool = True

    @property
    def grid(self) -> tuple[int, int, int]:
        """Tokens in time, down and across, of what the model sees at one scale."""
        frames = 1 if self.space_time == "frame" else self.frames // self.tubelet
        return frames, self.size[0] // self.patch[0], self.size[1] // self.patch[1]

    @property
    def prefix(self) -> int:
        """Class tokens."""
        return int(self.pooling == "first")

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    def describe(self) -> str:
        """Words for the console."""
        time, rows, columns = self.grid
        depth = f"{self.layers} layers"
        if self.space_time == "factorised":
            depth = f"{self.layers} layers over space, {self.temporal_layers} over time"
        scales = f" at {self.scales} scales" if self.scales > 1 else ""
        return (
            f"{self.space_time}, {depth}, width {self.width}, {self.heads} heads, "
            f"{time} x {rows} x {columns} tokens{scales}"
        )


def resolve_video(recipe: VideoRecipe, *, labels: int, channels: int, size: tuple[int, int]) -> VideoConfig:
    """The model that a recipe describes, for clips of ``channels`` and ``size``.

    Raises:
        RecipeError: sizes that do not fit each other, all of them at once.
    """
    section: VideoModel = recipe.model
    attention: AttentionSection = section.attention
    patch = (section.patch[0], section.patch[-1])
    heads = attention.heads or max(1, section.width // 32)
    problems = []
    for side, cut, name in zip(size, patch, ("high", "wide"), strict=True):
        if side % cut:
            near = max(cut, round(side / cut) * cut)
            hint = f"{near} would be: set clip.size or model.patch"
            problems.append(Problem(f"clips are {side} pixels {name}: no whole patches of {cut}", hint=hint))
    if section.width % heads:
        problems.append(Problem(f"model.width={section.width} is not shared evenly by {heads} heads"))
    if attention.position == "rotary" and section.width // heads < 6:
        problems.append(Problem(f"rotary positions need heads of 6 and more, not {section.width // heads}"))
    if problems:
        raise RecipeError(*problems)
    ordered = section.ordered
    return VideoConfig(
        labels=labels,
        channels=channels,
        frames=recipe.clip.frames,
        size=size,
        scales=len(recipe.clip.stride),
        space_time=section.space_time,
        stem=section.stem,
        patch=patch,
        tubelet=tubelet_of(section),
        layers=section.layers,
        temporal_layers=section.temporal_layers,
        width=section.width,
        intermediate=section.intermediate or 4 * section.width,
        heads=heads,
        kv_heads=attention.kv_heads,
        mechanism=attention.mechanism,
        mechanism_options=attention.options(),
        position=attention.position,
        ordered=section.space_time not in ("pooled", "frame") if ordered is None else ordered,
        pooling=section.pooling,
        fusion=section.fusion,
        qk_norm=attention.qk_norm,
        attention_dropout=attention.dropout,
        backend=attention.backend,
        dropout=section.dropout,
        drop_path=section.drop_path,
        head_dropout=section.head_dropout,
        norm=section.norm,
        norm_kind=section.norm_kind,
        activation=section.activation,
        bias=section.bias,
    )

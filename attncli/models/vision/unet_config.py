"""What a U-Net is made of, as plain values. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from attncli.errors import Problem, RecipeError
from attncli.recipe.segment import SegmentModel


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """A U-Net. Widths are in features, sizes in pixels."""

    channels: int = 3
    """Of the pictures."""
    classes: int
    widths: tuple[int, ...] = (32, 64, 128, 256, 256)
    """Features of each level, the finest first."""
    convolutions: int = 2
    residual: bool = False
    gates: bool = True
    """Additive gates on the skip connections."""
    norm: str = "group"
    """group, batch or instance."""
    groups: int = 8
    feature_attention: str = "none"
    """none, squeeze_excite, eca or cbam, at the end of each block."""
    multi_scale: bool = False
    deep_supervision: bool = False
    dropout: float = 0.0
    layers: int = 0
    """Transformer layers at the lowest level."""
    size: tuple[int, int] = (256, 256)
    """Height and width of the pictures it is trained on: the grid of its attention."""
    heads: int = 8
    kv_heads: int | None = None
    mechanism: str = "scaled_dot"
    mechanism_options: dict[str, int] = field(default_factory=dict)
    position: str = "rotary_2d"
    attention_dropout: float = 0.0
    qk_norm: bool = False
    backend: str = "auto"

    @property
    def step(self) -> int:
        """Pixels of a side that become one at the lowest level."""
        return 2 ** (len(self.widths) - 1)

    @property
    def padded(self) -> tuple[int, int]:
        """The size filled up to whole steps."""
        return tuple(-(-side // self.step) * self.step for side in self.size)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the lowest level."""
        rows, columns = self.padded
        return rows // self.step, columns // self.step

    @property
    def fixed(self) -> bool:
        """Whether it reads pictures of its own size only."""
        return self.layers > 0

    def describe(self) -> str:
        """Levels, gates and the rest in words."""
        name = "attention U-Net" if self.gates else "U-Net"
        parts = [f"{name}, levels of {' '.join(map(str, self.widths))} features, {self.norm} norm"]
        parts += [f"{self.feature_attention} in each block"] if self.feature_attention != "none" else []
        if self.layers:
            rows, columns = self.grid
            parts.append(f"{self.layers} {self.mechanism} attention layers on {rows}x{columns}")
        parts += ["inputs of every scale"] if self.multi_scale else []
        parts += ["deep supervision"] if self.deep_supervision else []
        return "; ".join(parts)


def resolve_unet(section: SegmentModel, *, channels: int, classes: int, size: tuple[int, int]) -> UNetConfig:
    """The values of a recipe's ``model`` section.

    ``size``: of the pictures in training. Raises RecipeError for settings that do not go together.
    """
    widths = tuple(
        min(section.width * 2**level, max(section.widest, section.width)) for level in range(section.levels)
    )
    attention = section.attention
    heads = attention.heads or next(n for n in (8, 4, 2, 1) if widths[-1] % n == 0)
    wrong = []
    if section.layers and widths[-1] % heads:
        hint = f"model.attention.heads={next(n for n in (8, 4, 2, 1) if widths[-1] % n == 0)}"
        wrong.append(
            Problem(
                f"model.attention.heads={heads} must divide the lowest level's {widths[-1]} features",
                hint=hint,
            )
        )
    if min(size) < 2 ** (section.levels - 1):
        what = f"pictures of {size[0]}x{size[1]} pixels are too small for model.levels={section.levels}"
        wrong.append(Problem(what, hint=f"model.levels={max(1, min(size).bit_length())}"))
    if wrong:
        raise RecipeError(*wrong)
    return UNetConfig(
        channels=channels,
        classes=classes,
        widths=widths,
        convolutions=section.convolutions,
        residual=section.residual,
        gates=section.family == "attention_unet",
        norm=section.norm,
        groups=section.groups,
        feature_attention=section.feature_attention,
        multi_scale=section.multi_scale,
        deep_supervision=section.deep_supervision,
        dropout=section.dropout,
        layers=section.layers,
        size=tuple(size),
        heads=heads,
        kv_heads=attention.kv_heads,
        mechanism=attention.mechanism,
        mechanism_options=attention.options(),
        position=attention.position,
        attention_dropout=attention.dropout,
        qk_norm=attention.qk_norm,
        backend=attention.backend,
    )

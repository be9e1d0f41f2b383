"""What a U-Net is made of, as plain values. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from attncli.errors import Problem, RecipeError
from attncli.models.config import TransformerConfig
from attncli.models.families import broken_rules
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
    norm: str = "batch"
    """batch, group or instance."""
    groups: int = 8
    feature_attention: str = "none"
    """none, squeeze_excite, eca or cbam, at the end of each block."""
    multi_scale: bool = False
    deep_supervision: bool = False
    dropout: float = 0.0
    size: tuple[int, int] = (256, 256)
    """Height and width of the pictures it is trained on."""
    bottleneck: TransformerConfig | None = None
    """Transformer layers at the lowest level, on the grid of ``size``."""

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
        return self.bottleneck is not None

    def describe(self) -> str:
        """Levels, gates and the rest in words."""
        name = "attention U-Net" if self.gates else "U-Net"
        parts = [f"{name}, levels of {' '.join(map(str, self.widths))} features, {self.norm} norm"]
        parts += [f"{self.feature_attention} in each block"] if self.feature_attention != "none" else []
        if self.bottleneck is not None:
            rows, columns = self.grid
            kind = f"{self.bottleneck.mechanism}, {self.bottleneck.position}"
            parts.append(f"{self.bottleneck.layers} attention layers ({kind}) on {rows}x{columns}")
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
    step = 2 ** (section.levels - 1)
    wrong: list[Problem] = []
    if min(size) < step:
        what = f"pictures of {size[0]}x{size[1]} pixels are too small for model.levels={section.levels}"
        wrong.append(Problem(what, hint=f"model.levels={max(1, min(size).bit_length())}"))
    bottleneck = None
    if section.layers:
        grid = -(-size[0] // step), -(-size[1] // step)
        bottleneck, more = grid_encoder(section, width=widths[-1], layers=section.layers, grid=grid)
        wrong += more
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
        size=size,
        bottleneck=bottleneck,
    )


def grid_encoder(
    section: SegmentModel, *, width: int, layers: int, grid: tuple[int, int]
) -> tuple[TransformerConfig, list[Problem]]:
    """Transformer layers on a grid of tokens ``width`` wide, and what of the settings cannot be."""
    attention = section.attention
    encoder = TransformerConfig(
        length=grid[0] * grid[1],
        grid=grid,
        layers=layers,
        width=width,
        intermediate=4 * width,
        heads=attention.heads or max(1, width // 32),
        kv_heads=attention.kv_heads,
        kv_latent=attention.kv_latent,
        mechanism=attention.mechanism,
        mechanism_options=attention.options(),
        position=attention.position,
        attention_dropout=attention.dropout,
        qk_norm=attention.qk_norm,
        backend=attention.backend,
        norm="pre",
        norm_epsilon=1e-6,
        dropout=section.dropout,
        embedding_norm=False,
    )
    wrong = broken_rules(encoder)
    if encoder.position == "rotary_2d" and not wrong and (encoder.turned_dim % 2 or encoder.turned_dim < 4):
        wide = f"{encoder.head_dim} wide" + (", half of it turned" if encoder.kv_latent else "")
        what = f"model.attention.position=rotary_2d: heads are {wide}, not even and 4 or more"
        wrong.append(Problem(what, hint="change model.width or model.attention.heads"))
    return encoder, wrong

"""Layers of set prediction: places that attend to places, queries that attend to places and one another.

Legend: B pictures, S places of all maps, Q queries, C width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from attncli.attention import Padding
from attncli.attention.images import DeformableAttention
from attncli.attention.masks import Mask
from attncli.layers import FeedForward
from attncli.models.vision.detection.coded import CodedAttention
from attncli.ops.dropout import dropout
from attncli.recipe.detect import DetrModel


@dataclass
class Scene:
    """What is seen: places of all maps, one map after the other."""

    tokens: Tensor
    """[B, S, C]."""
    code: Tensor
    """[S, C] or [B, S, C]: where they are."""
    centres: Tensor
    """[S, 2], (x, y) in shares of the frame."""
    sizes: Sequence[tuple[int, int]]
    """Height and width of each map."""
    keep: Tensor
    """bool [B, S]: inside the picture."""
    padded: bool
    """Whether some are not."""

    @property
    def mask(self) -> Mask | None:
        """Which places are real."""
        return Padding(self.keep) if self.padded else None


class Sight(nn.Module):
    """Attention to places: at a few points of each map that a query chooses, or to all of them."""

    def __init__(self, section: DetrModel, levels: int) -> None:
        super().__init__()
        self.deformable = section.sight == "deformable"
        heads = section.attention.heads or 8
        if self.deformable:
            self.attend: nn.Module = DeformableAttention(
                section.width, heads=heads, levels=levels, points=section.points
            )
        else:
            self.attend = CodedAttention(section.width, section.attention)

    def forward(self, x: Tensor, code: Tensor, reference: Tensor, scene: Scene) -> Tensor:
        """``x`` [B, Q, C] at ``reference`` [B, Q, 2 or 4]: [B, Q, C]."""
        if self.deformable:
            keep = scene.keep if scene.padded else None
            return self.attend(x + code, reference, scene.tokens, scene.sizes, keep)
        return self.attend(x, scene.tokens, code=code, context_code=scene.code, mask=scene.mask)


class EncoderLayer(nn.Module):
    """Places attend to places."""

    def __init__(self, section: DetrModel, levels: int) -> None:
        super().__init__()
        self.dropout = section.dropout
        self.sight, self.sight_norm = Sight(section, levels), nn.LayerNorm(section.width)
        self.feed_forward = FeedForward(section.width, section.intermediate, activation="relu")
        self.feed_forward_norm = nn.LayerNorm(section.width)

    def forward(self, scene: Scene) -> Tensor:
        """The tokens [B, S, C] of ``scene``, changed."""
        x = scene.tokens
        reference = scene.centres.expand(len(x), -1, -1)
        y = self.sight(x, scene.code, reference, scene)
        x = self.sight_norm(x + dropout(y, self.dropout, self.training))
        y = self.feed_forward(x)
        return self.feed_forward_norm(x + dropout(y, self.dropout, self.training))


class DecoderLayer(nn.Module):
    """Queries attend to one another, then to places."""

    def __init__(self, section: DetrModel, levels: int) -> None:
        super().__init__()
        self.dropout = section.dropout
        self.attend, self.attend_norm = (
            CodedAttention(section.width, section.attention),
            nn.LayerNorm(section.width),
        )
        self.sight, self.sight_norm = Sight(section, levels), nn.LayerNorm(section.width)
        self.feed_forward = FeedForward(section.width, section.intermediate, activation="relu")
        self.feed_forward_norm = nn.LayerNorm(section.width)

    def forward(self, x: Tensor, code: Tensor, boxes: Tensor, scene: Scene, mask: Mask | None) -> Tensor:
        """``x`` [B, Q, C] with ``code`` [B, Q, C] at ``boxes`` [B, Q, 4], centre and sides in shares."""
        y = self.attend(x, code=code, mask=mask)
        x = self.attend_norm(x + dropout(y, self.dropout, self.training))
        y = self.sight(x, code, boxes, scene)
        x = self.sight_norm(x + dropout(y, self.dropout, self.training))
        y = self.feed_forward(x)
        return self.feed_forward_norm(x + dropout(y, self.dropout, self.training))

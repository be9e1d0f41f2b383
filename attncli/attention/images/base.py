"""What attention of pictures says of itself."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from attncli.errors import RecipeError


class ImageAttention(nn.Module):
    """Base of all; each has its own arguments, named in its class."""

    name: ClassVar[str]
    takes: ClassVar[str]
    """Shapes in and out."""
    time: ClassVar[str]
    memory: ClassVar[str] = "O(H W C)"
    """Growth with the height H, the width W and the channels C of a picture, forward and backward."""
    use: ClassVar[str]
    """When to take it, in a sentence."""
    seen: ClassVar[str]
    """What recording keeps of it."""

    def only_grids(self, *given: Any) -> None:
        """RecipeError where a block hands on a mask, a cache or positions: a grid of tokens has none."""
        if any(part is not None for part in given):
            raise RecipeError(f"{self.name} sees whole grids: it takes no mask, cache or positions")

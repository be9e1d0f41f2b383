"""What attention of pictures says of itself."""

from __future__ import annotations

from typing import ClassVar

from torch import nn


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

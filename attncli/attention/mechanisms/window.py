"""Sliding window: scaled dot product with the keys at most ``window`` places away, at a cost of O(T window).

Beltagy et al. 2020, "Longformer", https://arxiv.org/abs/2004.05150;
Child et al. 2019, "Generating Long Sequences with Sparse Transformers", https://arxiv.org/abs/1904.10509
"""

from __future__ import annotations

from attncli.attention.masks import Mask, Places, Window
from attncli.attention.mechanisms.base import Support
from attncli.attention.mechanisms.scaled_dot import ScaledDot
from attncli.errors import RecipeError


class SlidingWindow(ScaledDot):
    """Scaled dot product under a :class:`Window` rule; backends cut the band into blocks."""

    name = "window"
    time = "O(T window D)"
    use = "long sequences whose context is near; stacked layers widen the view"
    support = Support(cross=False)

    def __init__(self, *, heads: int, kv_heads: int, head_dim: int, window: int = 64) -> None:
        super().__init__(heads=heads, kv_heads=kv_heads, head_dim=head_dim)
        if window < 1:
            raise RecipeError(
                f"mechanism window needs window, the places seen on each side, at least 1; it is {window}"
            )
        self.window = Window(window, window)

    def restrict(self, mask: Mask | None, queries: int, keys: int, places: Places = None) -> Mask | None:
        """The mask and the window."""
        window = self.window
        if places is not None:
            window = Window(window.left, window.right, places)
        return window if mask is None else mask & window

    def extra_repr(self) -> str:
        """Shown in the module's repr."""
        return f"window={self.window.left}"

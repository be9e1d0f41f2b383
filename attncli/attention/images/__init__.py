"""Attention of pictures, a file each, and the one table of it.

Gates (``squeeze_excite``, ``eca``, ``cbam``, ``additive_gate``) take feature maps [B, C, H, W] and multiply
them; :func:`attncli.attention.record` keeps their factors in ``maps``. The others attend between places of a
grid of tokens [B, H, W, C]: ``axial`` and ``shifted_window`` by the core, with any mechanism of its table;
``deformable`` looks at chosen places of several maps.
"""

from attncli.attention.images.axial import AxialAttention
from attncli.attention.images.base import ImageAttention
from attncli.attention.images.cbam import CBAM
from attncli.attention.images.deformable import DeformableAttention
from attncli.attention.images.eca import EfficientChannel
from attncli.attention.images.gate import AdditiveGate
from attncli.attention.images.shifted import ShiftedWindowAttention
from attncli.attention.images.squeeze import SqueezeExcite

IMAGES: dict[str, type[ImageAttention]] = {
    "squeeze_excite": SqueezeExcite,
    "eca": EfficientChannel,
    "cbam": CBAM,
    "additive_gate": AdditiveGate,
    "axial": AxialAttention,
    "shifted_window": ShiftedWindowAttention,
    "deformable": DeformableAttention,
}

__all__ = [
    "CBAM",
    "IMAGES",
    "AdditiveGate",
    "AxialAttention",
    "DeformableAttention",
    "EfficientChannel",
    "ImageAttention",
    "ShiftedWindowAttention",
    "SqueezeExcite",
]

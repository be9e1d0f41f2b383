"""How an exact mechanism is computed: one signature, ``run(call)`` and ``refuses(call)``, a file each."""

from attncli.attention.backends import blocks, chunked, flex, fused, linear, reference
from attncli.attention.backends.base import Backend, Call

BACKENDS: dict[str, Backend] = {
    "reference": reference,
    "fused": fused,
    "chunked": chunked,
    "flex": flex,
    "blocks": blocks,
    "linear": linear,
}

__all__ = ["BACKENDS", "Backend", "Call"]

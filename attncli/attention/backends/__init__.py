"""How an exact mechanism is computed: one signature, ``run(call)`` and ``refuses(call)``, a file each."""

from attncli.attention.backends import chunked, flex, fused, reference
from attncli.attention.backends.base import Backend, Call

BACKENDS: dict[str, Backend] = {
    "reference": reference,
    "fused": fused,
    "chunked": chunked,
    "flex": flex,
}

__all__ = ["BACKENDS", "Backend", "Call"]

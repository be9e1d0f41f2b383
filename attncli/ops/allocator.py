"""Settings of the C allocator that suit tensors."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -3, -4


def keep_freed_memory() -> bool:
    """Let glibc keep freed blocks instead of returning each to the system; True where it took effect.

    A training step allocates and frees the same large tensors every time. By default glibc maps each
    one afresh, and the kernel must zero every page again. Call it once, before the first large tensor.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))

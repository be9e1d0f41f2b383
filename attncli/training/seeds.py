"""Random numbers as a function of seed, step and part, so that no generator's state must be stored."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch


def seed_generators(*key: int | str) -> None:
    """Seed Python's, NumPy's and PyTorch's generators (CPU and GPU) from ``key``.

    The loop calls it with (seed, step, part) before each part of a batch. Dropout then depends on
    which part of which step it is, not on what was drawn before: a resumed run continues exactly, and
    one process with two rounds draws what two processes with one round draw.
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    seed = int.from_bytes(digest, "little")
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)

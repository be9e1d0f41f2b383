"""Generators for places in the data: what is drawn anywhere follows from the seed and the place alone."""

from __future__ import annotations

import numpy as np

PLAN, MAKE = 0, 1
"""What is drawn at a place: the order of an epoch, or what a batch needs."""


def generator(seed: int, *place: int) -> np.random.Generator:
    """A generator of its own for each seed and place."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, *place))))

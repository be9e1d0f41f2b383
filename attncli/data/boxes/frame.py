"""The frame that pictures are scaled to fit in: what a run learnt in, it looks in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from attncli.data.boxes.augment import Size
from attncli.data.boxes.scenes import BoxSet
from attncli.errors import CheckpointError, Problem

LONGEST = 416
"""Pixels of the longer side at most, where none is asked for."""
_LEAST = 32
_FILE = "frame.json"


def frame_of(examples: BoxSet) -> Size:
    """A frame in which three quarters of the pictures lose no pixel, made smaller where it is large."""
    sides = np.quantile(examples.sizes, 0.75, axis=0)
    height, width = sides * min(1.0, LONGEST / sides.max())
    return max(_LEAST, round(height)), max(_LEAST, round(width))


def save_frame(run: Path, frame: Size) -> None:
    """Write ``frame.json``."""
    (run / _FILE).write_text(json.dumps({"height": frame[0], "width": frame[1]}) + "\n", encoding="utf-8")


def load_frame(run: Path) -> Size:
    """What :func:`save_frame` wrote; CheckpointError where it is missing or damaged."""
    path = run / _FILE
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return int(values["height"]), int(values["width"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(Problem(f"cannot be read: {error}", where=str(path))) from None

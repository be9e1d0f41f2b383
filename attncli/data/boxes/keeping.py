"""Pictures decoded once, before training: what cannot be decoded is known then, not in the middle of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from attncli.data.boxes.augment import Size
from attncli.data.boxes.scenes import BoxSet, BoxSets
from attncli.data.cache import cache_folder
from attncli.data.faults import Faults
from attncli.data.images.keeping import decoded_bytes, keep_decoded
from attncli.data.images.shaping import Look
from attncli.data.sources import Progress
from attncli.recipe.detect import BoxData


def keep_pictures(
    sets: BoxSets, section: BoxData, frame: Size, room: float, progress: Progress | None = None
) -> BoxSets:
    """The sets with their pictures decoded, as far as ``data.memory`` allows; the others as they are.

    Training pictures are no larger than ``room`` times ``frame`` needs, so that each epoch resamples few
    pixels; those that are measured keep theirs.

    Raises:
        DataError: pictures that cannot be decoded, all of them, where the recipe refuses them.
    """
    faults, left = Faults(), section.memory * 2**20
    found: list[BoxSet] = []
    notes = list(sets.notes)
    for examples in (sets.train, sets.validation, *sets.tests):
        look = Look("rgb", frame, room=max(room, 1.001)) if examples is sets.train else Look("rgb")
        pictures: Any = examples.pictures
        if not hasattr(pictures, "seen"):  # decoded already
            found.append(examples)
            continue
        pictures = pictures.seen(look)
        size = decoded_bytes(pictures, examples.sizes)
        if size > left:
            found.append(replace(examples, pictures=pictures))
            continue
        left -= size
        kept = keep_decoded(pictures, cache_folder(section.cache), progress)
        if not kept.unreadable:
            found.append(replace(examples, pictures=kept.pictures))
            continue
        if section.corrupt == "refuse":
            for at, reason in kept.unreadable.items():
                where = str(getattr(pictures, "paths", examples.names)[at])
                faults.add(reason, where, "data.corrupt=skip leaves such pictures out")
            found.append(examples)
            continue
        notes.append(f"{len(kept.unreadable)} {examples.name} pictures cannot be decoded and were left out")
        there = np.array([at for at in range(len(examples)) if at not in kept.unreadable])
        found.append(replace(examples.take(there), pictures=kept.pictures))
    faults.check()
    return replace(sets, train=found[0], validation=found[1], tests=found[2:], notes=notes)

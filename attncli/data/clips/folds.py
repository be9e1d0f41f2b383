"""Parts of a data set that keep groups apart: videos cut from one film are never on two sides."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray


def hold_out(
    labels: Sequence[Hashable], groups: Sequence[Hashable], share: float, usable: Sequence[bool] | None = None
) -> NDArray[np.bool_]:
    """Which videos [N] are held out: about a ``share`` of the usable ones of each label, by whole groups.

    The choice depends on the names of groups and labels alone, not on any seed. Groups are taken in an order
    that looks random, each where it brings the labels nearer to their shares. At least one group is held out,
    and never all of them.
    """
    usable = [True] * len(labels) if usable is None else usable
    wanted = Counter(label for label, use in zip(labels, usable, strict=True) if use)
    wanted = {label: share * count for label, count in wanted.items()}
    inside: dict[Hashable, Counter[Hashable]] = {}
    barred = {group for group, use in zip(groups, usable, strict=True) if not use}
    for label, group in zip(labels, groups, strict=True):
        if group not in barred:
            inside.setdefault(group, Counter())[label] += 1
    order = sorted(inside, key=lambda group: hashlib.sha256(str(group).encode()).digest())
    taken: set[Hashable] = set()
    left = dict(wanted)
    for group in order:
        after = left | {label: left[label] - count for label, count in inside[group].items()}
        if len(taken) < len(order) - 1 and _miss(after) < _miss(left):
            taken.add(group)
            left = after
    if not taken and len(order) > 1:
        smallest = min(order, key=lambda group: (sum(inside[group].values()), order.index(group)))
        taken.add(smallest)
    return np.array([group in taken for group in groups], bool)


def _miss(left: dict[Hashable, float]) -> float:
    return sum(value * value for value in left.values())

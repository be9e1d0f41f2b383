"""Position schemes, a file each, and the one table of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attncli.attention.positions.alibi import Alibi
from attncli.attention.positions.base import Bias, DenseBias, Position
from attncli.attention.positions.learned import Learned
from attncli.attention.positions.learned_grid import Learned2D, Learned3D
from attncli.attention.positions.relative_grid import Relative2D
from attncli.attention.positions.rotary import Rotary
from attncli.attention.positions.rotary_grid import Rotary2D, Rotary3D
from attncli.attention.positions.shaw import Shaw
from attncli.attention.positions.sinusoidal import Sinusoidal
from attncli.attention.positions.sinusoidal_grid import Sinusoidal2D, Sinusoidal3D
from attncli.attention.positions.t5 import T5Buckets
from attncli.errors import Problem, RecipeError, nearest

POSITIONS: dict[str, tuple[Callable[..., Position], tuple[str, ...], tuple[str, ...]]] = {
    # name: (class, sizes it is built from, options it takes)
    "sinusoidal": (Sinusoidal, ("width",), ("base", "halves")),
    "learned": (Learned, ("width", "max_length"), ("std",)),
    "shaw": (Shaw, ("head_dim",), ("clip",)),
    "t5": (T5Buckets, ("heads",), ("buckets", "max_distance", "bidirectional")),
    "rotary": (Rotary, ("head_dim",), ("base",)),
    "alibi": (Alibi, ("heads",), ()),
    "sinusoidal_2d": (Sinusoidal2D, ("width", "grid", "prefix"), ("base",)),
    "sinusoidal_3d": (Sinusoidal3D, ("width", "grid", "prefix"), ("base",)),
    "learned_2d": (Learned2D, ("width", "grid", "prefix"), ("std",)),
    "learned_3d": (Learned3D, ("width", "grid", "prefix"), ("std",)),
    "rotary_2d": (Rotary2D, ("head_dim", "grid", "prefix"), ("base",)),
    "rotary_3d": (Rotary3D, ("head_dim", "grid", "prefix"), ("base",)),
    "relative_2d": (Relative2D, ("heads", "grid", "prefix"), ()),
}


def build_position(
    name: str | None,
    *,
    width: int,
    heads: int,
    head_dim: int,
    max_length: int,
    grid: Sequence[int] | None = None,
    prefix: int = 0,
    **options: Any,
) -> Position | None:
    """The scheme called ``name``; None for "none". Options: see each class. Unknown ones are errors.

    ``grid``: sizes of the grid that the tokens stand on, for schemes of two and three axes; ``prefix``:
    tokens before it.
    """
    if name in (None, "none"):
        return None
    if name not in POSITIONS:
        near = nearest(name, POSITIONS)
        hint = f"did you mean {near}?" if near else f"there are none, {', '.join(POSITIONS)}"
        raise RecipeError(Problem(f"no position scheme is called {name!r}", hint=hint))
    kind, sizes, taken = POSITIONS[name]
    stray = [key for key in options if key not in taken]
    if stray:
        known = f"it takes {', '.join(taken)}" if taken else "it takes none"
        raise RecipeError(*(Problem(f"position {name} takes no option {key}", hint=known) for key in stray))
    given = {"width": width, "heads": heads, "head_dim": head_dim, "max_length": max_length}
    given |= {"grid": grid, "prefix": prefix}
    return kind(**{key: given[key] for key in sizes}, **options)


__all__ = ["POSITIONS", "Bias", "DenseBias", "Position", "build_position"]

"""Problems of user data, collected so that they are shown together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attncli.errors import DataError, Problem, nearest

CAP = 20
"""Problems shown at once; reading stops there."""


class Faults:
    """Collects problems; raises :class:`DataError` with all of them at ``cap`` or on :meth:`check`."""

    def __init__(self, cap: int = CAP) -> None:
        self.cap = cap
        self.problems: list[Problem] = []

    def add(self, what: str, where: str | None = None, hint: str | None = None) -> None:
        """Note one problem."""
        self.problems.append(Problem(what, where, hint))
        if len(self.problems) >= self.cap:
            if self.cap > 1:
                self.problems.append(Problem(f"stopped looking after {self.cap} problems"))
            self.check()

    def check(self) -> None:
        """Raise what was found, if anything."""
        if self.problems:
            raise DataError(*self.problems)


def choices_hint(wanted: str, names: Iterable[Any], what: str, setting: str) -> str:
    """Which names there are and, when one is near, what to type."""
    names = [str(name) for name in names]
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    near = nearest(wanted, names)
    return f"{what}: {shown or 'none'}" + (f"; did you mean {setting}={near}?" if near else "")


def quoted(names: Iterable[str], most: int = 5) -> str:
    """A short list for a message."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")

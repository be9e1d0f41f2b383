"""What can go wrong for a user, and the exit code each kind ends in.

An error names the value, the rule and the place, lists every problem at once, and ends with the
command to type next. Raise the class that fits; the command line prints it without a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: ``what`` (value and rule), ``where`` (file:line), ``hint`` (a mend)."""

    what: str
    where: str | None = None
    hint: str | None = None

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text} ({self.hint})" if self.hint else text


class AttnError(Exception):
    """Base of every error that is shown without a traceback.

    ``problems``: one or more strings or :class:`Problem`; ``then``: the command to type next.
    """

    exit_code = 1

    def __init__(self, *problems: str | Problem, then: str | None = None) -> None:
        self.problems = [p if isinstance(p, Problem) else Problem(p) for p in problems]
        self.then = then
        super().__init__("\n".join(map(str, self.problems)))


class RecipeError(AttnError):
    """The command line or the recipe is wrong."""

    exit_code = 2


class DataError(AttnError):
    """The data is missing, empty, malformed or does not fit the recipe."""

    exit_code = 3


class CheckpointError(AttnError):
    """A run folder, checkpoint or model folder is incomplete, damaged or of another model."""

    exit_code = 4


class DeviceError(AttnError):
    """The device is missing, or memory or disk ran out."""

    exit_code = 5


class RequirementError(AttnError):
    """A ``--require`` condition was not met."""

    exit_code = 6


class Interrupted(AttnError):
    """Stopped by Ctrl-C or SIGTERM; the state is saved."""

    exit_code = 130


def nearest(name: str, choices: Iterable[str]) -> str | None:
    """The choice most like ``name``, or None when nothing is near."""
    found = difflib.get_close_matches(name.lower(), list(choices), n=1, cutoff=0.6)
    return found[0] if found else None

"""What goes wrong: said in the words of users, and turned into the program's exit code."""

from __future__ import annotations

import errno
import os
import re
import sys
import traceback
from typing import Any

import typer

import attncli
from attncli import console
from attncli.errors import AttnError, DeviceError, Interrupted, Problem, RecipeError, nearest

_UsageError, _ClickException = (
    next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == name)
    for name in ("UsageError", "ClickException")
)
_USERS_PATH = {
    errno.EACCES,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}
"""What is wrong with a path that the user chose."""


def exit_code(error: BaseException) -> int:
    """Say what went wrong, or that it is a bug; the exit code."""
    try:
        if isinstance(error, BrokenPipeError):
            return _reader_left()
        mine = known(error)
        return _report_bug(error) if mine is None else _report(mine)
    except BrokenPipeError:
        return _reader_left()


def known(error: BaseException) -> AttnError | None:
    """The error in the words of users, or None when it can only be a bug."""
    if isinstance(error, AttnError):
        return error
    if isinstance(error, _ClickException):
        return _usage(error)
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return Interrupted("interrupted")
    text = str(error)
    if (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "can't allocate memory" in text)
    ):
        first = next(iter(text.splitlines()), "")
        hint = "less is needed with a smaller train.batch or a larger train.accumulate"
        what = f"memory ran out: {first}" if first else "memory ran out"
        return DeviceError(Problem(what, hint=hint), then="attn doctor")
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT) or f"os error {errno.ENOSPC}" in text:
        name = getattr(error, "filename", None)
        return DeviceError(f"the disk is full{f' at {name}' if name else ''}", then="df -h")
    if isinstance(error, OSError) and error.filename and number in _USERS_PATH:
        return RecipeError(Problem(f"{(error.strerror or text).lower()}", str(error.filename)))
    return None


def _usage(error: Any) -> RecipeError:
    """A command line that the parser refused, with the nearest command or option."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "attn"
    message = error.format_message().partition(" Did you mean")[0].rstrip(".")
    message = re.sub(r" \(Possible options?: .*", "", message)
    near = None
    if context is not None and (unknown := re.match(r"No such command '(.*)'", message)):
        near = nearest(unknown[1], context.command.commands)
        path = f"{path} {near}" if near else path
    elif context is not None and hasattr(error, "option_name"):
        near = nearest(error.option_name, [name for param in context.command.params for name in param.opts])
    message = message[:1].lower() + message[1:]
    return RecipeError(f"{message}; did you mean {near}?" if near else message, then=f"{path} --help")


def _report(error: AttnError) -> int:
    problems = [vars(problem) for problem in error.problems]
    about = {"code": error.exit_code, "kind": type(error).__name__, "problems": problems, "next": error.then}
    if console.speaks():
        for problem in error.problems:
            console.say(f"error: {problem}" if error.exit_code != Interrupted.exit_code else str(problem))
        if error.then:
            console.say(f"next: {error.then}")
    elif isinstance(error, DeviceError):  # another rank's memory may be full while the first one's is not
        print(f"rank {os.environ['RANK']}: error: {error}", file=sys.stderr)
    console.document({"error": about})
    console.finish()
    sys.stdout.flush()
    return error.exit_code


def _report_bug(error: BaseException) -> int:
    traceback.print_exception(error, file=sys.stderr)
    what = f"this is a bug of attn {attncli.__version__}: {type(error).__name__}: {error}"
    print(f"{what}\nnext: report it, with the lines above and what you typed", file=sys.stderr)
    console.document({"error": {"code": 1, "kind": "Bug", "problems": [vars(Problem(what))], "next": None}})
    console.finish()
    sys.stdout.flush()
    return 1


def _reader_left() -> int:
    """What reads our output has ended, as ``| head`` does: end quietly, like other programs."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 128 + 13

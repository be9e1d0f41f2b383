"""Fonts for pictures whose words are in any script."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterable, Iterator
from functools import cache


@contextlib.contextmanager
def use_fonts(texts: Iterable[str]) -> Iterator[None]:
    """Draw with fonts that have the characters of ``texts``, as far as this machine has some.

    Characters that no font has become boxes, without a word on the terminal.
    """
    import matplotlib

    wanted = {char for text in texts for char in text if ord(char) > 0x2FF}
    families = ["DejaVu Sans", *_families(frozenset(wanted))]
    logger = logging.getLogger("matplotlib.font_manager")
    level = logger.level
    with matplotlib.rc_context({"font.family": families}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*missing.*")
        warnings.filterwarnings("ignore", message=".*does not support.*")
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


@cache
def _families(wanted: frozenset[str]) -> tuple[str, ...]:
    """Installed families that together have most of ``wanted``, the fullest first."""
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    default = font_manager.findfont("DejaVu Sans")
    left = {ord(char) for char in wanted} - set(FT2Font(default).get_charmap())
    found: list[str] = []
    if not left:
        return ()
    fonts = []
    for entry in font_manager.fontManager.ttflist:
        try:
            has = left & set(FT2Font(entry.fname).get_charmap())
        except (OSError, RuntimeError):
            continue
        if has:
            fonts.append((entry.name, has))
    while left and fonts:
        name, has = max(fonts, key=lambda font: len(font[1] & left))
        if not has & left:
            break
        found.append(name)
        left -= has
    return tuple(found)

"""Sentences of a document, by a plain rule.

A document of several lines, at least half of which end as sentences do, has one sentence a line. Any
other is joined over its line ends and split after . ! ? (and their full-width kin) where the next word
does not go on in lower case. What is then still longer than ``LONGEST`` characters is cut at blanks.
"""

from __future__ import annotations

import re

LONGEST = 1000
"""Characters after which a sentence is cut at a blank."""

_ENDS = (".", "!", "?", ":", ";", "。", "！", "？", "…")
_CLOSERS = "\"'”’)]}»"
_BOUNDARY = re.compile(r"(?<=[.!?…])([\"'”’)\]»]*)\s+|(?<=[。！？])")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"'])(?:Mr|Mrs|Ms|Dr|St|Prof|Sen|Gen|Rep|Gov|Capt|Col|Sgt|Jr|Sr|vs|etc|No|Fig|e\.g|i\.e|cf|[A-Za-z])\.$"
)


def split_sentences(text: str) -> list[str]:
    """Sentences of ``text``, without blank ones, inner white space made single blanks."""
    lines = [line for line in (" ".join(line.split()) for line in text.split("\n")) if line]
    if len(lines) > 1 and 2 * sum(line.rstrip(_CLOSERS + " ").endswith(_ENDS) for line in lines) >= len(
        lines
    ):
        sentences = []
        for line in lines:
            sentences += [line] if len(line) <= LONGEST // 2 else _by_punctuation(line)
    else:
        sentences = _by_punctuation(" ".join(lines))
    return [part for sentence in sentences for part in _shortened(sentence)]


def _by_punctuation(text: str) -> list[str]:
    cased = text != text.lower()
    sentences, start = [], 0
    for found in _BOUNDARY.finditer(text):
        end = found.end(1) if found.group(1) is not None else found.end()
        following = text[found.end() : found.end() + 1]
        if cased and following.islower():
            continue
        if _ABBREVIATION.search(text[max(start, end - 8) : end]):
            continue
        if text[start:end].strip():
            sentences.append(text[start:end].strip())
        start = found.end()
    if text[start:].strip():
        sentences.append(text[start:].strip())
    return sentences


def _shortened(sentence: str) -> list[str]:
    parts = []
    while len(sentence) > LONGEST:
        at = sentence.rfind(" ", LONGEST // 2, LONGEST)
        at = at if at > 0 else LONGEST
        parts.append(sentence[:at])
        sentence = sentence[at:].lstrip()
    return [*parts, sentence] if sentence else parts

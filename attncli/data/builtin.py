"""The built-in text: the language reference that comes with Python, ``pydoc_data.topics``.

About 270,000 characters of English prose in some 75 documents, one a topic. Headings, tables, grammar
rules, program text and signatures are left out, mark-up characters are stripped. Topics quote each
other (``specialnames`` repeats a dozen), so each paragraph is kept once, in the shortest topic that has
it: nothing of the validation part is in the training part.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache

_PLAIN_WORD = re.compile(r"[\"'(*‘“]*[A-Za-z][a-z’'-]*[,.;:)\"'*?!’”]*")
_NOT_PROSE = ("::=", ">>>", "+--", "|==")
_MARKUP = (
    (re.compile(r"\*{1,2}([^*\s](?:[^*]*[^*\s])?)\*{1,2}"), r"\1"),  # emphasis
    (re.compile(r"^\s*(?:[*•-]|\d+\.|\[\d+\])\s+"), ""),  # bullets, numbers, footnotes
    (re.compile(r"\s*\[\d+\]"), ""),  # footnote marks
    (re.compile(r"[\"‘’“”`]+(?=\w{2,}['’]|\W|$)|(?<!\w)[\"‘’“”`]+"), ""),  # quotes round names
)
_VALIDATION_SHARE = 0.13


def paragraph(block: str) -> str | None:
    """The prose of a block between blank lines, on one line; None when it is not prose."""
    text = " ".join(block.replace("’", "'").split())
    words = text.split()
    if len(words) < 6 or any(mark in text for mark in _NOT_PROSE) or text.startswith(("...", "|", "+-")):
        return None
    if text[-1] not in ".:!?)]\"'":
        return None
    if sum(_PLAIN_WORD.fullmatch(word) is not None for word in words) < 0.6 * len(words):
        return None
    for pattern, plain in _MARKUP:
        text = pattern.sub(plain, text)
    return text.strip()


def is_validation(topic: str) -> bool:
    """Whether a topic is of the validation part; depends on its name alone."""
    return hashlib.sha256(topic.encode()).digest()[0] < 256 * _VALIDATION_SHARE


@cache
def builtin_documents() -> dict[str, tuple[str, ...]]:
    """Documents of ``train`` and ``validation``: a title line and a line a paragraph."""
    from pydoc_data.topics import topics

    seen: set[str] = set()
    parts: dict[str, list[tuple[str, str]]] = {"train": [], "validation": []}
    for topic, text in sorted(topics.items(), key=lambda item: (len(item[1]), item[0])):
        kept = []
        for block in re.split(r"\n[^\S\n]*\n", text):
            prose = paragraph(block)
            if prose is not None and prose not in seen:
                seen.add(prose)
                kept.append(prose)
        if kept:
            parts["validation" if is_validation(topic) else "train"].append((topic, "\n".join(kept)))
    return {split: tuple(text for _, text in sorted(documents)) for split, documents in parts.items()}

"""Schemes in which tags of words spell entities: IOB1, IOB2 and BIOES.

Reading is as forgiving as conlleval's: a tag that its neighbours do not allow begins an entity rather than
being an error, so that every sequence of tags has one reading.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

SCHEMES = ("iob1", "iob2", "bioes")
_PREFIXES = {"iob1": "IB", "iob2": "BI", "bioes": "BIES"}
_OTHER_NAMES = {"L": "E", "U": "S", "M": "I", "W": "S"}
"""Letters of BILOU and BMEWO, in BIOES's."""
_SLIPS = 0.05
"""Tags of no scheme for each tag of one, up to which they are slips."""

Span = tuple[str, int, int]
"""Type (nothing where tags are B, I and O alone), first word and last word."""


def split(tag: str) -> tuple[str, str]:
    """``B-PER`` as B and PER; O, and a tag without a prefix, as themselves and nothing."""
    prefix, dash, kind = tag.partition("-")
    if not dash:
        return (tag, "") if len(tag) == 1 else ("", tag)
    return prefix.upper(), kind


def tag(letter: str, kind: str) -> str:
    """The tag of a letter and an entity type; the letter alone where entities have no types."""
    return f"{letter}-{kind}" if kind else letter


def spans(tags: Sequence[str], scheme: str = "iob2") -> list[Span]:
    """The entities of a sentence, in order. ``none`` has none.

    As conlleval reads: an entity ends where the next tag is O, B or S, is of another type, or after E or S.
    """
    if scheme == "none":
        return []
    found: list[Span] = []
    begun: tuple[str, int] | None = None
    before = "O"
    for at, one in enumerate(tags):
        prefix, kind = split(one)
        prefix = _OTHER_NAMES.get(prefix, prefix)
        inside = prefix not in ("O", "")
        begins = inside and (
            begun is None or prefix in ("B", "S") or kind != begun[0] or before in ("E", "S")
        )
        if begun is not None and (not inside or begins):
            found.append((begun[0], begun[1], at - 1))
            begun = None
        if begins:
            begun = (kind, at)
        before = prefix
    if begun is not None:
        found.append((begun[0], begun[1], len(tags) - 1))
    return found


def tags_of(found: Iterable[Span], length: int, scheme: str) -> list[str]:
    """Tags of ``length`` words that spell the entities, in order and apart from each other."""
    tags = ["O"] * length
    last: Span | None = None
    for span in found:
        kind, first, end = span
        for at in range(first, end + 1):
            tags[at] = tag("I", kind)
        if scheme == "bioes":
            tags[end] = tag("E", kind)
            tags[first] = tag("S" if first == end else "B", kind)
        elif scheme == "iob2" or (last is not None and last[0] == kind and last[2] == first - 1):
            tags[first] = tag("B", kind)
        last = span
    return tags


def convert(tags: Sequence[str], old: str, new: str) -> list[str]:
    """The same entities in another scheme."""
    return list(tags) if old == new or "none" in (old, new) else tags_of(spans(tags, old), len(tags), new)


def detect(sentences: Iterable[Sequence[str]]) -> str:
    """The scheme of tagged sentences: none where tags have no prefixes, else the narrowest that fits.

    A few tags without a known prefix among many that have one are slips: they decide nothing.
    """
    counts: Counter[str] = Counter()
    begins = True  # whether each entity begins with B, as far as can be seen
    for tags in sentences:
        before = ("O", "")
        for one in tags:
            prefix, kind = split(one)
            counts[prefix] += 1
            if prefix == "I" and (before[0] == "O" or before[1] != kind):
                begins = False
            before = (prefix, kind)
    known = {"B", "I", "E", "S", *_OTHER_NAMES}
    marked = sum(counts[prefix] for prefix in known)
    if not marked or counts.total() - counts["O"] - marked > _SLIPS * marked:
        return "none"
    if any(counts[prefix] for prefix in ("E", "S", "L", "U", "M", "W")):
        return "bioes"
    return "iob2" if begins else "iob1"


def label_set(kinds: Iterable[str], scheme: str) -> list[str]:
    """All tags of entity types in a scheme, O first."""
    letters = sorted(_PREFIXES[scheme], key="BIES".index)
    return ["O", *(tag(letter, kind) for kind in sorted(kinds) for letter in letters)]


def allowed(before: str | None, after: str | None, scheme: str) -> bool:
    """Whether one tag may follow another; None is the edge of the sentence."""
    a, a_kind = ("O", "") if before is None else split(before)
    b, b_kind = ("O", "") if after is None else split(after)
    same = a_kind == b_kind
    if scheme == "iob1":
        return b != "B" or (a in ("I", "B") and same)
    if scheme == "iob2":
        return b != "I" or (a in ("B", "I") and same)
    if a in ("B", "I"):
        return b in ("I", "E") and same
    return b not in ("I", "E")

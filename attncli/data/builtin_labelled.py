"""The built-in labelled texts: generated opinions whose words alone do not tell which way they go.

What decides is order: what "not" stands before, which half of "..., but ..." comes last, whether "less"
or "more" goes with good or bad. Documents mix several such sentences, of which those on the thing itself
count and those on others do not.
"""

from __future__ import annotations

import numpy as np

from attncli.data.labelled_records import Row

_THINGS = ("film", "novel", "album", "play", "meal", "hotel", "phone", "lecture", "game", "concert")
_PARTS = {
    "film": ("plot", "cast", "ending", "music", "dialogue"),
    "novel": ("plot", "style", "ending", "opening", "hero"),
    "album": ("singing", "sound", "opening", "rhythm", "ending"),
    "play": ("cast", "stage", "dialogue", "ending", "music"),
    "meal": ("soup", "sauce", "dessert", "service", "bread"),
    "hotel": ("room", "breakfast", "service", "view", "bed"),
    "phone": ("screen", "camera", "battery", "sound", "keyboard"),
    "lecture": ("opening", "style", "example", "ending", "pace"),
    "game": ("story", "music", "pace", "ending", "challenge"),
    "concert": ("sound", "singing", "hall", "rhythm", "opening"),
}
_GOOD = (
    "good",
    "wonderful",
    "charming",
    "brilliant",
    "pleasant",
    "clever",
    "lovely",
    "fresh",
    "superb",
    "fine",
)
_BAD = ("bad", "dreadful", "tedious", "clumsy", "unpleasant", "silly", "ugly", "stale", "awful", "poor")
_VERY = ("", "very ", "truly ", "rather ", "quite ", "really ")
_OTHERS = ("my brother's", "the old", "last year's", "the cheaper", "our neighbour's", "the other")


class _Writer:
    def __init__(self, seed: int) -> None:
        self.rng = np.random.Generator(np.random.PCG64(seed))

    def pick(self, choices: tuple[str, ...]) -> str:
        return choices[int(self.rng.integers(len(choices)))]

    def quality(self, good: bool) -> str:
        """Words that say that something is good, or bad, in one of several turns."""
        turn = self.rng.integers(5)
        same, other = (_GOOD, _BAD) if good else (_BAD, _GOOD)
        if turn == 0:
            return f"{self.pick(_VERY)}{self.pick(same)}"
        if turn == 1:
            return f"not {self.pick(_VERY)}{self.pick(other)}"
        if turn == 2:
            return f"anything but {self.pick(other)}"
        if turn == 3:
            return f"never {self.pick(other)} and always {self.pick(same)}"
        return f"{self.pick(same)}, not {self.pick(other)}"

    def sentence(self, thing: str, good: bool) -> str:
        """A sentence on ``thing`` that comes down on one side."""
        turn = self.rng.integers(5)
        part, second = self.pick(_PARTS[thing]), self.pick(_PARTS[thing])
        if turn == 0:
            return f"the {thing} is {self.quality(good)}."
        if turn == 1:
            return f"the {part} is {self.quality(not good)}, but the {thing} is {self.quality(good)}."
        if turn == 2:
            whole = f"the {thing} as a whole is {self.quality(good)}"
            return f"although the {part} is {self.quality(not good)}, {whole}."
        if turn == 3:
            hoped, found = (_BAD, _GOOD) if good else (_GOOD, _BAD)
            return f"I expected a {self.pick(hoped)} {thing} and found a {self.pick(found)} one."
        return f"the {part} is {self.quality(good)} and the {second} is {self.quality(good)}."

    def aside(self, thing: str, good: bool) -> str:
        """A sentence on another thing, which says nothing about this one."""
        return f"{self.pick(_OTHERS)} {thing} was {self.quality(good)}."

    def document(self, good: bool) -> str:
        """Some sentences: those on the thing agree, those on other things say what they like."""
        thing = self.pick(_THINGS)
        counted = [self.sentence(thing, good) for _ in range(int(self.rng.integers(2, 5)))]
        others = [self.aside(thing, bool(self.rng.integers(2))) for _ in range(int(self.rng.integers(1, 5)))]
        sentences = counted + others
        order = self.rng.permutation(len(sentences))
        return "\n".join(sentences[at] for at in order)


def builtin_sets(documents: bool) -> dict[str, list[Row]]:
    """Rows of train, validation and test: sentences, or documents of several."""
    counts = {"train": (2000 if documents else 4000), "validation": 400, "test": 400}
    writer = _Writer(17 if documents else 13)
    seen: set[str] = set()
    found: dict[str, list[Row]] = {}
    for part, count in counts.items():
        rows: list[Row] = []
        while len(rows) < count:
            good = len(rows) % 2 == 0
            text = writer.document(good) if documents else writer.sentence(writer.pick(_THINGS), good)
            if text not in seen:
                seen.add(text)
                rows.append(Row(text, None, "good" if good else "bad", f"built-in {part}:{len(rows) + 1}"))
        found[part] = rows
    return found

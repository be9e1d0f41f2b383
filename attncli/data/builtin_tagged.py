"""The built-in tagged sentences: names that are people, places or firms only by what stands around them."""

from __future__ import annotations

import numpy as np

from attncli.data.tagged_records import Sentence

_NAMES = (
    "Jordan", "Lincoln", "Washington", "Florence", "Austin", "Paris", "Chelsea", "Madison", "Sydney",
    "Victoria", "Houston", "Hamilton", "Georgia", "Carolina", "Sterling", "Preston", "Bristol", "Devon",
    "Chester", "Kent", "Marlow", "Arlington", "Dallas", "Logan", "Montana", "Savannah", "Trent", "Wells",
)  # fmt: skip
_FIRST = ("Anna", "Peter", "Maria", "John", "Ruth", "Tom", "Clara", "Henry", "Nora", "Paul", "Ida", "Max")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_TEMPLATES = (
    "{PER} said that the meeting was over .",
    "The train to {LOC} leaves on {DATE} .",
    "On {DATE} {PER} moved from {LOC} to {LOC} .",
    "{ORG} shares fell after the report on {DATE} .",
    "{PER} , who lives in {LOC} , works for {ORG} .",
    "The mayor of {LOC} met {PER} on {DATE} .",
    "{ORG} hired {PER} as its new chief .",
    "People in {LOC} like the songs of {PER} .",
    "It rained in {LOC} while {PER} was asleep .",
    "The board of {ORG} opened an office in {LOC} .",
    "\" We are late , \" {PER} told her brother .",
    "{LOC} lies north of {LOC} .",
    "{PER} and {PER} left {ORG} last spring .",
    "Customers of {ORG} complained about the prices .",
    "He flew over {LOC} on {DATE} and wrote to {PER} .",
    "The river near {LOC} was high in spring .",
    "{ORG} bought a small firm from {LOC} .",
    "My friend {PER} bakes bread every {DATE} .",
)  # fmt: skip


def builtin_sentences() -> dict[str, list[Sentence]]:
    """Sentences of train, validation and test, in IOB2."""
    rng = np.random.Generator(np.random.PCG64(29))

    def pick(choices: tuple[str, ...]) -> str:
        return choices[int(rng.integers(len(choices)))]

    def entity(kind: str) -> list[str]:
        turn = rng.integers(3)
        if kind == "PER":
            return [pick(_FIRST), pick(_NAMES)] if turn == 0 else [pick(_NAMES)]
        if kind == "ORG":
            return [pick(_NAMES), pick(("and", "&")), pick(_NAMES)] if turn == 0 else [pick(_NAMES)]
        if kind == "LOC":
            return [pick(("North", "New", "West")), pick(_NAMES)] if turn == 0 else [pick(_NAMES)]
        return (
            [pick(_DAYS)]
            if turn
            else [str(int(rng.integers(1, 29))), pick(("May", "June", "March", "April"))]
        )

    found: dict[str, list[Sentence]] = {}
    for part, count in (("train", 3000), ("validation", 300), ("test", 300)):
        sentences = []
        for number in range(count):
            words: list[str] = []
            tags: list[str] = []
            for token in pick(_TEMPLATES).split():
                kind = token.strip("{}")
                made = entity(kind) if token.startswith("{") else [token]
                words += made
                if token.startswith("{"):
                    tags += [f"B-{kind}", *[f"I-{kind}"] * (len(made) - 1)]
                else:
                    tags.append("O")
            sentences.append(Sentence(words, tags, f"built-in {part}:{number + 1}"))
        found[part] = sentences
    return found

"""The built-in questions: short texts on people, what they do, where and when; some have no answer."""

from __future__ import annotations

import numpy as np

from attncli.data.question_records import Question

_NAMES = ("Anna", "Peter", "Maria", "John", "Ruth", "Tom", "Clara", "Henry", "Nora", "Paul", "Ida", "Max")
_PLACES = (
    "Lisbon",
    "Oslo",
    "Vienna",
    "Cairo",
    "Lima",
    "Kyoto",
    "Dublin",
    "Quito",
    "Tunis",
    "Riga",
    "Perth",
    "Turin",
)
_JOBS = ("baker", "pilot", "teacher", "nurse", "painter", "farmer", "lawyer", "tailor", "singer", "miner")
_THINGS = ("a red bicycle", "an old piano", "a small boat", "two grey cats", "a brown horse", "a stone house")
_YEARS = tuple(str(year) for year in range(1950, 2020))
_FACTS = {
    "place": ("{name} lives in {value} .", "The home of {name} is in {value} .", "Where does {name} live ?"),
    "job": (
        "{name} works as a {value} .",
        "As a {value} , {name} is well known .",
        "What is the job of {name} ?",
    ),
    "thing": ("{name} owns {value} .", "Last week {name} bought {value} .", "What does {name} have ?"),
    "year": (
        "{name} was born in {value} .",
        "In {value} {name} came into the world .",
        "When was {name} born ?",
    ),
}
_VALUES = {"place": _PLACES, "job": _JOBS, "thing": _THINGS, "year": _YEARS}


def builtin_questions(unanswerable: bool = True) -> dict[str, list[Question]]:
    """Questions of train, validation and test; a quarter of them without an answer where that may be."""
    rng = np.random.Generator(np.random.PCG64(31))
    found: dict[str, list[Question]] = {}
    for part, count in (("train", 4000), ("validation", 300), ("test", 300)):
        questions: list[Question] = []
        while len(questions) < count:
            questions += _text(rng, f"{part}-{len(questions)}", unanswerable)
        found[part] = questions[:count]
    return found


def _text(rng: np.random.Generator, name: str, unanswerable: bool) -> list[Question]:
    """Two questions on a text of some facts on three people."""
    people = [_NAMES[at] for at in rng.permutation(len(_NAMES))[:3]]
    kinds = list(_FACTS)
    told = [(person, kind) for person in people for kind in kinds]
    told = [told[at] for at in rng.permutation(len(told))]
    count = int(rng.integers(5, 8))
    sentences, places = [], {}
    at = 0
    for person, kind in told[:count]:
        value = _VALUES[kind][int(rng.integers(len(_VALUES[kind])))]
        form = _FACTS[kind][int(rng.integers(2))]
        sentence = form.format(name=person, value=value)
        places[person, kind] = (value, at + sentence.index(value))
        sentences.append(sentence)
        at += len(sentence) + 1
    context = " ".join(sentences)
    asked = []
    for number in range(2):
        missing = unanswerable and rng.random() < 0.25
        pool = told[count:] if missing else told[:count]
        person, kind = pool[int(rng.integers(len(pool)))]
        answers = () if missing else (places[person, kind],)
        question = _FACTS[kind][2].format(name=person)
        asked.append(Question(f"{name}-{number}", question, context, answers, f"built-in {name}-{number}"))
    return asked

"""The built-in pair of languages: English and German sentences drawn from one grammar.

The German is ordinary German of a small world: gender, number and case agree in articles, adjectives and
pronouns (*it* is *er*, *sie* or *es*, as the noun it stands for); what is finite comes second, or first,
or last, and the rest of the verb closes the clause; nouns make compounds. Some words need their context:
animals *fressen* where people *essen*, one *kennt* a place but *weiß* that it is one, a light bag is
*leicht* and a light room *hell*, what one must not do one *darf nicht*, and idioms go as a whole. The
German follows from the English alone, so a perfect translation has 100 BLEU.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

from attncli.data import pair_words as words
from attncli.data.faults import Faults
from attncli.data.pair_files import Pair
from attncli.data.pair_grammar import CONTRACTED, PRONOUN, THE, Clause, Noun, Phrase, Verb
from attncli.errors import DataError, Problem

VERSION = 1
"""Part of the cache key: raise it when the sentences change."""
LANGUAGES = ("en", "de")
SIZES = {"train": 12_000, "validation": 500, "test": 500}
_SEED = 1

T = TypeVar("T")

_SINGULAR = ("the", "the", "the", "a", "a", "this", "my", "his", "her", "our")
_PLURAL = ("the", "the", "these", "my", "our", "her", "two", "three", "some", "")
_SUBJECTS = (  # English, German, number
    ("I", "ich", "ich"),
    ("we", "wir", "pl"),
    ("they", "sie", "pl"),
    ("he", "er", "sg"),
    ("she", "sie", "sg"),
)


def _nouns(kind: str, table: str) -> list[Noun]:
    nouns = []
    for line in table.strip().splitlines():
        english, german = (side.split() for side in line.split(" : "))
        de, gender, des, *oblique = german
        nouns.append(Noun(kind, english[0], english[1], de, gender, des, oblique[0] if oblique else de))
    return nouns


def _compounds(nouns: Sequence[Noun]) -> list[Noun]:
    return [
        replace(
            noun,
            one=f"{first} {noun.one}",
            many=f"{first} {noun.many}",
            de=german + noun.de.lower(),
            des=german + noun.des.lower(),
            oblique=german + noun.oblique.lower(),
        )
        for noun in nouns
        if noun.one in words.COMPOUNDED
        for first, german in words.MODIFIERS.items()
        if first != noun.one
    ]


def _verbs(table: str) -> list[Verb]:
    verbs = []
    for line in table.strip().splitlines():
        english, german = (side.split() for side in line.split(" : "))
        base, third, past = (form.replace("_", " ") for form in english)
        infinitive, present, participle, auxiliary, *kinds = german
        prefix, _, stem = infinitive.rpartition("|")
        verbs.append(Verb(base, third, past, stem, prefix, present, participle, auxiliary, tuple(kinds)))
    return verbs


class _Grammar:
    """Draws sentences."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        tables = {
            "person": words.PERSONS,
            "animal": words.ANIMALS,
            "thing": words.THINGS,
            "food": words.FOODS,
            "place": words.PLACES,
            "vehicle": words.VEHICLES,
        }
        self.nouns = {kind: _nouns(kind, table) for kind, table in tables.items()}
        self.compounds = {kind: _compounds(nouns) for kind, nouns in self.nouns.items()}
        adjectives = [line.split() for line in words.ADJECTIVES.strip().splitlines()]
        self.adjectives = {
            kind: [(english, german) for english, german, *kinds in adjectives if kind in kinds]
            for kind in tables
        }
        self.transitive, self.dative = _verbs(words.TRANSITIVE), _verbs(words.DATIVE)
        self.preying = _verbs(words.ANIMAL_TRANSITIVE)
        self.giving, self.saying = _verbs(words.GIVING), _verbs(words.SAYING)
        self.intransitive, self.motion = _verbs(words.INTRANSITIVE), _verbs(words.MOTION)
        self.idioms = _verbs(words.IDIOMS)
        self.eat, self.feed = _verbs(words.EAT)[0], _verbs(words.FEED)[0]

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def pick(self, items: Sequence[T]) -> T:
        """One of them, the first ones more often."""
        return items[int(len(items) * self.rng.random() ** 1.4)]

    def phrase(self, kinds: Sequence[str], adjective: float = 0.3, plural: float = 0.25) -> Phrase:
        kind = self.rng.choice([k for k in kinds if k in self.nouns])
        compounds = self.compounds[kind]
        noun = self.rng.choice(compounds) if compounds and self.chance(0.12) else self.pick(self.nouns[kind])
        many = self.chance(plural)
        chosen = (
            self.pick(self.adjectives[kind]) if self.adjectives[kind] and self.chance(adjective) else None
        )
        return Phrase(
            noun,
            self.rng.choice(_PLURAL if many else _SINGULAR),
            chosen,
            plural=many,
            number="pl" if many else "sg",
        )

    def subject(self, kinds: Sequence[str] = ("person",), pronoun: float = 0.2) -> Phrase:
        if "person" in kinds and self.chance(pronoun):
            english, german, number = self.rng.choice(_SUBJECTS)
            return Phrase(None, number=number, plural=number == "pl", pronoun=(english, german))
        return self.phrase(kinds)

    def where(self, moves: bool) -> tuple[str, str]:
        place = self.phrase(("place",), adjective=0.2, plural=0.1)
        if moves:
            english, german, case = self.rng.choice(
                [("into", "in", "acc"), ("to", "zu", "dat"), ("from", "aus", "dat")]
            )
        else:
            english, german, case = "in", "in", "dat"
        text = f"{german} {place.german(case)}"
        if place.determiner == "the":
            two = " ".join(text.split()[:2])
            text = CONTRACTED.get(two, two) + text[len(two) :]
        return f"{english} {place.english()}", text

    def when(self, mood: str) -> tuple[str, str]:
        times = {"past": words.PAST, "present": words.PRESENT}.get(mood, words.FUTURE)
        return self.rng.choice(list(times.items()))

    def clause(self, short: bool = False, mood: str = "", subject: Phrase | None = None) -> Clause:
        """One of the kinds of clauses; ``short`` with little beside what the verb needs."""
        if not mood:
            moods = {"past": 40, "present": 25, "will": 14, "can": 7, "must": 7, "want": 7}
            mood = self.rng.choices(list(moods), list(moods.values()))[0]
        free = subject is None
        subject = subject or self.subject(("person", "person", "animal"))
        animal = subject.noun is not None and subject.noun.kind == "animal"
        mood = "past" if animal and mood in ("can", "must", "want") else mood
        kinds = {"transitive": 34, "eat": 6, "intransitive": 18, "motion": 14}
        if not animal:
            kinds |= {"dative": 9, "giving": 14, "idiom": 0 if short else 5}
        kind = self.rng.choices(list(kinds), list(kinds.values()))[0]
        about: dict[str, Any] = {}
        if kind in ("intransitive", "motion"):
            verbs = self.intransitive if kind == "intransitive" else self.motion
            verb = self.pick([v for v in verbs if "animal" in v.kinds] if animal else verbs)
            if kind == "motion" or (not short and self.chance(0.5)):
                about["where"] = self.where(kind == "motion")
        if kind == "transitive":
            verb = self.pick(self.preying if animal else self.transitive)
            about["direct"] = self.phrase(verb.kinds)
        elif kind == "eat":
            verb = self.feed if animal else self.eat
            about["direct"] = self.phrase(("food",))
        elif kind == "dative":
            verb = self.pick(self.dative)
            about |= {"direct": self.phrase(verb.kinds), "dative": True}
        elif kind == "giving":
            verb = self.pick(self.giving)
            about |= {
                "direct": self.phrase(verb.kinds, adjective=0.15),
                "receiver": self.phrase(("person",), adjective=0.15),
                "shifted": self.chance(0.4),
            }
        elif kind == "idiom":
            verb = self.pick(self.idioms)
            about["fixed"] = " ".join(verb.kinds).replace("_", " ")
        negated = kind != "idiom" and self.chance(0.05 if short else 0.15)
        when = self.when(mood) if free and not short and self.chance(0.35) else None
        return Clause(subject, verb, mood, negated, when, **about)

    def sentence(self) -> Pair:
        """A sentence and its translation."""
        kinds: list[tuple[Callable[[], Pair], int]] = [
            (self.statement, 40),
            (self.question, 9),
            (self.because, 9),
            (self.reported, 9),
            (self.related, 9),
            (self.coordinated, 10),
            (self.copula, 9),
        ]
        draw = self.rng.choices([make for make, _ in kinds], [weight for _, weight in kinds])[0]
        english, german = draw()
        return english[0].upper() + english[1:], german[0].upper() + german[1:]

    def statement(self) -> Pair:
        """The time at the beginning, or not."""
        clause = self.clause()
        if clause.when and self.chance(0.5):
            return (
                f"{clause.when[0]} {clause.english(when=False)}.",
                clause.german(front=True) + ".",
            )
        return clause.english() + ".", clause.german() + "."

    def question(self) -> Pair:
        """Yes or no."""
        clause = replace(self.clause(), negated=False)
        return clause.english(question=True) + "?", clause.german("first") + "?"

    def because(self) -> Pair:
        """With a reason, of the same subject, which is a pronoun then, or of another."""
        clause = self.clause(short=True)
        noun = clause.subject.noun
        if noun is None or (noun.gender == "n" and noun.kind == "person" and not clause.subject.plural):
            reason = self.clause(short=True, mood="past")
            return (
                f"{clause.english()} because {reason.english()}.",
                f"{clause.german()}, weil {reason.german('last')}.",
            )
        said = {"m": "he", "f": "she"}.get(noun.gender) if noun.kind == "person" else "it"
        past, many = clause.mood == "past", clause.subject.plural
        be = ("were" if past else "are", "waren" if past else "sind")
        if not many:
            be = ("was" if past else "is", "war" if past else "ist")
        how = self.pick(self.adjectives[noun.kind])
        return (
            f"{clause.english()} because {'they' if many else said} {be[0]} {how[0]}.",
            f"{clause.german()}, weil {PRONOUN['nom'][clause.subject.gender]} {how[1]} {be[1]}.",
        )

    def reported(self) -> Pair:
        """Somebody says or knows that."""
        head = Clause(self.subject(), self.pick(self.saying), self.rng.choice(["present", "past"]))
        clause = self.clause(short=True)
        return (
            f"{head.english()} that {clause.english()}.",
            f"{head.german()}, dass {clause.german('last')}.",
        )

    def related(self) -> Pair:
        """A subject with a relative clause."""
        subject = self.phrase(("person", "person", "animal"), adjective=0.1)
        assert subject.noun is not None
        who = "who" if subject.noun.kind == "person" else "that"
        which = replace(subject, noun=None, pronoun=(who, THE["nom"][subject.gender]))
        inner = self.clause(short=True, mood=self.rng.choice(("past", "present")), subject=subject)
        inner = replace(inner, subject=which)
        relative = (f" {inner.english()}", f", {inner.german('last')},")
        outer = self.clause(short=True, mood=self.rng.choice(("past", "present")), subject=subject)
        outer = replace(outer, subject=replace(subject, relative=relative))
        return outer.english() + ".", outer.german() + "."

    def coordinated(self) -> Pair:
        """Something done to a thing, and then to *it*."""
        subject, mood = self.subject(), self.rng.choice(["past", "present", "will"])
        first = self.pick([v for v in self.transitive if "thing" in v.kinds and v.auxiliary == "h"])
        thing = self.phrase(("thing", "thing", "food") if "food" in first.kinds else ("thing",), plural=0.2)
        it = Phrase(
            None,
            plural=thing.plural,
            pronoun=("them" if thing.plural else "it", PRONOUN["acc"][thing.gender]),
        )
        one = Clause(subject, first, mood, direct=thing)
        if self.chance(0.6):
            verb = self.pick([v for v in self.giving if thing.noun and thing.noun.kind in v.kinds])
            two = Clause(subject, verb, mood, direct=it, receiver=self.phrase(("person",)), shifted=True)
        else:
            others = [v for v in self.transitive if thing.noun and thing.noun.kind in v.kinds and v != first]
            two = Clause(subject, self.pick(others), mood, direct=it)
        shared = two.english()[len(subject.english()) + 1 :]
        finite, closing = two.finite()
        body = " ".join(filter(None, [*two.middle(when=True), closing]))
        if mood == "will":
            shared = shared.removeprefix("will ")
        german = f"{finite} {body}" if mood == "present" else body
        return f"{one.english()} and {shared}.", f"{one.german()} und {german}."

    def copula(self) -> Pair:
        """Something is so."""
        kind = self.rng.choice(list(self.nouns))
        subject, past = self.phrase((kind,), adjective=0.0), self.chance(0.4)
        how = self.pick(self.adjectives[kind])
        be = ("were" if past else "are", "waren" if past else "sind")
        if not subject.plural:
            be = ("was" if past else "is", "war" if past else "ist")
        very, no = self.rng.choice(
            [(("", ""), ("", "")), (("very ", "sehr "), ("", "")), (("", ""), ("not ", "nicht "))]
        )
        return (
            f"{subject.english()} {be[0]} {no[0]}{very[0]}{how[0]}.",
            f"{subject.german('nom')} {be[1]} {no[1]}{very[1]}{how[1]}.",
        )


@cache
def builtin_pairs() -> dict[str, tuple[Pair, ...]]:
    """The pairs of ``train``, ``validation`` and ``test``; no English sentence comes twice."""
    grammar, pairs = _Grammar(_SEED), {}
    while len(pairs) < sum(SIZES.values()):
        english, german = grammar.sentence()
        if 4 <= len(english.split()) <= 14:
            pairs.setdefault(english, german)
    stream = iter(pairs.items())
    return {part: tuple(next(stream) for _ in range(size)) for part, size in SIZES.items()}


class BuiltinPairs:
    """The built-in pair as an origin of parallel text."""

    parts = tuple(SIZES)

    def __init__(self, languages: tuple[str, str]) -> None:
        wrong = [
            Problem(f"{key}={language}: the built-in pair is en and de", hint="set data.path to other text")
            for key, language in zip(("data.source", "data.target"), languages, strict=True)
            if language not in LANGUAGES
        ]
        if wrong:
            raise DataError(*wrong)
        self.languages = languages

    def pairs(self, part: str, faults: Faults) -> Iterator[Pair]:
        """In either direction."""
        for english, german in builtin_pairs()[part]:
            yield (english, german) if self.languages[0] == "en" else (german, english)

    def identity(self) -> list[Any]:
        """Version and direction."""
        return ["builtin pair", VERSION, self.languages]

    def describe(self) -> str:
        """One line."""
        return "the built-in sentences"

"""Phrases and clauses of the built-in pair, in English and in German."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Case = Literal["nom", "acc", "dat"]

_GENDERS = ("m", "f", "n", "pl")
_ENDINGS = {  # by kind of article, then case: of m, f, n and plural
    "der": {"nom": ("er", "e", "es", "e"), "acc": ("en", "e", "es", "e"), "dat": ("em", "er", "em", "en")},
    "ein": {"nom": ("", "e", "", "e"), "acc": ("en", "e", "", "e"), "dat": ("em", "er", "em", "en")},
}
_ADJECTIVE = {
    "der": {"nom": ("e", "e", "e", "en"), "acc": ("en", "e", "e", "en"), "dat": ("en",) * 4},
    "ein": {"nom": ("er", "e", "es", "en"), "acc": ("en", "e", "es", "en"), "dat": ("en",) * 4},
    "": {"nom": ("", "", "", "e"), "acc": ("", "", "", "e"), "dat": ("", "", "", "en")},
}
THE = {
    "nom": ("der", "die", "das", "die"),
    "acc": ("den", "die", "das", "die"),
    "dat": ("dem", "der", "dem", "den"),
}
PRONOUN = {
    "nom": ("er", "sie", "es", "sie"),
    "acc": ("ihn", "sie", "es", "sie"),
    "dat": ("ihm", "ihr", "ihm", "ihnen"),
}
CONTRACTED = {"in dem": "im", "in das": "ins", "zu dem": "zum", "zu der": "zur"}
_STEMS = {"teuer": "teur", "müde": "müd"}
_DETERMINERS = {  # German stem and kind
    "the": ("", "der"),
    "this": ("dies", "der"),
    "these": ("dies", "der"),
    "a": ("ein", "ein"),
    "my": ("mein", "ein"),
    "our": ("unser", "ein"),
    "his": ("sein", "ein"),
    "her": ("ihr", "ein"),
    "two": ("zwei", ""),
    "three": ("drei", ""),
    "some": ("einige", ""),
    "": ("", ""),
}
_AUXILIARY = {  # ich, singular, plural
    "h": ("habe", "hat", "haben"),
    "s": ("bin", "ist", "sind"),
    "will": ("werde", "wird", "werden"),
    "can": ("kann", "kann", "können"),
    "must": ("muss", "muss", "müssen"),
    "want": ("will", "will", "wollen"),
    "may": ("darf", "darf", "dürfen"),
    "know": ("weiß", "weiß", "wissen"),
}
_PERSON = {"ich": 0, "sg": 1, "pl": 2}


@dataclass(frozen=True)
class Noun:
    """A noun in both languages."""

    kind: str
    one: str
    many: str
    de: str
    gender: str
    des: str
    oblique: str


@dataclass(frozen=True)
class Verb:
    """A verb in both languages; ``kinds`` is what it goes with."""

    base: str
    third: str
    past: str
    infinitive: str
    prefix: str
    present: str
    participle: str
    auxiliary: str
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class Phrase:
    """A noun with what belongs to it, or a pronoun (``noun`` None)."""

    noun: Noun | None
    determiner: str = ""
    adjective: tuple[str, str] | None = None
    plural: bool = False
    number: str = "sg"
    pronoun: tuple[str, str] = ("", "")
    relative: tuple[str, str] = ("", "")

    @property
    def gender(self) -> int:
        """Column of the tables of endings."""
        return 3 if self.plural else _GENDERS.index(self.noun.gender) if self.noun else 0

    def english(self) -> str:
        """As it is said."""
        if self.noun is None:
            return self.pronoun[0]
        parts = [self.adjective[0]] if self.adjective else []
        parts.append(self.noun.many if self.plural else self.noun.one)
        determiner = "an" if self.determiner == "a" and parts[0][0] in "aeiou" else self.determiner
        return " ".join(filter(None, [determiner, *parts])) + self.relative[0]

    def german(self, case: Case, negated: bool = False) -> str:
        """In a case; ``negated`` with *kein*."""
        if self.noun is None:
            return self.pronoun[1]
        stem, kind = ("kein", "ein") if negated else _DETERMINERS[self.determiner]
        column = self.gender
        if self.determiner == "the":
            article = THE[case][column]
        else:
            article = stem + (_ENDINGS[kind][case][column] if kind else "")
            if self.determiner == "some" and case == "dat":
                article = "einigen"
        parts = [article] if article else []
        if self.adjective:
            base = self.adjective[1]
            parts.append(_STEMS.get(base, base) + _ADJECTIVE[kind][case][column])
        if self.plural:
            ends = "n" if case == "dat" and self.noun.des[-1] not in "ns" else ""
            parts.append(self.noun.des + ends)
        else:
            parts.append(self.noun.de if case == "nom" else self.noun.oblique)
        return " ".join(parts) + self.relative[1]

    @property
    def indefinite(self) -> bool:
        """Whether it is negated with *kein*."""
        return self.noun is not None and self.determiner in ("a", "")


@dataclass(frozen=True)
class Clause:
    """Who does what to whom, when and where; ``mood`` is past, present, will, can, must or want."""

    subject: Phrase
    verb: Verb
    mood: str
    negated: bool = False
    when: tuple[str, str] | None = None
    direct: Phrase | None = None
    receiver: Phrase | None = None
    shifted: bool = False
    """gave the apple to the child, rather than gave the child the apple"""
    dative: bool = False
    """Whether the German verb takes its object in the dative."""
    where: tuple[str, str] | None = None
    fixed: str = ""

    def english(self, question: bool = False, when: bool = True) -> str:
        """Subject, verb, objects; a question with what is finite first."""
        verb, third = self.verb, self.subject.number == "sg"
        negation = " not" if self.negated else ""
        mood = self.mood
        if mood == "past" and (self.negated or question):
            finite, rest = "did" + negation, verb.base
        elif mood == "past":
            finite, rest = verb.past, ""
        elif mood == "present" and (self.negated or question):
            finite, rest = ("does" if third else "do") + negation, verb.base
        elif mood == "present":
            finite, rest = verb.third if third else verb.base, ""
        elif mood == "want" and (self.negated or question):
            finite, rest = ("does" if third else "do") + negation, f"want to {verb.base}"
        elif mood == "want":
            finite, rest = "wants to" if third else "want to", verb.base
        else:
            finite = "cannot" if mood == "can" and self.negated else mood + negation
            rest = verb.base
        objects = [self.direct.english()] if self.direct else []
        if self.receiver:
            receiver = self.receiver.english()
            objects = [*objects, f"to {receiver}"] if self.shifted else [receiver, *objects]
        subject = self.subject.english()
        head = [finite, subject, rest] if question else [subject, finite, rest]
        after = [self.where[0] if self.where else "", self.when[0] if self.when and when else ""]
        return " ".join(filter(None, [*head, *objects, *after]))

    def finite(self) -> tuple[str, str]:
        """The German verb: what is finite, and what closes the clause."""
        verb, person = self.verb, _PERSON[self.subject.number]
        if self.mood == "past":
            return _AUXILIARY[verb.auxiliary][person], verb.participle
        if self.mood == "present":
            plural = verb.infinitive
            finite = (
                _AUXILIARY["know"][person]
                if plural == "wissen"
                else (plural[:-1], verb.present, plural)[person]
            )
            return finite, verb.prefix
        mood = "may" if self.mood == "must" and self.negated else self.mood
        return _AUXILIARY[mood][person], verb.prefix + verb.infinitive

    def german(self, order: Literal["main", "first", "last"] = "main", front: bool = False) -> str:
        """The finite verb second, first or last; ``front``: the time before it and the subject after."""
        finite, closing = self.finite()
        if order == "last":
            ends = closing + finite if self.mood == "present" else f"{closing} {finite}"
            return " ".join([self.subject.german("nom"), *self.middle(when=True), ends])
        ends = [closing] if closing else []
        subject = self.subject.german("nom")
        if front and self.when:
            return " ".join([self.when[1], finite, subject, *self.middle(when=False), *ends])
        head = [finite, subject] if order == "first" else [subject, finite]
        return " ".join([*head, *self.middle(when=True), *ends])

    def middle(self, when: bool) -> list[str]:
        """What stands between: pronouns, time, objects, *nicht*, place."""
        case: Case = "dat" if self.dative else "acc"
        none = self.negated and self.direct is not None and self.direct.indefinite
        direct = [self.direct.german(case, none)] if self.direct else []
        receiver = [self.receiver.german("dat")] if self.receiver else []
        first = direct if self.direct is not None and self.direct.noun is None else []
        time = [self.when[1]] if self.when and when else []
        objects = receiver + ([] if first else direct)
        negation = ["nicht"] if self.negated and not none else []
        return [*first, *time, *objects, *negation, *([self.where[1]] if self.where else []),
                *([self.fixed] if self.fixed else [])]  # fmt: skip

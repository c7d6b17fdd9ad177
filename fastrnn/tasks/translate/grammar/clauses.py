"""Words put together: whom and what a sentence is about, what is done, and the clause that says so."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from fastrnn.tasks.translate.grammar import words
from fastrnn.tasks.translate.grammar.forms import Adjective, Noun, Tense, Verb, be, do, plural
from fastrnn.tasks.translate.grammar.words import Frame, Person

__all__ = ["FUTURE", "PAST", "PRESENT", "Action", "Draw", "Thing", "capital", "is_", "says"]

T = TypeVar("T")
_ONLY_ONE = ("door", "room", "instrument")
"""Kinds of things that are the door, not a door of someone."""

PAST, PRESENT, FUTURE = Tense(True), Tense(False), Tense(False, True)


class Thing(NamedTuple):
    """A noun phrase."""

    ja: str
    en: str
    plural: bool = False

    @property
    def person(self) -> str:
        return "p" if self.plural else "3"


class Action(NamedTuple):
    """A verb with what it takes: 図書館で本を + 読む, read + a book at the library."""

    verb: Verb
    ja: str
    en: str

    def do(self, tense: Tense, negative: bool = False, polite: bool = False) -> str:
        return self.ja + self.verb.form(tense, negative, polite)

    def english(self, form: str) -> str:
        """With the verb in `form`: base, third, ed, done or ing."""
        verb = self.verb.en if form == "base" else getattr(self.verb, form)
        return f"{verb} {self.en}".strip()


@dataclass
class Draw:
    """Random choices that are the same on every machine and Python: they rest on `random()` alone."""

    random: random.Random

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self.random.random() * len(options))]

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def who(self) -> Person:
        return self.pick(words.PRONOUNS if self.chance(0.55) else words.OTHERS)

    def other(self, than: Person) -> Person:
        """Someone else, of those called by a noun or a name."""
        while True:
            person = self.pick(words.OTHERS)
            if person != than:
                return person

    def number(self, most: int = 9) -> tuple[str, str, int]:
        """Two or more."""
        n = 1 + int(self.random.random() * (most - 1))
        return words.NUMBERS[n][0], words.NUMBERS[n][1], n + 1

    def thing(self, kind: str) -> Thing:
        """An object: a book, three books, an old book, my father's book, this book."""
        noun = self.pick(words.THINGS[kind])
        way = self.random.random()
        if way < 0.12 and noun.counter:
            ja, en, _ = self.number()
            return Thing(f"{ja}{noun.counter}の{noun.ja}", f"{en} {plural(noun.en)}", True)
        if way < 0.27 and kind in words.ADJECTIVES:
            return self.described(noun, kind)
        if way < 0.37 and not noun.mass and kind not in _ONLY_ONE:
            owner = self.who()
            return Thing(f"{owner.ja}の{noun.ja}", f"{owner.possessive} {noun.en}")
        if way < 0.47 and not noun.mass:
            ja, en = self.pick([("この", "this"), ("その", "that"), ("あの", "that")])
            return Thing(ja + noun.ja, f"{en} {noun.en}")
        return Thing(noun.ja, f"the {noun.en}" if kind in _ONLY_ONE else noun.one)

    def described(self, noun: Noun, kind: str) -> Thing:
        adjective = self.pick(words.ADJECTIVES[kind])
        return Thing(adjective.before + noun.ja, Noun("", f"{adjective.en} {noun.en}", mass=noun.mass).one)

    def topic(self, kind: str) -> Thing:
        """What is spoken of: this book, that book, my mother's book."""
        noun = self.pick(words.THINGS[kind])
        if self.chance(0.5):
            ja, en = self.pick([("この", "this"), ("その", "that"), ("あの", "that")])
            return Thing(ja + noun.ja, f"{en} {noun.en}")
        owner = self.who()
        return Thing(f"{owner.ja}の{noun.ja}", f"{owner.possessive} {noun.en}")

    def frame(self, things: bool | None = None) -> Frame:
        """A verb that takes an object, one that takes none, or either."""
        while True:
            frame = self.pick(words.FRAMES)
            if things is None or bool(frame.things) is things:
                return frame

    def action(self, things: bool | None = None, place: float = 0.35, but: Sequence[str] = ()) -> Action:
        """Something that people do, at some place now and then; no verb of `but`."""
        if things is not True and "行く" not in but and self.chance(0.2):
            return self.going()
        frame = self.frame(things)
        while frame.verb.ja in but:
            frame = self.frame(things)
        ja, en = "", ""
        if frame.things:
            thing = self.thing(frame.things)
            ja, en = f"{thing.ja}を", thing.en
        if frame.places and self.chance(place):
            where = self.pick(words.PLACES[frame.places])
            ja, en = f"{where.ja}で{ja}", f"{en} {where.at} {where.en}".strip()
        return Action(frame.verb, ja, en)

    def going(self) -> Action:
        verb = self.pick([Verb("行く", 5, "go", "went", "gone"), Verb("戻る", 5, "go back", "went", "gone")])
        place = self.pick(words.PLACES["goal"])
        ja, en = f"{place.ja}に", f"to {place.en}"
        if verb.ja == "行く" and self.chance(0.4):
            by_ja, by_en = self.pick(words.TRANSPORT)
            ja, en = ja + by_ja, f"{en} {by_en}"
        return Action(verb, ja, en)


def capital(text: str) -> str:
    return text[0].upper() + text[1:]


def says(who: Person, action: Action, tense: Tense, negative: bool = False) -> str:
    """English: who does, did, will or does not do something."""
    if negative:
        return f"{who.en} {do(who.person, tense, True)} {action.english('base')}"
    if tense.future:
        return f"{who.en} will {action.english('base')}"
    form = "ed" if tense.past else "third" if who.person == "3" else "base"
    return f"{who.en} {action.english(form)}"


def is_(who: Person | Thing, what: Adjective | str, tense: Tense, negative: bool = False) -> str:
    """English: who or what is, was or will be something."""
    said = what.en if isinstance(what, Adjective) else what
    return f"{who.en} {be(who.person, tense, negative)} {said}"

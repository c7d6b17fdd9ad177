"""Kinds of sentences of two clauses: in turn, reasons, times, conditions, what is said, relative clauses."""

from __future__ import annotations

from fastrnn.tasks.translate.grammar import words
from fastrnn.tasks.translate.grammar.clauses import FUTURE, PAST, PRESENT, Draw, Thing, capital, is_, says
from fastrnn.tasks.translate.grammar.forms import Verb, be
from fastrnn.tasks.translate.grammar.patterns import (
    MOMENTS,
    Pattern,
    Sentence,
    both,
    lasting,
    someone_else,
    teiru,
    topic,
    when,
)  # fmt: skip
from fastrnn.tasks.translate.grammar.words import Person

__all__ = ["JOINED"]

_MAKING = {"買う": ("ware", "food"), "書く": ("writing",), "作る": ("dish",), "売る": ("ware",), "見つける": ("ware",)}


def one_then_other(draw: Draw) -> Sentence:
    """And, before, after, while."""
    who, tense = draw.who(), draw.pick([PAST, PAST, PRESENT])
    first, then = draw.action(place=0.1), draw.action(place=0.1)
    while then.verb == first.verb:
        then = draw.action(place=0.1)
    plain, polite = both(then.do, tense)
    way = draw.pick(["and", "before", "after", "while"])
    main = capital(says(who, then, tense))
    if way == "and":
        ja = f"{first.ja}{first.verb.te}、"
        form = "ed" if tense.past else "third" if who.person == "3" else "base"
        en = f"{capital(says(who, first, tense))} and {then.english(form)}."
    elif way == "before":
        ja, en = f"{first.ja}{first.verb.ja}前に", f"{main} before {first.english('ing')}."
    elif way == "after":
        ja, en = f"{first.ja}{first.verb.ta}あとで", f"{main} after {first.english('ing')}."
    else:
        while first.verb.ja in MOMENTS or first.verb == then.verb:
            first = draw.action(place=0)
        ja, en = f"{first.ja}{first.verb.stem}ながら", f"{main} while {first.english('ing')}."
    said = topic(draw, who) + ja
    return f"{said}{plain}。", f"{said}{polite}。", en


def _again(who: Person) -> Person:
    """Who is mentioned a second time: he, she or they, or the noun once more where that would be a guess."""
    return who._replace(en=who.again or who.en)


def because(draw: Draw) -> Sentence:
    who, action, link = draw.who(), draw.action(place=0.5), draw.pick(["ので", "から"])
    negative = draw.chance(0.4)
    if draw.chance(0.4):
        ja, verb = draw.pick(words.WEATHER)
        reason, en = f"{ja}{verb.ta}", f"it {verb.ed}"
    else:
        adjective = draw.pick(words.ADJECTIVES["state"])
        reason, en = adjective.form(PAST), is_(_again(who), adjective, PAST)
    plain, polite = both(action.do, PAST, negative)
    said = f"{reason}{link}、{who.ja}は"
    return f"{said}{plain}。", f"{said}{polite}。", f"{capital(says(who, action, PAST, negative))} because {en}."


def at_the_time(draw: Draw) -> Sentence:
    who, action = draw.who(), lasting(draw)
    other = draw.other(who)
    verb = draw.pick([Verb("来る", 0, "come", "came"), Verb("帰る", 5, "come home", "came"),
                      Verb("電話をかける", 1, "call", "")])  # fmt: skip
    plain, polite = both(teiru(action).form, PAST)
    said = f"{other.ja}が{verb.ta}とき、{who.ja}は"
    en = f"{who.en} {be(who.person, PAST)} {action.english('ing')} when {other.en} {verb.ed}."
    return f"{said}{plain}。", f"{said}{polite}。", capital(en)


def if_(draw: Draw) -> Sentence:
    who, action, negative = draw.who(), draw.action(), draw.chance(0.35)
    again = who
    if draw.chance(0.5):
        ja, verb = draw.pick(words.WEATHER)
        ja, en = f"明日{ja}{verb.ta}ら", f"If it {verb.third} tomorrow"
    else:
        adjective = draw.pick(words.ADJECTIVES["state"])
        ja, en = adjective.form(PAST) + "ら", f"If {is_(who, adjective, PRESENT)}"
        again = _again(who)
    plain, polite = both(action.do, FUTURE, negative)
    said = f"{ja}、{who.ja}は"
    return f"{said}{plain}。", f"{said}{polite}。", f"{en}, {says(again, action, FUTURE, negative)}."


def quoted(draw: Draw) -> Sentence:
    who, action, negative = draw.who(), draw.action(), draw.chance(0.25)
    other = someone_else(draw)
    while other == who:
        other = someone_else(draw)
    ja, _ = both(action.do, FUTURE, negative)
    if draw.chance(0.5):
        plain, polite = both(Verb("言う", 5, "say").form, PAST)
        said = f"{who.ja}は{other.ja}が{ja}と"
        would = "wouldn't" if negative else "would"
        en = f"{who.en} said that {other.en} {would} {action.english('base')}."
        return f"{said}{plain}。", f"{said}{polite}。", capital(en)
    plain, polite = both(Verb("思う", 5, "think").form, PRESENT)
    said = f"{other.ja}は{ja}と"
    return f"{said}{plain}。", f"{said}{polite}。", f"I think {says(other, action, FUTURE, negative)}."


def made_by(draw: Draw) -> Sentence:
    """A relative clause about a thing: the book my father bought is interesting."""
    ja_verb = draw.pick(list(_MAKING))
    verb = next(frame.verb for frame in words.FRAMES if frame.verb.ja == ja_verb)
    kind, who = draw.pick(_MAKING[ja_verb]), draw.who()
    noun, adjective = draw.pick(words.THINGS[kind]), draw.pick(words.ADJECTIVES[kind])
    time_ja, time_en = when(draw, PAST, 0.3)
    thing = Thing(f"{who.ja}が{time_ja}{verb.ta}{noun.ja}", f"the {noun.en} {who.en} {verb.ed}{time_en}")
    if draw.chance(0.5):
        plain, polite = both(adjective.form, PRESENT)
        return f"{thing.ja}は{plain}。", f"{thing.ja}は{polite}。", capital(is_(thing, adjective, PRESENT)) + "."
    other = draw.who()
    while other == who:
        other = draw.who()
    use = {"ware": Verb("使う", 5, "use"), "food": Verb("食べる", 1, "eat", "ate"),
           "dish": Verb("食べる", 1, "eat", "ate"), "writing": Verb("読む", 5, "read", "read")}  # fmt: skip
    plain, polite = both(use[kind].form, PAST)
    said = f"{other.ja}は{thing.ja}を"
    text = capital(f"{other.en} {use[kind].ed} {thing.en}.")
    return f"{said}{plain}。", f"{said}{polite}。", text


def who_is_doing(draw: Draw) -> Sentence:
    """A relative clause about a person: the girl who is playing the piano is my younger sister."""
    ja_who, en_who = draw.pick(
        [("女の子", "girl"), ("男の子", "boy"), ("人", "person"), ("学生", "student"), ("子供", "child")]
    )
    action = lasting(draw, things=True)
    said = f"{action.ja}{action.verb.te}いる{ja_who}は"
    subject = Thing("", f"the {en_who} who is {action.english('ing')}")
    if draw.chance(0.5):
        adjective = draw.pick(words.ADJECTIVES["people"])
        plain, polite = both(adjective.form, PRESENT)
        return f"{said}{plain}。", f"{said}{polite}。", capital(is_(subject, adjective, PRESENT)) + "."
    owner = draw.who()
    ja, en = draw.pick([("友達", "friend"), ("兄弟", "brother"), ("生徒", "student")])
    text = capital(is_(subject, f"{owner.possessive} {en}", PRESENT)) + "."
    return f"{said}{owner.ja}の{ja}だ。", f"{said}{owner.ja}の{ja}です。", text


JOINED: list[Pattern] = [
    one_then_other, one_then_other, because, at_the_time, if_, quoted, made_by, made_by, who_is_doing,
]  # fmt: skip
"""Those named more than once are drawn more often."""

"""Kinds of sentences about what people do: each draws one, in plain and in polite Japanese and in English.

A pattern returns (plain, polite, English); a register that is not said that way is empty. `states` holds the kinds
about what things and people are, `joined` those of two clauses.
"""

from __future__ import annotations

from collections.abc import Callable

from fastrnn.tasks.translate.grammar import words
from fastrnn.tasks.translate.grammar.clauses import FUTURE, PAST, PRESENT, Action, Draw, capital, says
from fastrnn.tasks.translate.grammar.forms import Tense, Verb, be, do
from fastrnn.tasks.translate.grammar.words import Person

__all__ = ["DOING", "MOMENTS", "Pattern", "Sentence", "both", "lasting", "someone_else", "teiru", "topic", "when"]

Sentence = tuple[str, str, str]
Pattern = Callable[[Draw], Sentence]

MOMENTS = ("行く", "戻る", "起きる", "座る", "忘れる", "見つける", "開ける", "閉める", "飼う", "売る", "買う")
"""Verbs whose ている is a state that lasts, not an action that goes on."""

_UNWILLED = ("忘れる", "見つける", "泣く")
"""Verbs that no one wants, must or is asked to do."""


def topic(draw: Draw, who: Person) -> str:
    """私 is often left unsaid."""
    return "" if who.en == "I" and draw.chance(0.3) else f"{who.ja}は"


def when(draw: Draw, tense: Tense, share: float = 0.6) -> tuple[str, str]:
    """A time in Japanese, and in English with the space before it; or two empty strings."""
    if not draw.chance(share):
        return "", ""
    time = draw.pick([time for time in words.TIMES if time.tense == tense])
    return time.ja, " " + time.en


def both(form: Callable[[Tense, bool, bool], str], tense: Tense, negative: bool = False) -> tuple[str, str]:
    return form(tense, negative, False), form(tense, negative, True)


def _tense(draw: Draw) -> Tense:
    return draw.pick([PAST, PAST, PRESENT, FUTURE])


def lasting(draw: Draw, things: bool | None = None) -> Action:
    """Something that goes on for a while."""
    return draw.action(things, but=MOMENTS)


def teiru(action: Action) -> Verb:
    """Is doing, as a verb of its own."""
    return Verb(action.ja + action.verb.te + "いる", 1, action.verb.en)


def someone_else(draw: Draw) -> Person:
    """Anyone but the speaker."""
    while True:
        who = draw.who()
        if who.en != "I":
            return who


def statement(draw: Draw) -> Sentence:
    who, action, tense = draw.who(), draw.action(), _tense(draw)
    negative = draw.chance(0.3)
    ja, en = when(draw, tense)
    said = topic(draw, who) + ja
    plain, polite = both(action.do, tense, negative)
    return f"{said}{plain}。", f"{said}{polite}。", capital(says(who, action, tense, negative)) + en + "."


def question(draw: Draw) -> Sentence:
    who, action, tense = someone_else(draw), draw.action(), _tense(draw)
    ja, en = when(draw, tense)
    said = "" if who.en == "you" and draw.chance(0.6) else f"{who.ja}は"
    asked = f"{capital(do(who.person, tense))} {who.en} {action.english('base')}{en}?"
    return "", f"{said}{ja}{action.do(tense, False, True)}か。", asked


def what(draw: Draw) -> Sentence:
    who, tense = someone_else(draw), draw.pick([PAST, PRESENT, FUTURE])
    frame = draw.frame(things=True)
    while frame.verb.ja in ("飼う", "閉める", "開ける", "弾く"):
        frame = draw.frame(things=True)
    said = "" if who.en == "you" else f"{who.ja}は"
    ja, en = when(draw, tense, 0.4)
    place_ja = place_en = ""
    if frame.places and draw.chance(0.5):
        place = draw.pick(words.PLACES[frame.places])
        place_ja, place_en = f"{place.ja}で", f" {place.at} {place.en}"
    asked = f"What {do(who.person, tense)} {who.en} {frame.verb.en}{place_en}{en}?"
    return "", f"{said}{ja}{place_ja}何を{frame.verb.form(tense, False, True)}か。", asked


def where_when_why(draw: Draw) -> Sentence:
    action = draw.action(place=0, but=("行く", "忘れる"))
    who, tense = someone_else(draw), draw.pick([PAST, PRESENT, FUTURE])
    ja, en = draw.pick([("どこで", "Where"), ("いつ", "When"), ("どうして", "Why"), ("なぜ", "Why")])
    said = "" if who.en == "you" else f"{who.ja}は"
    asked = f"{en} {do(who.person, tense)} {who.en} {action.english('base')}?"
    return "", f"{said}{ja}{action.do(tense, False, True)}か。", asked


def who_did(draw: Draw) -> Sentence:
    action, tense = draw.action(), draw.pick([PAST, PAST, FUTURE])
    verb = action.english("ed") if tense.past else "will " + action.english("base")
    return "", f"誰が{action.do(tense, False, True)}か。", f"Who {verb}?"


def how_go(draw: Draw) -> Sentence:
    who, tense, place = someone_else(draw), draw.pick([PAST, PRESENT, FUTURE]), draw.pick(words.PLACES["goal"])
    verb = Verb("行く", 5, "go")
    said = "" if who.en == "you" else f"{who.ja}は"
    asked = f"How {do(who.person, tense)} {who.en} go to {place.en}?"
    return "", f"{said}どうやって{place.ja}に{verb.form(tense, False, True)}か。", asked


def going_on(draw: Draw) -> Sentence:
    who, action, tense = draw.who(), lasting(draw), draw.pick([PRESENT, PRESENT, PAST])
    negative, now = draw.chance(0.2), "今" if tense == PRESENT and draw.chance(0.4) else ""
    said = topic(draw, who) + now
    plain, polite = both(teiru(action).form, tense, negative)
    en = f"{who.en} {be(who.person, tense, negative)} {action.english('ing')}{' now' if now else ''}."
    return f"{said}{plain}。", f"{said}{polite}。", capital(en)


def want(draw: Draw) -> Sentence:
    who, action = draw.who(), draw.action(but=_UNWILLED)
    negative = draw.chance(0.25)
    verb = "doesn't want" if negative else "wants"
    if who.person != "3":
        verb = "don't want" if negative else "want"
    en = capital(f"{who.en} {verb} to {action.english('base')}.")
    stem = f"{topic(draw, who)}{action.ja}{action.verb.stem}"
    if who.person in "12" or who.en == "we":
        ja = stem + ("たくない" if negative else "たい")
        return f"{ja}。", f"{ja}です。", en
    plain, polite = both(Verb(stem + "たがっている", 1, "").form, PRESENT, negative)
    return f"{plain}。", f"{polite}。", en


def can(draw: Draw) -> Sentence:
    who, tense = draw.who(), draw.pick([PRESENT, PRESENT, PAST])
    negative, intransitive = draw.chance(0.4), draw.chance(0.4)
    action = draw.action(False if intransitive else None, but=_UNWILLED)
    said = topic(draw, who) + action.ja
    verb = action.verb.potential if intransitive else Verb(action.verb.ja + "ことができる", 1, "")
    plain, polite = both(verb.form, tense, negative)
    word = ("couldn't" if negative else "could") if tense.past else ("can't" if negative else "can")
    return f"{said}{plain}。", f"{said}{polite}。", capital(f"{who.en} {word} {action.english('base')}.")


def must(draw: Draw) -> Sentence:
    who, action = draw.who(), draw.action(but=_UNWILLED)
    ja, en = when(draw, FUTURE, 0.3)
    said = f"{topic(draw, who)}{ja}{action.ja}{action.verb.nai[:-1]}ければ"
    word = "must" if draw.chance(0.5) else "has to" if who.person == "3" else "have to"
    text = capital(f"{who.en} {word} {action.english('base')}{en}.")
    return f"{said}ならない。", f"{said}なりません。", text


def may(draw: Draw) -> Sentence:
    action = draw.action(but=_UNWILLED)
    te = action.ja + action.verb.te
    if draw.chance(0.3):
        return "", f"{te}もいいですか。", f"May I {action.english('base')}?"
    if draw.chance(0.5):
        return f"{te}もいい。", f"{te}もいいです。", f"You may {action.english('base')}."
    return f"{te}はいけない。", f"{te}はいけません。", f"You must not {action.english('base')}."


def should(draw: Draw) -> Sentence:
    action, negative = draw.action(but=_UNWILLED), draw.chance(0.35)
    ja = action.ja + (action.verb.nai if negative else action.verb.ta) + "ほうがいい"
    word = "shouldn't" if negative else "should"
    return f"{ja}。", f"{ja}です。", f"You {word} {action.english('base')}."


def request(draw: Draw) -> Sentence:
    action = draw.action(but=_UNWILLED)
    if draw.chance(0.35):
        return "", f"{action.ja}{action.verb.nai}でください。", f"Please don't {action.english('base')}."
    return "", f"{action.ja}{action.verb.te}ください。", f"Please {action.english('base')}."


def lets(draw: Draw) -> Sentence:
    action = draw.action(but=_UNWILLED)
    ja, en = when(draw, FUTURE, 0.4)
    plain, polite = action.verb.volitional, action.verb.stem + "ましょう"
    return f"{ja}{action.ja}{plain}。", f"{ja}{action.ja}{polite}。", f"Let's {action.english('base')}{en}."


def together(draw: Draw) -> Sentence:
    who, tense, negative = draw.who(), _tense(draw), draw.chance(0.2)
    other, action = draw.other(who), draw.action()
    ja, en = when(draw, tense, 0.4)
    plain, polite = both(action.do, tense, negative)
    said = f"{topic(draw, who)}{ja}{other.ja}と"
    text = f"{capital(says(who, action, tense, negative))} with {other.object}{en}."
    return f"{said}{plain}。", f"{said}{polite}。", text


def for_hours(draw: Draw) -> Sentence:
    who, tense = draw.who(), draw.pick([PAST, PAST, PRESENT])
    action = draw.pick(
        [frame for frame in words.FRAMES if frame.verb.ja in ("勉強する", "働く", "歩く", "泳ぐ", "待つ")]
    )
    ja_n, en_n, _ = draw.number()
    ja_unit, en_unit = draw.pick([("時間", "hours"), ("分", "minutes")])
    ja, en = when(draw, tense, 0.5)
    plain, polite = both(action.verb.form, tense)
    said = f"{topic(draw, who)}{ja}{ja_n}{ja_unit}"
    text = f"{capital(says(who, Action(action.verb, '', ''), tense))} for {en_n} {en_unit}{en}."
    return f"{said}{plain}。", f"{said}{polite}。", text


def at_hour(draw: Draw) -> Sentence:
    who, tense, action = draw.who(), draw.pick([PAST, PRESENT, FUTURE]), draw.action(place=0)
    ja_n, en_n, _ = draw.number()
    ja, en = draw.pick([(t.ja, " " + t.en) for t in words.TIMES if t.tense == tense and "day" in t.en])
    plain, polite = both(action.do, tense)
    said = f"{topic(draw, who)}{ja}{ja_n}時に"
    return f"{said}{plain}。", f"{said}{polite}。", f"{capital(says(who, action, tense))} at {en_n} o'clock{en}."


def experience(draw: Draw) -> Sentence:
    who, action = draw.who(), draw.action(place=0)
    have = "has" if who.person == "3" else "have"
    done = action.english("done").replace("gone to", "been to").replace("gone back", "been back")
    ta = action.ja + action.verb.ta
    if draw.chance(0.3):
        return "", f"{ta}ことがありますか。", f"Have you ever {done}?"
    said = topic(draw, who) + ta + "ことが"
    if draw.chance(0.4):
        return f"{said}ない。", f"{said}ありません。", capital(f"{who.en} {have} never {done}.")
    return f"{said}ある。", f"{said}あります。", capital(f"{who.en} {have} {done} before.")


def already(draw: Draw) -> Sentence:
    who, action = draw.who(), draw.action(things=True, place=0)
    have = "has" if who.person == "3" else "have"
    if draw.chance(0.5):
        said = f"{topic(draw, who)}もう"
        plain, polite = both(action.do, PAST)
        return f"{said}{plain}。", f"{said}{polite}。", capital(f"{who.en} {have} already {action.english('done')}.")
    said = f"{topic(draw, who)}まだ"
    plain, polite = both(teiru(action).form, PRESENT, True)
    return f"{said}{plain}。", f"{said}{polite}。", capital(f"{who.en} {have}n't {action.english('done')} yet.")


def giving(draw: Draw) -> Sentence:
    who, tense = draw.who(), draw.pick([PAST, PAST, FUTURE])
    thing = draw.thing("ware")
    verb = draw.pick([Verb("あげる", 1, "give", "gave"), Verb("貸す", 5, "lend", "lent"),
                      Verb("送る", 5, "send", "sent"), Verb("見せる", 1, "show", "showed")])  # fmt: skip
    ja, en = when(draw, tense, 0.3)
    to = draw.other(who)
    if who.en not in ("I", "we") and verb.en == "give" and draw.chance(0.6):
        to, verb = words.PRONOUNS[0], Verb("くれる", 1, "give", "gave")
    plain, polite = both(verb.form, tense)
    said = f"{topic(draw, who)}{ja}{to.ja}に{thing.ja}を"
    text = says(who, Action(verb, "", f"{to.object} {thing.en}"), tense)
    return f"{said}{plain}。", f"{said}{polite}。", capital(text) + en + "."


def getting(draw: Draw) -> Sentence:
    who = draw.who()
    giver, thing = draw.other(who), draw.thing("ware")
    ja, en = when(draw, PAST, 0.4)
    plain, polite = both(Verb("もらう", 5, "get").form, PAST)
    said = f"{topic(draw, who)}{ja}{giver.ja}から{thing.ja}を"
    return f"{said}{plain}。", f"{said}{polite}。", capital(f"{who.en} got {thing.en} from {giver.object}{en}.")


DOING: list[Pattern] = [
    statement, statement, statement, question, what, where_when_why, who_did, how_go, going_on, going_on, want, can,
    must, may, should, request, lets, together, for_hours, at_hour, experience, already, giving, getting,
]  # fmt: skip
"""Those named more than once are drawn more often."""

"""Kinds of sentences about what things and people are, where they are, and which of them is meant."""

from __future__ import annotations

from fastrnn.tasks.translate.grammar import words
from fastrnn.tasks.translate.grammar.clauses import FUTURE, PAST, PRESENT, Draw, Thing, capital, is_
from fastrnn.tasks.translate.grammar.forms import Noun, Verb, be, copula, plural
from fastrnn.tasks.translate.grammar.patterns import Pattern, Sentence, both, topic, when

__all__ = ["BEING"]

_SPOKEN_OF = ("ware", "food", "text", "animal", "show")


def thing_is(draw: Draw) -> Sentence:
    kind = draw.pick(_SPOKEN_OF)
    thing, adjective = draw.topic(kind), draw.pick(words.ADJECTIVES[kind])
    tense, negative = draw.pick([PRESENT, PRESENT, PAST]), draw.chance(0.3)
    ja, en = draw.pick([("", ""), ("とても", "very "), ("", "")])
    if negative:
        ja, en = ("あまり", "very ") if ja else ("", "")
    plain, polite = both(adjective.form, tense, negative)
    text = capital(is_(thing, en + adjective.en, tense, negative))
    return f"{thing.ja}は{ja}{plain}。", f"{thing.ja}は{ja}{polite}。", text + "."


def too(draw: Draw) -> Sentence:
    kind = draw.pick(_SPOKEN_OF[:3])
    thing, adjective = draw.topic(kind), draw.pick(words.ADJECTIVES[kind])
    stem = adjective.ja if adjective.na else adjective.ja[:-1]
    plain, polite = both(Verb(stem + "すぎる", 1, "").form, PRESENT)
    return (
        f"{thing.ja}は{plain}。",
        f"{thing.ja}は{polite}。",
        capital(is_(thing, f"too {adjective.en}", PRESENT)) + ".",
    )


def person_is(draw: Draw) -> Sentence:
    who, tense = draw.who(), draw.pick([PRESENT, PRESENT, PAST])
    adjective = draw.pick(words.ADJECTIVES["state" if tense.past else "people"])
    negative = draw.chance(0.25)
    ja, en = when(draw, PAST, 0.6) if tense.past else ("", "")
    if who.person == "2" and draw.chance(0.7):
        asked = f"{capital(be('2', tense))} you {adjective.en}{en}?"
        return "", f"{ja}{adjective.form(tense, False, True)}か。", asked
    plain, polite = both(adjective.form, tense, negative)
    said = topic(draw, who) + ja
    return f"{said}{plain}。", f"{said}{polite}。", capital(is_(who, adjective, tense, negative)) + en + "."


def may_be(draw: Draw) -> Sentence:
    who, adjective = draw.other(words.PRONOUNS[0]), draw.pick(words.ADJECTIVES["state"])
    ja = f"{who.ja}は{adjective.ja}かもしれ"
    return f"{ja}ない。", f"{ja}ません。", capital(f"{who.en} may be {adjective.en}.")


def seems(draw: Draw) -> Sentence:
    who, adjective = draw.who(), draw.pick(words.ADJECTIVES["people"])
    while who.en == "I":
        who = draw.who()
    plain, polite = both(Verb("思う", 5, "").form, PRESENT)
    said = f"{who.ja}は{adjective.form(PRESENT)}と"
    return f"{said}{plain}。", f"{said}{polite}。", f"I think {is_(who, adjective, PRESENT)}."


def job(draw: Draw) -> Sentence:
    who, noun, tense = draw.who(), draw.pick(words.JOBS), draw.pick([PRESENT, PRESENT, PAST])
    negative = draw.chance(0.25)
    many = who.person == "p"
    what = plural(noun.en) if many else noun.one
    if draw.chance(0.2) and who.en not in ("I", "we"):
        return "", f"{who.ja}は{noun.ja}ですか。", f"{capital(be(who.person, PRESENT))} {who.en} {what}?"
    if draw.chance(0.25):
        return f"{who.ja}も{noun.ja}だ。", f"{who.ja}も{noun.ja}です。", capital(is_(who, what, PRESENT)) + ", too."
    if draw.chance(0.25):
        plain, polite = both(Verb("なる", 5, "").form, FUTURE)
        said = f"{who.ja}は{noun.ja}に"
        return f"{said}{plain}。", f"{said}{polite}。", capital(f"{who.en} will become {what}.")
    said = topic(draw, who)
    plain, polite = copula(noun.ja, tense, negative), copula(noun.ja, tense, negative, True)
    return f"{said}{plain}。", f"{said}{polite}。", capital(is_(who, what, tense, negative)) + "."


def age(draw: Draw) -> Sentence:
    who, (ja, en) = draw.who(), draw.pick(words.NUMBERS[12:16])
    if draw.chance(0.5):
        ja, en = draw.pick(words.NUMBERS[2:12])
        who = draw.pick([person for person in words.OTHERS if person.ja in ("この子", "女の子", "男の子", "弟", "妹")])
    return f"{who.ja}は{ja}歳だ。", f"{who.ja}は{ja}歳です。", capital(is_(who, f"{en} years old", PRESENT)) + "."


def price(draw: Draw) -> Sentence:
    thing, (ja, en, _) = draw.topic("ware"), draw.number()
    ja_unit, en_unit = draw.pick([("百円", "hundred yen"), ("千円", "thousand yen"), ("ドル", "dollars")])
    if draw.chance(0.2):
        return "", f"{thing.ja}はいくらですか。", f"How much {is_(thing, '', PRESENT).split()[-1]} {thing.en}?"
    said = f"{thing.ja}は{ja}{ja_unit}"
    return f"{said}だ。", f"{said}です。", capital(f"{thing.en} costs {en} {en_unit}.")


def clock(draw: Draw) -> Sentence:
    ja, en, _ = draw.number()
    if draw.chance(0.4):
        return f"今{ja}時半だ。", f"今{ja}時半です。", f"It is half past {en} now."
    return f"今{ja}時だ。", f"今{ja}時です。", f"It is {en} o'clock now."


def weather(draw: Draw) -> Sentence:
    ja, verb = draw.pick(words.WEATHER)
    tense = draw.pick([PAST, PAST, FUTURE])
    time_ja, time_en = when(draw, tense, 1)
    if tense.future:
        text = f"It will {verb.en}{time_en}."
        if draw.chance(0.4):
            return (
                f"{time_ja}{ja}{verb.ja}かもしれない。",
                f"{time_ja}{ja}{verb.ja}かもしれません。",
                text.replace("will", "may"),
            )
        return f"{time_ja}{ja}{verb.ja}だろう。", f"{time_ja}{ja}{verb.ja}でしょう。", text
    negative = draw.chance(0.3)
    plain, polite = both(verb.form, tense, negative)
    text = f"It didn't {verb.en}{time_en}." if negative else f"It {verb.ed}{time_en}."
    return f"{time_ja}{ja}{plain}。", f"{time_ja}{ja}{polite}。", text


def there_is(draw: Draw) -> Sentence:
    noun = draw.pick(words.THINGS[draw.pick(["ware", "text", "animal", "ware", "animal"])])
    ja_at, en_at = draw.pick(words.POSITIONS)
    alive = noun in words.THINGS["animal"]
    verb = Verb("いる", 1, "") if alive else Verb("ある", 5, "")
    way = draw.random.random()
    if way < 0.35 and noun.counter:
        ja_n, en_n, _ = draw.number()
        plain, polite = both(verb.form, PRESENT)
        said = f"{ja_at}に{noun.ja}が{ja_n}{noun.counter}"
        return f"{said}{plain}。", f"{said}{polite}。", f"There are {en_n} {plural(noun.en)} {en_at}."
    if way < 0.45 and noun.counter:
        asked = f"How many {plural(noun.en)} are there {en_at}?"
        return "", f"{ja_at}に{noun.ja}が何{noun.counter}{verb.form(PRESENT, False, True)}か。", asked
    if way < 0.6:
        return "", f"{ja_at}に{noun.ja}が{verb.form(PRESENT, False, True)}か。", f"Is there {noun.one} {en_at}?"
    tense = draw.pick([PRESENT, PAST])
    negative = draw.chance(0.25)
    plain, polite = both(verb.form, tense, negative)
    text = f"There {be('3', tense, negative)} {noun.one} {en_at}."
    return f"{ja_at}に{noun.ja}が{plain}。", f"{ja_at}に{noun.ja}が{polite}。", text


def where_is(draw: Draw) -> Sentence:
    kind = draw.pick(["ware", "text", "animal"])
    thing = draw.topic(kind)
    verb = Verb("いる", 1, "") if kind == "animal" else Verb("ある", 5, "")
    if draw.chance(0.3):
        return "", f"{thing.ja}はどこに{verb.form(PRESENT, False, True)}か。", f"Where is {thing.en}?"
    ja_at, en_at = draw.pick(words.POSITIONS)
    tense, negative = draw.pick([PRESENT, PAST]), draw.chance(0.2)
    plain, polite = both(verb.form, tense, negative)
    text = capital(is_(thing, en_at, tense, negative)) + "."
    return f"{thing.ja}は{ja_at}に{plain}。", f"{thing.ja}は{ja_at}に{polite}。", text


def living(draw: Draw) -> Sentence:
    who, place, tense = draw.who(), draw.pick(words.PLACES["live"]), draw.pick([PRESENT, PAST])
    plain, polite = both(Verb("住んでいる", 1, "").form, tense)
    if tense.past:
        verb = "lived"
        ja, en = draw.pick([("子供のとき、", f" when {who.en} {be(who.person, PAST)} a child"), ("", "")])
        ja, en = ("", "") if who.person == "p" else (ja, en)
    else:
        verb, ja, en = "lives" if who.person == "3" else "live", "", ""
    said = f"{ja}{who.ja}は{place.ja}に"
    return f"{said}{plain}。", f"{said}{polite}。", capital(f"{who.en} {verb} in {place.en}{en}.")


def whose(draw: Draw) -> Sentence:
    noun, who = draw.pick(words.THINGS["ware"]), draw.who()
    ja, en = draw.pick([("これ", "this"), ("それ", "that"), ("あれ", "that")])
    if draw.chance(0.3):
        return "", f"{ja}は誰の{noun.ja}ですか。", f"Whose {noun.en} is {en}?"
    negative = draw.chance(0.3)
    said, what = f"{ja}は", f"{who.ja}の{noun.ja}"
    plain, polite = copula(what, PRESENT, negative), copula(what, PRESENT, negative, True)
    text = f"{en} {be('3', PRESENT, negative)} {who.possessive} {noun.en}."
    return f"{said}{plain}。", f"{said}{polite}。", capital(text)


def compare(draw: Draw) -> Sentence:
    tense = PRESENT
    if draw.chance(0.5):
        kind = draw.pick(_SPOKEN_OF)
        noun, adjective = draw.pick(words.THINGS[kind]), draw.pick(words.ADJECTIVES[kind])
        left = Thing(f"この{noun.ja}", f"this {noun.en}")
        right = Thing(f"あの{noun.ja}", f"that {noun.en}")
        if draw.chance(0.25):
            asked = f"Which {noun.en} is {adjective.comparative}, this one or that one?"
            return "", f"この{noun.ja}とあの{noun.ja}とどちらが{adjective.form(PRESENT, False, True)}か。", asked
        said, en = f"{left.ja}は{right.ja}より", f"{is_(left, adjective.comparative, tense)} than {right.en}."
    else:
        who, adjective = draw.who(), draw.pick([a for a in words.ADJECTIVES["people"] if a.en not in ("well", "sick")])
        other = draw.other(who)
        said, en = f"{who.ja}は{other.ja}より", f"{is_(who, adjective.comparative, tense)} than {other.object}."
    plain, polite = both(adjective.form, tense)
    return f"{said}{plain}。", f"{said}{polite}。", capital(en)


def most(draw: Draw) -> Sentence:
    who, adjective = draw.who(), draw.pick([a for a in words.ADJECTIVES["people"] if a.en not in ("well", "sick")])
    ja, en = draw.pick(
        [("クラス", "the class"), ("学校", "the school"), ("この町", "this town"), ("家族", "the family")]
    )
    plain, polite = both(adjective.form, PRESENT)
    said = f"{who.ja}は{ja}で一番"
    return (
        f"{said}{plain}。",
        f"{said}{polite}。",
        capital(is_(who, f"the {adjective.superlative} in {en}", PRESENT)) + ".",
    )


def liking(draw: Draw) -> Sentence:
    who = draw.who()
    s = "s" if who.person == "3" else ""
    if draw.chance(0.5):
        ja, en = draw.pick(words.SKILLS)
        ja += "の"
    else:
        noun = draw.pick(words.THINGS[draw.pick(["food", "drink", "animal", "subject", "text"])])
        ja, en = noun.ja, noun.en if noun.mass else plural(noun.en)
    way = draw.pick(["好き", "好き", "嫌い", "上手"])
    if way == "上手":
        ja, en = draw.pick(words.SKILLS[:6])
        ja, text = ja + "の", is_(who, f"good at {en}", PRESENT)
    elif way == "好き" and draw.chance(0.3):
        text = f"{who.en} {'does' if s else 'do'}n't like {en}"
        plain, polite = copula(way, PRESENT, True), copula(way, PRESENT, True, True)
        return f"{who.ja}は{ja}が{plain}。", f"{who.ja}は{ja}が{polite}。", capital(text) + "."
    else:
        text = f"{who.en} {'like' if way == '好き' else 'hate'}{s} {en}"
    said = f"{topic(draw, who)}{ja}が{way}"
    return f"{said}だ。", f"{said}です。", capital(text) + "."


def was_written(draw: Draw) -> Sentence:
    """The passive."""
    verb, kind = draw.pick([(Verb("書かれる", 1, "write", "", "written"), "writing"),
                            (Verb("作られる", 1, "make", "", "made"), "dish")])  # fmt: skip
    noun, who = draw.pick(words.THINGS[kind]), draw.who()
    plain, polite = both(verb.form, PAST)
    said = f"この{noun.ja}は{who.ja}によって"
    return f"{said}{plain}。", f"{said}{polite}。", f"This {noun.en} was {verb.done} by {who.object}."


def became(draw: Draw) -> Sentence:
    if draw.chance(0.5):
        noun: Noun = draw.pick(words.THINGS["room"])
        adjective, ja, en = draw.pick(words.ADJECTIVES["room"]), f"{noun.ja}は", f"the {noun.en}"
    else:
        who = draw.who()
        adjective, ja, en = draw.pick(words.ADJECTIVES["people"]), f"{who.ja}は", who.en
    plain, polite = both(Verb("なる", 5, "").form, PAST)
    return (
        f"{ja}{adjective.become()}{plain}。",
        f"{ja}{adjective.become()}{polite}。",
        capital(f"{en} became {adjective.en}."),
    )


BEING: list[Pattern] = [
    thing_is, thing_is, too, person_is, person_is, may_be, seems, job, job, age, price, clock, weather, there_is,
    there_is, where_is, living, whose, compare, most, liking, liking, was_written, became,
]  # fmt: skip
"""Those named more than once are drawn more often."""

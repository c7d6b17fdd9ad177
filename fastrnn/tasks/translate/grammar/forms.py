"""Inflection: Japanese verbs, adjectives and nouns as predicates, and English verbs.

A predicate has a tense, may be negated, and is plain or polite. Japanese has one form for the present and the
future; English keeps them apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Adjective", "Noun", "Tense", "Verb", "a", "be", "copula", "do", "plural"]

# The last kana of a five-grade (godan) verb in its rows: dictionary form, then a, i, e, o, and the te form.
_ROWS = {
    "う": "わいえおって", "く": "かきけこいて", "ぐ": "がぎげごいで", "す": "さしせそして", "つ": "たちてとって",
    "ぬ": "なにねのんで", "ぶ": "ばびべぼんで", "む": "まみめもんで", "る": "らりれろって",
}  # fmt: skip


class Tense(NamedTuple):
    past: bool
    future: bool = False


@dataclass(frozen=True)
class Verb:
    """A verb of both languages.

    `kind` is 5 (godan), 1 (ichidan) or 0 (する, 来る and what ends in them). `en` is the base form, `past` and
    `participle` where they are not regular.
    """

    ja: str
    kind: int
    en: str
    past: str = ""
    participle: str = ""

    def _row(self, row: int) -> str:
        """The stem in row a, i, e or o (0 to 3) of a godan verb; what stands in its place for the others."""
        if self.kind == 5:
            return self.ja[:-1] + _ROWS[self.ja[-1]][row]
        if self.kind == 0 and self.ja.endswith("する"):
            return self.ja[:-2] + "し"
        return self.ja[:-1]

    @property
    def stem(self) -> str:
        """What ます, たい and ながら follow: 書き, 食べ, し."""
        return self._row(1)

    @property
    def te(self) -> str:
        if self.kind != 5:
            return self.stem + "て"
        if self.ja.endswith("行く"):  # the one exception of its row
            return self.ja[:-1] + "って"
        return self.ja[:-1] + _ROWS[self.ja[-1]][4:]

    @property
    def ta(self) -> str:
        return self.te[:-1] + {"て": "た", "で": "だ"}[self.te[-1]]

    @property
    def nai(self) -> str:
        return "ない" if self.ja == "ある" else self._row(0) + "ない"

    @property
    def volitional(self) -> str:
        return self._row(3) + "う" if self.kind == 5 else self._row(3) + "よう"

    @property
    def potential(self) -> Verb:
        """Can do: an ichidan verb of its own."""
        if self.kind == 5:
            return Verb(self._row(2) + "る", 1, self.en)
        if self.ja.endswith("する"):
            return Verb(self.ja[:-2] + "できる", 1, self.en)
        return Verb(self.ja[:-1] + "られる", 1, self.en)

    def form(self, tense: Tense, negative: bool = False, polite: bool = False) -> str:
        if polite:
            return self.stem + (("ませんでした" if tense.past else "ません") if negative else
                                ("ました" if tense.past else "ます"))  # fmt: skip
        if negative:
            return self.nai[:-1] + "かった" if tense.past else self.nai
        return self.ta if tense.past else self.ja

    # English. The verb is the first word of `en`; the rest follows it unchanged: get up, got up.

    def _with(self, word: str) -> str:
        return " ".join([word, *self.en.split()[1:]])

    @property
    def third(self) -> str:
        base = self.en.split()[0]
        if base == "have":
            return self._with("has")
        if base.endswith(("s", "sh", "ch", "x", "o")):
            return self._with(base + "es")
        if base.endswith("y") and base[-2] not in "aeiou":
            return self._with(base[:-1] + "ies")
        return self._with(base + "s")

    @property
    def ed(self) -> str:
        base = self.en.split()[0]
        if self.past:
            return self._with(self.past)
        if base.endswith("e"):
            return self._with(base + "d")
        if base.endswith("y") and base[-2] not in "aeiou":
            return self._with(base[:-1] + "ied")
        return self._with(base + "ed")

    @property
    def done(self) -> str:
        return self._with(self.participle) if self.participle else self.ed

    @property
    def ing(self) -> str:
        base = self.en.split()[0]
        if base.endswith("e") and not base.endswith("ee"):
            return self._with(base[:-1] + "ing")
        if base in ("swim", "run", "sit", "get", "forget"):
            return self._with(base + base[-1] + "ing")
        return self._with(base + "ing")


@dataclass(frozen=True)
class Adjective:
    """An adjective of both languages; `na` for those that take な before a noun."""

    ja: str
    en: str
    na: bool = False

    @property
    def before(self) -> str:
        """As it stands before a noun: 高い, 静かな."""
        return self.ja + "な" if self.na else self.ja

    @property
    def _stem(self) -> str:
        return "よ" if self.ja == "いい" else self.ja[:-1]

    def form(self, tense: Tense, negative: bool = False, polite: bool = False) -> str:
        if self.na:
            return copula(self.ja, tense, negative, polite)
        ending = ("くなかった" if tense.past else "くない") if negative else ("かった" if tense.past else "い")
        plain = self.ja if ending == "い" else self._stem + ending
        return plain + "です" if polite else plain

    def become(self) -> str:
        """Before なる: 静かに, 高く."""
        return self.ja + "に" if self.na else self._stem + "く"

    @property
    def comparative(self) -> str:
        if self.en == "good":
            return "better"
        if self.en == "bad":
            return "worse"
        if len(self.en) > 6 or self.en.endswith(("ous", "ful", "ing", "iet")):
            return "more " + self.en
        if self.en.endswith("y"):
            return self.en[:-1] + "ier"
        if self.en.endswith("e"):
            return self.en + "r"
        return self.en + self.en[-1] + "er" if self.en in ("big", "hot", "thin") else self.en + "er"

    @property
    def superlative(self) -> str:
        more = self.comparative
        if more in ("better", "worse"):
            return {"better": "best", "worse": "worst"}[more]
        return more.replace("more ", "most ") if more.startswith("more ") else more[:-1] + "st"


@dataclass(frozen=True)
class Noun:
    """A noun of both languages; `mass` where English takes no article, `counter` as Japanese counts it."""

    ja: str
    en: str
    counter: str = ""
    mass: bool = False

    @property
    def one(self) -> str:
        """As English brings it up for the first time."""
        return self.en if self.mass else a(self.en)


def copula(ja: str, tense: Tense, negative: bool = False, polite: bool = False) -> str:
    if polite:
        return ja + (("ではありませんでした" if tense.past else "ではありません") if negative else
                     ("でした" if tense.past else "です"))  # fmt: skip
    return ja + (("ではなかった" if tense.past else "ではない") if negative else ("だった" if tense.past else "だ"))


def a(phrase: str) -> str:
    """With the indefinite article: a book, an umbrella."""
    return ("an " if phrase[0] in "aeiou" and not phrase.startswith(("uni", "use")) else "a ") + phrase


def plural(noun: str) -> str:
    irregular = {"child": "children", "person": "people", "fish": "fish", "knife": "knives", "man": "men"}
    if noun in irregular:
        return irregular[noun]
    if noun.endswith(("s", "sh", "ch", "x")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def be(person: str, tense: Tense, negative: bool = False) -> str:
    """am, are, is, was, …; `person` is 1, 2, 3 (singular) or p (plural)."""
    if tense.future:
        return "won't be" if negative else "will be"
    now = {"1": "am", "3": "is"}.get(person, "are")
    word = {"are": "were"}.get(now, "was") if tense.past else now
    if not negative:
        return word
    return "am not" if word == "am" else word + "n't"


def do(person: str, tense: Tense, negative: bool = False) -> str:
    """The auxiliary of questions and negation."""
    word = "will" if tense.future else "did" if tense.past else "does" if person == "3" else "do"
    return {"will": "won't"}.get(word, word + "n't") if negative else word

"""A Japanese text whose true entropy is known: a stochastic grammar with agreement over long distances.

The text is made of independent documents. A document has one style, plain (だ) or polite (です), one hero and one
place, and keeps them over all its sentences. Within a sentence, far-off words agree: 昨日 asks for a past verb,
決して for a negated one, たぶん for だろう or でしょう, まるで for ようだ, もし for a conditional; a noun chooses its
counter (犬を三匹, 本を三冊) and its verbs, and clauses about a noun stand between.

Every grammar rule has a probability, and no text has two derivations (a test parses samples by characters to see to
it). So the entropy of the text is that of the rules drawn: H(A) = h(A) + Σ n(A, B) H(B) for each symbol A, where h is
the entropy of the choice of its rule and n how many B its rules bring on average (Grenander 1967); a linear system,
solved in floating point. No model can have a lower perplexity than exp(H / tokens), save by luck on a sample.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from fastrnn.tasks.lm import words
from fastrnn.tasks.lm.corpus import END

__all__ = ["Grammar", "Sample", "japanese"]

Rule = tuple[float, tuple[str, ...]]


@dataclass(frozen=True)
class Sample:
    """Documents drawn from a grammar: their lines of tokens, and −ln of their probability under it."""

    lines: list[list[str]]
    nats: float


@dataclass
class Grammar:
    """Rules by symbol, each with its probability; what is no symbol is a token. The start is `START`."""

    rules: dict[str, list[Rule]] = field(default_factory=dict)

    def add(self, symbol: str, *alternatives: tuple[float, str]) -> None:
        """Rules for `symbol`: (weight, symbols and tokens with spaces between). Weights are made probabilities."""
        assert symbol not in self.rules, symbol
        total = sum(weight for weight, _ in alternatives)
        self.rules[symbol] = [(weight / total, tuple(text.split())) for weight, text in alternatives]

    def any_of(self, symbol: str, tokens: str) -> None:
        """A rule for each of the tokens, the later the rarer, as words are (Zipf's law, p ~ 1 / (rank + 2))."""
        self.add(symbol, *((1 / (rank + 3), token) for rank, token in enumerate(tokens.split())))

    def expected(self) -> tuple[float, float, float]:
        """Of one document: its entropy in nats, its expected tokens (an END a line), its expected characters (a
        line's end is one)."""
        symbols = list(self.rules)
        place = {symbol: number for number, symbol in enumerate(symbols)}
        counts, own = np.eye(len(symbols)), np.zeros((len(symbols), 3))
        for symbol, rules in self.rules.items():
            row = place[symbol]
            for p, parts in rules:
                own[row, 0] -= p * math.log(p)
                for part in parts:
                    if part in place:
                        counts[row, place[part]] -= p
                    else:
                        own[row, 1] += p
                        own[row, 2] += p * (1 if part == END else len(part))
        nats, tokens, characters = np.linalg.solve(counts, own)[place["START"]]
        return float(nats), float(tokens), float(characters)

    def sample(self, seed: int, tokens: int) -> Sample:
        """Documents, as many as it takes to have `tokens` tokens or more; the same for the same seed."""
        draw, lines, line, nats, made = random.Random(seed).random, [], list[str](), 0.0, 0
        while made < tokens:
            stack = ["START"]
            while stack:
                symbol = stack.pop()
                rules = self.rules.get(symbol)
                if rules is None:
                    made += 1
                    if symbol == END:
                        lines.append(line)
                        line = []
                    else:
                        line.append(symbol)
                    continue
                at, chosen = draw(), rules[-1]
                for rule in rules:
                    at -= rule[0]
                    if at < 0:
                        chosen = rule
                        break
                nats -= math.log(chosen[0])
                stack.extend(reversed(chosen[1]))
        return Sample(lines, nats)


@cache
def japanese() -> Grammar:
    """The grammar of the built-in text."""
    g = Grammar()
    for name, tokens in words.CLOSED.items():
        g.any_of(name, tokens)
    styles, heroes, places = ("plain", "polite"), words.HEROES, words.PLACES
    g.add("START", *((1.0, f"DOC:{s}:{h}:{p}") for s in styles for h in heroes for p in places))
    for s in styles:
        for h, kind in heroes.items():
            for p in places:
                doc, sentence = f"DOC:{s}:{h}:{p}", f"S:{s}:{h}:{p}"
                g.add(doc, (1, f"OPEN:{s}:{h}:{p} {END} MORE{doc}"))
                # says style, hero and place, so that what follows has one derivation only
                g.add(f"OPEN:{s}:{h}:{p}", (2, f"{p} に {h} が WAS:{s}"), (2, f"{h} は {p} に 住ん で WAS:{s}"),
                      (1, f"これ は {p} の {h} の 話 COPULA:{s}"))  # fmt: skip
                g.add(f"MORE{doc}", (0.8, f"{sentence} {END} MORE{doc}"), (0.2, END))
                theme = f"{h} は"
                g.add(
                    sentence,
                    (4, f"{theme} PAST , AT:{p} ACT:{s}:past".replace(",", "、")),
                    (3, f"{theme} FUTURE 、 AT:{p} ACT:{s}:future"),
                    (2, f"{theme} NEVER ACT:{s}:never"),
                    (2, f"{theme} PERHAPS 、 AT:{p} ACT:{s}:perhaps"),
                    (2, f"もし {h} が IF:{p} 、 THEN:{s}"),
                    (2, f"{theme} まるで LIKE の よう COPULA:{s}"),
                    (2, f"{p} に は COUNTED:{s}"),
                    (2, f"{h} の PART:{kind} は DEGREE FEEL:{kind} COPULA:{s}"),
                    (1, f"なぜなら 、 {theme} AT:{p} ACT:{s}:because"),
                    (1, f"QUESTION {h} は {p} に いる の ASK:{s}"),
                )
    for s in styles:
        copula = {"plain": "だ 。", "polite": "です 。"}[s]
        g.add(f"COPULA:{s}", (1, copula))
        g.add(f"WAS:{s}", (1, {"plain": "い た 。", "polite": "い まし た 。"}[s]))
        g.add(f"ASK:{s}", (1, {"plain": "だろう 。", "polite": "でしょう か 。"}[s]))
        g.add(f"THEN:{s}", *((w, f"THENOBJECT {verb[s]}") for w, verb in words.THEN))
        g.add(f"COUNTED:{s}", *((1, f"COUNT:{kind} EXIST:{s}:{kind}") for kind in words.NOUNS))
        for kind, data in words.NOUNS.items():
            g.add(f"EXIST:{s}:{kind}", (1, {"plain": f"{data.exists} 。", "polite": f"{data.exists_politely} 。"}[s]))
        for mood in words.MOODS:
            # the object and the verb agree in kind, the verb's form with adverb and style
            g.add(f"ACT:{s}:{mood}", *((data.weight, f"OBJECT:{kind} VERB:{kind}:{s}:{mood}")
                                       for kind, data in words.NOUNS.items() if data.verbs))  # fmt: skip
            for kind, data in words.NOUNS.items():
                if data.verbs:
                    forms = [(1 / (rank + 2), verb.form(s, mood)) for rank, verb in enumerate(data.verbs)]
                    g.add(f"VERB:{kind}:{s}:{mood}", *forms)
    for kind, data in words.NOUNS.items():
        g.any_of(f"NOUN:{kind}", data.nouns)
        g.add(f"COUNT:{kind}", (2, f"NP:{kind} が NUMBER {data.counter}"), (1, f"ABOUT:{kind} NOUN:{kind} が MANY"))
        g.add(f"NP:{kind}", (5, f"NOUN:{kind}"), (3, f"ADJECTIVE:{kind} NOUN:{kind}"), (2, f"ABOUT:{kind} NOUN:{kind}"))
        g.any_of(f"ADJECTIVE:{kind}", data.adjectives)
        # a clause before the noun: what stands at both its ends agrees around it
        g.add(f"ABOUT:{kind}", *((1, f"WHO が WHEN {clause}") for clause in data.clauses.split("|")))
        if data.verbs:
            g.add(f"OBJECT:{kind}", (3, f"NP:{kind} を"), (2, f"NP:{kind} を NUMBER {data.counter}"))
    for kind, (parts, feelings) in words.PARTS.items():
        g.any_of(f"PART:{kind}", parts)
        g.any_of(f"FEEL:{kind}", feelings)
    for p in places:
        g.add(f"AT:{p}", (3, f"{p} で"), (2, f"WITH と {p} で"), (2, "MANNER"), (1, f"MANNER {p} で"))
        g.add(f"IF:{p}", *((1, f"{p} で {verb}") for verb in words.CONDITIONALS.split()),
              *((1, f"WITH と {verb}") for verb in words.CONDITIONALS.split()))  # fmt: skip
    g.add("LIKE", *((1, f"NP:{kind}") for kind in words.NOUNS))
    g.add("WHO", (3, "PERSON"), (1, "PERSON の RELATIVE"))
    g.add("WITH", (3, "PERSON"), (1, "PERSON の RELATIVE"))
    g.add("THENOBJECT", (2, "PERSON に"), (1, "PERSON の RELATIVE に"), (1, "みんな に"))
    return g

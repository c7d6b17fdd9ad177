"""Distinct sentence pairs, drawn from the patterns, the same everywhere."""

from __future__ import annotations

import random

from fastrnn.tasks.translate.grammar.clauses import Draw
from fastrnn.tasks.translate.grammar.joined import JOINED
from fastrnn.tasks.translate.grammar.patterns import DOING
from fastrnn.tasks.translate.grammar.states import BEING

__all__ = ["PAIRS", "pairs"]

PAIRS = 6000
"""Sentence pairs of the data set that ships with the package."""


def pairs(count: int = PAIRS, seed: int = 0) -> list[tuple[str, str]]:
    """`count` distinct (English, Japanese) pairs.

    A third of the sentences that are said in two registers come in both, plain and polite: two translations of
    one English sentence.
    """
    draw = Draw(random.Random(seed))
    made: dict[tuple[str, str], None] = {}
    patterns = DOING + BEING + JOINED
    while len(made) < count:
        plain, polite, english = draw.pick(patterns)(draw)
        registers = [text for text in (plain, polite) if text]
        if len(registers) == 2 and not draw.chance(1 / 3):
            registers = [draw.pick(registers)]
        for japanese in registers:
            made[english, japanese] = None
    return list(made)[:count]

"""Sentence pairs: read, filtered to the course's subset, and split so that no test sentence is learned from."""

from __future__ import annotations

import hashlib
import random
import re
import unicodedata
from dataclasses import dataclass

from fastrnn.tasks.errors import UserError
from fastrnn.tasks.text import read_columns
from fastrnn.tasks.translate.grammar import pairs as builtin_pairs

__all__ = [
    "DIRECTIONS",
    "Example",
    "Split",
    "course",
    "examples",
    "load_split",
    "normalise",
    "read_pairs",
    "split_pairs",
]

Pair = tuple[str, str]  # English, Japanese

DIRECTIONS = ("ja-en", "en-ja")

_COURSE = re.compile(r"(i am|i'm|he is|he's|she is|she's|you are|you're|we are|we're|they are|they're)\b")


def normalise(sentence: str) -> str:
    """NFC, so that が is one character however it was typed, with single spaces."""
    return " ".join(unicodedata.normalize("NFC", sentence).split())


def read_pairs(data: str) -> list[Pair]:
    """Distinct (English, Japanese) pairs in file order, normalised.

    `data` is a UTF-8 file of `english<TAB>japanese` lines, of which further columns (newer downloads of Tatoeba's
    pairs have the sentence's authors there) are not read, or `builtin`. Raises `UserError` naming file and line.
    """
    if data == "builtin":
        return [(normalise(english), normalise(japanese)) for english, japanese in builtin_pairs()]
    pairs: dict[Pair, None] = {}
    for number, (english, japanese, *_) in read_columns(data, 2, "english<TAB>japanese"):
        pair = normalise(english), normalise(japanese)
        if not all(pair):
            raise UserError(f"{data}, line {number}: one of the two sentences is empty")
        pairs[pair] = None
    return list(pairs)


def course(pairs: list[Pair]) -> list[Pair]:
    """The course's subset: English sentences under ten words that start with I am, he is, they're, …"""
    return [pair for pair in pairs if len(pair[0].split()) < 10 and _COURSE.match(pair[0].lower().replace("’", "'"))]


@dataclass(frozen=True)
class Split:
    """Pairs for training, validation and test, and how many were dropped from training."""

    train: list[Pair]
    valid: list[Pair]
    test: list[Pair]
    dropped: int

    def fingerprint(self) -> str:
        """Changes when any pair or its place changes."""
        return hashlib.sha256(repr((self.train, self.valid, self.test)).encode()).hexdigest()


def split_pairs(pairs: list[Pair]) -> Split:
    """90/5/5 by distinct English sentence, in order of their characters shuffled by `random.Random(0)`.

    All translations of an English sentence fall into one part. A training pair whose Japanese is in another part too is
    dropped, so that training has no sentence of validation or test in either language.
    """
    english = sorted({pair[0] for pair in pairs})
    random.Random(0).shuffle(english)
    a, b = int(0.9 * len(english)), int(0.95 * len(english))
    if not 0 < a < b < len(english):
        raise UserError(
            f"{len(english)} distinct English sentences: at least 20 are needed, to train, validate and test"
        )
    part = {sentence: (number >= a) + (number >= b) for number, sentence in enumerate(english)}
    parts = [[pair for pair in pairs if part[pair[0]] == which] for which in range(3)]
    held = {pair[1] for pair in parts[1] + parts[2]}
    train = [pair for pair in parts[0] if pair[1] not in held]
    if not train:
        raise UserError("nothing is left to train on: each Japanese sentence is in validation or test too")
    return Split(train, parts[1], parts[2], len(parts[0]) - len(train))


def load_split(data: str, subset: str | None) -> Split:
    """The split of `data`, or of its course's subset."""
    pairs = read_pairs(data)
    if subset == "course":
        pairs = course(pairs)
    return split_pairs(pairs)


@dataclass(frozen=True)
class Example:
    """A source sentence and all its translations in one part."""

    source: str
    references: list[str]


def examples(pairs: list[Pair], direction: str) -> list[Example]:
    """One for each distinct source sentence, in file order."""
    found: dict[str, list[str]] = {}
    for english, japanese in pairs:
        source, target = (japanese, english) if direction == "ja-en" else (english, japanese)
        found.setdefault(source, []).append(target)
    return [Example(source, references) for source, references in found.items()]

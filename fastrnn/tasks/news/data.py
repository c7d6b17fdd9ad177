"""Headlines, read and checked, and their words as numbers (exercise 80)."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fastrnn.tasks.errors import UserError
from fastrnn.tasks.text import read_columns

__all__ = ["BUILTIN", "CATEGORIES", "OTHER", "PARTS", "Dictionary", "Encoded", "Headline", "fingerprint", "overlap",
           "read_file", "read_split", "words_of"]  # fmt: skip

BUILTIN = Path(__file__).parents[1] / "data" / "news"
"""The headlines that come with the package."""

PARTS = ("train", "valid", "test")

CATEGORIES = {"b": "business", "t": "technology", "e": "entertainment", "m": "health"}
"""Letter in the files, and what it stands for. Its place here is the class's number."""

OTHER = 0
"""The number of every word that the training part has once or not at all. It is a word, never padding."""


@dataclass(frozen=True)
class Headline:
    title: str
    category: str  # a letter of CATEGORIES


def words_of(title: str) -> list[str]:
    """The words: runs of the letters a to z, in lower case."""
    return re.findall("[a-z]+", title.lower())


def read_file(file: Path | str) -> list[Headline]:
    """The headlines of a file in the form of the UCI News Aggregator: 8 tab-separated columns, no quoting.

    The title is the 2nd column, the category the 5th; quotes are characters like others. Raises `UserError`
    naming the file and the line.
    """
    found = []
    for number, columns in read_columns(file, 8, "number, title, URL, publisher, category, story, host, time"):
        if len(columns) > 8:
            raise UserError(f"{file}, line {number}: {len(columns)} columns, 8 are expected")
        if columns[4] not in CATEGORIES:
            letters = ", ".join(CATEGORIES)
            raise UserError(f"{file}, line {number}: category {columns[4]!r:.20} in column 5; {letters} are the kinds")
        if not columns[1].strip():
            raise UserError(f"{file}, line {number}: no title in column 2")
        found.append(Headline(columns[1], columns[4]))
    return found


def read_split(data: str) -> dict[str, list[Headline]]:
    """train, valid and test of the folder `data`, or of `builtin`."""
    folder = BUILTIN if data == "builtin" else Path(data)
    if not folder.is_dir():
        raise UserError(f"{data}: no such folder (one with train.txt, valid.txt and test.txt, or builtin)")
    return {part: read_file(folder / f"{part}.txt") for part in PARTS}


def fingerprint(split: dict[str, list[Headline]]) -> str:
    """Changes when any title, category or place changes."""
    return hashlib.sha256(repr(sorted(split.items())).encode()).hexdigest()


def overlap(split: dict[str, list[Headline]]) -> dict[str, int]:
    """How many titles of valid and of test stand word for word in train as well: the files' own, left as it is."""
    known = {headline.title for headline in split["train"]}
    return {part: sum(headline.title in known for headline in split[part]) for part in ("valid", "test")}


class Dictionary:
    """Words to numbers by rank of frequency in training: 1 for the most frequent, `OTHER` for the rest."""

    def __init__(self, words: Sequence[str]) -> None:
        """`words` are numbered from 1 in order."""
        self.words = list(words)
        self._numbers = {word: number for number, word in enumerate(words, 1)}

    @classmethod
    def of(cls, titles: Iterable[str]) -> Dictionary:
        """Of the words seen twice or more in `titles`; of equally frequent ones the first seen is first."""
        counts = Counter(word for title in titles for word in words_of(title))
        return cls([word for word, count in counts.most_common() if count > 1])

    def __len__(self) -> int:
        """Numbers there are, `OTHER` among them."""
        return len(self.words) + 1

    def ids(self, words: Iterable[str]) -> list[int]:
        return [self._numbers.get(word, OTHER) for word in words]

    def unknown(self, words: Iterable[str]) -> list[str]:
        """Those of `words`, each once, that are read as `OTHER`."""
        return [word for word in dict.fromkeys(words) if word not in self._numbers]


@dataclass(frozen=True)
class Encoded:
    """Headlines as tensors on the CPU.

    `ids` (N, longest) int64: word numbers, then padding: len(dictionary), a number no word has.
    `lengths` (N,) int64, each at least 1: a title without a word is read as one `OTHER`.
    `labels` (N,) int64: class numbers.
    """

    ids: Tensor
    lengths: Tensor
    labels: Tensor

    @classmethod
    def of(cls, headlines: Sequence[Headline], dictionary: Dictionary) -> Encoded:
        rows = [dictionary.ids(words_of(headline.title)) or [OTHER] for headline in headlines]
        lengths = torch.tensor([len(row) for row in rows])
        ids = torch.full((len(rows), int(lengths.max())), len(dictionary))
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
        order = list(CATEGORIES)
        return cls(ids, lengths, torch.tensor([order.index(headline.category) for headline in headlines]))

    def __len__(self) -> int:
        return len(self.labels)

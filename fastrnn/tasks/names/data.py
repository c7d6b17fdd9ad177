"""Names and their classes: read, checked, split and encoded once, before the first epoch."""

from __future__ import annotations

import hashlib
import random
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fastrnn.tasks.errors import UserError
from fastrnn.tasks.text import read_lines

__all__ = ["BUILTIN", "EDGE", "LONGEST", "UNKNOWN", "Alphabet", "Encoded", "Split", "normalise", "read_classes",
           "split_names"]  # fmt: skip

BUILTIN = Path(__file__).parents[1] / "data" / "names"
"""The data set that comes with the package: Japanese names in kanji and kana."""

UNKNOWN, EDGE = 0, 1
"""Character numbers that are no characters: one never learned, and a name's start and end."""

LONGEST = 100
"""Characters a name may have. A longer line is no name, and one such would cost as much as a batch."""


def normalise(name: str) -> str:
    """NFC, so that é is one character however it was typed, without space around it."""
    return unicodedata.normalize("NFC", name).strip()


def read_classes(data: str) -> dict[str, list[str]]:
    """The distinct names of each class, in file order, classes in order of their names.

    `data` is a folder of CLASS.txt files, UTF-8, one name a line, or `builtin`. Empty lines are skipped.
    Raises `UserError` naming the file, and the line where there is one.
    """
    folder = BUILTIN if data == "builtin" else Path(data)
    if not folder.is_dir():
        raise UserError(f"{data}: no such folder (a folder of CLASS.txt files, or builtin)")
    files = sorted(file for file in folder.glob("*.txt") if not file.name.startswith("."))
    if len(files) < 2:
        raise UserError(f"{data}: {len(files)} CLASS.txt files found, at least 2 classes are needed")
    return {file.stem: _read_names(file) for file in files}


def _read_names(file: Path) -> list[str]:
    names: dict[str, None] = {}
    for number, line in enumerate(read_lines(file, empty=True), 1):
        name = normalise(line)
        if any(unicodedata.category(character) == "Cc" for character in name):
            raise UserError(f"{file}, line {number}: a control character; one name a line is expected")
        if len(name) > LONGEST:
            raise UserError(f"{file}, line {number}: {len(name)} characters; a name has at most {LONGEST}")
        if name:
            names[name] = None
    if len(names) < 3:
        what = "is empty" if not names else f"has {len(names)} distinct name" + "s" * (len(names) > 1)
        raise UserError(f"{file} {what}: a class needs at least 3, to train, validate and test")
    return list(names)


@dataclass(frozen=True)
class Split:
    """Distinct (name, class number) pairs for training, validation and test."""

    classes: list[str]
    train: list[tuple[str, int]]
    valid: list[tuple[str, int]]
    test: list[tuple[str, int]]

    def fingerprint(self) -> str:
        """Changes when any name, class or its place changes."""
        return hashlib.sha256(repr((self.classes, self.train, self.valid, self.test)).encode()).hexdigest()


def split_names(classes: dict[str, list[str]]) -> Split:
    """80/10/10 of each class, its names shuffled by `random.Random(0)`: the same for every seed of a run."""
    parts = Split(list(classes), [], [], [])
    for number, names in enumerate(classes.values()):
        pairs = [(name, number) for name in names]
        random.Random(0).shuffle(pairs)
        a, b = int(0.8 * len(pairs)), int(0.9 * len(pairs))
        parts.train.extend(pairs[:a])
        parts.valid.extend(pairs[a:b])
        parts.test.extend(pairs[b:])
    if not parts.valid:
        raise UserError("too few names to validate with: at least one class needs 6 or more")
    return parts


class Alphabet:
    """Characters to numbers. Made of the training names only, for what others hold must stay unknown."""

    def __init__(self, characters: str, rare: str = "") -> None:
        """`characters` are numbered from 2 in order; `rare` are those among them seen once only."""
        self.characters, self.rare = characters, rare
        self._numbers = {character: number for number, character in enumerate(characters, 2)}

    @classmethod
    def of(cls, pairs: list[tuple[str, int]]) -> Alphabet:
        counts = Counter(character for name, _ in pairs for character in name)
        ordered = sorted(counts)
        return cls("".join(ordered), "".join(character for character in ordered if counts[character] == 1))

    def __len__(self) -> int:
        return len(self.characters) + 2

    def encode(self, name: str) -> list[int]:
        return [self._numbers.get(character, UNKNOWN) for character in name]

    def character(self, number: int) -> str:
        return self.characters[number - 2]

    def unknown(self, name: str) -> list[str]:
        """The characters of `name`, each once, that were never seen in training."""
        return [character for character in dict.fromkeys(name) if character not in self._numbers]


@dataclass(frozen=True)
class Encoded:
    """One part of a split as tensors, on the CPU: made once, from which every epoch's batches are cut.

    `padded` (N, longest + 2) int64: EDGE, the characters, EDGE, then padding that no one reads.
    `lengths` (N,) int64: characters of each name. `labels` (N,) int64: class numbers.
    `veiled`: `padded` with the rare characters as UNKNOWN, from which a model learns what to make of one.
    """

    padded: Tensor
    lengths: Tensor
    labels: Tensor
    veiled: Tensor

    @classmethod
    def of(cls, pairs: list[tuple[str, int]], alphabet: Alphabet) -> Encoded:
        lengths = torch.tensor([len(name) for name, _ in pairs])
        column = torch.arange(int(lengths.max()) + 2)
        padded = torch.full((len(pairs), len(column)), EDGE)
        inside = (column > 0) & (column <= lengths.unsqueeze(1))
        padded[inside] = torch.tensor(alphabet.encode("".join(name for name, _ in pairs)))
        known = torch.arange(len(alphabet))
        known[alphabet.encode(alphabet.rare)] = UNKNOWN
        return cls(padded, lengths, torch.tensor([label for _, label in pairs]), known[padded])

    def __len__(self) -> int:
        return len(self.labels)

    def pick(self, index: Tensor, epoch: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """`padded`, `lengths` and `labels` of the names in `index`.

        With an epoch (in training), each name is veiled in every other one: a character seen once teaches as
        itself and as the unknown one by turns, with no random draw.
        """
        padded = self.padded[index]
        if epoch is not None:
            padded = torch.where(((index + epoch) % 2 == 1).unsqueeze(1), self.veiled[index], padded)
        return padded, self.lengths[index], self.labels[index]

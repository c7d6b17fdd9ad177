"""A text as numbers, in the course's steps: `Dictionary`, `batchify`, `get_batch`, `repackage`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

__all__ = ["END", "UNKNOWN", "Dictionary", "batchify", "get_batch", "repackage"]

UNKNOWN, END = "<unk>", "<eos>"
"""A word that is not in the dictionary, and the end of a line."""


class Dictionary:
    """Words to numbers and back. Numbered by frequency, the commonest first, equal ones in order of appearance.

    `UNKNOWN` and `END` are always there.
    """

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.numbers = {word: number for number, word in enumerate(words)}

    @classmethod
    def of(cls, lines: Iterable[list[str]]) -> Dictionary:
        """Of the words of `lines`, each of which ends in END."""
        counts: Counter[str] = Counter()
        for line in lines:
            counts.update(line)
            counts[END] += 1
        counts[UNKNOWN] += 0
        return cls([word for word, _ in counts.most_common()])

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, lines: Iterable[list[str]]) -> Tensor:
        """The numbers (tokens,) int64 of the lines one after the other, END after each."""
        unknown, end = self.numbers[UNKNOWN], self.numbers[END]
        numbers: list[int] = []
        for line in lines:
            numbers += [self.numbers.get(word, unknown) for word in line]
            numbers.append(end)
        return torch.tensor(numbers)


def batchify(numbers: Tensor, batch_size: int) -> Tensor:
    """A text (tokens,) as `batch_size` columns of equal length, (steps, batch_size): each column is a piece of the
    text, read from top to bottom; what is left over at the end is dropped.

        a b c d e f g h i j k l m, 3 columns  →  a e i
                                                 b f j
                                                 c g k
                                                 d h l
    """
    steps = len(numbers) // batch_size
    return numbers[: steps * batch_size].view(batch_size, steps).t().contiguous()


def get_batch(source: Tensor, start: int, bptt: int) -> tuple[Tensor, Tensor]:
    """Rows `start` to `start + bptt` of `source` (steps, B) as input (T, B), and the tokens that follow each,
    (T, B), as target. T is `bptt`, or fewer at the end."""
    length = min(bptt, len(source) - 1 - start)
    return source[start : start + length], source[start + 1 : start + 1 + length]


def repackage(state: Any) -> Any:
    """The state, cut from the graph it was computed by: its values go on to the next window, gradients do not go
    back into the last one. This is what makes backpropagation through time a truncated one."""
    if isinstance(state, Tensor):
        return state.detach()
    return None if state is None else tuple(map(repackage, state))

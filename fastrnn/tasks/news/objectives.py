"""The two models of headlines, as `fastrnn.tasks.training.fit` wants them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from zlib import crc32

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from fastrnn.tasks.batches import pack
from fastrnn.tasks.examples import Classification
from fastrnn.tasks.news.data import CATEGORIES, Dictionary, Encoded, Headline, words_of
from fastrnn.tasks.news.models import Bag, BagInput, Classifier

__all__ = ["PLACES", "BagTask", "ClassifierTask", "Features", "Headlines"]


PLACES = 1 << 17
"""Features are hashed into so many places, so that no list of them need be kept (Weinberger et al. 2009)."""


@dataclass(frozen=True)
class Features:
    """Headlines as features for the linear models: `places` and `weights` of each, (features of it,) each."""

    places: list[Tensor]
    weights: list[Tensor]
    lengths: Tensor
    labels: Tensor

    @classmethod
    def of(cls, headlines: Sequence[Headline], characters: bool, known: Set[str] | None = None) -> Features:
        """Words and pairs of neighbours, and with `characters` the pieces of words too; of them those `known`."""
        rows = [_features(headline.title, characters) for headline in headlines]
        if known is not None:
            rows = [{name: weight for name, weight in row.items() if name in known} for row in rows]
        places = [torch.tensor([crc32(name.encode()) % PLACES for name in row], dtype=torch.long) for row in rows]
        weights = [torch.tensor(list(row.values()), dtype=torch.float32) for row in rows]
        order = list(CATEGORIES)
        labels = torch.tensor([order.index(headline.category) for headline in headlines])
        return cls(places, weights, torch.tensor([len(row) for row in rows]), labels)

    @staticmethod
    def repeated(headlines: Sequence[Headline]) -> set[str]:
        """The words and pairs that two headlines or more have."""
        counts = Counter(name for headline in headlines for name in _features(headline.title, characters=False))
        return {name for name, count in counts.items() if count > 1}

    def pick(self, index: Tensor, device: Any = "cpu") -> BagInput:
        """Those of the headlines in `index`, one after another, as `Bag` reads them."""
        chosen, lengths = index.tolist(), self.lengths[index]
        parts = torch.cat([self.places[n] for n in chosen]), torch.cat([self.weights[n] for n in chosen])
        return parts[0].to(device), (lengths.cumsum(0) - lengths).to(device), parts[1].to(device)


def _features(title: str, characters: bool) -> dict[str, float]:
    """Feature to weight. The pieces, of 2 to 5 characters with the word's ends marked, weigh 9 in all, squared."""
    words = words_of(title)
    found = dict.fromkeys([*words, *(f"{a} {b}" for a, b in pairwise(words))], 1.0)
    if characters:
        ends = [f"<{word}>" for word in words]
        pieces = [f"#{end[i : i + n]}" for end in ends for n in range(2, 6) for i in range(len(end) - n + 1)]
        found.update({piece: 3 * count / len(pieces) ** 0.5 for piece, count in Counter(pieces).items()})
    return found


@dataclass(frozen=True)
class Headlines:
    """A part as the recurrent net reads it: its words, and features for the linear part if it has one."""

    words: Encoded
    features: Features | None

    @property
    def lengths(self) -> Tensor:
        return self.words.lengths

    @property
    def labels(self) -> Tensor:
        return self.words.labels

    @classmethod
    def of(cls, headlines: Sequence[Headline], dictionary: Dictionary, wide: bool) -> Headlines:
        return cls(Encoded.of(headlines, dictionary), Features.of(headlines, characters=True) if wide else None)

    def pick(self, index: Tensor, device: Any = "cpu") -> tuple[PackedSequence, BagInput | None]:
        """The headlines in `index`, longest first, as `Classifier` reads them."""
        words = pack(self.words.ids[index], self.lengths[index], device)
        return words, self.features.pick(index, device) if self.features else None


class _HeadlinesTask(Classification):
    unit = "headlines"

    def batch(self, part: Headlines | Features, index: Tensor, epoch: int | None = None) -> tuple[Any, Tensor]:
        return part.pick(index, self.device), part.labels[index].to(self.device)


class ClassifierTask(_HeadlinesTask):
    """Which kind a headline is of, by the recurrent net. Its parts are `Headlines`."""

    name = Classifier.name


class BagTask(_HeadlinesTask):
    """Which kind a headline is of, by the linear model. Its parts are `Features`."""

    name = Bag.name

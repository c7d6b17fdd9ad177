"""The two models of headlines, as `fastrnn.tasks.training.fit` wants them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from fastrnn.tasks.batches import pack
from fastrnn.tasks.examples import Classification
from fastrnn.tasks.news.data import CATEGORIES, Encoded, Headline, words_of
from fastrnn.tasks.news.models import Bag, Classifier

__all__ = ["BagTask", "ClassifierTask", "Features"]


class ClassifierTask(Classification):
    """Which kind a headline is of, by the recurrent net."""

    name, unit = Classifier.name, "headlines"

    def batch(self, part: Encoded, index: Tensor, epoch: int | None = None) -> tuple[PackedSequence, Tensor]:
        return pack(part.ids[index], part.lengths[index], self.device), part.labels[index].to(self.device)


@dataclass(frozen=True)
class Features:
    """Headlines as the words and the pairs of neighbouring words that are there, each once: `rows`."""

    rows: list[Tensor]  # each (features of it,) int64
    lengths: Tensor
    labels: Tensor

    @classmethod
    def numbers(cls, headlines: Sequence[Headline]) -> dict[str, int]:
        """The features that two headlines or more have, numbered."""
        counts = Counter(chain.from_iterable(set(_features(headline.title)) for headline in headlines))
        return {feature: n for n, feature in enumerate(sorted(f for f in counts if counts[f] > 1))}

    @classmethod
    def of(cls, headlines: Sequence[Headline], numbers: Mapping[str, int]) -> Features:
        rows = [
            torch.tensor(sorted({numbers[f] for f in _features(headline.title) if f in numbers}), dtype=torch.long)
            for headline in headlines
        ]
        order = list(CATEGORIES)
        labels = torch.tensor([order.index(headline.category) for headline in headlines])
        return cls(rows, torch.tensor([len(row) for row in rows]), labels)


def _features(title: str) -> list[str]:
    words = words_of(title)
    return words + [f"{a} {b}" for a, b in pairwise(words)]


class BagTask(Classification):
    """Which kind a headline is of, by the linear model."""

    name, unit = Bag.name, "headlines"

    def batch(
        self, part: Features, index: Tensor, epoch: int | None = None
    ) -> tuple[tuple[Tensor, Tensor], Tensor]:
        offsets = part.lengths[index].cumsum(0) - part.lengths[index]
        features = torch.cat([part.rows[number] for number in index.tolist()])
        return (features.to(self.device), offsets.to(self.device)), part.labels[index].to(self.device)

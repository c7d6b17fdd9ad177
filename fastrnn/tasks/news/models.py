"""The models: a recurrent net over the words of a headline, and a linear one over its bag of words and pairs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from fastrnn.tasks.batches import rows
from fastrnn.tasks.layers import recurrent

__all__ = ["POOLS", "Bag", "BagInput", "Classifier"]

POOLS = ("last", "max", "mean")

BagInput = tuple[Tensor, Tensor, Tensor]
"""Feature numbers of all headlines one after another, where each headline's begin (B,), and their weights."""


class Classifier(nn.Module):
    """Words → embedding → recurrent layers → pooled states → linear → one logit a kind.

    Pooled: `last`, the state after the last word (with two directions, each one's own last); `max` or `mean`
    over the states of all words. With `features`, the logits of a `Bag` of so many are added: deep and wide (Cheng et
    al. 2016).
    """

    name = "classifier"

    def __init__(
        self, words: int, classes: int, *, backend: str, cell: str, embedding: int, hidden: int, layers: int,
        bidirectional: bool, pool: str, dropout: float, features: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.embedding = nn.Embedding(words + 1, embedding)  # and padding, which nothing reads
        self.rnn = recurrent(backend, cell, embedding, hidden, num_layers=layers, bidirectional=bidirectional,
                             dropout=dropout if layers > 1 else 0.0)  # fmt: skip
        self.directions, self.pool, self.dropout = 1 + bidirectional, pool, dropout
        self.output = nn.Linear(self.directions * hidden, classes)
        self.wide = Bag(features, classes) if features else None

    def forward(self, inputs: tuple[PackedSequence, BagInput | None]) -> Tensor:
        """Packed word numbers (rows,), longest headline first, and the bag's input, to logits (B, classes)."""
        headlines, bag = inputs
        x = F.dropout(self.embedding(headlines.data), self.dropout, self.training)
        states, last = self.rnn(rows(headlines, x))
        if self.pool == "last":
            if isinstance(last, tuple):  # an LSTM's (h, c)
                last = last[0]
            pooled = last[-self.directions :].transpose(0, 1).flatten(1)  # of the top layer
        elif self.pool == "max":
            pooled = pad_packed_sequence(states, padding_value=-torch.inf)[0].amax(0)
        else:
            padded, lengths = pad_packed_sequence(states)
            pooled = padded.sum(0) / lengths.to(padded).unsqueeze(1)
        logits: Tensor = self.output(F.dropout(pooled, self.dropout, self.training))
        if self.wide is None or bag is None:
            return logits
        features, offsets, weights = bag
        return logits + self.wide((features, offsets, F.dropout(weights, self.dropout, self.training)))


class Bag(nn.Module):
    """Which features are there (words, and pairs of neighbours) → linear. What the recurrent net is held against."""

    name = "bag"

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.EmbeddingBag(features, classes, mode="sum")
        nn.init.zeros_(self.weight.weight)
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, inputs: BagInput) -> Tensor:
        """The features to logits (B, classes)."""
        features, offsets, weights = inputs
        return self.weight(features, offsets, per_sample_weights=weights) + self.bias

"""The language model: embedding, recurrent layers, softmax over the vocabulary."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from fastrnn.tasks.layers import recurrent
from fastrnn.tasks.softmax import AdaptiveSoftmax, FullSoftmax

__all__ = ["LanguageModel"]


class LanguageModel(nn.Module):
    """Token → embedding → recurrent layers → softmax over the next token, with dropout between them.

    `tied`: the output's weight is the embedding's (Press & Wolf 2017, Inan et al. 2017), so both have one size.
    """

    name = "lm"

    def __init__(
        self, vocabulary: int, *, backend: str, cell: str, embedding: int, hidden: int, layers: int, dropout: float,
        tied: bool, softmax: str,
    ) -> None:  # fmt: skip
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        between = dropout if layers > 1 else 0.0
        self.rnn = recurrent(backend, cell, embedding, hidden, num_layers=layers, dropout=between)
        self.dropout = dropout
        self.output: AdaptiveSoftmax | FullSoftmax
        if softmax == "adaptive":
            self.output = AdaptiveSoftmax(hidden, vocabulary)
        else:
            self.output = FullSoftmax(hidden, vocabulary, self.embedding.weight if tied else None)

    def forward(self, tokens: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Tokens (T, B) and the state before them to hidden vectors (T·B, H) and the state after them."""
        embedded = F.dropout(self.embedding(tokens), self.dropout, self.training)
        hidden, state = self.rnn(embedded, state)
        return F.dropout(hidden.flatten(0, 1), self.dropout, self.training), state

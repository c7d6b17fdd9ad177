"""The two models: a classifier that reads a name, and a generator that writes one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from fastrnn.tasks.batches import rows
from fastrnn.tasks.layers import recurrent

__all__ = ["Classifier", "Generator"]


class Classifier(nn.Module):
    """Characters → embedding → recurrent layers → last state → linear → one logit a class."""

    name = "classifier"

    def __init__(
        self, characters: int, classes: int, *, backend: str, cell: str, embedding: int, hidden: int,
        layers: int, dropout: float, bidirectional: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.embedding = nn.Embedding(characters, embedding)
        self.rnn = recurrent(backend, cell, embedding, hidden, num_layers=layers, bidirectional=bidirectional)
        self.directions = 1 + bidirectional
        self.dropout = dropout
        self.output = nn.Linear(self.directions * hidden, classes)

    def forward(self, names: PackedSequence) -> Tensor:
        """Packed character numbers (rows,), longest name first, to logits (B, classes)."""
        _, state = self.rnn(rows(names, self.embedding(names.data)))
        if isinstance(state, tuple):  # an LSTM's (h, c)
            state = state[0]
        last = state[-self.directions :]  # of the top layer: (directions, B, hidden)
        return self.output(F.dropout(last.transpose(0, 1).flatten(1), self.dropout, self.training))


class Generator(nn.Module):
    """(Character, class) → embeddings → recurrent layers → linear → logits of the next character.

    The class stands beside every character, so that the state need not carry it to the end of the name.
    """

    name = "generator"

    def __init__(
        self, characters: int, classes: int, *, backend: str, cell: str, embedding: int, hidden: int,
        layers: int, dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.embedding = nn.Embedding(characters, embedding)
        self.class_embedding = nn.Embedding(classes, embedding // 2)
        self.rnn = recurrent(backend, cell, embedding + embedding // 2, hidden, num_layers=layers)
        self.output = nn.Linear(hidden, characters)
        self.dropout = dropout

    def forward(self, names: PackedSequence) -> Tensor:
        """Packed rows (rows, 2) of character and class to logits (rows, characters) of what follows."""
        hidden, _ = self.rnn(rows(names, self.inputs(names.data[:, 0], names.data[:, 1])))
        return self.output(F.dropout(hidden.data, self.dropout, self.training))

    def step(self, character: int, klass: int, state: Any = None) -> tuple[Tensor, Any]:
        """One character in; out the logits (characters,) of the next, and the state to pass to the next step.

        `state` is None before the first character.
        """
        now = torch.tensor([[character, klass]], device=self.output.weight.device)
        hidden, state = self.rnn(self.inputs(now[:, :1], now[:, 1:]), state)  # a sequence of T=1, B=1
        return self.output(hidden[0, 0]), state

    def inputs(self, characters: Tensor, classes: Tensor) -> Tensor:
        """What the recurrent layers read: the two embeddings beside each other."""
        return torch.cat([self.embedding(characters), self.class_embedding(classes)], -1)

"""The translator: an encoder that reads the source, a decoder that writes the target, with or without attention.

Where attention stands decides whether the decoder can run fast. In the usual attentional decoder what was attended
to enters the next step's input (Bahdanau et al. 2015; the input feeding of Luong et al. 2015), so that each target step
is a call of its own. Here no recurrent layer's input depends on a later layer's output: a first layer reads the target
so far, its states attend to the source (Luong et al. 2015, "general" scores), and a second layer reads both, and so
remembers what was attended to before. Under teacher forcing every layer is then one call over the whole target, on
packed rows, and the attention of all steps is two products.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from fastrnn.tasks.batches import rows
from fastrnn.tasks.layers import recurrent
from fastrnn.tasks.softmax import linear_cross_entropy

__all__ = ["Memory", "Target", "Translator"]

State = Any  # (1, B, H), or an LSTM's pair of them


class Memory(NamedTuple):
    """What the decoder may look at, a row a source sentence: states (B, S, F), the same as keys (B, S, H), and
    what is added to scores, 0 or, behind a sentence's end, -inf (B, 1, S)."""

    states: Tensor
    keys: Tensor
    mask: Tensor

    def pick(self, index: Tensor) -> Memory:
        return Memory(*(part.index_select(0, index) for part in self))


class Target(NamedTuple):
    """A batch of targets under teacher forcing. `read` are the packed tokens put in (rows,), each sentence behind
    START; `cells` (rows,) says which cell of the padded batch, B sentences by T steps, a row is; `place` (rows,)
    which sentence, counted in packed order."""

    read: PackedSequence
    cells: Tensor
    place: Tensor

    @property
    def places(self) -> tuple[PackedSequence, Tensor]:
        return self.read, self.place

    @classmethod
    def of(cls, read: PackedSequence) -> Target:
        """`read` holds B sentences, in any order of length."""
        place, sizes = _places(read), read.batch_sizes
        order = read.sorted_indices
        sentence = place if order is None else order.index_select(0, place)
        step = torch.repeat_interleave(torch.arange(len(sizes)), sizes).to(place.device)
        return cls(read, sentence * len(sizes) + step, place)


class Translator(nn.Module):
    """Source tokens to what the output layer reads, and that to a score for each word of the target.

    Args:
        source, target: sizes of the vocabularies.
        backend, cell: of the recurrent layers, as in `fastrnn.tasks.layers`.
        embedding, hidden: sizes of a token's vector and of a state. The output layer's matrix is the target's
            embedding (Press & Wolf 2017), so features have the embedding's size.
        layers: of the encoder.
        dropout: share of values dropped from embeddings, memory and features; the same ones at all steps of a
            sentence (Gal & Ghahramani 2016), which also costs a draw a sentence in place of one a token.
        attention: with it the encoder reads both ways; without, all that the decoder knows is the last state.
    """

    def __init__(
        self, source: int, target: int, *, backend: str, cell: str, embedding: int, hidden: int, layers: int,
        dropout: float, attention: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.source_embedding = nn.Embedding(source, embedding)
        self.target_embedding = nn.Embedding(target, embedding)
        for table in (self.source_embedding, self.target_embedding):
            nn.init.normal_(table.weight, std=embedding**-0.5)
        self.dropout, self.attention, self.lstm = dropout, attention, cell == "lstm"
        between = dropout if layers > 1 else 0.0
        self.encoder = recurrent(
            backend, cell, embedding, hidden, num_layers=layers, bidirectional=attention, dropout=between
        )
        memory = 2 * hidden if attention else hidden
        self.decoder = recurrent(backend, cell, embedding, hidden)
        if attention:
            self.bridge = nn.Linear(memory, (2 + 2 * self.lstm) * hidden)
            self.keys = nn.Linear(memory, hidden, bias=False)
            self.second = recurrent(backend, cell, hidden + memory, hidden)
        self.features = nn.Linear(hidden + memory if attention else hidden, embedding)
        self.bias = nn.Parameter(torch.zeros(target))

    # ---- training: the whole target at once ----------------------------------------------------------------------
    def forward(self, source: PackedSequence, target: Target) -> Tensor:
        """Features (rows, embedding) of each target step, for `score` and `loss`; `source` (rows,), longest first."""
        memory, (first, second) = self.encode(source)
        packed = target.read
        packed, _ = self.decoder(rows(packed, self._drop(self.target_embedding(packed.data), *target.places)), first)
        if memory is None:
            return self._features(packed.data, target)
        padded, _ = pad_packed_sequence(packed, batch_first=True)
        context = self.attend(memory, padded)[0].flatten(0, 1).index_select(0, target.cells)
        read = self._drop(torch.cat([packed.data, context], 1), *target.places)
        packed, _ = self.second(rows(packed, read), second)
        return self._features(torch.cat([packed.data, context], 1), target)

    def score(self, features: Tensor) -> Tensor:
        """Logits (rows, target) of the next word."""
        return F.linear(features, self.target_embedding.weight, self.bias)

    def loss(self, features: Tensor, words: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """The mean cross-entropy of `words` (rows,) given features (rows, embedding)."""
        return linear_cross_entropy(features, self.target_embedding.weight, self.bias, words, label_smoothing)

    def encode(self, source: PackedSequence) -> tuple[Memory | None, tuple[State, State]]:
        """The memory, with attention, and the decoder layers' first states."""
        x = self._drop(self.source_embedding(source.data), source, _places(source))
        packed, state = self.encoder(rows(source, x))
        if not self.attention:
            last = tuple(part[-1:].contiguous() for part in state) if self.lstm else state[-1:].contiguous()
            return None, (last, None)
        states, lengths = pad_packed_sequence(packed, batch_first=True)
        if self.training and self.dropout:
            states = states * F.dropout(states.new_ones(len(states), 1, states.shape[2]), self.dropout)
        behind = torch.arange(states.shape[1], device=states.device) >= lengths.to(states.device).unsqueeze(1)
        mask = states.new_zeros(behind.shape).masked_fill_(behind, -torch.inf).unsqueeze(1)
        ends = (state[0] if self.lstm else state)[-2:]  # where reading ended, ahead and back: (2, B, hidden)
        started = torch.tanh(self.bridge(torch.cat([ends[0], ends[1]], 1))).unsqueeze(0)
        parts = [part.contiguous() for part in started.chunk(2 + 2 * self.lstm, 2)]
        first, second = ((parts[0], parts[1]), (parts[2], parts[3])) if self.lstm else parts
        return Memory(states, self.keys(states), mask), (first, second)

    def attend(self, memory: Memory, query: Tensor) -> tuple[Tensor, Tensor]:
        """What `query` (B, T, hidden) looks at: contexts (B, T, F) and weights (B, T, S)."""
        scores = torch.baddbmm(memory.mask, query, memory.keys.transpose(1, 2), alpha=query.shape[2] ** -0.5)
        weights = scores.softmax(2)
        return torch.bmm(weights, memory.states), weights

    # ---- decoding: a step at a time ------------------------------------------------------------------------------
    def step(
        self, memory: Memory | None, states: tuple[State, State], token: Tensor
    ) -> tuple[Tensor, tuple[State, State], Tensor | None]:
        """One token (B,) a sentence in; out the logits (B, target) of the next, the states to pass to the next
        step, and the attention's weights (B, S).

        Each layer is called with T = 1, which without gradients is its short way.
        """
        output, first = self.decoder(self.target_embedding(token).unsqueeze(0), states[0])
        h = output[0]
        if memory is None:
            return self.score(self._features(h, None)), (first, None), None
        context, weights = self.attend(memory, h.unsqueeze(1))
        both = torch.cat([h, context[:, 0]], 1)
        output, second = self.second(both.unsqueeze(0), states[1])
        features = self._features(torch.cat([output[0], context[:, 0]], 1), None)
        return self.score(features), (first, second), weights[:, 0]

    def _features(self, x: Tensor, target: Target | None) -> Tensor:
        x = torch.tanh(self.features(x if target is None else self._drop(x, *target.places)))
        return x if target is None else self._drop(x, *target.places)

    def _drop(self, x: Tensor, packed: PackedSequence, place: Tensor) -> Tensor:
        """`x` (rows, F) with the same features dropped in all rows of a sentence."""
        if not self.training or not self.dropout:
            return x
        kept = F.dropout(x.new_ones(int(packed.batch_sizes[0]), x.shape[1]), self.dropout)
        return x * kept.index_select(0, place)


def _places(packed: PackedSequence) -> Tensor:
    """The place in its step of each packed row (rows,): which sentence it is of, counted in packed order."""
    sizes = packed.batch_sizes
    starts = torch.repeat_interleave(sizes.cumsum(0) - sizes, sizes)
    return (torch.arange(len(starts)) - starts).to(packed.data.device)

"""Batches of sentence pairs as tensors, cut from the parts encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from fastrnn.tasks.batches import pack, rows
from fastrnn.tasks.translate.models import Target
from fastrnn.tasks.translate.vocabulary import END, START

__all__ = ["Encoded", "Sentences", "pack_sources"]


@dataclass(frozen=True)
class Sentences:
    """Numbered sentences (N, longest) int64, each ending with END and followed by padding that no one reads, and
    their lengths (N,) int64, END included; on the CPU."""

    padded: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, sentences: Sequence[list[int]]) -> Sentences:
        lengths = torch.tensor([len(sentence) for sentence in sentences])
        padded = torch.full((len(sentences), int(lengths.max())), END)
        padded[torch.arange(padded.shape[1]) < lengths.unsqueeze(1)] = torch.tensor(
            list(chain.from_iterable(sentences))
        )
        return cls(padded, lengths)


def pack_sources(sources: Sentences, index: Tensor, device: torch.device | str, backwards: bool) -> PackedSequence:
    """The sources in `index`, longest first, packed; `backwards` from END to their first word."""
    padded, lengths = sources.padded[index], sources.lengths[index]
    if backwards:
        column = (lengths.unsqueeze(1) - 1 - torch.arange(padded.shape[1])).clamp(min=0)
        padded = padded.gather(1, column)
    return pack(padded, lengths, device)


@dataclass(frozen=True)
class Encoded:
    """One part of a split: the pairs' sources and targets."""

    sources: Sentences
    targets: Sentences

    @property
    def order(self) -> Tensor:
        """What batches are sorted by (N,): sources' lengths, those alike by their targets'."""
        return self.sources.lengths * (1 + int(self.targets.lengths.max())) + self.targets.lengths

    def batch(
        self, index: Tensor, device: torch.device | str, backwards: bool
    ) -> tuple[PackedSequence, Target, Tensor]:  # fmt: skip
        """Packed sources, packed targets as they are put in, and the words (rows,) to come out, for the pairs in
        `index`, longest source first."""
        padded, lengths = self.targets.padded[index], self.targets.lengths[index]
        padded = padded[:, : int(lengths.max())]
        before = torch.cat([torch.full((len(index), 1), START), padded[:, :-1]], 1)
        columns = torch.stack([before, padded], 2).to(device)
        both = pack_padded_sequence(columns, lengths, batch_first=True, enforce_sorted=False)
        read = rows(both, both.data[:, 0].contiguous())
        return pack_sources(self.sources, index, device, backwards), Target.of(read), both.data[:, 1]

"""Ragged batches: which examples meet in a batch, and how they are packed so that no padding is computed."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

__all__ = ["buckets", "pack", "rows"]


def buckets(lengths: Tensor, size: int, generator: torch.Generator | None = None, pool: int = 32) -> list[Tensor]:
    """Batches of at most `size` example numbers, each sorted by length, longest first.

    `lengths` is (N,) int64 on the CPU. With a generator the examples are shuffled, examples of like length
    brought together within pools of `pool` batches, and the batches shuffled: few steps are run for the sake
    of one long example, and the batches still differ from epoch to epoch. Without one, all are sorted by
    length.
    """
    if generator is None:
        return list(lengths.argsort(descending=True, stable=True).split(size))
    batches: list[Tensor] = []
    for part in torch.randperm(len(lengths), generator=generator).split(size * pool):
        batches += part[lengths[part].argsort(descending=True, stable=True)].split(size)
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def pack(padded: Tensor, lengths: Tensor, device: torch.device | str = "cpu") -> PackedSequence:
    """`padded` (B, T, ...) as the packed rows (sum of lengths, ...) on `device`.

    `lengths` is (B,) int64 on the CPU, longest first.
    """
    packed = pack_padded_sequence(padded[:, : int(lengths[0])], lengths, batch_first=True)
    return rows(packed, packed.data.to(device))


def rows(packed: PackedSequence, data: Tensor) -> PackedSequence:
    """The sequence with `packed`'s shape and other rows: `data` is (sum of lengths, ...)."""
    return PackedSequence(data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)

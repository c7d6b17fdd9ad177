"""Memory for large reserves and gradients, kept from one training step to the next.

glibc gives pieces of 32 MiB and more back to the system as soon as they are freed, and smaller ones when what is free
at the end of its heap is twice as large as the largest of them: as when an optimizer frees all gradients, or a step its
graph. The next step would then wait for the system to map and clear them anew, which can take longer than a small
batch's step.
"""

import contextlib
import math
import mmap
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

LEAST = 1 << 20
"""Bytes from which on a reserve comes from here."""
LEAST_GRADIENT = 512 << 10
"""Bytes from which on a gradient does: those of one layer are freed together."""
MOST_KEPT = 256 << 20
"""Bytes that are kept at most while nobody uses them."""

_FLAGS = getattr(mmap, "MAP_PRIVATE", 0) | getattr(mmap, "MAP_ANONYMOUS", 0)  # 0: a system without them

_free: list[mmap.mmap] = []  # in the order in which they were given back
_used: dict[int, tuple[Any, mmap.mmap]] = {}  # by the address of the array that stands for the memory while it is used


def take(sizes: Sequence[int], dtype: torch.dtype, least: int = LEAST) -> Tensor | None:
    """A tensor of these sizes on the CPU, not initialised. Its memory serves again once nothing refers to the tensor's
    storage any more. None where it would have less than `least` bytes, or cannot be had: torch then says so in its own
    words.

    The storage cannot be resized.
    """
    size = math.prod(sizes) * dtype.itemsize
    if size < least or not _FLAGS:
        return None
    try:
        block = _block(size)
    except OSError:
        return None
    array = np.frombuffer(block, np.uint8, size)  # the storage refers to it, and to nothing else
    key = id(array)
    _used[key] = weakref.ref(array, lambda _: _give_back(key)), block
    return torch.frombuffer(array, dtype=dtype).resize_(sizes)  # not a view, as one by `view` would be


def _block(size: int) -> mmap.mmap:
    for block in sorted((b for b in _free if size <= len(b) <= 2 * size), key=len):
        try:
            _free.remove(block)
        except ValueError:  # another thread took it
            continue
        return block
    # an eighth more, because the next batch may be a little longer; it is not touched before
    return mmap.mmap(-1, size + size // 8, flags=_FLAGS)


def _give_back(key: int) -> None:
    _, block = _used.pop(key)
    _free.append(block)
    while sum(map(len, _free)) > MOST_KEPT:
        with contextlib.suppress(IndexError):  # another thread took the last one
            _free.pop(0)  # the one that nobody has wanted for the longest time

"""Memory for large reserves and gradients, kept from one training step to the next.

glibc gives pieces of 32 MiB and more back to the system as soon as they are freed, and smaller ones when what is free
at the end of its heap is twice as large as the largest of them: as when an optimizer frees all gradients, or a step its
graph. The next step would then wait for the system to map and clear them anew, which can take longer than a small
batch's step.
"""

import math
import mmap
import threading
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
"""Bytes that are kept at most while nobody uses them, and that pieces below FRESH have together at most: what could not
be kept is left to the C library."""
FRESH = 32 << 20
"""Bytes from which on glibc maps each piece anew."""

_FLAGS = getattr(mmap, "MAP_PRIVATE", 0) | getattr(mmap, "MAP_ANONYMOUS", 0)  # 0: a system without them

_free: list[mmap.mmap] = []  # in the order in which they were given back
_used: dict[int, tuple[Any, mmap.mmap]] = {}  # by the address of the array that stands for the memory while it is used


class _Total:
    """Of the bytes of some blocks. They may be given back at any time, and by any thread."""

    def __init__(self) -> None:
        self.bytes = 0
        self._lock = threading.RLock()

    def add(self, size: int) -> None:
        with self._lock:
            self.bytes += size


_in_use, _kept = _Total(), _Total()


def take(sizes: Sequence[int], dtype: torch.dtype, least: int = LEAST) -> Tensor | None:
    """A tensor of these sizes on the CPU, not initialised. Its memory serves again once nothing refers to the tensor's
    storage any more. None where it would have less than `least` bytes, or cannot be had: torch then says so in its own
    words.

    The storage cannot be resized.
    """
    size = math.prod(sizes) * dtype.itemsize
    if size < least or not _FLAGS or (size < FRESH and _in_use.bytes + size > MOST_KEPT):
        return None
    try:
        block = _block(size)
    except OSError:
        return None
    array = np.frombuffer(block, np.uint8, size)  # the storage refers to it, and to nothing else
    key = id(array)
    _used[key] = weakref.ref(array, lambda _: _give_back(key)), block
    _in_use.add(len(block))
    return torch.frombuffer(array, dtype=dtype).resize_(sizes)  # not a view, as one by `view` would be


def _block(size: int) -> mmap.mmap:
    while (block := _fitting(size)) is not None:
        try:
            _free.remove(block)
        except ValueError:  # another thread took it
            continue
        _kept.add(-len(block))
        return block
    # an eighth more, because the next batch may be a little longer; it is not touched before
    return mmap.mmap(-1, size + size // 8, flags=_FLAGS)


def _fitting(size: int) -> mmap.mmap | None:
    """The smallest that would do or, where it comes first, the last one given back that is hardly larger."""
    best = None
    for block in reversed(_free):
        if size <= len(block) <= 2 * size and (best is None or len(block) < len(best)):
            best = block
            if len(best) <= size + size // 8:
                break
    return best


def _give_back(key: int) -> None:
    _, block = _used.pop(key)
    _in_use.add(-len(block))
    _free.append(block)
    _kept.add(len(block))
    while _kept.bytes > MOST_KEPT:
        try:
            oldest = _free.pop(0)  # the one that nobody has wanted for the longest time
        except IndexError:  # another thread took the last one
            break
        _kept.add(-len(oldest))

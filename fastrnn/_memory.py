"""Memory for large reserves, kept from one training step to the next.

glibc gives pieces of 32 MiB and more back to the system as soon as they are freed, and the next step would then wait
for the system to map and clear them anew.
"""

import mmap
import weakref
from typing import Any

import numpy as np
import torch
from torch import Tensor

LEAST = 32 << 20
"""Bytes from which on memory comes from here: smaller pieces glibc keeps by itself."""
MOST_KEPT = 256 << 20
"""Bytes that are kept at most while nobody uses them."""

_FLAGS = getattr(mmap, "MAP_PRIVATE", 0) | getattr(mmap, "MAP_ANONYMOUS", 0)  # 0: a system without them
_DTYPES = {torch.float32: np.float32, torch.float64: np.float64}

_free: list[mmap.mmap] = []  # in the order in which they were given back
_used: dict[int, tuple[Any, mmap.mmap]] = {}  # by the address of the array that stands for the memory while it is used


def take(count: int, dtype: torch.dtype) -> Tensor | None:
    """(count) of float32 or float64, not initialised. The memory serves again once nothing refers to the tensor's
    storage any more. None where it would not be large, or cannot be had: torch then says so in its own words.

    The storage cannot be resized.
    """
    size = count * dtype.itemsize
    if size < LEAST or not _FLAGS:
        return None
    try:
        block = _block(size)
    except OSError:
        return None
    array = np.frombuffer(block, _DTYPES[dtype], count)  # the storage refers to it, and to nothing else
    key = id(array)
    _used[key] = weakref.ref(array, lambda _: _give_back(key)), block
    return torch.from_numpy(array)


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
        _free.pop(0)  # the one that nobody has wanted for the longest time

"""Freed memory kept for the next step, instead of given back and faulted in again page by page."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # malloc.h


def keep_freed_memory() -> None:
    """Let glibc serve large tensors from memory that earlier ones left; other systems are left as they are.

    By default it maps each block of some MiB anew and unmaps it when freed, so that every step of a training writes to
    fresh pages, which the kernel has to clear first: a quarter of a language model's step.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # not glibc
        return
    limit = 2**31 - 1
    mallopt(_MMAP_THRESHOLD, 1 << 30)
    mallopt(_TRIM_THRESHOLD, limit)
    mallopt(_TOP_PAD, 64 << 20)

"""Ctrl-C during a training: a wish first, an order the second time."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

__all__ = ["StopRequest"]


class StopRequest:
    """Turns Ctrl-C or SIGTERM into a wish, looked at between steps; a second one is immediate, unless torchrun
    is the one that sends it after the terminal already did."""

    def __init__(self, twice_is_immediate: bool = True) -> None:
        self.requested = False
        self._restore = twice_is_immediate
        self._before: dict[int, Any] = {}

    def _note(self, number: int, _: FrameType | None) -> None:
        self.requested = True
        if self._restore:
            # not print, which may be what was interrupted
            os.write(2, b"\nStopping after this step or validation; once more stops at once.\n")
            signal.signal(number, self._before[number])

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # no other thread may set handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

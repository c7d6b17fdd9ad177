"""How it is timed: rounds in which every peer runs for one short window, and what was disturbed is dropped.

Peers are interleaved so that a change of clock speed or of the machine's load meets all of them. A round
counts only if the system let our threads run: the kernel says how long they stood ready without a core, and
the hypervisor how much it took away.
"""

from __future__ import annotations

import gc
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

WINDOW = 0.02
"""Seconds a peer runs before the next one's turn: long against the clock, short against drifts of speed."""
LEAST_ROUNDS = 5
TOLERATED_WAIT = 0.02
"""Share of a round that our threads may have waited for a core before the round is dropped."""


@dataclass(frozen=True)
class Spread:
    """Milliseconds a call: median, quartiles and minimum over the rounds."""

    median: float
    low: float
    high: float
    best: float

    @classmethod
    def of(cls, seconds: list[float]) -> Spread:
        low, median, high = (float(q) * 1e3 for q in np.percentile(seconds, (25, 50, 75)))
        return cls(median, low, high, min(seconds) * 1e3)


@dataclass(frozen=True)
class Timing:
    """Result of `interleave`.

    `quiet` is False where too few rounds passed undisturbed; the spreads are then those of all rounds.
    `foreign` is the share of the machine's CPU time that other processes used, coarse (10 ms ticks) and over
    the whole run.
    """

    spreads: dict[str, Spread]
    rounds: int
    dropped: int
    quiet: bool
    foreign: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def _proc_stat() -> list[int]:
    """The machine's CPU ticks: user nice system idle iowait irq softirq steal."""
    try:
        return [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except OSError:
        return [0] * 8


def waited() -> float:
    """Seconds that this process's threads have stood ready without a core, plus what the hypervisor stole.

    0 forever on a system that does not tell (anything but Linux): no round is dropped there.
    """
    total = 0.0
    for task in Path("/proc/self/task").glob("*/schedstat"):
        try:
            total += int(task.read_text().split()[1]) * 1e-9
        except (OSError, IndexError):  # the thread ended, or the system keeps no such account
            continue
    return total + _proc_stat()[7] / os.sysconf("SC_CLK_TCK")


def _foreign_seconds() -> float:
    """CPU seconds used so far by everyone but this process."""
    ticks = _proc_stat()
    busy = sum(ticks) - ticks[3] - ticks[4]
    return busy / os.sysconf("SC_CLK_TCK") - time.process_time()


def _window(run: Callable[[], Any], calls: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(calls):
        run()
    return (clock() - start) / calls


def _calls(run: Callable[[], Any], window: float, clock: Callable[[], float]) -> int:
    """Warms up for about two windows, three calls at least, and returns how many calls fill one window."""
    begin, fastest, done = clock(), math.inf, 0
    while done < 3 or clock() - begin < 2 * window:
        fastest = min(fastest, _window(run, 1, clock))
        done += 1
    return max(1, math.ceil(window / max(fastest, 1e-7)))


def interleave(
    runs: Mapping[str, Callable[[], Any]],
    budget: float,
    *,
    window: float = WINDOW,
    least: int = LEAST_ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
    waiting: Callable[[], float] = waited,
) -> Timing:
    """Times every function of `runs` in turn, round after round, for about `budget` seconds.

    Goes on past the budget, to three times as much, until `least` rounds were undisturbed; makes at least
    `least` rounds in any case. The order of the peers turns round with every round. The garbage collector
    rests meanwhile.
    """
    calls = {name: _calls(run, window, clock) for name, run in runs.items()}
    order = list(runs)
    kept: list[dict[str, float]] = []
    dropped: list[dict[str, float]] = []
    foreign, begin = _foreign_seconds(), clock()
    collecting = gc.isenabled()
    gc.disable()
    try:
        while True:
            spent = clock() - begin
            enough = len(kept) >= least or (spent >= 3 * budget and len(kept) + len(dropped) >= least)
            if spent >= budget and enough:
                break
            before, start = waiting(), clock()
            seconds = {name: _window(runs[name], calls[name], clock) for name in order}
            lost, took = waiting() - before, clock() - start
            (kept if lost <= TOLERATED_WAIT * took else dropped).append(seconds)
            order.reverse()
    finally:
        if collecting:
            gc.enable()
    share = (_foreign_seconds() - foreign) / (spent * (os.cpu_count() or 1))
    quiet = len(kept) >= least
    rounds = kept if quiet else kept + dropped
    return Timing(
        {name: Spread.of([r[name] for r in rounds]) for name in runs},
        len(rounds),
        len(dropped) if quiet else 0,
        quiet,
        max(0.0, share),
    )

"""How it is timed: rounds in which every peer runs for one short window, and what was disturbed is dropped.

Peers are interleaved so that a change of clock speed or of the machine's load meets all of them. A round
counts only if the system let our threads run: the kernel says how long they stood ready without a core, and
the hypervisor how much it took away.

A peer may live in a worker process (see worker.py): it then times its own window and tells how long its threads
waited meanwhile. Before every turn of such a row all threads must have gone to sleep, because the idle threads of one
peer's pool spin for a while and would take the next peer's core.
"""

from __future__ import annotations

import gc
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

WINDOW = 0.02
"""Seconds a peer runs before the next one's turn: long against the clock, short against drifts of speed."""
LEAST_ROUNDS = 5
LEAST_LONG_ROUNDS = 3
"""Enough where a round takes half the budget or more: its windows are long, and so less noisy."""
TOLERATED_WAIT = 0.02
"""Share of a round that our threads may have waited for a core before the round is dropped."""
LONGEST_SPIN = 0.3
"""Seconds that we wait for idle threads to go to sleep: more than any OpenMP runtime spins by default."""


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


def _tasks(pids: Iterable[int], file: str) -> Iterable[tuple[str, str]]:
    """(thread id, text) of /proc/PID/task/*/`file` for this process and those of `pids`."""
    for process in ("self", *pids):
        for path in Path(f"/proc/{process}/task").glob(f"*/{file}"):
            try:
                yield path.parent.name, path.read_text()
            except OSError:  # the thread ended, or the system keeps no such account
                continue


def waited() -> float:
    """Seconds that this process's threads have stood ready without a core, plus what the hypervisor stole.

    0 forever on a system that does not tell (anything but Linux): no round is dropped there.
    """
    total = sum(int(text.split()[1]) for _, text in _tasks((), "schedstat"))
    return total * 1e-9 + _proc_stat()[7] / os.sysconf("SC_CLK_TCK")


def settle(pids: Sequence[int], limit: float = LONGEST_SPIN) -> None:
    """Waits until no thread of this process or of the workers runs, the caller's apart; `limit` seconds at most."""
    stop = time.perf_counter() + limit
    caller = str(threading.get_native_id())
    while time.perf_counter() < stop:
        # the state is the first field behind the name, which stands in brackets and may hold anything
        if not any(text.rpartition(")")[2].split()[0] == "R" for name, text in _tasks(pids, "stat") if name != caller):
            return
        time.sleep(0.0005)


def _foreign_seconds(pids: Iterable[int]) -> float:
    """CPU seconds used so far by everyone but this process and the workers `pids`."""
    ticks = _proc_stat()
    busy = sum(ticks) - ticks[3] - ticks[4]
    for pid in pids:
        try:
            busy -= sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
        except OSError:
            continue
    return busy / os.sysconf("SC_CLK_TCK") - time.process_time()


def turn(
    run: Callable[[], Any],
    calls: int,
    clock: Callable[[], float] = time.perf_counter,
    waiting: Callable[[], float] = waited,
) -> tuple[float, float]:
    """Seconds a call, over `calls` calls, and seconds that were lost to others meanwhile.

    A peer in a worker has a `window` that does the same there. Where many calls fill the window, one goes before them
    and is not counted: it wakes the peer's threads and brings its weights back into the caches.
    """
    if hasattr(run, "window"):
        return run.window(calls)
    if calls > 4:
        run()
    before, start = waiting(), clock()
    for _ in range(calls):
        run()
    took = clock() - start
    return took / calls, waiting() - before


def _calls(run: Callable[[], Any], window: float, clock: Callable[[], float]) -> int:
    """Warms up and returns how many calls fill one window.

    Two windows and three calls at least; one call where it is longer than five windows, since to prepare the case it
    has been made before.
    """
    begin, fastest, done = clock(), math.inf, 0
    while done < 3 or clock() - begin < 2 * window:
        fastest = min(fastest, turn(run, 1, clock, lambda: 0.0)[0])
        done += 1
        if fastest > 5 * window:
            break
    return max(1, math.ceil(window / max(fastest, 1e-7)))


def interleave(
    runs: Mapping[str, Callable[[], Any]],
    budget: float,
    *,
    window: float = WINDOW,
    least: int = LEAST_ROUNDS,
    pids: Sequence[int] = (),
    clock: Callable[[], float] = time.perf_counter,
    waiting: Callable[[], float] = waited,
) -> Timing:
    """Times every function of `runs` in turn, in windows of `window` seconds, for about `budget` seconds.

    Goes on past the budget, to three times as much, until `least` rounds were undisturbed (LEAST_LONG_ROUNDS if they
    are long); makes at least as many in any case. The order of the peers turns round with every round. The garbage
    collector rests meanwhile. `pids` are the workers that some of the functions stand for.
    """
    calls = {name: _calls(run, window, clock) for name, run in runs.items()}
    order = list(runs)
    kept: list[dict[str, float]] = []
    dropped: list[dict[str, float]] = []
    foreign, begin = _foreign_seconds(pids), clock()
    collecting = gc.isenabled()
    gc.disable()
    try:
        while True:
            spent = clock() - begin
            enough = len(kept) >= least or (spent >= 3 * budget and len(kept) + len(dropped) >= least)
            if spent >= budget and enough:
                break
            lost, seconds = 0.0, {}
            for name in order:
                if pids:
                    settle(pids)
                seconds[name], missed = turn(runs[name], calls[name], clock, waiting)
                lost += missed
            took = sum(seconds[name] * calls[name] for name in order)
            if took >= budget / 2:
                least = min(least, LEAST_LONG_ROUNDS)
            (kept if lost <= TOLERATED_WAIT * took else dropped).append(seconds)
            order.reverse()
    finally:
        if collecting:
            gc.enable()
    share = (_foreign_seconds(pids) - foreign) / (spent * (os.cpu_count() or 1))
    quiet = len(kept) >= least
    rounds = kept if quiet else kept + dropped
    return Timing(
        {name: Spread.of([r[name] for r in rounds]) for name in runs},
        len(rounds),
        len(dropped) if quiet else 0,
        quiet,
        max(0.0, share),
    )

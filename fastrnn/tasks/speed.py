"""The speed of the backends side by side, on the same batches in the same minute."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

__all__ = ["interleaved_rates", "speed_line"]


def interleaved_rates(passes: dict[str, Callable[[], int]], rounds: int = 5) -> dict[str, float]:
    """Units per second of each pass: the median over `rounds`, after one round that warms up and is not
    counted.

    A pass does a fixed piece of work and returns its number of units. The passes take turns within each
    round, so that whatever else the machine does falls on all of them.
    """
    rates: dict[str, list[float]] = {name: [] for name in passes}
    for _ in range(rounds + 1):
        for name, run in passes.items():
            started = time.perf_counter()
            units = run()
            rates[name].append(units / (time.perf_counter() - started))
    return {name: median(values[1:]) for name, values in rates.items()}


def speed_line(rates: dict[str, float], unit: str) -> str:
    """`speed: fastrnn 41.2k names/s, torch 18.3k names/s (2.25x), …`: the first is so many times as fast."""
    (first, best), *others = rates.items()
    parts = [f"{first} {best / 1000:.1f}k {unit}/s"]
    parts += [f"{name} {rate / 1000:.1f}k {unit}/s ({best / rate:.2f}x)" for name, rate in others]
    return "speed: " + ", ".join(parts)

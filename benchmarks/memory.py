"""Peak memory of one call: the first one of a fresh process, by the kernel's high-water mark of resident memory."""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.grid import Case
from benchmarks.peers import modules
from benchmarks.peers.common import initial_weights
from benchmarks.worker import Worker

PEERS = {"torch": "torch.nn", "fastrnn": "fastrnn"}
# Blocks of 64 KiB and more go back to the system when they are freed, so nothing freed earlier hides a new one.
_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def _status(field: str) -> int:
    """KiB of a field of /proc/self/status."""
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{field}:")[1].split()[0])


def peak(namespace: str, case: Case, mode: str) -> float:
    """MiB that one call takes above what module, input and incoming gradient take: results, what is saved, workspace.

    Must run in a fresh process. A call on a tiny shape goes first, so that libraries are loaded and threads started.
    """
    module = importlib.import_module(namespace)
    tiny = replace(case, B=2, T=2, I=8, H=8)
    modules.calls(module, tiny, mode, initial_weights(tiny))[0]()
    run, _ = modules.calls(module, case, mode, initial_weights(case))
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    before = _status("VmRSS")
    results = run()
    top = _status("VmHWM")
    del results
    return max(0.0, (top - before) / 1024)


def measure(case: Case, mode: str, threads: int, peers: Iterable[str] = tuple(PEERS)) -> dict[str, Any]:
    """One record: each peer's peak in MiB."""
    mib = {}
    for name in peers:
        with Worker(threads, _ENVIRONMENT) as worker:
            mib[name] = round(worker.ask("call", peak, PEERS[name], case, mode), 2)
    described = {"key": case.key, "name": case.name, "cell": case.cell, "text": case.text}
    return {**described, "mode": mode, "threads": threads, "mib": mib}

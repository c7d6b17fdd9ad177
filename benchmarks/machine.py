"""Where it was timed: processor, software, and what two threads are worth on this machine."""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from benchmarks.native import CannotCompile, compiled

ROOT = Path(__file__).resolve().parents[1]
FORMAT = 2


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def caches(base: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> dict[str, str]:
    """Caches of the first core, such as {"L1 Data": "32K, CPUs 0"}; empty where the system does not tell."""
    found = {}
    for index in sorted(base.glob("index*")):
        size = _read(index / "size")
        if size:
            name = f"L{_read(index / 'level')} {_read(index / 'type')}"
            found[name] = f"{size}, CPUs {_read(index / 'shared_cpu_list')}"
    return found


def processor() -> dict[str, Any]:
    """Model, logical CPUs, caches and the vector extensions that matter here."""
    fields = dict(
        (part.strip() for part in line.split(":", 1))
        for line in _read(Path("/proc/cpuinfo")).split("\n\n")[0].splitlines()
        if ":" in line
    )
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    wanted = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")
    return {
        "model": fields.get("model name") or platform.processor() or platform.machine(),
        "family, model, stepping": "/".join(fields.get(k, "?") for k in ("cpu family", "model", "stepping")),
        "architecture": platform.machine(),
        "logical CPUs": os.cpu_count(),
        "vector extensions": [flag for flag in wanted if flag in flags],
        "caches": caches(),
        "system": f"{platform.system()} {platform.release()}",
    }


def git_commit(root: Path = ROOT) -> str | None:
    """Short hash of the checked-out commit, "+" behind it where files differ; None outside a repository."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def date() -> str:
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def _mm_gflops(threads: int, size: int = 1024, seconds: float = 0.4) -> float:
    """fp32 GF/s of one large product: the median of as many as fit the time, after a warm-up."""
    torch.set_num_threads(threads)
    a, b = torch.randn(size, size), torch.randn(size, size)
    out = torch.empty(size, size)
    times: list[float] = []
    stop = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < stop:
        start = time.perf_counter()
        torch.mm(a, b, out=out)
        times.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(times[2:]) * 1e-9


def _kernels() -> ModuleType | None:
    try:
        from fastrnn import _native
    except ImportError:  # the harness also runs without fastrnn, to time the others
        return None
    return _native


def isa() -> str | None:
    """The instruction set of fastrnn's kernels in use; None where they cannot be loaded."""
    kernels = _kernels()
    return None if kernels is None else kernels.isa_in_use()


def _barrier_ns(threads: int) -> float | None:
    """One barrier of the kernels' team in nanoseconds; None where the kernels cannot be loaded."""
    kernels = _kernels()
    return None if kernels is None else float(kernels.barrier_ns(threads))


def about(command: str, threads: Iterable[int], versions: Mapping[str, str]) -> dict[str, Any]:
    """What the JSON of a run begins with: how it was started, on which commit and machine, and the machine's limits."""
    return {
        "format": FORMAT,
        "command": command,
        "date": date(),
        "commit": git_commit(),
        "machine": processor(),
        "versions": {"python": platform.python_version(), **versions},
        "isa": isa(),
        "limits": limits(threads),
    }


LEVELS = ("L1", "L2", "L3", "DRAM")
_TYPICAL = {"L1": 32 << 10, "L2": 1 << 20, "L3": 32 << 20}


def cache_bytes(base: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> dict[str, int]:
    """Bytes of the first core's data caches, {"L1": 32768, ...}; a usual size where the system does not tell."""
    sizes = dict(_TYPICAL)
    for index in base.glob("index*"):
        level, text = f"L{_read(index / 'level')}", _read(index / "size")
        if level in sizes and _read(index / "type") != "Instruction" and text:
            sizes[level] = int(text.rstrip("KMG")) << {"K": 10, "M": 20, "G": 30}.get(text[-1], 0)
    return sizes


def probe(threads: int) -> dict[str, Any]:
    """Measured limits of `threads` threads together: fp32 multiply-adds and, where the processor has them, bf16 dot
    products in GF/s, and reads from each level of memory in GB/s. Empty where the probe cannot be compiled or run.
    """
    sizes = cache_bytes()
    try:
        program = compiled("probe.cpp", ["-pthread"], "")
        command = [str(program), str(threads), *(str(sizes[level]) for level in _TYPICAL)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        return json.loads(done.stdout)
    except (CannotCompile, OSError, subprocess.SubprocessError, ValueError):
        return {}


def limits(threads: Iterable[int]) -> dict[str, Any]:
    """What the machine can do with each thread count: GF/s of torch.mm, its scaling, the barrier's latency, and the
    figures of `probe`.

    Two virtual CPUs may be one core's siblings: then the product does not scale, and neither can a layer.
    """
    before = torch.get_num_threads()
    counts = sorted(set(threads) | {1})
    try:
        rates = {n: _mm_gflops(n) for n in counts}
    finally:
        torch.set_num_threads(before)
    return {
        "mm fp32 GF/s": {str(n): round(rate, 1) for n, rate in rates.items()},
        "mm scaling": {str(n): round(rates[n] / rates[1], 2) for n in counts if n > 1},
        "barrier ns": {str(n): _barrier_ns(n) for n in counts if n > 1},
        "probe": {str(n): found for n in counts if (found := probe(n))},
        "cache bytes": cache_bytes(),
    }

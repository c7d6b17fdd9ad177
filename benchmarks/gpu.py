"""Times the layers on a GPU beside torch's cuDNN, FlashRNN and haste: CUDA events, warm, medians; microseconds a step.

    python benchmarks/gpu.py --out build/gpu                 # everything, some minutes
    python benchmarks/gpu.py --grid ours --dtype bf16 --cell lstm
    python benchmarks/gpu.py --grid flashrnn --dtype bf16 --side recurrence flashrnn    # compiles for each case

Writes gpu.json, rows.txt (every case) and table.txt (the short one, which it prints) into the folder, case by case. All
sides get the same weights and input where they can, and the same flags (`gpu_sides.pin`).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import fastrnn
from benchmarks import gpu_sides
from benchmarks.gpu_grid import CLASSES, GRIDS, Case, cases, dtypes, targets
from benchmarks.gpu_sides import DTYPES, SIDES, Call, Skip
from fastrnn import _cuda

MODES = ("forward", "backward")


def median_us(call: Call, seconds: float, least: int = 5) -> tuple[float, float]:
    """Median and interquartile range of one call in microseconds, after two warm calls."""
    for _ in range(2):
        call.before()
        call.run()
    times: list[float] = []
    while len(times) < least or (sum(times) < seconds * 1e6 and len(times) < 200):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        call.before()
        start.record()
        call.run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1e3)
    low, middle, high = statistics.quantiles(times, n=4)
    return middle, high - low


def measure(case: Case, dtype: str, seconds: float, sides: Iterable[str] = SIDES) -> dict[str, Any]:
    """The case's times on every side, and how far our output lies from cuDNN's. An error of a side is reported, not
    raised."""
    gpu_sides.pin(dtype)
    torch.manual_seed(0)
    kind = {"bidirectional": case.bidirectional, "dtype": DTYPES[dtype], "device": gpu_sides.DEVICE}
    weights = getattr(torch.nn, CLASSES[case.cell])(case.I, case.H, **kind).state_dict()
    result: dict[str, Any] = {"case": asdict(case), "dtype": dtype, "us_per_step": {}, "iqr": {}, "left_out": {}}
    outputs: dict[str, torch.Tensor] = {}
    for name in sides:
        try:
            calls = SIDES[name](case, dtype, weights)
            outputs[name] = calls["forward"].run().float()
            for mode in MODES:
                middle, spread = median_us(calls[mode], seconds)
                result["us_per_step"][f"{name} {mode}"] = middle / case.T
                result["iqr"][f"{name} {mode}"] = spread / case.T
        except Skip as reason:
            result["left_out"][name] = str(reason)
        except Exception as error:  # a peer may fail in any way
            result["left_out"][name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    if {"fastrnn", "cudnn"} <= outputs.keys():
        result["apart"] = (outputs["fastrnn"] - outputs["cudnn"]).abs().max().item()
    return result


def time_tier(cell: str, units: int, tier: str, seconds: float) -> dict[str, float]:
    """Microseconds a step of each pass in one tier, forced; nothing where it cannot run them."""
    case = Case("tiers", cell, 256, 16, units, units)
    planned = {mode: _cuda.plan(cell, 256, 16, units, torch.bfloat16, backward=mode == "backward")[0] for mode in MODES}
    weights = getattr(torch.nn, CLASSES[cell])(units, units, dtype=torch.bfloat16, device=gpu_sides.DEVICE).state_dict()
    calls = SIDES["recurrence"](case, "bf16", weights)
    return {f"{tier} {m}": median_us(calls[m], seconds)[0] / 256 for m in MODES if planned[m] == tier}


def measure_tiers(seconds: float) -> list[dict[str, Any]]:
    """Every tier by size: what a step costs where the product is small is launch or exchange."""
    gpu_sides.pin("bf16")
    found = []
    for cell in ("lstm", "gru"):
        for units in (32, 128, 256, 512, 1024):
            times: dict[str, float] = {}
            for tier in _cuda.TIERS:
                os.environ["FASTRNN_CUDA_TIER"] = tier
                times |= time_tier(cell, units, tier, seconds)
            found.append({"cell": cell, "H": units, "B": 16, "T": 256, "us_per_step": times})
    os.environ.pop("FASTRNN_CUDA_TIER")
    return found


def rows(results: list[dict[str, Any]]) -> str:
    """Microseconds a step of every side, forward and backward."""
    lines = [
        f"{'us a step, forward/backward':44} {'dtype':5} " + " ".join(f"{name:>15}" for name in SIDES) + "    apart"
    ]
    for r in results:
        times = r["us_per_step"]
        cells = [
            f"{times[f'{name} forward']:.2f}/{times[f'{name} backward']:.2f}" if f"{name} backward" in times else "-"
            for name in SIDES
        ]
        apart = f"{r['apart']:8.1e}" if "apart" in r else ""
        lines.append(f"{Case(**r['case']).text:44} {r['dtype']:5} " + " ".join(f"{c:>15}" for c in cells) + f" {apart}")
    reasons = sorted({f"{name} {why}" for r in results for name, why in r["left_out"].items()})
    return "\n".join([*lines, *(f"left out: {reason}" for reason in reasons)])


def ratios(results: list[dict[str, Any]], ours: str, theirs: str) -> str:
    """Their time over ours, above 1 where we are faster: the geometric mean, and the worst, by grid and dtype."""
    found: dict[tuple[str, ...], list[float]] = {}
    for r in results:
        for mode in MODES:
            mine, other = (r["us_per_step"].get(f"{name} {mode}") for name in (ours, theirs))
            if mine and other:
                found.setdefault((r["case"]["grid"], r["case"]["cell"], r["dtype"], mode), []).append(other / mine)
                found.setdefault(("all", "", r["dtype"], mode), []).append(other / mine)
    lines = []
    for key, values in found.items():
        mean = math.exp(statistics.fmean(map(math.log, values)))
        name = " ".join(k for k in key if k)
        lines.append(f"{theirs} / {ours}: {name:32} mean {mean:5.2f} worst {min(values):5.2f} of {len(values)}")
    return "\n".join(sorted(lines))


def verdicts(results: list[dict[str, Any]]) -> str:
    """Each target that was timed, with the time and whether it is met."""
    times = {(Case(**r["case"]), r["dtype"]): r["us_per_step"] for r in results}
    lines = []
    for target in targets():
        us = times.get((target.case, target.dtype), {}).get(f"fastrnn {target.mode}")
        if us is not None:
            word = "met" if us <= target.us else "NOT met"
            lines.append(f"target {target.case.text} {target.dtype} {target.mode}: {us:.2f} of {target.us} us, {word}")
    return "\n".join(lines)


def table(results: list[dict[str, Any]], tiers: list[dict[str, Any]]) -> str:
    parts = [ratios(results, "fastrnn", "cudnn"), ratios(results, "recurrence", "flashrnn")]
    parts += [ratios(results, "fastrnn", "haste"), verdicts(results)]
    for row in tiers:
        costs = ", ".join(f"{name} {us:.2f}" for name, us in row["us_per_step"].items())
        parts.append(f"tiers {row['cell']} H={row['H']} B=16 bf16, recurrence alone, us a step: {costs}")
    return "\n".join(part for part in parts if part)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/gpu"))
    parser.add_argument("--grid", nargs="*", choices=GRIDS, default=GRIDS)
    parser.add_argument("--cell", nargs="*", choices=CLASSES, default=list(CLASSES))
    parser.add_argument("--dtype", nargs="*", choices=DTYPES, default=["bf16", "fp16", "tf32", "fp32"])
    parser.add_argument("--side", nargs="*", choices=SIDES, default=[name for name in SIDES if name != "flashrnn"])
    parser.add_argument("--seconds", type=float, default=0.02, help="for each measurement")
    options = parser.parse_args()
    if not torch.cuda.is_available() or _cuda.kernels is None:
        raise SystemExit(f"nothing to time: {_cuda.info()}")
    chosen = [c for c in cases() if c.grid in options.grid and c.cell in options.cell]
    facts = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "fastrnn": f"{fastrnn.__version__}, {_cuda.info()}",
        "command": " ".join(sys.argv),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    tiers: list[dict[str, Any]] = []

    def write() -> str:
        found = {"facts": facts, "results": results, "tiers": tiers}
        (options.out / "gpu.json").write_text(json.dumps(found, indent=1))
        (options.out / "rows.txt").write_text(rows(results) + "\n")
        text = f"{', '.join(f'{k} {v}' for k, v in facts.items())}\n{table(results, tiers)}"
        (options.out / "table.txt").write_text(text + "\n")
        return text

    for i, case in enumerate(chosen):
        print(f"{i + 1} of {len(chosen)}: {case.text}", file=sys.stderr, flush=True)
        results += [measure(case, dtype, options.seconds, options.side) for dtype in dtypes(case, options.dtype)]
        torch.cuda.empty_cache()
        write()  # a run that is stopped has what it measured
    if "bf16" in options.dtype:
        tiers += measure_tiers(options.seconds)
    print(write())


if __name__ == "__main__":
    main()

"""Times the layers on a GPU beside torch's cuDNN: CUDA events, warm, medians; microseconds a step.

    python benchmarks/gpu.py --out build/gpu                 # everything, about two minutes
    python benchmarks/gpu.py --grid ours --dtype bf16 --cell lstm

Writes gpu.json and table.txt into the folder, and prints the table. `forward` is a call under no_grad, `train` adds the
gradients of input and weights. Both sides get the same weights and input, and the same flags: TF32 is off for fp32 and
on for tf32, in cuDNN and in torch's matrix products alike.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pack_padded_sequence

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import fastrnn
from fastrnn import _cuda

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
CLASSES = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}


@dataclass(frozen=True)
class Case:
    """One layer on one shape; `ragged`: lengths from T down to 1, packed."""

    grid: str
    cell: str
    T: int
    B: int
    I: int
    H: int
    bidirectional: bool = False
    ragged: bool = False

    @property
    def text(self) -> str:
        marks = " bi" * self.bidirectional + " ragged" * self.ragged
        return f"{self.cell} T={self.T} B={self.B} I={self.I} H={self.H}{marks}"


def grid() -> Iterable[Case]:
    """FlashRNN's, haste's and PyTorch's published shapes, and ours."""
    for h in (64, 128, 256, 512, 768):
        yield Case("flashrnn", "lstm", 1024, 16, h, h)
    for b in (2, 64, 256):
        yield Case("flashrnn", "lstm", 1024, b, 768, 768)
    for t in (256, 2048):
        yield Case("flashrnn", "lstm", t, 16, 768, 768)
    for b in (1, 16, 32, 64, 128):
        yield Case("haste", "lstm", 50, b, 128, 128)
        yield Case("haste", "gru", 50, b, 1024, 1024)
    for h in (512, 2048, 4096):
        yield Case("haste", "lstm", 50, 32, h, h)
    for cell in CLASSES:
        yield Case("pytorch", cell, 100, 64, 512, 512)
        yield Case("ours", cell, 256, 16, 512, 512)
    for cell in ("lstm", "gru"):
        for b in (1, 3, 12):
            yield Case("ours", cell, 200, b, 512, 512)
        for h in (200, 650, 1024, 1500):
            yield Case("ours", cell, 100, 16, h, h)
        yield Case("ours", cell, 100, 32, 256, 256, bidirectional=True)
        yield Case("ours", cell, 100, 64, 256, 256, ragged=True)
        yield Case("ours", cell, 4096, 8, 256, 256)


def median_us(run: Callable[[], Any], seconds: float, least: int = 5) -> tuple[float, float]:
    """Median and interquartile range of one call in microseconds, after two warm calls."""
    for _ in range(2):
        run()
    times: list[float] = []
    while len(times) < least or (sum(times) < seconds * 1e6 and len(times) < 200):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) * 1e3)
    low, middle, high = statistics.quantiles(times, n=4)
    return middle, high - low


def pin(dtype: str) -> None:
    torch.backends.cudnn.allow_tf32 = dtype == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = dtype == "tf32"


def prepare(namespace: Any, case: Case, dtype: torch.dtype, weights: dict[str, torch.Tensor]) -> tuple[Any, ...]:
    layer = getattr(namespace, CLASSES[case.cell])(
        case.I, case.H, bidirectional=case.bidirectional, dtype=dtype, device="cuda"
    )
    layer.load_state_dict(weights)
    generator = torch.Generator("cuda").manual_seed(1)
    x = torch.randn(case.T, case.B, case.I, device="cuda", generator=generator).to(dtype)
    source: Any = x.requires_grad_()
    if case.ragged:
        lengths = [max(1, case.T - case.T * b // case.B) for b in range(case.B)]
        source = pack_padded_sequence(x.detach(), lengths)
        x = source.data.requires_grad_()

    def output() -> torch.Tensor:
        y = layer(source)[0]
        return y.data if case.ragged else y

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return output()

    leaves = [x, *layer.parameters()]
    gradient = torch.randn(forward().shape, device="cuda", generator=generator).to(dtype)

    def train() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(output(), leaves, gradient)

    return forward, train


def measure(case: Case, dtype: str, seconds: float) -> dict[str, Any]:
    """The case's times, and how far the outputs of the two sides lie apart. An error is reported, not raised."""
    pin(dtype)
    torch.manual_seed(0)
    kind = DTYPES[dtype]
    result: dict[str, Any] = {"case": asdict(case), "dtype": dtype}
    try:
        layer = getattr(torch.nn, CLASSES[case.cell])(case.I, case.H, bidirectional=case.bidirectional, dtype=kind)
        weights = layer.state_dict()
        sides = {"fastrnn": prepare(fastrnn, case, kind, weights), "cudnn": prepare(torch.nn, case, kind, weights)}
        outputs = {name: side[0]().float() for name, side in sides.items()}
        result["apart"] = (outputs["fastrnn"] - outputs["cudnn"]).abs().max().item()
        for index, mode in enumerate(("forward", "train")):
            for name, side in sides.items():
                middle, spread = median_us(side[index], seconds)
                result[f"{name} {mode}"] = {"us": middle, "iqr": spread, "us_per_step": middle / case.T}
        x = torch.randn(case.T * case.B, case.I, device="cuda", dtype=kind)
        w = weights["weight_ih_l0"].cuda()
        result["projection"] = {"us": median_us(lambda: torch.mm(x, w.t()), seconds / 4)[0]}
    except (RuntimeError, torch.cuda.OutOfMemoryError) as error:
        result["error"] = str(error).splitlines()[0]
    return result


def time_tier(cell: str, units: int, tier: str, seconds: float) -> dict[str, float]:
    """Microseconds a step of a forward and a backward pass in one tier, forced; nothing where it cannot run them."""
    layer = getattr(fastrnn, CLASSES[cell])(units, units, dtype=torch.bfloat16, device="cuda")
    x = torch.randn(256, 16, units, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    leaves, gradient = [x, *layer.parameters()], torch.randn_like(x)

    def forward() -> None:
        with torch.no_grad():
            layer(x)

    y = layer(x)[0]
    runs = {"forward": forward, "backward": lambda: torch.autograd.grad(y, leaves, gradient, retain_graph=True)}
    planned = {mode: _cuda.plan(cell, 256, 16, units, torch.bfloat16, backward=mode == "backward")[0] for mode in runs}
    return {f"{tier} {m}": median_us(run, seconds)[0] / 256 for m, run in runs.items() if planned[m] == tier}


def measure_tiers(seconds: float) -> list[dict[str, Any]]:
    """Every tier by size: what a step costs where the product is small is launch or exchange."""
    pin("bf16")
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


def table(results: list[dict[str, Any]]) -> str:
    """Microseconds a step of ours, and cuDNN's time over ours: above 1 we are faster."""
    lines = [f"{'':44} {'dtype':5} {'forward':>8} {'x cuDNN':>8} {'train':>8} {'x cuDNN':>8} {'apart':>8}"]
    ratios: dict[tuple[str, str], list[float]] = {}
    for r in results:
        case = Case(**r["case"])
        if "error" in r:
            lines.append(f"{case.text:44} {r['dtype']:5} {r['error'][:60]}")
            continue
        cells = []
        for mode in ("forward", "train"):
            ours, theirs = r[f"fastrnn {mode}"]["us_per_step"], r[f"cudnn {mode}"]["us_per_step"]
            ratios.setdefault((r["dtype"], mode), []).append(theirs / ours)
            cells.append(f"{ours:8.2f} {theirs / ours:8.2f}")
        lines.append(f"{case.text:44} {r['dtype']:5} {' '.join(cells)} {r['apart']:8.1e}")
    for (dtype, mode), values in ratios.items():
        mean = math.exp(statistics.fmean(map(math.log, values)))
        lines.append(f"geometric mean {dtype} {mode}: {mean:.2f}, worst {min(values):.2f}, {len(values)} cases")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/gpu"))
    parser.add_argument("--grid", nargs="*", help="flashrnn, haste, pytorch, ours (default: all)")
    parser.add_argument("--cell", nargs="*", choices=CLASSES)
    parser.add_argument("--dtype", nargs="*", choices=DTYPES, default=["bf16", "fp16", "tf32", "fp32"])
    parser.add_argument("--seconds", type=float, default=0.04, help="for each measurement")
    options = parser.parse_args()
    if not torch.cuda.is_available() or _cuda.kernels is None:
        raise SystemExit(f"nothing to time: {_cuda.info()}")
    cases = [c for c in grid() if c.grid in (options.grid or [c.grid]) and c.cell in (options.cell or [c.cell])]
    results = []
    for case in cases:
        for dtype in options.dtype:
            # fp32 in full on the few shapes that show it
            if dtype in ("fp32", "tf32") and case.grid not in ("pytorch", "ours"):
                continue
            results.append(measure(case, dtype, options.seconds))
            torch.cuda.empty_cache()
    tiers = measure_tiers(options.seconds) if "bf16" in options.dtype else []
    text = table(results)
    for row in tiers:
        costs = ", ".join(f"{name} {us:.2f}" for name, us in row["us_per_step"].items())
        text += f"\ntiers {row['cell']} H={row['H']} B=16 bf16, us a step: {costs}"
    facts = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "fastrnn": _cuda.info(),
        "command": " ".join(sys.argv),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "gpu.json").write_text(json.dumps({"facts": facts, "results": results, "tiers": tiers}, indent=1))
    text = f"{', '.join(f'{k} {v}' for k, v in facts.items())}\n{text}"
    (options.out / "table.txt").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()

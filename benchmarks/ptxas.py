"""What ptxas said of the CUDA kernels when they were last built: registers of each, and spills.

    python benchmarks/ptxas.py            # the persistent kernels, and a line on the others
    python benchmarks/ptxas.py --all      # every kernel

Exits with 1 if a persistent kernel spills registers.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

BUILD = Path(__file__).resolve().parent.parent / "build"
# in demangled names: the words that tell kernels apart
TIERS = {"ClusterExchange": "a", "GridExchange": "b"}
CELLS = {"Lstm": "lstm", "Gru": "gru", "TanhActivation": "rnn_tanh", "ReluActivation": "rnn_relu"}


@dataclass(frozen=True)
class Kernel:
    arch: str
    operand: str  # the file: bf16, f16, tf32, f32, f64
    name: str
    registers: int
    spilled: int  # bytes

    @property
    def persistent(self) -> bool:
        return self.name.startswith(("gather", "scatter", "stepped"))

    @property
    def text(self) -> str:
        return f"{self.name} {self.operand} {self.arch}"


def short(name: str) -> str:
    """gather a forward lstm 16 rows, of a demangled name."""
    kernel = re.search(r"(\w+)_kernel", name)
    words = [kernel[1] if kernel else name[:40]]
    words += [tier for word, tier in TIERS.items() if word in name]
    for word in ("ForwardCell", "BackwardCell", "ForwardProjection", "BackwardProjection"):
        if word in name:
            words.append(word.removesuffix("Cell").lower() if word.endswith("Cell") else word)
    words += [cell for word, cell in CELLS.items() if word in name]
    rows = re.search(r"(?:Cell|Projection)<.*>, \(?(?:int\))?(\d)[,>]", name)
    if rows and words[0] in ("step", "gather", "scatter", "stepped"):
        words.append(f"{8 * int(rows[1])} rows")
    return " ".join(words)


def read(report: Path, text: str) -> list[Kernel]:
    """The kernels of one object's report, whose names are demangled."""
    found, arch, name, spilled = [], "", "", 0
    for line in text.splitlines():
        if entry := re.search(r"Compiling entry function '(.+)' for '(\w+)'", line):
            (name, arch), spilled = entry.groups(), 0
        elif spills := re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", line):
            spilled = max(map(int, spills.groups()))
        elif used := re.search(r"Used (\d+) registers", line):
            found.append(Kernel(arch, report.stem.removeprefix("layer_"), short(name), int(used[1]), spilled))
    return found


def latest() -> list[Path]:
    """The reports that the last build left, one an operand type."""
    return sorted(BUILD.glob("ptxas/*.ptxas"))


def demangled(text: str) -> str:
    if not shutil.which("c++filt"):
        raise SystemExit("c++filt (binutils) is not in the PATH")
    return subprocess.run(["c++filt"], input=text, capture_output=True, text=True, check=True).stdout


def table(kernels: list[Kernel]) -> str:
    """Registers of the persistent kernels by architecture, the most of all operand types."""
    archs = sorted({k.arch for k in kernels}, key=lambda a: int(re.sub(r"\D", "", a)))
    names = sorted({k.name for k in kernels if k.persistent})
    lines = [f"{'registers':32} " + " ".join(f"{arch:>8}" for arch in archs)]
    for name in names:
        most = [max((k.registers for k in kernels if k.name == name and k.arch == a), default=0) for a in archs]
        lines.append(f"{name:32} " + " ".join(f"{n or '':>8}" for n in most))
    spilling = [k for k in kernels if k.spilled]
    lines += [f"spills {k.spilled} bytes: {k.text}" for k in spilling]
    return "\n".join([*lines, f"{len(kernels)} kernels, {len(spilling)} of them spill"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="a line a kernel")
    options = parser.parse_args()
    reports = latest()
    if not reports:
        raise SystemExit(f"no ptxas reports in {BUILD}: build the CUDA kernels first (nvcc in the PATH, make test)")
    kernels = [k for report in reports for k in read(report, demangled(report.read_text()))]
    if options.all:
        for k in sorted(kernels, key=lambda k: (k.arch, k.name, k.operand)):
            print(f"{k.arch:7} {k.operand:5} {k.registers:4} registers {k.spilled:4} bytes spilled  {k.name}")
    print(table(kernels))
    if any(k.persistent and k.spilled for k in kernels):
        raise SystemExit("a persistent kernel spills registers")


if __name__ == "__main__":
    main()

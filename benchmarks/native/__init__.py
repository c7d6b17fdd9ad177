"""C++ parts of the harness, compiled when they are first needed: the limits of the machine, oneDNN's primitives."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE.parents[1] / "build" / "benchmarks"


class CannotCompile(RuntimeError):
    """There is no compiler, or it refused the source; the text says which."""


def compiler() -> str | None:
    """CXX if it is set, else the first of g++, clang++, c++ that is there."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "c++"]
    return next((found for name in names if (found := shutil.which(name))), None)


def compiled(source: str, flags: Sequence[str], suffix: str) -> Path:
    """`source` of this folder compiled for this processor, once for each state of source, flags and processor.

    Raises CannotCompile.
    """
    cxx = compiler()
    if cxx is None:
        raise CannotCompile("no C++ compiler found")
    try:
        processor = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")][:1]
    except OSError:
        processor = []
    code = (HERE / source).read_text(encoding="utf-8")
    key = hashlib.sha1("\n".join([code, cxx, *flags, *processor]).encode()).hexdigest()[:12]
    target = BUILD / f"{Path(source).stem}-{key}{suffix}"
    if not target.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.{os.getpid()}")
        command = [cxx, "-std=c++17", "-O3", "-march=native", str(HERE / source), "-o", str(partial), *flags]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise CannotCompile(f"{source} does not compile: {done.stderr.strip()[-400:]}")
        partial.replace(target)
    return target

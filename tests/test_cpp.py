"""The C++ tests, compiled here with the compiler that builds the package: cells by finite differences, the
SIMD building blocks for each vector width, and whole layers with the widest vectors."""

import os
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CXX = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
FLAGS = [
    "-std=c++17",
    "-O1",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wall",
    "-Wextra",
    "-Wno-psabi",
]
PROCESSOR = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
# the widest flags that this processor runs; vector widths are set apart from them
NATIVE = ["-mavx2", "-mfma"] if "avx2" in PROCESSOR else []
# the panels of small layers count as far from the processor; and none, whatever this processor is
FAR, NOT_FAR = ["-DFASTRNN_FAR_BYTES=1"], ["-DFASTRNN_FAR_BYTES=0"]

pytestmark = [
    pytest.mark.skipif(not CXX, reason="no C++ compiler"),
    pytest.mark.skipif(not (ROOT / "csrc").is_dir(), reason="the sources are not here (installed package)"),
    pytest.mark.skipif(platform.system() != "Linux", reason="the flags are those of Linux compilers"),
]


def compile_(source: Path, target: Path, *flags: str, link: bool = True) -> Path:
    command = [CXX, *FLAGS, *flags, *([] if link else ["-c"]), str(source), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr, done.stderr
    return target


def run(program: Path) -> None:
    done = subprocess.run([str(program)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_cells_by_finite_differences(tmp_path):
    run(compile_(ROOT / "tests/cpp/test_cells.cpp", tmp_path / "cells"))


def avx512(extensions: str) -> list[str]:
    """Compiler flags for extensions such as "f bw _bf16", or a skip where this processor lacks one."""
    names = [f"avx512{name}" for name in extensions.split()]
    missing = [name for name in names if name not in PROCESSOR]
    if missing:
        pytest.skip(f"this processor has no {missing[0]}")
    return [f"-m{name.replace('_', '')}" for name in names]


@pytest.mark.parametrize("width, extensions", [(16, ""), (32, ""), (64, ""), (64, "f bw vl dq")])
def test_building_blocks(tmp_path, width, extensions):
    flags = [*NATIVE, *avx512(extensions), "-DFASTRNN_ISA=test", f"-DFASTRNN_VECTOR_BYTES={width}"]
    run(compile_(ROOT / "tests/cpp/test_simd.cpp", tmp_path / "simd", *flags))


# tanh and sigmoid of bf16 data: without and with the instructions for their short forms and for rounding to bf16
@pytest.mark.parametrize("extensions", ["", "f bw vl dq _bf16"])
def test_building_blocks_of_bf16_data(tmp_path, extensions):
    flags = [*NATIVE, *avx512(extensions), "-DFASTRNN_ISA=test", "-DFASTRNN_PAIRS", "-DFASTRNN_VECTOR_BYTES=64"]
    run(compile_(ROOT / "tests/cpp/test_simd.cpp", tmp_path / "simd", *flags))


def test_layers_with_the_widest_vectors(tmp_path):
    tasks = [(ROOT / "tests/cpp/test_widths.cpp", [])]
    for isa, width in (("wide", 64), ("narrow", 16)):
        flags = [*NATIVE, f"-DFASTRNN_ISA={isa}", f"-DFASTRNN_VECTOR_BYTES={width}"]
        flags += FAR if isa == "wide" else NOT_FAR
        tasks += [(ROOT / f"csrc/cpu/layer_{dtype}.cpp", flags) for dtype in ("f32", "f64")]
    for isa, source, more in (("pairs", "layer_bf16.cpp", []), ("tiles", "layer_amx.cpp", ["-DFASTRNN_AMX"])):
        pairs = [*NATIVE, f"-DFASTRNN_ISA={isa}", "-DFASTRNN_PAIRS", "-DFASTRNN_VECTOR_BYTES=64", *FAR, *more]
        tasks.append((ROOT / "csrc/cpu" / source, pairs))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [
            pool.submit(compile_, source, tmp_path / f"{i}.o", *flags, link=False)
            for i, (source, flags) in enumerate(tasks)
        ]
        objects = [str(job.result()) for job in jobs]
    program = tmp_path / "widths"
    subprocess.run([CXX, *objects, "-o", str(program)], check=True)
    run(program)

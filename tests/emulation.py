"""The CUDA kernels compiled for this processor, with every GPU thread as a fiber (tests/cpp/emulated.h)."""

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest
import torch

from fastrnn import _cuda, _cuda_layer, _quick, ops

ROOT = Path(__file__).parent.parent
CXX = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
FLAGS = ["-std=c++17", "-O1", "-fPIC", "-fvisibility=hidden", "-ffp-contract=fast", "-Wno-psabi", "-w"]


def build(folder: Path) -> ModuleType:
    """Compiles the kernels and their binding, and imports the module. Skips the test where that is not possible."""
    if not (ROOT / "csrc").is_dir():
        pytest.skip("the sources are not here (installed package)")
    if not CXX:
        pytest.skip("no C++ compiler")
    pybind11 = pytest.importorskip("pybind11", reason="pybind11 is not installed: no emulation of CUDA kernels")
    flags = [*FLAGS, "-DFASTRNN_ISA=emulated", "-DFASTRNN_CUDA_MODULE=emulated", f"-I{ROOT / 'tests/cpp'}"]
    flags += [f"-I{pybind11.get_include()}", f"-I{sysconfig.get_path('include')}"]
    sources = [*sorted((ROOT / "csrc/cuda").glob("*.cu")), ROOT / "csrc/cuda/module.cpp"]

    def compile_(source: Path) -> Path:
        target = folder / f"{source.stem}.o"
        done = subprocess.run(
            [CXX, *flags, "-x", "c++", "-c", str(source), "-o", str(target)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return target

    with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)) as pool:
        objects = [str(o) for o in pool.map(compile_, sources)]
    library = folder / f"emulated{sysconfig.get_config_var('EXT_SUFFIX')}"
    subprocess.run([CXX, "-shared", *objects, "-o", str(library)], check=True)
    spec = importlib.util.spec_from_file_location("emulated", library)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def install(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> None:
    """Calls on CPU tensors go to the emulated kernels, by all of the Python code of CUDA tensors."""
    monkeypatch.setattr(_cuda, "kernels", module)
    monkeypatch.setattr(_cuda, "_status", {torch.device("cpu"): torch.zeros(1, dtype=torch.int32)})
    monkeypatch.setattr(_cuda_layer, "_stream", lambda device: 0)
    monkeypatch.setattr(_cuda_layer, "_guard", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(ops, "_forward_kernel", _cuda_layer.forward)
    monkeypatch.setattr(ops, "_backward_kernel", _cuda_layer.backward)
    monkeypatch.setattr(_quick, "_on_gpu", lambda x: True)
    _quick._calls.clear()

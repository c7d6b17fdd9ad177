"""Picks the compiled kernels: by what the processor runs, or by FASTRNN_ISA and FASTRNN_BF16 in the environment."""

import contextlib
import importlib
import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import torch

_BUILD_HINT = (
    "Build it with `pip install .` (or `pip install -e .`) in the source folder, with a C++17 compiler; "
    "`python -m fastrnn info` then shows what is there."
)
_ALL = ("avx512", "avx2", "baseline")
_BF16 = ("amx", "dots", "fp32")
_runtimes: dict[str, str] = {}  # ISA -> path of the OpenMP runtime its kernels use


def load(name: str) -> ModuleType:
    """A compiled module of this package."""
    try:
        return importlib.import_module(f"fastrnn.{name}")
    except ImportError as e:
        raise ImportError(f"the compiled module fastrnn.{name} cannot be loaded ({e}). {_BUILD_HINT}") from e


def built_isas() -> list[str]:
    """Names of the ISAs whose kernels are installed, the best first."""
    return [n for n in _ALL if importlib.util.find_spec(f"fastrnn._kernels_{n}")]


def available_isas() -> list[str]:
    """Names of the ISAs that are installed and that this processor runs, the best first."""
    built = built_isas()
    return [n for n in load("_cpu").supported() if n in built]


def _choose() -> ModuleType:
    available = available_isas()
    bf16 = os.environ.get("FASTRNN_BF16", "")
    if bf16 not in ("", *_BF16):
        raise ImportError(f"FASTRNN_BF16={bf16!r} is not one of {', '.join(_BF16)}")
    forced = os.environ.get("FASTRNN_ISA", "")
    if forced and forced not in _ALL:
        raise ImportError(f"FASTRNN_ISA={forced!r} is not one of {', '.join(_ALL)}")
    if forced and forced not in available:
        reason = "this processor does not run it" if forced in built_isas() else "it was not built"
        raise ImportError(
            f"FASTRNN_ISA={forced} cannot be used: {reason}. Available: {', '.join(available) or 'none'}. {_BUILD_HINT}"
        )
    if not available:
        raise ImportError(f"fastrnn's compiled kernels are missing. {_BUILD_HINT}")
    return _with_openmp(load(f"_kernels_{forced or available[0]}"))


def _with_openmp(module: ModuleType) -> ModuleType:
    """Connects the kernels to the OpenMP runtime that torch brought, so that there is one in the process."""
    runtime = module.use_openmp("")
    if not runtime:  # torch's runtime is not among the global symbols: find it by its file
        with contextlib.suppress(OSError):
            maps = Path("/proc/self/maps").read_text()
            for path in dict.fromkeys(re.findall(r"(/\S*/lib(?:gomp|iomp5|omp)[^/\s]*\.so\S*)", maps)):
                runtime = runtime or module.use_openmp(path)
    _runtimes[module.ISA] = runtime
    return module


kernels: ModuleType = _choose()
CELLS: dict[str, int] = {name: number for number, name in enumerate(kernels.CELLS)}
DTYPES: dict[torch.dtype, int] = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}


def isa_in_use() -> str:
    return kernels.ISA


@contextlib.contextmanager
def use_isa(name: str) -> Iterator[None]:
    """Runs the block on another ISA's kernels (for tests). What one ISA saved for backward, only that ISA can read."""
    global kernels
    if name not in available_isas():
        raise ValueError(f"ISA {name!r} is not available here; there are {', '.join(available_isas())}")
    before, kernels = kernels, _with_openmp(load(f"_kernels_{name}"))
    try:
        yield
    finally:
        kernels = before


def bf16_in_use() -> str:
    """How the kernels in use multiply bf16 data: "amx" (matrix tiles), "dots" (dot products of pairs) or "fp32"."""
    return kernels.bf16()


def tensors_in_use() -> str:
    """How the kernels make their results: by torch's C functions, or where those are not as expected, or
    FASTRNN_TORCH_C=0 says so, by Tensor.new."""
    return "torch's C functions" if kernels.makes_tensors() else "Tensor.new"


def openmp_runtime() -> str:
    """Path of the OpenMP runtime the kernels use, or a text that says there is none."""
    return _runtimes[kernels.ISA] or "none found: every call runs on one thread"


def barrier_ns(threads: int) -> float:
    """Mean time of one barrier between `threads` threads, in nanoseconds."""
    return kernels.barrier_ns(threads)


def address(t: torch.Tensor | None) -> int:
    """The tensor's memory, 0 for None: the kernels read 0 as 'not given', so no tensor may come without memory."""
    if t is None:
        return 0
    address = t.data_ptr()
    if address == 0 and t.numel():
        raise RuntimeError(
            f"fastrnn: a tensor of shape {tuple(t.shape)} has no memory behind it: its storage was freed"
        )
    return address

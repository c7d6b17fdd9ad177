"""oneDNN's rnn primitives through native/onednn.cpp: no framework around them, weights in their preferred layout."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import weakref
from pathlib import Path
from typing import Any

import torch

from benchmarks.grid import Case
from benchmarks.native import CannotCompile, compiled, compiler
from benchmarks.peers.common import Prepared, Weights, by_gate, plain, random_gradient, random_input

_CELLS = {"lstm": 0, "gru": 1, "rnn": 2}
# torch's gates are i f g o, as oneDNN's, and r z n, there u r o: update, reset, candidate
_ORDER = {"lstm": (0, 1, 2, 3), "gru": (1, 0, 2), "rnn": (0,)}
_HEADER = "oneapi/dnnl/dnnl.hpp"


def runs(case: Case, mode: str) -> bool:
    return mode in ("forward", "train") and plain(case)


def _prefix() -> Path | None:
    """The installation to use: DNNLROOT, this environment's (a wheel may have brought it), or the system's."""
    named = os.environ.get("DNNLROOT")
    for prefix in [Path(named)] if named else [Path(sys.prefix), Path("/usr/local"), Path("/usr")]:
        if (prefix / "include" / _HEADER).exists():
            return prefix
    return None


def lacks() -> str:
    if _prefix() is None:
        return "no oneDNN headers: install onednn-devel-cpu-gomp or libdnnl-dev, or set DNNLROOT"
    if compiler() is None:
        return "no C++ compiler to build its adaptor with"
    try:
        library()
    except (CannotCompile, OSError) as error:
        return str(error)
    return ""


@functools.cache
def library() -> ctypes.CDLL:
    prefix = _prefix()
    if prefix is None:
        raise CannotCompile("no oneDNN headers")
    places = [prefix / "lib", prefix / "lib64"]
    paths = [f for p in places if p.is_dir() for f in (f"-L{p}", f"-Wl,-rpath,{p}")] if prefix != Path("/usr") else []
    flags = [f"-I{prefix / 'include'}", "-fopenmp", "-shared", "-fPIC", *paths, "-ldnnl"]
    loaded = ctypes.CDLL(str(compiled("onednn.cpp", flags, ".so")))
    pointer, size = ctypes.c_void_p, ctypes.c_int64
    loaded.bench_version.restype = loaded.bench_error.restype = ctypes.c_char_p
    loaded.bench_make.restype = pointer
    loaded.bench_make.argtypes = [ctypes.c_int] * 2 + [size] * 4 + [ctypes.c_int] + [pointer] * 5
    loaded.bench_run.argtypes = loaded.bench_free.argtypes = [pointer]
    loaded.bench_read.argtypes = [pointer] * 5
    return loaded


def version() -> str:
    return library().bench_version().decode()


class Layer:
    """One primitive, or a pair of them, with its memory."""

    def __init__(self, case: Case, mode: str, weights: Weights) -> None:
        order = _ORDER[case.cell]
        w_ih, w_hh, b_ih, b_hh = (by_gate(w, order).contiguous() for w in weights.values())
        # linear_before_reset keeps the candidate's two biases apart, the others come as sums
        bias = b_ih + b_hh
        if case.cell == "gru":
            bias = torch.cat([bias[: 2 * case.H], b_ih[2 * case.H :], b_hh[2 * case.H :]])
        self.case, self.order, self.train = case, order, mode == "train"
        x, dy = random_input(case), random_gradient((case.T * case.B, case.H))
        sizes = (case.T, case.B, case.I, case.H, torch.get_num_threads())
        values = (t.data_ptr() for t in (x, w_ih, w_hh, bias, dy))
        self._library = library()
        self._handle = self._library.bench_make(_CELLS[case.cell], self.train, *sizes, *values)
        if not self._handle:
            raise RuntimeError(f"oneDNN: {self._library.bench_error().decode()}")
        weakref.finalize(self, self._library.bench_free, self._handle)

    def __call__(self) -> None:
        if self._library.bench_run(self._handle):
            raise RuntimeError(f"oneDNN: {self._library.bench_error().decode()}")

    def results(self) -> dict[str, torch.Tensor]:
        """y (rows, H) and, in training, dx (rows, I), dw_ih (G*H, I), dw_hh (G*H, H) of the last call, as torch's."""
        c, gates = self.case, len(self.order)
        shapes = {"y": (c.T * c.B, c.H)}
        if self.train:
            shapes |= {"dx": (c.T * c.B, c.I), "dw_ih": (gates * c.H, c.I), "dw_hh": (gates * c.H, c.H)}
        out = {name: torch.empty(shape) for name, shape in shapes.items()}
        addresses: list[Any] = [out[n].data_ptr() if n in out else None for n in ("y", "dx", "dw_ih", "dw_hh")]
        self._library.bench_read(self._handle, *addresses)
        back = tuple(self.order.index(i) for i in range(gates))
        return {name: by_gate(t, back) if name.startswith("dw") else t for name, t in out.items()}


def prepare(case: Case, mode: str, weights: Weights) -> Prepared:
    layer = Layer(case, mode, weights)
    layer()
    results = layer.results()
    return Prepared(layer, results["y"], results.get("dx"))

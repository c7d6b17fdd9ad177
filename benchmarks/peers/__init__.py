"""Who is timed: one small adaptor a peer, which turns a case into a function that runs one call.

An adaptor is a function (case, mode, weights) -> Prepared, entered in PEERS with what it needs. `weights` is the
state_dict of a torch.nn layer of the case, so that every peer computes the same function; the runner compares the
outputs before it times anything. A peer with an `environment` runs in a worker process of its own, because what the
variables say is read when a library is loaded, or because its thread pool cannot be resized.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.grid import Case
from benchmarks.peers import jax_scan, modules, onednn, ort
from benchmarks.peers.common import Prepared, Weights, build, initial_weights, random_input

__all__ = ["MODES", "PEERS", "Peer", "Prepared", "Weights", "build", "initial_weights", "random_input"]
MODES = ("forward", "grad", "train")


@dataclass(frozen=True)
class Peer:
    """A library under test: the package it needs, how to prepare a case, and its name in tables.

    `environment` is that of its worker process, "{threads}" standing for the case's thread count; None: the peer runs
    in the harness's own process. `runs` tells which cases and modes it has. `lacks` says what is missing beside the
    package, "" for nothing.
    """

    package: str
    prepare: Callable[[Case, str, Weights], Prepared]
    label: str
    environment: Mapping[str, str] | None = None
    runs: Callable[[Case, str], bool] = lambda case, mode: True
    lacks: Callable[[], str] = lambda: ""
    version_of: Callable[[], str] | None = None

    def missing(self) -> str:
        """Why the peer cannot be timed here; "" where it can."""
        if importlib.util.find_spec(self.package) is None:
            return f"the package {self.package} is not installed"
        return self.lacks()

    def version(self) -> str:
        if self.version_of:
            return self.version_of()
        return str(getattr(importlib.import_module(self.package), "__version__", "unknown"))


def _shapes(case: Case, mode: str) -> bool:
    """Instruction sets are compared on the shapes A..J."""
    return case.group == "shapes"


# ATen, oneDNN (torch's LSTM) and MKL each look at a variable of their own.
_TORCH_AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}

PEERS: dict[str, Peer] = {
    "torch": Peer("torch", modules.torch_nn, "torch.nn"),
    "torch-avx2": Peer("torch", modules.torch_nn, "torch.nn AVX2", _TORCH_AVX2, _shapes),
    "onnxruntime": Peer("onnxruntime", ort.prepare, "ONNX Runtime", {}, ort.runs, ort.lacks),
    "onednn": Peer("torch", onednn.prepare, "oneDNN primitive", {}, onednn.runs, onednn.lacks, onednn.version),
    "jax": Peer("jax", jax_scan.prepare, "JAX", jax_scan.ENVIRONMENT, jax_scan.runs),
    "fastrnn-avx2": Peer(
        "fastrnn", modules.fastrnn, "fastrnn AVX2", {"FASTRNN_ISA": "avx2"}, _shapes, modules.lacks_avx2
    ),
    "fastrnn": Peer("fastrnn", modules.fastrnn, "fastrnn"),
}

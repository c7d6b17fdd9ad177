"""torch.nn, and fastrnn, which has its names: modules called as a user calls them."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from benchmarks.grid import Case
from benchmarks.peers.common import Prepared, Weights, build, random_gradient, random_input


def _flat(result: Any) -> torch.Tensor:
    """The output rows of a layer or Cell result: first entry of the tuple, data of a PackedSequence."""
    output = result[0] if isinstance(result, tuple) else result
    if isinstance(output, PackedSequence):
        output = output.data
    return output.reshape(-1, output.shape[-1])


def _in_precision(layer: torch.nn.Module, precision: str) -> tuple[torch.dtype, Callable[[Any], Any]]:
    """The dtype of module and input, and the call in that precision."""
    if precision == "autocast":

        def call(source: Any) -> Any:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return layer(source)

        return torch.float32, call
    if precision == "weights":
        if hasattr(layer, "weight_dtype"):  # torch.nn stays what it is
            layer.weight_dtype = torch.bfloat16
        return torch.float32, layer
    return {"fp32": torch.float32, "fp64": torch.float64, "bf16": torch.bfloat16}[precision], layer


def calls(
    namespace: ModuleType, case: Case, mode: str, weights: Weights
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The call that is timed, and a forward call for its output; neither has run yet.

    `forward` is a call under no_grad in eval mode; `grad` is one that records for backward; `train` adds the
    gradients of input and weights. The gradient comes in at the output of every step, and torch.autograd.grad returns
    the results without adding them to .grad, so a call leaves nothing behind for the next. Packing is the caller's
    work and is not timed.
    """
    layer = build(namespace, case)
    layer.load_state_dict(weights)
    dtype, call = _in_precision(layer, case.precision)
    layer.to(dtype).train(mode != "forward")
    leaf = random_input(case).to(dtype)
    source: Any = leaf
    if case.ragged is not None:
        source = pack_padded_sequence(leaf, torch.tensor(case.lengths))
        leaf = source.data
    leaf.requires_grad_(mode == "train")

    def forward() -> Any:
        with torch.no_grad():
            return call(source)

    if mode == "forward":
        return forward, forward
    if mode == "grad":
        return (lambda: call(source)), forward
    gradient = random_gradient((case.rows, case.H * (2 if case.bidirectional else 1)))
    leaves = [leaf, *layer.parameters()]

    def train() -> Any:
        output = _flat(call(source))
        return torch.autograd.grad(output, leaves, gradient.to(output.dtype))

    return train, forward


def prepare(namespace: ModuleType, case: Case, mode: str, weights: Weights) -> Prepared:
    run, forward = calls(namespace, case, mode, weights)
    output = _flat(forward()).clone()
    return Prepared(run, output, run()[0].reshape(-1, case.I).clone() if mode == "train" else None)


def torch_nn(case: Case, mode: str, weights: Weights) -> Prepared:
    return prepare(torch.nn, case, mode, weights)


def fastrnn(case: Case, mode: str, weights: Weights) -> Prepared:
    return prepare(importlib.import_module("fastrnn"), case, mode, weights)


def origin() -> str:
    """The folder that fastrnn came from."""
    return str(Path(str(importlib.import_module("fastrnn").__file__)).resolve().parents[1])


def lacks_avx2() -> str:
    with contextlib.suppress(ImportError):
        from fastrnn import _native

        return "" if "avx2" in _native.available_isas() else "this build or processor has no AVX2 kernels"
    return "fastrnn's kernels cannot be loaded"

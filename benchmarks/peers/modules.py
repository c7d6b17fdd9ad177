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
from benchmarks.timing import turn

KEPT = {"weights": torch.bfloat16, "kept": torch.float32}
"""The weight_dtype of the precisions that keep packed weights."""


def _flat(result: Any) -> torch.Tensor:
    """The output rows of a layer or Cell result: first entry of the tuple, data of a PackedSequence."""
    output = result[0] if isinstance(result, tuple) else result
    if isinstance(output, PackedSequence):
        output = output.data
    return output.reshape(-1, output.shape[-1])


class _WithoutGradients:
    """A call under no_grad, which the calls of a window enter together, as those of a decoding loop do."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call

    def __call__(self) -> Any:
        with torch.no_grad():
            return self._call()

    def window(self, calls: int) -> tuple[float, float]:
        with torch.no_grad():
            return turn(self._call, calls)


def _state(case: Case, dtype: torch.dtype) -> tuple[Any, ...]:
    """What a single step is given besides its input: decoding has a state. Zeros, so that peers without one agree."""
    if case.T > 1:
        return ()
    h, c = (torch.zeros((case.B, case.H) if case.unrolled else (1, case.B, case.H), dtype=dtype) for _ in range(2))
    return ((h, c),) if case.cell == "lstm" else (h,)


def _in_precision(layer: torch.nn.Module, precision: str) -> tuple[torch.dtype, Callable[..., Any]]:
    """The dtype of module and input, and the call in that precision."""
    if precision == "autocast":

        def call(*inputs: Any) -> Any:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return layer(*inputs)

        return torch.float32, call
    if precision in KEPT:
        if hasattr(layer, "weight_dtype"):  # torch.nn stays what it is
            layer.weight_dtype = KEPT[precision]
        return torch.float32, layer
    return {"fp32": torch.float32, "fp64": torch.float64, "bf16": torch.bfloat16}[precision], layer


def calls(
    namespace: ModuleType, case: Case, mode: str, weights: Weights
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The call that is timed, and a forward call for its output; neither has run yet.

    `forward` is a call under no_grad in eval mode; `grad` is one that records for backward; `train` adds the
    gradients of input and weights, and of a cell's state. The gradient comes in at the output of every step, and
    torch.autograd.grad returns the results without adding them to .grad, so a call leaves nothing behind for the next.
    Packing is the caller's work and is not timed.
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
    state = _state(case, dtype)
    forward = _WithoutGradients(lambda: call(source, *state))
    if mode == "forward":
        return forward, forward
    if mode == "grad":
        return (lambda: call(source, *state)), forward
    gradient = random_gradient((case.rows, case.H * (2 if case.bidirectional else 1)))
    # backpropagation through a loop over a cell goes on to the step before
    states = [s for given in state for s in (given if isinstance(given, tuple) else (given,))] if case.unrolled else []
    leaves = [leaf, *layer.parameters(), *(s.requires_grad_() for s in states)]

    def train() -> Any:
        output = _flat(call(source, *state))
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

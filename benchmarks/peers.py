"""Who is timed: one small adaptor a peer, which turns a case into a function that runs one call.

An adaptor is a function (case, mode, weights) -> Prepared, entered in PEERS with the package it needs.
`weights` is the state_dict of a torch.nn layer of the case, so that every peer computes the same function;
the runner compares the outputs before it times anything.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from benchmarks.grid import Case

Weights = dict[str, torch.Tensor]
MODES = ("forward", "train")
_CLASS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}


@dataclass(frozen=True)
class Prepared:
    """`run` makes one call; `output` is the (rows, D*H) result of a first one, to compare peers by."""

    run: Callable[[], Any]
    output: torch.Tensor


@dataclass(frozen=True)
class Peer:
    """A library under test: the package it needs, how to prepare a case, and its name in tables."""

    package: str
    prepare: Callable[[Case, str, Weights], Prepared]
    label: str

    def available(self) -> bool:
        return importlib.util.find_spec(self.package) is not None

    def version(self) -> str:
        return str(getattr(importlib.import_module(self.package), "__version__", "unknown"))


def build(namespace: ModuleType, case: Case) -> torch.nn.Module:
    """The case's layer or cell from a namespace with torch.nn's names and signatures."""
    name = _CLASS[case.cell]
    if case.unrolled:
        return getattr(namespace, name + "Cell")(case.I, case.H)
    return getattr(namespace, name)(case.I, case.H, case.layers, bidirectional=case.bidirectional)


def initial_weights(case: Case, seed: int = 0) -> Weights:
    """The weights that every peer gets: torch.nn's own initialisation under a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build(torch.nn, case).state_dict()


def random_input(case: Case, seed: int = 1) -> torch.Tensor:
    """(T, B, I), or (B, I) for a Cell; the rows after a sequence's end are packed away later."""
    shape = (case.B, case.I) if case.unrolled else (case.T, case.B, case.I)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _flat(result: Any) -> torch.Tensor:
    """The output rows of a layer or Cell result: first entry of the tuple, data of a PackedSequence."""
    output = result[0] if isinstance(result, tuple) else result
    if isinstance(output, PackedSequence):
        output = output.data
    return output.reshape(-1, output.shape[-1])


def _prepare_module(namespace: ModuleType, case: Case, mode: str, weights: Weights) -> Prepared:
    """`forward` is a call under no_grad in eval mode; `train` adds the gradients of input and weights.

    The gradient comes in at the output of every step, and torch.autograd.grad returns the results without
    adding them to .grad, so a call leaves nothing behind for the next. Packing is the caller's work and is
    not timed.
    """
    layer = build(namespace, case)
    layer.load_state_dict(weights)
    layer.train(mode == "train")
    data = random_input(case)
    if case.ragged is None:
        source: Any = data.requires_grad_(mode == "train")
        leaf = data
    else:
        source = pack_padded_sequence(data, torch.tensor(case.lengths))
        leaf = source.data.requires_grad_(mode == "train")

    def forward() -> Any:
        with torch.no_grad():
            return layer(source)

    output = _flat(forward()).clone()
    if mode == "forward":
        return Prepared(forward, output)

    gradient = torch.randn(output.shape, generator=torch.Generator().manual_seed(2))
    leaves = [leaf, *layer.parameters()]

    def train() -> Any:
        return torch.autograd.grad(_flat(layer(source)), leaves, gradient)

    return Prepared(train, output)


def _torch(case: Case, mode: str, weights: Weights) -> Prepared:
    return _prepare_module(torch.nn, case, mode, weights)


def _fastrnn(case: Case, mode: str, weights: Weights) -> Prepared:
    return _prepare_module(importlib.import_module("fastrnn"), case, mode, weights)


PEERS: dict[str, Peer] = {
    "torch": Peer("torch", _torch, "torch.nn"),
    "fastrnn": Peer("fastrnn", _fastrnn, "fastrnn"),
}

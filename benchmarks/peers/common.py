"""What every adaptor shares: the prepared call, the weights and the input of a case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch

from benchmarks.grid import Case

Weights = dict[str, torch.Tensor]
_CLASS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}


@dataclass(frozen=True)
class Prepared:
    """`run` makes one call; `output` is the (rows, D*H) result of a first one and `dx`, in training, its gradient of
    the input, (rows, I): to compare peers by.
    """

    run: Callable[[], Any]
    output: torch.Tensor
    dx: torch.Tensor | None = None


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
        weights = build(torch.nn, case).state_dict()
    return {name: _exact(case, w) for name, w in weights.items()}


def _exact(case: Case, t: torch.Tensor) -> torch.Tensor:
    """In the group bf16, weights and input are such that bf16 holds them: one fp64 result is the truth for all."""
    return t.bfloat16().float() if case.group in ("bf16", "packed") else t


def random_input(case: Case, seed: int = 1) -> torch.Tensor:
    """(T, B, I), or (B, I) for a Cell; the rows after a sequence's end are packed away later."""
    shape = (case.B, case.I) if case.unrolled else (case.T, case.B, case.I)
    return _exact(case, torch.randn(shape, generator=torch.Generator().manual_seed(seed)))


def random_gradient(shape: tuple[int, ...]) -> torch.Tensor:
    """The gradient that comes in at the output."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


def plain(case: Case) -> bool:
    """One dense fp32 layer in one direction: what the libraries other than torch and fastrnn are asked for."""
    single = case.layers == 1 and not case.bidirectional
    return single and case.ragged is None and not case.unrolled and case.precision in ("fp32", "kept")


def by_gate(t: torch.Tensor, order: tuple[int, ...]) -> torch.Tensor:
    """Weights or biases (G*H, ...) with the gates' blocks in another order."""
    blocks = t.chunk(len(order))
    return torch.cat([blocks[i] for i in order])

"""One row: every peer of a case prepared, compared with the first one, and timed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from benchmarks import grid
from benchmarks.peers import Peer, Prepared, initial_weights, modules
from benchmarks.timing import interleave
from benchmarks.worker import Workers

AGREEMENT = {"fp32": 1e-4, "kept": 1e-4, "weights": 1e-4, "bf16": 0.06, "autocast": 0.06}
"""Largest difference of two peers' outputs within (-1, 1): enough to catch a wrong function."""
GRADIENT_AGREEMENT = {"fp32": 1e-3, "bf16": 0.3, "autocast": 0.3}
"""The same of the input's gradients, as a share of the largest one."""
COMPANION = "companion"
"""Name of fastrnn's call of the case's companion among a record's peers."""


def _check(what: str, got: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    if got.shape != expected.shape:
        raise RuntimeError(f"{what}: shape is {tuple(got.shape)}, expected {tuple(expected.shape)}")
    difference = (got.float() - expected.float()).abs().max().item()
    if not difference <= tolerance:  # so written, NaN is caught too
        raise RuntimeError(f"{what}: values differ by {difference:.2g}")


def check_agreement(case: grid.Case, prepared: Mapping[str, Prepared]) -> None:
    """Raises RuntimeError naming the peer whose output, or gradient of the input, differs from the first one's."""
    (reference, first), *others = prepared.items()
    for name, peer in others:
        of = f"{case.key}: {{}} of {name} against {reference}"
        _check(of.format("output"), peer.output, first.output, AGREEMENT[case.precision])
        if peer.dx is not None and first.dx is not None:
            largest = max(1.0, first.dx.abs().max().item())
            _check(of.format("dx"), peer.dx, first.dx, GRADIENT_AGREEMENT[case.precision] * largest)


def errors(case: grid.Case, mode: str, weights: Any, prepared: Mapping[str, Prepared]) -> dict[str, float]:
    """Each peer's largest error against torch.nn in fp64: of the output, or in training of dx, as a share of the
    largest value.
    """
    truth = modules.torch_nn(replace(case, precision="fp64"), mode, weights)
    pick = (lambda p: p.dx) if mode == "train" else (lambda p: p.output)
    exact = pick(truth)
    scale = exact.abs().max()
    return {name: ((pick(p).double() - exact).abs().max() / scale).item() for name, p in prepared.items()}


def prepare(
    case: grid.Case, mode: str, threads: int, peers: Mapping[str, Peer], workers: Workers
) -> tuple[dict[str, Prepared], list[int], dict[str, Any]]:
    """Every peer that has the case, ready to run; the processes of those in workers; what to add to the record."""
    weights = initial_weights(case)
    prepared, pids = {}, []
    for name, peer in peers.items():
        if not peer.runs(case, mode):
            continue
        if peer.environment is None:
            prepared[name] = peer.prepare(case, mode, weights)
        else:
            worker = workers.get(name, threads, peer.environment)
            prepared[name] = worker.prepare(peer.prepare, case, mode, weights)
            pids.append(worker.pid)
    check_agreement(case, prepared)
    extra: dict[str, Any] = {}
    companion = case.companion
    if companion and "fastrnn" in prepared:
        prepared[COMPANION] = modules.fastrnn(companion, mode, weights)
        extra["companion"] = {"text": companion.text, "rows": companion.rows}
    if case.group == "bf16":
        extra["errors"] = errors(case, mode, weights, prepared)
    return prepared, pids, extra


def measure(
    case: grid.Case,
    mode: str,
    threads: int,
    peers: Mapping[str, Peer],
    budget: float,
    window: float,
    workers: Workers,
) -> dict[str, Any]:
    """One record: the case, the mode, the thread count and every peer's times in milliseconds."""
    torch.set_num_threads(threads)
    prepared, pids, extra = prepare(case, mode, threads, peers, workers)
    timing = interleave({name: p.run for name, p in prepared.items()}, budget, window=window, pids=pids)
    return {
        "key": case.key,
        "group": case.group,
        "name": case.name,
        "cell": case.cell,
        "text": case.text,
        "shape": {"B": case.B, "T": case.T, "I": case.I, "H": case.H},
        "ragged": case.ragged is not None,
        "unrolled": case.unrolled,
        "rows": case.rows,
        "flop": case.flop(mode),
        "weight bytes": case.weight_bytes(mode),
        "mode": mode,
        "threads": threads,
        **extra,
        **timing.as_dict(),
    }

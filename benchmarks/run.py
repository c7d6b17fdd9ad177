"""Times fastrnn beside its peers and writes JSON and a Markdown table.

    python benchmarks/run.py                                  every case, both modes, 1 and 2 threads
    python benchmarks/run.py --group shapes --cells gru --shapes A F --threads 1 --mode train --budget 0.5
    python benchmarks/run.py --group shapes --peers torch fastrnn --base main    beside that revision

All peers get the same weights and input and their outputs are compared before anything is timed: a case whose
outputs differ is an error, not a row of the table.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    # Appended, not put first: an installed fastrnn must win over the source tree, which may have no kernels.
    sys.path.append(str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks import base, grid, machine, memory, report
from benchmarks.peers import MODES, PEERS, Peer, Prepared, initial_weights, modules
from benchmarks.timing import WINDOW, interleave
from benchmarks.worker import Workers

FORMAT = 2
AGREEMENT = {"fp32": 1e-4, "bf16": 0.06, "autocast": 0.06}
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


def chosen_peers(arguments: argparse.Namespace) -> tuple[dict[str, Peer], dict[str, str]]:
    """The peers to time, `--base` among them, and why others are left out.

    Raises ValueError where one is missing that was asked for, base.CannotBuild where the revision is.
    """
    missing = {name: why for name in arguments.peers or PEERS if (why := PEERS[name].missing())}
    if arguments.peers and missing:
        raise ValueError(f"cannot be timed here: {'; '.join(f'{n}: {why}' for n, why in missing.items())}")
    peers = {name: PEERS[name] for name in arguments.peers or PEERS if name not in missing}
    if arguments.base:
        site = base.build(arguments.base)
        path = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH", ""))))
        label = f"fastrnn at {arguments.base}"
        version = base.commit_of(arguments.base)[:12]
        peers["base"] = Peer("fastrnn", modules.fastrnn, label, {"PYTHONPATH": path}, version_of=lambda: version)
    return peers, missing


def check_base(peers: Mapping[str, Peer], workers: Workers, threads: int) -> None:
    """Raises RuntimeError if the worker of `--base` would time the installed fastrnn."""
    if "base" in peers:
        environment = peers["base"].environment or {}
        origin = workers.get("base", threads, environment).ask("call", modules.origin)
        if origin != str(Path(environment["PYTHONPATH"].split(os.pathsep)[0]).resolve()):
            raise RuntimeError(f"the worker of --base took fastrnn from {origin}")


def run(
    arguments: argparse.Namespace, peers: Mapping[str, Peer], missing: Mapping[str, str], say: Any = print
) -> dict[str, Any]:
    """All records of the chosen cases with what is needed to read them, as the JSON file holds it."""
    cases = grid.select(arguments.group, arguments.cells, arguments.shapes)
    before = torch.get_num_threads()
    for name, why in missing.items():
        say(f"left out: {name}: {why}")
    result: dict[str, Any] = {
        "format": FORMAT,
        "command": arguments.command,
        "date": machine.date(),
        "commit": machine.git_commit(),
        "machine": machine.processor(),
        "versions": {"python": sys.version.split()[0], **{name: peer.version() for name, peer in peers.items()}},
        "isa": machine.isa(),
        "labels": {name: peer.label for name, peer in peers.items()},
        "left out": dict(missing),
        "limits": machine.limits(arguments.threads),
        "settings": {"budget": arguments.budget, "window": arguments.window},
        "records": [],
        "memory": [],
    }
    try:
        with Workers() as workers:
            check_base(peers, workers, arguments.threads[0])
            for threads in arguments.threads:
                for mode in arguments.mode:
                    for case in cases:
                        if mode not in case.modes or case.group == "memory":
                            continue
                        record = measure(case, mode, threads, peers, arguments.budget, arguments.window, workers)
                        result["records"].append(record)
                        say(report.line(record))
        measured = [name for name in memory.PEERS if name in peers]
        for case in (case for case in cases if case.group == "memory" and measured):
            for mode in (mode for mode in arguments.mode if mode in case.modes):
                result["memory"].append(memory.measure(case, mode, max(arguments.threads), measured))
                say(report.memory_line(result["memory"][-1]))
    finally:
        torch.set_num_threads(before)
    return result


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="benchmarks/run.py", description="Time fastrnn beside its peers.")
    p.add_argument(
        "--group",
        nargs="+",
        default=list(grid.GROUPS),
        choices=grid.GROUPS,
        help="parts of the grid (default: all)",
    )
    p.add_argument("--cells", nargs="+", choices=list(grid.GATES), help="cells (default: all)")
    p.add_argument(
        "--shapes",
        nargs="+",
        metavar="NAME",
        help="names within the groups, such as A F or names (default: all)",
    )
    p.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="thread counts (default: 1 2)")
    p.add_argument(
        "--mode",
        nargs="+",
        default=list(MODES),
        choices=MODES,
        help="grad is forward with gradients recorded, train is forward+backward (default: all that a case has)",
    )
    p.add_argument(
        "--peers",
        nargs="+",
        choices=list(PEERS),
        help="the first is the base of the speed-ups (default: all that are installed)",
    )
    p.add_argument("--base", metavar="GIT_REF", help="also build and time fastrnn at this revision")
    p.add_argument(
        "--budget",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="time a case, mode and thread count (default: 2)",
    )
    p.add_argument(
        "--window",
        type=float,
        default=WINDOW,
        metavar="SECONDS",
        help=f"time a peer's turn (default: {WINDOW})",
    )
    p.add_argument(
        "--out",
        type=Path,
        metavar="PATH",
        default=Path("build/benchmark"),
        help="PATH.json and PATH.md are written",
    )
    return p


def main(argv: Sequence[str] | None = None) -> int:
    p = parser()
    arguments = p.parse_args(argv)
    arguments.command = shlex.join(["python", "benchmarks/run.py", *(sys.argv[1:] if argv is None else argv)])
    if min(arguments.threads) < 1 or arguments.budget <= 0 or arguments.window <= 0:
        p.error("--threads must be at least 1, --budget and --window greater than 0")
    try:
        grid.select(arguments.group, arguments.cells, arguments.shapes)
        peers, missing = chosen_peers(arguments)
    except (ValueError, base.CannotBuild) as error:
        p.error(str(error))
    result = run(arguments, peers, missing)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    for suffix, text in ((".json", json.dumps(result, indent=1) + "\n"), (".md", report.page(result))):
        path = arguments.out.with_name(arguments.out.name + suffix)
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path}")
    print(report.closing(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())

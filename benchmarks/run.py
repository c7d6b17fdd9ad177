"""Times fastrnn beside its peers and writes JSON and a Markdown table.

    python benchmarks/run.py                                  every case, both modes, 1 and 2 threads
    python benchmarks/run.py --group shapes --cells gru --shapes A F --threads 1 --mode train --budget 0.5

All peers get the same weights and input and their outputs are compared before anything is timed: a case whose
outputs differ is an error, not a row of the table.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    # Appended, not put first: an installed fastrnn must win over the source tree, which may have no kernels.
    sys.path.append(str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks import grid, machine, report
from benchmarks.peers import MODES, PEERS, Prepared, initial_weights
from benchmarks.timing import WINDOW, interleave

FORMAT = 1
AGREEMENT = 1e-4
"""Largest difference of two peers' fp32 outputs within (-1, 1): enough to catch a wrong function."""


def check_agreement(case: grid.Case, prepared: dict[str, Prepared]) -> None:
    """Raises RuntimeError naming the peer whose output differs from the first one's, or is not finite."""
    (reference, first), *others = prepared.items()
    for name, peer in others:
        if peer.output.shape != first.output.shape:
            got, expected = tuple(peer.output.shape), tuple(first.output.shape)
            raise RuntimeError(f"{case.key}: output of {name} is {got}, of {reference} {expected}")
        difference = (peer.output - first.output).abs().max().item()
        if not difference <= AGREEMENT:  # so written, NaN is caught too
            raise RuntimeError(f"{case.key}: outputs of {name} and {reference} differ by {difference:.2g}")


def measure(
    case: grid.Case, mode: str, threads: int, peers: Sequence[str], budget: float, window: float
) -> dict[str, Any]:
    """One record: the case, the mode, the thread count and every peer's times in milliseconds."""
    torch.set_num_threads(threads)
    weights = initial_weights(case)
    prepared = {name: PEERS[name].prepare(case, mode, weights) for name in peers}
    check_agreement(case, prepared)
    timing = interleave({name: p.run for name, p in prepared.items()}, budget, window=window)
    return {
        "key": case.key,
        "group": case.group,
        "name": case.name,
        "cell": case.cell,
        "text": case.text,
        "flop": case.flop(mode),
        "mode": mode,
        "threads": threads,
        **timing.as_dict(),
    }


def run(arguments: argparse.Namespace, say: Any = print) -> dict[str, Any]:
    """All records of the chosen cases with what is needed to read them, as the JSON file holds it."""
    cases = grid.select(arguments.group, arguments.cells, arguments.shapes)
    before = torch.get_num_threads()
    result = {
        "format": FORMAT,
        "command": arguments.command,
        "date": machine.date(),
        "commit": machine.git_commit(),
        "machine": machine.processor(),
        "versions": {"python": sys.version.split()[0], **{n: PEERS[n].version() for n in arguments.peers}},
        "isa": machine.isa(),
        "labels": {name: PEERS[name].label for name in arguments.peers},
        "limits": machine.limits(arguments.threads),
        "settings": {"budget": arguments.budget, "window": arguments.window},
        "records": [],
    }
    try:
        for threads in arguments.threads:
            for mode in arguments.mode:
                for case in cases:
                    record = measure(case, mode, threads, arguments.peers, arguments.budget, arguments.window)
                    result["records"].append(record)
                    say(report.line(record))
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
        help="train is forward+backward (default: both)",
    )
    p.add_argument(
        "--peers",
        nargs="+",
        default=list(PEERS),
        choices=list(PEERS),
        help="the first is the base of the speed-ups",
    )
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
    missing = [name for name in arguments.peers if not PEERS[name].available()]
    if missing:
        p.error(f"not installed: {', '.join(missing)}; install it or leave it out with --peers")
    if min(arguments.threads) < 1 or arguments.budget <= 0 or arguments.window <= 0:
        p.error("--threads must be at least 1, --budget and --window greater than 0")
    try:
        grid.select(arguments.group, arguments.cells, arguments.shapes)
    except ValueError as error:
        p.error(str(error))
    result = run(arguments)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    for suffix, text in ((".json", json.dumps(result, indent=1) + "\n"), (".md", report.page(result))):
        path = arguments.out.with_name(arguments.out.name + suffix)
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path}")
    print(report.closing(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())

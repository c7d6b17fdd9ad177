"""Times fastrnn beside its peers and writes JSON and a Markdown table.

    python benchmarks/run.py                                  every case, both modes, 1 and 2 threads
    python benchmarks/run.py --group shapes --cells gru --shapes A F --threads 1 --mode train --budget 0.5
    python benchmarks/run.py --group shapes --peers torch fastrnn --base main    beside that revision

All peers get the same weights and input and their outputs are compared before anything is timed: a case whose
outputs differ is an error, not a row of the table.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    # Appended, not put first: an installed fastrnn must win over the source tree, which may have no kernels.
    sys.path.append(str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks import base, grid, machine, memory, records, report
from benchmarks.measure import measure
from benchmarks.peers import MODES, PEERS, Peer, modules
from benchmarks.timing import WINDOW
from benchmarks.worker import Workers


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


@contextlib.contextmanager
def placed(threads: int) -> Iterator[None]:
    """One thread: the calling thread, and the workers that it starts meanwhile, on one core, the last that is allowed.
    Cores of a virtual machine may differ twofold, as others use them, and peers in processes of their own would each be
    timed on another one. `taskset` chooses.
    """
    if threads > 1 or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def run(
    arguments: argparse.Namespace, peers: Mapping[str, Peer], missing: Mapping[str, str], say: Any = print
) -> dict[str, Any]:
    """All records of the chosen cases with what is needed to read them, as the JSON file holds it."""
    cases = grid.select(arguments.group, arguments.cells, arguments.shapes)
    before = torch.get_num_threads()
    for name, why in missing.items():
        say(f"left out: {name}: {why}")
    result: dict[str, Any] = {
        **machine.about(arguments.command, arguments.threads, {n: peer.version() for n, peer in peers.items()}),
        "labels": {name: peer.label for name, peer in peers.items()},
        "left out": dict(missing),
        "settings": {"budget": arguments.budget, "window": arguments.window},
        "records": [],
        "memory": [],
    }
    try:
        with Workers() as workers:
            with placed(arguments.threads[0]):  # it starts a worker
                check_base(peers, workers, arguments.threads[0])
            for threads in arguments.threads:
                with placed(threads):
                    for mode, case in itertools.product(arguments.mode, cases):
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
    for path in records.save(arguments.out, result, report.page(result)):
        print(f"wrote {path}")
    print(report.closing(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())

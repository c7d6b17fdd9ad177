"""Times whole training steps of the tasks with torch.nn's layers and with fastrnn's, and writes JSON and Markdown.

    python benchmarks/training.py                                         every task and cell on the shipped data
    python benchmarks/training.py --data DIR --threads 2 --out build/training     on real data: DIR/names, DIR/news, …
    python benchmarks/training.py --tasks news "lm, course" --cells lstm --budget 5
    python benchmarks/report.py build/training.json --tasks docs/tasks.md

The losses of every step that is timed are compared: where the backends differ by more than rounding, the row is refused
and the exit status is 1. What is measured is written after every row; runs of other rows can be joined by report.py.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    # Appended, not put first: see run.py.
    sys.path.append(str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks import grid, machine, records, training_report, whole
from benchmarks.peers import PEERS
from fastrnn.tasks.errors import UserError
from fastrnn.tasks.memory import keep_freed_memory

EQUAL_SHARE = 6
"""A layer's row of batches of equal length gets the budget of a task's row divided by this."""


def run(arguments: argparse.Namespace, say: Any = print) -> dict[str, Any]:
    """All records of the chosen tasks and cells with what is needed to read them, as the JSON file holds it.

    Raises UserError where the data cannot be read.
    """
    before = torch.get_num_threads()
    keep_freed_memory()  # as every training does
    versions = {name: PEERS[name].version() for name in whole.BACKENDS}
    result: dict[str, Any] = {
        **machine.about(arguments.command, arguments.threads, versions),
        "data": "real" if arguments.data else "shipped",
        "settings": {"budget": arguments.budget},
        "records": [],
        "refused": {},
    }
    equal: dict[Any, grid.Case] = {}

    def note(text: str) -> None:
        say(text)
        records.save(arguments.out, result, training_report.page([result]))

    def done(record: dict[str, Any]) -> None:
        result["records"].append(record)
        note(training_report.line(record))

    try:
        for name in arguments.tasks:
            task = whole.Prepared(name, max(arguments.threads), arguments.data)
            for cell in arguments.cells:
                for threads in arguments.threads:
                    try:
                        done(whole.measure(task, cell, threads, arguments.budget))
                    except whole.Disagreement as error:
                        result["refused"][f"{name}, {records.CELLS[cell]}"] = str(error)
                        note(f"refused: {name}, {cell}: {error}")
                for case in whole.equal_cases(task, cell):
                    equal.setdefault((cell, case.text), case)  # tasks may share a layer and its shape
        for case in equal.values():
            for threads in arguments.threads:
                done(whole.measure_equal(case, threads, arguments.budget / EQUAL_SHARE))
    finally:
        torch.set_num_threads(before)
    return result


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(prog="benchmarks/training.py", description="Time whole training beside torch.nn.")
    names = list(whole.TASKS)
    p.add_argument("--tasks", nargs="+", default=names, choices=names, metavar="TASK", help=f"of {'; '.join(names)}")
    p.add_argument(
        "--cells", nargs="+", default=list(grid.GATES), choices=list(grid.GATES), help="cells (default: all)"
    )
    p.add_argument("--threads", nargs="+", type=int, default=[2], help="thread counts (default: 2)")
    p.add_argument(
        "--data", type=Path, metavar="DIR", help="folder with names/, news/, jpn/, lm/ (default: shipped data)"
    )
    p.add_argument(
        "--budget",
        type=float,
        default=12.0,
        metavar="SECONDS",
        help=f"time a task, cell and thread count; a layer on equal lengths gets 1/{EQUAL_SHARE} (default: 12)",
    )
    p.add_argument(
        "--out", type=Path, metavar="PATH", default=Path("build/training"), help="PATH.json and PATH.md are written"
    )
    return p


def main(argv: Sequence[str] | None = None) -> int:
    p = parser()
    arguments = p.parse_args(argv)
    given = sys.argv[1:] if argv is None else argv
    shown = ["DIR" if str(arguments.data) == part.rstrip("/") else part for part in given]  # where it lies is no matter
    arguments.command = shlex.join(["python", "benchmarks/training.py", *shown])
    if min(arguments.threads) < 1 or arguments.budget <= 0:
        p.error("--threads must be at least 1, --budget greater than 0")
    try:
        result = run(arguments)
    except UserError as error:
        p.error(str(error))
    print(training_report.closing(result))
    return 1 if result["refused"] else 0


if __name__ == "__main__":
    sys.exit(main())

"""The tables of whole training, and of batches of equal length, from the JSON of one or more runs of training.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from benchmarks.records import CELLS, Record, marks, milliseconds, noise, ratio, speed_up, table, threads_text
from benchmarks.report import between, conditions
from benchmarks.verdicts import Figure, Row, over, rows_of

BEGIN, END = "<!-- bench:training:start -->", "<!-- bench:training:end -->"
LEGEND = (
    "A step is loss, backward, clipping and optimizer as `fit` makes it, with the options that a task's `train` has by "
    "itself and the cell of the row, on the same batches of the first epoch; both libraries' layers take turns in one "
    "process. Times are medians with the interquartile range as a share of them. 'Recurrent' is the share of a step "
    "that the recurrent layers take, forward and backward; 'at most' is what layers that cost nothing would make of "
    "torch.nn's step, 1 / (1 - its share). 'Apart' is the greatest relative difference of the two losses at any step "
    "that was timed. Below 1 the ratio is bold. `~`: interquartile range above 10 %. `!`: other processes disturbed "
    "the row."
)
EQUAL_LEGEND = (
    "The tasks' recurrent layers, forward and backward, on a dense batch and on the same rows as a `PackedSequence` of "
    "equal lengths, the mean length of the task's batches; tasks that share a layer and its shape share a row."
)


def share(backend: str) -> Figure:
    """The recurrent layers' share of a step."""
    return over(f"{backend} layers", backend)


def at_most(record: Record, run: dict[str, Any]) -> float:
    """The speed-up of a step if torch.nn's recurrent layers cost nothing (Amdahl)."""
    rest = 1 - (share("torch")(record, run) or 0.0)
    return 1 / rest if rest > 0 else math.inf  # disturbed: the layers alone took longer than the step


def price(backend: str) -> Figure:
    """What packing costs: a packed call's time over that of a dense one."""
    return over(f"{backend} packed", f"{backend} dense")


def line(record: Record) -> str:
    """One record on one line of a terminal."""
    times = "  ".join(f"{name} {s['median']:.3g} ± {noise(s):.0%} ms" for name, s in record["spreads"].items())
    what = f"{record['group']:<8} {record['name']:<28} {record['cell']:<4} {record['threads']} thr  {times}"
    if record["group"] == "equal":
        figures = ", ".join(f"{price(backend)(record, {}):.2f}" for backend in ("torch", "fastrnn"))
        return f"{what}  packed/dense {figures} {marks(record)}"
    return f"{what}  {speed_up(record, 'torch'):.2f}x of {at_most(record, {}):.2f}x at most {marks(record)}"


def _time(row: Row, peer: str) -> str:
    value, spread = row.median(lambda r, _: milliseconds(r, peer)), row.median(lambda r, _: noise(r["spreads"][peer]))
    return f"{value:.3g} ± {spread:.0%}"


def _marks(row: Row) -> str:
    """The marks of the row where all runs have them."""
    return "".join(mark for mark in "~!" if all(mark in marks(record) for record, _ in row.pairs))


def _median(row: Row, figure: Figure) -> float:
    value = row.median(figure)
    assert value is not None  # every record of these groups has it
    return value


def _training(rows: Sequence[Row]) -> str:
    head = ["task", "cell", "state, batches", "torch.nn ms", "fastrnn ms", "torch.nn / fastrnn", "recurrent, torch.nn"]
    head += ["recurrent, fastrnn", "at most", "fastrnn, steps/s", "units/s", "apart"]
    lines = []
    for row in rows:
        record, ours = row.record, _median(row, lambda r, _: milliseconds(r, "fastrnn"))
        lines.append(
            [
                record["name"], CELLS[record["cell"]], record["text"], _time(row, "torch"), _time(row, "fastrnn"),
                ratio(_median(row, over("torch"))) + _marks(row),
                *(f"{_median(row, share(b)):.2f}" for b in ("torch", "fastrnn")),
                f"{_median(row, at_most):.2f}", f"{1e3 / ours:.3g}",
                f"{1e3 / ours * record['units']:,.0f} {record['unit']}",
                f"{max(r['apart'] for r, _ in row.pairs):.0e}".replace("0e+00", "0"),
            ]
        )  # fmt: skip
    return table(head, lines, text_columns=3)


def _equal(rows: Sequence[Row]) -> str:
    head = ["task: layer", "cell", "shape"]
    for label in ("torch.nn", "fastrnn"):
        head += [f"{label} dense ms", "packed ms", "packed / dense"]
    lines = []
    for row in rows:
        cells = [row.record["name"], CELLS[row.record["cell"]], row.record["text"]]
        for backend in ("torch", "fastrnn"):
            cells += [_time(row, f"{backend} {how}") for how in ("dense", "packed")]
            cells.append(f"{_median(row, price(backend)):.2f}")
        cells[-1] += _marks(row)
        lines.append(cells)
    return table(head, lines, text_columns=3)


def closing(result: dict[str, Any]) -> str:
    """How many rows of a run were slower with fastrnn, and what was refused."""
    timed = [r for r in result["records"] if r["group"] == "training"]
    quiet = [r for r in timed if r["quiet"]]
    slower = [f"{r['name']} {CELLS[r['cell']]} {speed_up(r):.2f}" for r in quiet if speed_up(r) < 1]
    text = f"{len(quiet)} of {len(timed)} rows undisturbed; slower with fastrnn: {', '.join(slower) or 'none'}"
    return text + "".join(f"\nrefused: {name}: {why}" for name, why in result["refused"].items())


def tables(runs: Sequence[dict[str, Any]]) -> str:
    """Both tables for each thread count, and the conditions of the runs."""
    rows = rows_of(runs)
    names, cells = list(dict.fromkeys(row.record["name"] for row in rows)), list(CELLS)
    rows.sort(key=lambda row: (names.index(row.record["name"]), cells.index(row.record["cell"])))
    parts = [LEGEND]
    for threads in dict.fromkeys(row.record["threads"] for row in rows):
        for group, make, legend in (("training", _training, ""), ("equal", _equal, EQUAL_LEGEND)):
            if mine := [row for row in rows if (row.record["group"], row.record["threads"]) == (group, threads)]:
                title = "Training steps" if group == "training" else "Batches of equal length, dense and packed"
                parts += [f"### {title}, {threads_text(threads)}", *filter(None, [legend]), make(mine)]
    refused = [f"- {name}: {why}" for run in runs for name, why in run["refused"].items()]
    if refused:
        parts += ["Refused, the losses of the two being different:", "\n".join(refused)]
    parts += [f"{conditions(run)}\n- data: {run['data']}" for run in runs]
    return "\n\n".join(parts)


def page(runs: Sequence[dict[str, Any]]) -> str:
    """The report of runs as a Markdown page."""
    return f"# Whole training\n\n{tables(runs)}\n"


def fill(text: str, runs: Sequence[dict[str, Any]]) -> str:
    """`text` with the tables between its markers. Raises ValueError where it lacks them."""
    return between(text, BEGIN, END, f"\n{tables(runs)}\n")

"""From the JSON of a run to Markdown.

python benchmarks/report.py RESULT.json                     the whole page, on standard output
python benchmarks/report.py RESULT.json --fill README.md    its short table, between that file's markers
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Record = dict[str, Any]
CELLS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}
MODES = {"forward": "forward", "train": "forward+backward"}
BEGIN, END = "<!-- bench:start -->", "<!-- bench:end -->"
NOISY = 0.10
"""A row is marked where a peer's interquartile range is more than this share of its median."""


def speed_up(record: Record) -> float:
    """How many times faster the last peer of the record is than the first."""
    spreads = list(record["spreads"].values())
    return spreads[0]["median"] / spreads[-1]["median"]


def noise(spread: dict[str, float]) -> float:
    """Interquartile range as a share of the median."""
    return (spread["high"] - spread["low"]) / spread["median"]


def gflops(record: Record, peer: str) -> float:
    return record["flop"] / record["spreads"][peer]["median"] * 1e-6


def marks(record: Record) -> str:
    """'~' noisy; '!' other processes took part of the machine and too few rounds were undisturbed."""
    noisy = any(noise(spread) > NOISY for spread in record["spreads"].values())
    return ("~" if noisy else "") + ("" if record["quiet"] else "!")


def ratio_text(record: Record) -> str:
    """A speed-up; a loss is bold, so that it is seen."""
    ratio = speed_up(record)
    text = f"{ratio:.2f}" if ratio < 10 else f"{ratio:.1f}"
    return (f"**{text}**" if ratio < 1 else text) + marks(record)


def _milliseconds(spread: dict[str, float]) -> str:
    return f"{spread['median']:.3g} ± {noise(spread):.0%}"


def line(record: Record) -> str:
    """One record on one line of a terminal."""
    times = "  ".join(f"{name} {_milliseconds(s)} ms" for name, s in record["spreads"].items())
    what = f"{record['key']:<32} {record['mode']:<8} {record['threads']} thr"
    return f"{what}  {times}  {speed_up(record):.2f}x {marks(record)}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table: two text columns, the others aligned to the right."""
    rule = ["---" if i < 2 else "---:" for i in range(len(head))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


def _parts(records: Sequence[Record]) -> Iterable[tuple[int, str, list[Record]]]:
    """Records by thread count and mode, in the order they were measured."""
    for threads, mode in dict.fromkeys((r["threads"], r["mode"]) for r in records):
        yield threads, mode, [r for r in records if (r["threads"], r["mode"]) == (threads, mode)]


def geometric_mean(records: Iterable[Record]) -> float:
    """Geometric mean of the undisturbed records' speed-ups; nan where there is none.

    A disturbed row stands in its table with a mark, but a thread that was not let run can cost a peer a
    hundredfold of its time, and such a row would decide the mean.
    """
    ratios = [speed_up(record) for record in records if record["quiet"]]
    return statistics.geometric_mean(ratios) if ratios else math.nan


def _by_cell(records: Sequence[Record]) -> Iterable[tuple[str, list[Record]]]:
    for cell in CELLS:
        mine = [record for record in records if record["cell"] == cell]
        if mine:
            yield cell, mine


def detail(result: dict[str, Any]) -> str:
    """A table for each thread count and mode: every peer's time and rate, and the speed-up."""
    labels = result["labels"]
    head = [
        "case",
        "shape",
        *(f"{label} {unit}" for label in labels.values() for unit in ("ms", "GF/s")),
        "speed-up",
    ]
    sections = []
    for threads, mode, records in _parts(result["records"]):
        rows = []
        for r in records:
            numbers = [c for peer in labels for c in (_milliseconds(r["spreads"][peer]), f"{gflops(r, peer):.3g}")]
            rows.append([f"{CELLS[r['cell']]} {r['name']}", r["text"], *numbers, ratio_text(r)])
        sections.append(f"## {MODES[mode].capitalize()}, {_threads(threads)}\n\n{table(head, rows)}")
    return "\n\n".join(sections)


def summary(result: dict[str, Any]) -> str:
    """The short table: speed-ups over the shapes A..J and their geometric mean, for each cell and mode."""
    records = [r for r in result["records"] if r["group"] == "shapes"]
    names = list(dict.fromkeys(r["name"] for r in records))
    rows = []
    for threads, mode, part in _parts(records):
        for cell, mine in _by_cell(part):
            found = {r["name"]: ratio_text(r) for r in mine}
            mean = geometric_mean(mine)
            rows.append(
                [
                    CELLS[cell],
                    f"{MODES[mode]}, {_threads(threads)}",
                    *(found.get(n, "") for n in names),
                    f"{mean:.2f}",
                ]
            )
    return table(["cell", "what", *names, "mean"], rows)


def _threads(count: int) -> str:
    return f"{count} thread{'' if count == 1 else 's'}"


def means(result: dict[str, Any]) -> str:
    """Geometric means of each group and cell, with wins, losses and disturbed rows counted."""
    rows = []
    for threads, mode, part in _parts(result["records"]):
        for group in dict.fromkeys(r["group"] for r in part):
            for cell, mine in _by_cell([r for r in part if r["group"] == group]):
                ratios = [speed_up(r) for r in mine if r["quiet"]]
                losses = sum(ratio < 1 for ratio in ratios)
                counts = (str(len(ratios) - losses), str(losses), str(len(mine) - len(ratios)))
                numbers = (f"{geometric_mean(mine):.2f}", f"{min(ratios, default=math.nan):.2f}")
                what = f"{MODES[mode]}, {_threads(threads)}"
                rows.append([f"{CELLS[cell]}, {group}", what, *numbers, *counts])
    return table(["cell, group", "what", "geometric mean", "worst", "not slower", "slower", "disturbed"], rows)


def conditions(result: dict[str, Any]) -> str:
    """One paragraph: command, machine, versions, limits."""
    cpu, limits = result["machine"], result["limits"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    extensions = " ".join(cpu["vector extensions"])
    caches = "; ".join(f"{name} {size}" for name, size in cpu["caches"].items())
    rates = ", ".join(f"{_threads(int(n))} {rate}" for n, rate in limits["mm fp32 GF/s"].items())
    barriers = ", ".join(
        f"{n} threads {'not measured' if ns is None else f'{ns:.0f} ns'}" for n, ns in limits["barrier ns"].items()
    )
    return "\n".join(
        (
            f"- command: `{result['command']}`",
            f"- date: {result['date']}, commit {result['commit'] or 'unknown'}",
            f"- processor: {cpu['model']}, {cpu['logical CPUs']} logical CPUs, {extensions}; {caches}",
            f"- versions: {versions}; fastrnn kernels: {result['isa'] or 'not loaded'}",
            f"- limits: fp32 product of 1024x1024 in GF/s: {rates}; barrier: {barriers or 'one thread only'}",
        )
    )


LEGEND = (
    "Times are medians with the interquartile range as a share of them; every peer of a row ran in turn "
    "within one process on the same weights and input. Speed-up is the first peer's time divided by the last "
    "one's; below 1 it is bold. `~`: interquartile range above 10 %. `!`: other processes disturbed the "
    "measurement, and the row is left out of means and counts. GF/s counts 2·T·B·G·H·(I+H), three times that "
    "for forward+backward."
)


def page(result: dict[str, Any]) -> str:
    """The whole report as a Markdown page."""
    parts = ["# Benchmark", conditions(result), LEGEND, "## Means", means(result), detail(result)]
    return "\n\n".join(parts) + "\n"


def closing(result: dict[str, Any]) -> str:
    """The last line of a run: how often the last peer was slower than the first."""
    first, *_, last = list(result["labels"].values()) * 2
    records = [r for r in result["records"] if r["quiet"]]
    slower = sum(speed_up(r) < 1 for r in records)
    text = f"{last} against {first}: {len(records)} rows, geometric mean {geometric_mean(records):.2f}x"
    disturbed = len(result["records"]) - len(records)
    return f"{text}, slower in {slower}" + (f"; {disturbed} more were disturbed" if disturbed else "")


def fill(text: str, result: dict[str, Any]) -> str:
    """`text` with what stands between its markers replaced by the short table and its conditions.

    Raises ValueError where the text does not have the two markers, once each and in order.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"the file needs the line {BEGIN} and, below it, the line {END}, once each")
    head, tail = text.split(BEGIN)[0], text.split(END)[1]
    return f"{head}{BEGIN}\n{summary(result)}\n\n{LEGEND}\n\n{conditions(result)}\n{END}{tail}"


def main(argv: Sequence[str] | None = None) -> int:
    p = argparse.ArgumentParser(prog="benchmarks/report.py", description="Benchmark JSON to Markdown.")
    p.add_argument("result", type=Path, help="JSON file that benchmarks/run.py wrote")
    p.add_argument("--fill", type=Path, metavar="FILE", help=f"write the short table between {BEGIN} and {END} of FILE")
    arguments = p.parse_args(argv)
    result = json.loads(arguments.result.read_text(encoding="utf-8"))
    if arguments.fill is None:
        print(page(result), end="")
        return 0
    try:
        filled = fill(arguments.fill.read_text(encoding="utf-8"), result)
    except ValueError as error:
        p.error(f"{arguments.fill}: {error}")
    arguments.fill.write_text(filled, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

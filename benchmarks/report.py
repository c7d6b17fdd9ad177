"""From the JSON of runs to Markdown.

python benchmarks/report.py RUN.json                       the whole page of one run, on standard output
python benchmarks/report.py RUN.json --fill README.md      its short table, between that file's markers
python benchmarks/report.py RUN1.json RUN2.json RUN3.json --doc docs/benchmarks.md
                                                           the page of several runs, with targets and plots
python benchmarks/report.py RUN.json ... --tasks docs/tasks.md
                                                           the tables of whole training, of runs of training.py
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path.append(str(Path(__file__).resolve().parents[1]))

from benchmarks.records import (
    CELLS,
    MODES,
    OURS,
    Record,
    best_rival,
    by_cell,
    geometric_mean,
    gflops,
    limit_of,
    load,
    marks,
    noise,
    ours,
    parts,
    ratio,
    row_cost,
    share_of_limit,
    speed_up,
    table,
    threads_text,
)

BEGIN, END = "<!-- bench:start -->", "<!-- bench:end -->"


def ratio_text(record: Record) -> str:
    """The speed-up over the first peer, with the row's marks."""
    return ratio(speed_up(record)) + marks(record)


def _milliseconds(spread: dict[str, float]) -> str:
    return f"{spread['median']:.3g} ± {noise(spread):.0%}"


def line(record: Record) -> str:
    """One record on one line of a terminal."""
    times = "  ".join(f"{name} {_milliseconds(s)} ms" for name, s in record["spreads"].items())
    what = f"{record['key']:<32} {record['mode']:<8} {record['threads']} thr"
    return f"{what}  {times}  {speed_up(record):.2f}x {marks(record)}"


def memory_line(record: Record) -> str:
    """One measurement of memory on one line of a terminal."""
    peaks = "  ".join(f"{name} {mib:.1f} MiB" for name, mib in record["mib"].items())
    return f"{record['key']:<32} {record['mode']:<8} {record['threads']} thr  {peaks}"


def rival_text(record: Record) -> str:
    """The best other library and our speed-up over it."""
    rival = best_rival(record)
    return "" if rival is None else f"{ratio(speed_up(record, rival))} {rival}"


def limit_text(record: Record, limits: dict[str, Any]) -> str:
    """The share of the machine's limit that fastrnn reaches, and which limit."""
    bound, share = limit_of(record, limits), share_of_limit(record, limits)
    return "" if bound is None or share is None else f"{share:.0%} {bound[0]}"


def over_companion(record: Record) -> str:
    return "over a call that packs" if record["group"] == "kept" else "over our fp32"


def extra_text(record: Record) -> str:
    """What a companion case tells: the price of a ragged row, the worth and error of bf16, or what packing costs."""
    texts = []
    if "companion" in record and OURS in record["spreads"]:
        if record["ragged"]:
            texts.append(f"a row costs {row_cost(record):.2f} of a dense one")
        else:
            texts.append(f"{speed_up(record, 'companion'):.2f} {over_companion(record)}")
    if "errors" in record:
        texts.append("error " + ", ".join(f"{name} {e:.1e}" for name, e in record["errors"].items()))
    return "; ".join(texts)


def detail(result: dict[str, Any]) -> str:
    """A table for each thread count and mode: every peer's time, our rate, and the speed-ups."""
    labels, sections = result["labels"], []
    for threads, mode, records in parts(result["records"]):
        # a column only for who ran here
        present = {peer: label for peer, label in labels.items() if any(peer in r["spreads"] for r in records)}
        head = ["case", "shape", *(f"{label} ms" for label in present.values()), "GF/s", "of limit", "speed-up"]
        rows = []
        for r in records:
            times = [_milliseconds(r["spreads"][peer]) if peer in r["spreads"] else "" for peer in present]
            rate, limit = f"{gflops(r, ours(r)):.3g}", limit_text(r, result["limits"])
            last = [ratio_text(r), rival_text(r), extra_text(r)]
            rows.append([f"{CELLS[r['cell']]} {r['name']}", r["text"], *times, rate, limit, *last])
        head += ["over the best peer", "remark"]
        sections.append(f"## {MODES[mode].capitalize()}, {threads_text(threads)}\n\n{table(head, rows)}")
    return "\n\n".join(sections)


def memory_table(result: dict[str, Any]) -> str:
    """Peaks of memory; "" where none was measured."""
    records = result.get("memory", [])
    if not records:
        return ""
    names = list(records[0]["mib"])
    rows = [
        [f"{CELLS[r['cell']]} {r['name']}, {MODES[r['mode']]}", r["text"], *(f"{r['mib'][n]:.1f}" for n in names)]
        for r in records
    ]
    return "## Peak memory of one call, MiB\n\n" + table(["case", "shape", *names], rows)


def summary(result: dict[str, Any]) -> str:
    """The short table: speed-ups over the shapes A..J and their geometric mean, for each cell and mode."""
    records = [r for r in result["records"] if r["group"] == "shapes"]
    names = list(dict.fromkeys(r["name"] for r in records))
    rows = []
    for threads, mode, part in parts(records):
        for cell, mine in by_cell(part):
            found = {r["name"]: ratio_text(r) for r in mine}
            what = f"{MODES[mode]}, {threads_text(threads)}"
            rows.append([CELLS[cell], what, *(found.get(n, "") for n in names), f"{geometric_mean(mine):.2f}"])
    return table(["cell", "what", *names, "mean"], rows)


def means(result: dict[str, Any]) -> str:
    """Geometric means of each group and cell, with wins, losses and disturbed rows counted."""
    rows = []
    for threads, mode, part in parts(result["records"]):
        for group in dict.fromkeys(r["group"] for r in part):
            for cell, mine in by_cell([r for r in part if r["group"] == group]):
                ratios = [speed_up(r) for r in mine if r["quiet"]]
                losses = sum(ratio < 1 for ratio in ratios)
                counts = (str(len(ratios) - losses), str(losses), str(len(mine) - len(ratios)))
                numbers = (f"{geometric_mean(mine):.2f}", f"{min(ratios, default=math.nan):.2f}")
                what = f"{MODES[mode]}, {threads_text(threads)}"
                rows.append([f"{CELLS[cell]}, {group}", what, *numbers, *counts])
    return table(["cell, group", "what", "geometric mean", "worst", "not slower", "slower", "disturbed"], rows)


def _probe_text(limits: dict[str, Any]) -> str:
    texts = []
    for n, probe in limits.get("probe", {}).items():
        dot = f", bf16 dot {probe['bf16 dot GF/s']} GF/s" if "bf16 dot GF/s" in probe else ""
        reads = ", ".join(f"{level} {rate}" for level, rate in probe["read GB/s"].items())
        texts.append(f"{threads_text(int(n))} FMA {probe['fma fp32 GF/s']} GF/s{dot}, reads in GB/s {reads}")
    return "; ".join(texts)


def conditions(result: dict[str, Any]) -> str:
    """One paragraph: command, machine, versions, limits."""
    cpu, limits = result["machine"], result["limits"]
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    extensions = " ".join(cpu["vector extensions"])
    caches = "; ".join(f"{name} {size}" for name, size in cpu["caches"].items())
    rates = ", ".join(f"{threads_text(int(n))} {rate}" for n, rate in limits["mm fp32 GF/s"].items())
    barriers = ", ".join(
        f"{n} threads {'not measured' if ns is None else f'{ns:.0f} ns'}" for n, ns in limits["barrier ns"].items()
    )
    lines = [
        f"- command: `{result['command']}`",
        f"- date: {result['date']}, commit {result['commit'] or 'unknown'}",
        f"- processor: {cpu['model']}, {cpu['logical CPUs']} logical CPUs, {extensions}; {caches}",
        f"- versions: {versions}; fastrnn kernels: {result['isa'] or 'not loaded'}",
        f"- limits: fp32 product of 1024x1024 in GF/s: {rates}; barrier: {barriers or 'one thread only'}",
    ]
    if probe := _probe_text(limits):
        lines.append(f"- measured limits: {probe}")
    if left_out := result.get("left out"):
        lines.append("- left out: " + "; ".join(f"{name}, {why}" for name, why in left_out.items()))
    return "\n".join(lines)


LEGEND = (
    "Times are medians with the interquartile range as a share of them; every peer of a row ran in turn on the same "
    "weights and input. Speed-up is the first peer's time divided by fastrnn's; below 1 it is bold. `~`: "
    "interquartile range above 10 %. `!`: other processes disturbed the measurement, and the row is left out of means "
    "and counts. GF/s counts 2·T·B·G·H·(I+H), three times that for forward+backward."
)
LIMITS_LEGEND = (
    "'Of limit' is fastrnn's share of what the machine was measured to do: of its fp32 multiply-adds for B ≥ 16 and "
    "H ≥ 256; for B = 1 of the read bandwidth of the cache that holds a thread's recurrent weights, of which a step "
    "reads all (twice in forward+backward, whose products over all steps are not counted)."
)


def page(result: dict[str, Any]) -> str:
    """The whole report as a Markdown page."""
    text = f"{LEGEND} {LIMITS_LEGEND}"
    sections = [conditions(result), text, "## Means", means(result), detail(result), memory_table(result)]
    return "\n\n".join(["# Benchmark", *filter(None, sections)]) + "\n"


def closing(result: dict[str, Any]) -> str:
    """The last line of a run: how often fastrnn was slower than the first peer."""
    labels = result["labels"]
    first, last = next(iter(labels.values())), labels.get(OURS, list(labels.values())[-1])
    records = [r for r in result["records"] if r["quiet"]]
    if not records:
        return f"{last} against {first}: no undisturbed rows"
    slower = sum(speed_up(r) < 1 for r in records)
    text = f"{last} against {first}: {len(records)} rows, geometric mean {geometric_mean(records):.2f}x"
    disturbed = len(result["records"]) - len(records)
    return f"{text}, slower in {slower}" + (f"; {disturbed} more were disturbed" if disturbed else "")


def between(text: str, begin: str, end: str, content: str) -> str:
    """`text` with what stands between two marker lines replaced.

    Raises ValueError where the text does not have the two markers, once each and in order.
    """
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"the file needs the line {begin} and, below it, the line {end}, once each")
    head, tail = text.split(begin)[0], text.split(end)[1]
    return f"{head}{begin}\n{content}\n{end}{tail}"


def fill(text: str, result: dict[str, Any]) -> str:
    """`text` with the short table and its conditions between its markers. Raises ValueError as `between` does."""
    return between(text, BEGIN, END, f"{summary(result)}\n\n{LEGEND}\n\n{conditions(result)}")


def main(argv: Sequence[str] | None = None) -> int:
    from benchmarks import document, training_report

    p = argparse.ArgumentParser(prog="benchmarks/report.py", description="Benchmark JSON to Markdown.")
    p.add_argument(
        "result", type=Path, nargs="+", help="JSON file that benchmarks/run.py wrote; several with --doc or --tasks"
    )
    group = p.add_mutually_exclusive_group()
    group.add_argument("--fill", type=Path, metavar="FILE", help=f"write the short table between {BEGIN} and {END}")
    group.add_argument("--doc", type=Path, metavar="FILE", help="write the page of all runs; notes in it are kept")
    group.add_argument("--tasks", type=Path, metavar="FILE", help="write the tables of whole training into that file")
    arguments = p.parse_args(argv)
    if len(arguments.result) > 1 and not (arguments.doc or arguments.tasks):
        p.error("several results need --doc FILE or --tasks FILE")
    results = [load(path) for path in arguments.result]
    target = arguments.fill or arguments.doc or arguments.tasks
    if target is None:
        print(page(results[0]), end="")
        return 0
    try:
        if arguments.doc:
            print("\n".join(f"wrote {path}" for path in document.write(arguments.doc, results)))
        else:
            text = target.read_text(encoding="utf-8")
            text = training_report.fill(text, results) if arguments.tasks else fill(text, results[0])
            target.write_text(text, encoding="utf-8")
    except ValueError as error:
        p.error(f"{target}: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The page of several runs, docs/benchmarks.md: targets, tables, plots. What stands outside its markers is kept."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import plots
from benchmarks.records import CELLS, MODES, NOT_RIVALS, OURS, Record, best_rival, limit_of, ratio, table, threads_text
from benchmarks.report import LIMITS_LEGEND, between, conditions, over_companion
from benchmarks.targets import TARGETS, Target
from benchmarks.verdicts import VALUES, Check, Row, Verdict, judge, over, over_best_peer, percent_of_limit, rows_of

BLOCKS = ("targets", "tables")
SKELETON = """# Benchmarks

Speed of fastrnn on a CPU beside the libraries that do the same. Losses are bold and stand beside wins. The parts
between markers are written by `python benchmarks/report.py RUN1.json RUN2.json RUN3.json --doc docs/benchmarks.md`;
what stands outside of them is written by hand and kept.

<!-- bench:targets:start -->
<!-- bench:targets:end -->

## Notes

Nothing is noted yet.

<!-- bench:tables:start -->
<!-- bench:tables:end -->
"""


def _bound(target: Target, check: Check) -> str:
    return f"{'≤' if target.at_most else '≥'} {check.bound:.3g}{target.unit}"


def _verdict(verdict: Verdict) -> list[str]:
    target, worst = verdict.target, verdict.worst
    if worst is None:
        return [target.number, target.text, "not measured", "", "", ""]
    good = sum(check.met for check in verdict.checks)
    figure = f"{worst.name}: {worst.value:.3g}{target.unit} ({_bound(target, worst)})"
    word = ("met" if verdict.met else "**not met**") + (", in part measured" if verdict.missing else "")
    count = f"{good} of {len(verdict.checks)}" + (f", {verdict.missing} missing" if verdict.missing else "")
    if beyond := sum(check.beyond and not check.met for check in verdict.checks):
        count += f", {beyond} beyond the machine"
    return [target.number, target.text, word, count, figure, f"{worst.spread:.0%}"]


def _missed(verdict: Verdict) -> str:
    """Every row that misses its bound, the worst first."""
    target = verdict.target
    missed = sorted((c for c in verdict.checks if not c.met), key=lambda check: check.margin(target.at_most))
    figures = (f"{c.name} {c.value:.3g} ({_bound(target, c)}{_most(c)})" for c in missed)
    return f"- {target.number}, {target.text}: " + ", ".join(figures)


def _most(check: Check) -> str:
    if check.ceiling is None:
        return ""
    text = f"at most {check.ceiling:.3g}"
    return f"; **{text}**" if check.beyond else f"; {text}"


def targets(rows: Sequence[Row]) -> str:
    """Each target with its verdict, its worst row, and then all rows that miss."""
    verdicts = [judge(target, rows) for target in TARGETS]
    head = ["no.", "target", "verdict", "rows", "worst: measured (bound)", "spread of runs"]
    parts = ["## Targets", table(head, map(_verdict, verdicts), text_columns=3)]
    if missed := [_missed(v) for v in verdicts if v.met is False]:
        text = (
            "Rows that miss their bound. 'At most' is the speed-up of code that ran at the machine's measured limit, "
            "the peak of its multiply-adds and for one sequence the reading of its weights; bold where that is less "
            "than the bound, which no code can meet there:"
        )
        parts.append(text + "\n\n" + "\n".join(missed))
    return "\n\n".join(parts)


def _spread(row: Row) -> str:
    """How far the runs are apart: their speed-ups over torch.nn, or our times where torch was not timed."""

    def time(record: Record, run: dict[str, Any]) -> float | None:
        """None in a run that timed others alone, such as the AVX2 peers."""
        return record["spreads"][OURS]["median"] if OURS in record["spreads"] else None

    return f"{row.spread(over('torch') if row.values(over('torch')) else time):.0%}"


def _rival(row: Row) -> str:
    """Our speed-up over the best peer, and the peer that is best most often; '!' where that run was disturbed."""
    row = row.with_most_rivals()
    value = row.median(over_best_peer)
    if value is None:
        return ""
    names = [name for record, _ in row.pairs if (name := best_rival(record))]
    return f"{ratio(value)} {statistics.mode(names)}" + ("" if row.quiet else " !")


def _time(row: Row, peer: str) -> str:
    def figure(record: Record, run: dict[str, Any]) -> float | None:
        return record["spreads"][peer]["median"] if peer in record["spreads"] else None

    value = row.median(figure)
    return "" if value is None else f"{value:.3g}"


def _remark(row: Row) -> str:
    texts = []
    if "companion" in row.record:
        ragged = row.record["ragged"]
        name, text = ("row cost", "a row costs") if ragged else ("over companion", over_companion(row.record))
        if (value := row.median(VALUES[name])) is not None:
            texts.append(f"{text} {value:.2f}")
    if (value := row.median(VALUES["error ratio"])) is not None:
        texts.append(f"error over torch's {value:.2f}")
    return ", ".join(texts) + ("" if row.quiet else " !")


def _table(rows: Sequence[Row], labels: dict[str, str]) -> str:
    present = {p: label for p, label in labels.items() if any(p in r["spreads"] for row in rows for r, _ in row.pairs)}
    head = ["case", "shape", *(f"{label} ms" for label in present.values())]
    head += ["over torch", "over the best peer", "of limit", "spread", "remark"]
    lines = []
    for row in rows:
        record, value = row.record, row.median(over("torch"))
        limit, share = limit_of(record, row.pairs[0][1]["limits"]), row.median(percent_of_limit)
        name = f"{CELLS[record['cell']]} {record['name']}"
        times = [_time(row, peer) for peer in present]
        last = ["" if value is None else ratio(value), _rival(row)]
        last += ["" if limit is None or share is None else f"{share:.0f}% {limit[0]}", _spread(row), _remark(row)]
        lines.append([name, record["text"], *times, *last])
    return table(head, lines)


def _means(rows: Sequence[Row]) -> str:
    """Geometric means over the shapes A to J against each peer, a line a cell, mode and thread count."""
    rows = [row for row in rows if row.record["group"] == "shapes" and row.quiet]
    peers = list(dict.fromkeys(p for row in rows for r, _ in row.pairs for p in r["spreads"] if p not in NOT_RIVALS))
    lines = []
    for what in dict.fromkeys((r.record["cell"], r.record["mode"], r.record["threads"]) for r in rows):
        cell, mode, threads = what
        mine = [r for r in rows if (r.record["cell"], r.record["mode"], r.record["threads"]) == what]
        figures = [[v for r in mine if (v := r.median(f)) is not None] for f in map(over, peers)]
        against_all = [most for r in mine if (most := r.with_most_rivals()).quiet]
        figures.append([v for r in against_all if (v := r.median(over_best_peer)) is not None])
        losses = sum(value < 1 for value in figures[-1])
        texts = [ratio(statistics.geometric_mean(values)) if values else "" for values in figures]
        lines.append(
            [CELLS[cell], f"{MODES[mode]}, {threads_text(threads)}", *texts, str(losses) if figures[-1] else ""]
        )
    return table(["cell", "what", *(f"over {p}" for p in peers), "over the best", "slower than the best"], lines)


def _memory(rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        mib = [statistics.median(r["mib"].get(p, math.nan) for r, _ in row.pairs) for p in ("torch", OURS)]
        what = f"{CELLS[row.record['cell']]} {row.record['name']}, {MODES[row.record['mode']]}"
        lines.append([what, row.record["text"], *(f"{value:.1f}" for value in mib), f"{mib[1] / mib[0]:.2f}"])
    head = ["case", "shape", "torch.nn MiB", "fastrnn MiB", "fastrnn / torch.nn"]
    return "### Peak memory of one call\n\n" + table(head, lines)


def tables(rows: Sequence[Row], runs: Sequence[dict[str, Any]], images: Sequence[tuple[str, str]]) -> str:
    """Conditions, plots, means, and a table for each group, mode and thread count. `images` are (text, path)."""
    labels = {name: label for run in runs for name, label in run["labels"].items()}
    count = f"{len(runs)} runs" if len(runs) > 1 else "one run"
    legend = (
        f"Times are medians over {count}, each the median of its interleaved rounds; ratios are taken within a run, "
        "their median over the runs is shown, and 'spread' is how far the runs are apart, largest less smallest as a "
        "share of the median. `!`: no run measured the row undisturbed; it counts in no mean and no target. The oneDNN "
        "primitive has no framework around it, and its weights are laid out for it once and outside of the time. "
        "ONNX Runtime has no training."
    )
    parts = ["## Speed", f"{legend} {LIMITS_LEGEND}", *(f"![{text}]({path})" for text, path in images)]
    parts.append("### Geometric means over the shapes A to J\n\n" + _means(rows))
    timed = [row for row in rows if row.record["group"] != "memory"]
    for what in dict.fromkeys((r.record["group"], r.record["mode"], r.record["threads"]) for r in timed):
        group, mode, threads = what
        mine = [r for r in timed if (r.record["group"], r.record["mode"], r.record["threads"]) == what]
        parts.append(f"### {group.capitalize()}: {MODES[mode]}, {threads_text(threads)}\n\n{_table(mine, labels)}")
    if memory := [row for row in rows if row.record["group"] == "memory"]:
        parts.append(_memory(memory))
    parts.append("## Conditions\n\n" + "\n\n".join(conditions(run) for run in runs))
    return "\n\n".join(parts)


def page(text: str, runs: Sequence[dict[str, Any]], images: Sequence[tuple[str, str]] = ()) -> str:
    """`text` with its generated blocks made anew. Raises ValueError where a marker is missing."""
    rows = rows_of(runs)
    for name, content in zip(BLOCKS, (targets(rows), tables(rows, runs, images)), strict=True):
        text = between(text, f"<!-- bench:{name}:start -->", f"<!-- bench:{name}:end -->", f"\n{content}\n")
    return text


def write(path: Path, runs: Sequence[dict[str, Any]]) -> list[Path]:
    """Writes the page, and its plots into the folder of its name where matplotlib is there; returns what it wrote.

    Raises ValueError, before anything is written, where the page that is there lacks a marker.
    """
    old = path.read_text(encoding="utf-8") if path.exists() else SKELETON
    page(old, runs)
    folder = path.with_suffix("")
    images = plots.draw(rows_of(runs), folder)
    named = [(text, image.relative_to(path.parent).as_posix()) for text, image in images]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(old, runs, named), encoding="utf-8")
    return [path, *(image for _, image in images)]

"""Reading a run: one record is one row of a table, and these are the figures that it gives."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Record = dict[str, Any]
CELLS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}
MODES = {"forward": "forward", "grad": "forward recording gradients", "train": "forward+backward"}
OURS = "fastrnn"
NOT_RIVALS = (OURS, "fastrnn-avx2", "torch-avx2", "base", "companion")
"""Peers that a user of this machine would not choose between: ourselves, and others held back."""
NOISY = 0.10
"""A row is marked where a peer's interquartile range is more than this share of its median."""


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def save(stem: Path, result: dict[str, Any], page: str) -> list[Path]:
    """Writes a run as STEM.json and its page as STEM.md; returns both."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(stem.name + suffix) for suffix in (".json", ".md")]
    for path, text in zip(paths, (json.dumps(result, indent=1) + "\n", page), strict=True):
        path.write_text(text, encoding="utf-8")
    return paths


def ours(record: Record) -> str:
    """The peer whose speed-up is told: fastrnn, or the last one where it was not timed."""
    return OURS if OURS in record["spreads"] else list(record["spreads"])[-1]


def milliseconds(record: Record, peer: str) -> float:
    return record["spreads"][peer]["median"]


def speed_up(record: Record, against: str | None = None) -> float:
    """How many times faster fastrnn is than `against`, by default the first peer of the record."""
    against = against or next(iter(record["spreads"]))
    return milliseconds(record, against) / milliseconds(record, ours(record))


def best_rival(record: Record) -> str | None:
    """The fastest of the other libraries; None where there was none."""
    rivals = [name for name in record["spreads"] if name not in NOT_RIVALS]
    return min(rivals, key=lambda name: milliseconds(record, name), default=None)


def noise(spread: dict[str, float]) -> float:
    """Interquartile range as a share of the median."""
    return (spread["high"] - spread["low"]) / spread["median"]


def gflops(record: Record, peer: str) -> float:
    return record["flop"] / milliseconds(record, peer) * 1e-6


def marks(record: Record) -> str:
    """'~' noisy; '!' other processes took part of the machine and too few rounds were undisturbed."""
    noisy = any(noise(spread) > NOISY for spread in record["spreads"].values())
    return ("~" if noisy else "") + ("" if record["quiet"] else "!")


def limit_of(record: Record, limits: dict[str, Any]) -> tuple[str, float, float] | None:
    """What bounds the record: (name, work of a call in units of 1e9, limit in units a second of 1e9).

    For 16 sequences and 256 units and more, multiply-adds; for one sequence, reads from the level of cache that holds
    one thread's share of the recurrent weights. None for other shapes, and where no limit was measured.
    """
    probe = limits.get("probe", {}).get(str(record["threads"]))
    shape = record.get("shape")
    if not probe or not shape or record["group"] != "shapes":
        return None
    if shape["B"] >= 16 and shape["H"] >= 256:
        return "FMA", record["flop"] * 1e-9, probe["fma fp32 GF/s"]
    if shape["B"] > 1:
        return None
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[record["cell"]]
    weights, sizes = 4 * gates * shape["H"] ** 2, limits["cache bytes"]
    room = {level: size * (1 if level == "L3" else record["threads"]) for level, size in sizes.items()}
    level = next((level for level in ("L1", "L2", "L3") if weights <= room[level]), "DRAM")
    return f"{level} read", record["weight bytes"] * 1e-9, probe["read GB/s"][level]


def share_of_limit(record: Record, limits: dict[str, Any], peer: str | None = None) -> float | None:
    """Which part of the machine's limit a peer, by default fastrnn, reaches; None where there is no limit."""
    bound = limit_of(record, limits)
    if bound is None:
        return None
    _, work, limit = bound
    return work / (milliseconds(record, peer or ours(record)) * 1e-3) / limit


def least_milliseconds(record: Record, limits: dict[str, Any]) -> float | None:
    """The least time that the machine's measured limits allow for an fp32 record: of its multiply-adds and, for one
    sequence, of reading its recurrent weights at each step. None where no limit was measured."""
    probe = limits.get("probe", {}).get(str(record["threads"]))
    if not probe or not record.get("flop"):
        return None
    bounds = [record["flop"] / probe["fma fp32 GF/s"] * 1e-6]
    if bound := limit_of(record, limits):
        bounds.append(bound[1] / bound[2] * 1e3)
    return max(bounds)


def row_cost(record: Record) -> float:
    """Our time a row of a ragged batch, as a multiple of that of its companion, the dense batch."""
    per_row = milliseconds(record, OURS) / record["rows"]
    return per_row / (milliseconds(record, "companion") / record["companion"]["rows"])


def parts(records: Sequence[Record]) -> Iterable[tuple[int, str, list[Record]]]:
    """Records by thread count and mode, in the order they were measured."""
    for threads, mode in dict.fromkeys((r["threads"], r["mode"]) for r in records):
        yield threads, mode, [r for r in records if (r["threads"], r["mode"]) == (threads, mode)]


def by_cell(records: Sequence[Record]) -> Iterable[tuple[str, list[Record]]]:
    for cell in CELLS:
        mine = [record for record in records if record["cell"] == cell]
        if mine:
            yield cell, mine


def geometric_mean(records: Iterable[Record]) -> float:
    """Geometric mean of the undisturbed records' speed-ups; nan where there is none.

    A disturbed row stands in its table with a mark, but a thread that was not let run can cost a peer a
    hundredfold of its time, and such a row would decide the mean.
    """
    ratios = [speed_up(record) for record in records if record["quiet"]]
    return statistics.geometric_mean(ratios) if ratios else math.nan


# ---- text


def ratio(value: float) -> str:
    """A speed-up; a loss is bold, so that it is seen."""
    text = f"{value:.2f}" if value < 10 else f"{value:.1f}"
    return f"**{text}**" if value < 1 else text


def threads_text(count: int) -> str:
    return f"{count} thread{'' if count == 1 else 's'}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = 2) -> str:
    """A Markdown table: the first columns are text, the others aligned to the right."""
    rule = ["---" if i < text_columns else "---:" for i in range(len(head))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))

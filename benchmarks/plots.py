"""Plots of the page: speed-up by shape, the roofline, and the latency of a step. They need matplotlib."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.records import CELLS, MODES, NOT_RIVALS, OURS, Record, gflops, threads_text
from benchmarks.verdicts import Row, over

# Each library has one colour in all plots; ours stands out.
COLOURS = {"torch": "#666666", "onnxruntime": "#0072b2", "onednn": "#e69f00", "jax": "#cc79a7", OURS: "#009e73"}
LABELS = {"torch": "torch.nn", "onnxruntime": "ONNX Runtime", "onednn": "oneDNN primitive", "jax": "JAX", OURS: OURS}


def rate_of(peer: str) -> Callable[[Record, dict[str, Any]], float | None]:
    """The peer's GF/s in a record, None where it was not timed."""
    return lambda record, run: gflops(record, peer) if peer in record["spreads"] else None


def _pick(rows: Sequence[Row], **fields: Any) -> list[Row]:
    return [row for row in rows if row.quiet and all(row.record.get(k) == v for k, v in fields.items())]


def _time(peer: str) -> Callable[[Any, Any], float | None]:
    return lambda record, run: record["spreads"][peer]["median"] if peer in record["spreads"] else None


def _peers(rows: Sequence[Row]) -> list[str]:
    """The libraries in the rows, ours last."""
    names = dict.fromkeys(name for row in rows for name in row.record["spreads"] if name not in NOT_RIVALS)
    return [*names, OURS]


def speed_ups(rows: Sequence[Row], plt: Any) -> Any:
    """Throughput relative to torch.nn of every library at every shape: a panel a cell, mode, at the most threads."""
    mine = [row for row in _pick(rows, group="shapes") if "torch" in row.record["spreads"]]
    threads = max((row.record["threads"] for row in mine), default=0)
    mine = _pick(mine, threads=threads)
    modes = [mode for mode in MODES if _pick(mine, mode=mode)]
    cells = [cell for cell in CELLS if _pick(mine, cell=cell)]
    if not mine:
        return None
    size = (5.2 * len(cells), 3.4 * len(modes))
    figure, axes = plt.subplots(len(modes), len(cells), figsize=size, squeeze=False, layout="constrained")
    for line, mode in zip(axes, modes, strict=True):
        for axis, cell in zip(line, cells, strict=True):
            part = _pick(mine, cell=cell, mode=mode)
            peers = [peer for peer in _peers(part) if peer != "torch"]
            for i, peer in enumerate(peers):
                points = [(x, v) for x, row in enumerate(part) if (v := row.median(over("torch", peer))) is not None]
                places = [x + (i - (len(peers) - 1) / 2) * 0.8 / len(peers) for x, _ in points]
                heights = [v for _, v in points]
                # from 1 up or down: what is longer is farther from torch
                axis.bar(
                    places,
                    [h - 1 for h in heights],
                    0.8 / len(peers),
                    bottom=1,
                    color=COLOURS.get(peer),
                    label=LABELS.get(peer, peer),
                )
            axis.set_yscale("log", base=2)
            axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}x")
            axis.axhline(1, color=COLOURS["torch"], linewidth=1)
            axis.set_xticks(range(len(part)), [row.record["name"] for row in part])
            axis.set_title(f"{CELLS[cell]}, {MODES[mode]}", fontsize=10)
            axis.grid(axis="y", alpha=0.3)
    for line in axes:
        line[0].set_ylabel("speed over torch.nn")
    handles = {
        label: handle for axis in axes.flat for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5, frameon=False)
    figure.suptitle(f"Speed over torch.nn, {threads_text(threads)}", fontsize=12)
    return figure


def roofline(rows: Sequence[Row], plt: Any) -> Any:
    """GF/s over work a byte of weights, below the measured roofs."""
    mine = _pick(rows, group="shapes", mode="forward")
    threads = max((row.record["threads"] for row in mine), default=0)
    mine = [row for row in _pick(mine, threads=threads) if OURS in row.record["spreads"]]
    probe = mine[0].pairs[0][1]["limits"].get("probe", {}).get(str(threads)) if mine else None
    if not probe:
        return None
    figure, axis = plt.subplots(figsize=(8, 5.2), layout="constrained")
    low, high, peak = 0.25, 512, probe["fma fp32 GF/s"]
    beside = {"textcoords": "offset points", "fontsize": 8}
    for (level, rate), style in zip(probe["read GB/s"].items(), ("-", "--", "-.", ":"), strict=False):
        x = [low, peak / rate, high]
        axis.plot(x, [min(peak, i * rate) for i in x], style, color="#333333", linewidth=1)
        axis.annotate(f"{level} {rate:.0f} GB/s", (low, low * rate), xytext=(-4, 0), ha="right", va="center", **beside)
    text = f"multiply-adds {peak:.0f} GF/s"
    axis.annotate(text, (high, peak), xytext=(0, 3), ha="right", va="bottom", **beside)
    highest: dict[str, tuple[float, float]] = {}  # of each shape, for its letter
    for cell, marker in zip(CELLS, "osd", strict=True):
        for peer, filled in (("torch", False), (OURS, True)):
            chosen = [(row, row.median(rate_of(peer))) for row in _pick(mine, cell=cell)]
            part = [row for row, rate in chosen if rate is not None]
            places = [row.record["flop"] / row.record["weight bytes"] for row in part]
            rates = [rate for _, rate in chosen if rate is not None]
            face = COLOURS[peer] if filled else "none"
            label = f"{CELLS[cell]}, {LABELS[peer]}"
            axis.scatter(places, rates, 36, face, marker=marker, edgecolors=COLOURS[peer], label=label, zorder=3)
            for row, place, rate in zip(part, places, rates, strict=True):
                name = row.record["name"]
                highest[name] = max(highest.get(name, (0.0, 0.0)), (rate, place))
    for name, (rate, place) in highest.items():
        axis.annotate(name, (place, rate), xytext=(0, 5), ha="center", **beside)
    axis.set_xlim(low / 3, high * 1.2)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log", base=2)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_xlabel("work a byte of weights read, flop/byte (W_hh in each step, W_ih once)")
    axis.set_ylabel("GF/s")
    axis.set_title(f"Forward, {threads_text(threads)}, below the machine's measured limits")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, loc="lower right")
    return figure


def steps(rows: Sequence[Row], plt: Any) -> Any:
    """Microseconds of one step, B=1, one thread: layers of T=1 and cells, with and without gradients."""
    mine = [row for row in _pick(rows, group="step", threads=1) if row.record["mode"] != "train"]
    if not mine:
        return None
    modes = [mode for mode in MODES if _pick(mine, mode=mode)]
    size = (6 * len(modes), 3.8)
    figure, axes = plt.subplots(1, len(modes), figsize=size, squeeze=False, layout="constrained", sharey=True)
    for axis, mode in zip(axes[0], modes, strict=True):
        part = _pick(mine, mode=mode)
        peers = _peers(part)
        for i, peer in enumerate(peers):
            points = [(x, v) for x, row in enumerate(part) if (v := row.median(_time(peer))) is not None]
            places = [x + (i - (len(peers) - 1) / 2) * 0.8 / len(peers) for x, _ in points]
            bars = axis.bar(
                places,
                [1e3 * v for _, v in points],
                0.8 / len(peers),
                color=COLOURS.get(peer),
                label=LABELS.get(peer, peer),
            )
            axis.bar_label(bars, fmt="%.0f", fontsize=7)
        names = [CELLS[r.record["cell"]] + ("Cell" if r.record["unrolled"] else "\nT=1") for r in part]
        axis.set_xticks(range(len(part)), names, fontsize=8)
        axis.set_title({"forward": "without gradients", "grad": "recording gradients"}[mode], fontsize=10)
        axis.grid(axis="y", alpha=0.3)
    axes[0][0].set_ylabel("microseconds")
    figure.suptitle("One step, B=1, H=128, one thread", fontsize=12)
    handles = {
        label: handle for axis in axes.flat for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5, frameon=False)
    return figure


PLOTS = {
    "speed-up": (speed_ups, "Speed over torch.nn by shape"),
    "roofline": (roofline, "Forward rates below the machine's measured limits"),
    "step": (steps, "Latency of one step"),
}


def draw(rows: Sequence[Row], folder: Path) -> list[tuple[str, Path]]:
    """Writes the plots that the rows allow as PNG into `folder`; (text, path) of each. None without matplotlib."""
    if importlib.util.find_spec("matplotlib") is None:
        return []
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    drawn = []
    for name, (function, text) in PLOTS.items():
        figure = function(rows, plt)
        if figure is not None:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{name}.png"
            figure.savefig(path, dpi=110)
            plt.close(figure)
            drawn.append((text, path))
    return drawn

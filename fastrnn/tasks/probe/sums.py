"""The state as a sum of what each step added: exact for GRU and LSTM, of one term for Elman."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import torch
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from torch import Tensor

from fastrnn.tasks.probe.sources import Reader
from fastrnn.tasks.probe.trace import contributions, walk
from fastrnn.tasks.probe.words import COLOURS, NAMES, SUMS, Words

__all__ = ["Sum", "draw", "measure"]


@dataclass(frozen=True)
class Sum:
    """`shares` (k, t): the part of the state at t that step k added, in absolute values summed over the units, of all
    that is there. `unit`: the unit that keeps most from earlier steps at the end; `terms` (k,): what each step added to
    its last state, `value` that state. `error`: the largest difference of sum and state, over all times and units."""

    shares: Tensor
    unit: int
    terms: Tensor
    value: float
    error: float


def measure(reader: Reader) -> Sum:
    """The decomposition of `Step.state` over the reader's text, in float64."""
    layer = deepcopy(reader.layer).double()
    with torch.no_grad():
        steps = walk(layer, reader.x.double(), reader.number)
    terms = contributions(steps)[:, :, 0]  # (k, t, H)
    state = torch.stack([step.state[0] for step in steps])
    size = terms.abs().sum(2)
    unit = int(terms[:-1, -1].abs().sum(0).argmax())
    return Sum(
        size / size.sum(0).clamp(min=1e-30), unit, terms[:, -1, unit], state[-1, unit].item(),
        (terms.sum(0) - state).abs().max().item(),
    )  # fmt: skip


def draw(readers: list[Reader], sums: list[Sum], words: Words) -> Figure:
    """A column a reader: who added what is left at each time, and one unit's last state term by term."""
    figure = Figure(figsize=(max(12.0, 6.2 * len(readers) + 0.6), 9.2), dpi=110, layout="constrained")
    figure.suptitle(words("sum.title"), fontsize=16)
    axes = figure.subplots(2, len(readers), squeeze=False, height_ratios=(2.1, 1))
    for (above, below), reader, found in zip(axes.T, readers, sums, strict=True):
        marks = [symbol.replace(" ", "␣") for symbol in reader.symbols]
        places = range(len(marks))
        above.set_title(NAMES[reader.cell], fontsize=14, pad=46, color=COLOURS[reader.cell])  # above the formula
        above.text(0.5, 1.02, SUMS[reader.cell], ha="center", va="bottom", fontsize=10.5, transform=above.transAxes)
        shares = torch.where(found.shares > 0, found.shares, torch.nan)
        image = above.imshow(shares.tolist(), aspect="auto", cmap="viridis_r", interpolation="nearest",
                             norm=PowerNorm(0.5, 0, 1))  # fmt: skip
        above.set(xlabel=words("sum.x"), ylabel=words("sum.y"))
        above.set_xticks(places, marks, fontsize=8, rotation=reader.rotation)
        above.set_yticks(places, marks, fontsize=8)
        above.tick_params(length=0)
        if reader.cell == "rnn":
            above.text(0.95, 0.93, words("sum.rnn"), ha="right", color="0.35", transform=above.transAxes)
        colour = COLOURS[reader.cell]
        terms = found.terms.tolist()
        below.bar(places, terms, color=[colour if term >= 0 else "0.45" for term in terms], width=0.8)
        below.step(places, found.terms.cumsum(0).tolist(), where="mid", color="black", lw=1.2,
                   label=words("sum.running"))  # fmt: skip
        below.axhline(0, color="0.4", lw=0.8)
        below.set_title(words("sum.unit", unit=found.unit, value=f"{found.value:.3f}"), fontsize=10.5)
        below.set_xticks(places, marks, fontsize=8, rotation=reader.rotation)
        below.set_xlim(-0.6, len(marks) - 0.4)
        below.tick_params(axis="x", length=0)
        below.set_xlabel(words("sum.y"))
        below.legend(loc="best", fontsize=9, frameon=False)
    figure.colorbar(
        image, ax=axes[0].tolist(), label=words("sum.share"), fraction=0.02, pad=0.01, ticks=[0, 0.05, 0.2, 0.5, 1]
    )
    error = max(found.error for found in sums)
    figure.supxlabel(words("sum.note", error=f"{error:.0e}"), fontsize=9)
    return figure

"""Gates and state over a sentence, character by character."""

from __future__ import annotations

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from fastrnn.tasks.probe.sources import Reader
from fastrnn.tasks.probe.trace import walk
from fastrnn.tasks.probe.words import COLOURS, EQUATIONS, NAMES, Words

__all__ = ["draw", "measure"]

ROWS = {
    "lstm": ("i", "f", "o", "g", "c"),
    "gru": ("r", "z", None, "n", "h"),
    "rnn": (None, None, None, None, "h"),
}
"""What is drawn of each cell from the top down; gates that do the like stand beside each other."""

UNITS = 16


def measure(reader: Reader) -> dict[str, Tensor]:
    """Gates and states by letter, each (T, units): `UNITS` units spread evenly from the slowest to the fastest.

    How slow a unit is: the correlation of its state with itself a step before. Of an LSTM the state is tanh(c).
    """
    with torch.no_grad():
        steps = walk(reader.layer, reader.x, reader.number)
    found = {gate: torch.stack([step.gates[gate][0] for step in steps]) for gate in steps[0].gates}
    state = torch.stack([step.state[0] for step in steps])
    if "o" in found:
        found["c"] = state = state.tanh()
    else:
        found["h"] = state
    centred = state - state.mean(0)
    slowness = (centred[1:] * centred[:-1]).sum(0) / centred.square().sum(0).clamp(min=1e-12)
    spread = torch.linspace(0, len(slowness) - 1, min(UNITS, len(slowness))).round().long()
    order = slowness.argsort(descending=True)[spread]
    return {letter: values[:, order] for letter, values in found.items()}


def draw(readers: list[Reader], words: Words) -> Figure:
    """A column a reader, a strip a gate: units by rows, characters by columns."""
    width = max(5.0, 0.16 * len(readers[0].symbols))
    figure = Figure(figsize=(max(11.0, width * len(readers) + 0.8), 8.6), dpi=110, layout="constrained")
    figure.suptitle(words("gates.title"), fontsize=16)
    axes = figure.subplots(5, len(readers), squeeze=False)
    for column, reader in zip(axes.T, readers, strict=True):
        values = measure(reader)
        column[0].set_title(f"{NAMES[reader.cell]}\n", fontsize=14, color=COLOURS[reader.cell])
        for ax, letter in zip(column, ROWS[reader.cell], strict=True):
            if letter is None:
                ax.set_axis_off()
            else:
                _strip(figure, ax, letter, values[letter], words)
        column[-1].set_xticks(range(len(reader.symbols)), [symbol.replace(" ", "␣") for symbol in reader.symbols],
                              fontsize=9, rotation=reader.rotation)  # fmt: skip
        column[-1].tick_params(axis="x", length=0)
        empty = column[1] if reader.cell == "rnn" else column[2] if reader.cell == "gru" else None
        if empty is not None:
            empty.text(0.5, 0.5, words(f"gates.{reader.cell}"), ha="center", va="center", fontsize=10.5, color="0.35",
                       transform=empty.transAxes)  # fmt: skip
        column[0].text(0.5, 1.06, EQUATIONS[reader.cell], ha="center", va="bottom", fontsize=10.5,
                       transform=column[0].transAxes)  # fmt: skip
    figure.supxlabel(words("gates.note", units=UNITS), fontsize=9)
    return figure


def _strip(figure: Figure, ax: Axes, letter: str, values: Tensor, words: Words) -> None:
    gate = letter in "rzifo"
    image = ax.imshow(values.T.tolist(), aspect="auto", interpolation="nearest", cmap="Greys" if gate else "RdBu_r",
                      vmin=0 if gate else -1, vmax=1)  # fmt: skip
    ax.set(xticks=[], yticks=[], ylabel=f"{'tanh c' if letter == 'c' else letter}\n{words(f'gates.{letter}')}")
    figure.colorbar(image, ax=ax, fraction=0.03, pad=0.01, ticks=[0, 1] if gate else [-1, 0, 1])

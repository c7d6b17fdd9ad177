"""The gradient that reaches each earlier step, beside the unrolled network that it runs back through."""

from __future__ import annotations

import math

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from torch import Tensor, nn

from fastrnn.tasks.layers import recurrent
from fastrnn.tasks.probe.trace import open_gate, walk
from fastrnn.tasks.probe.words import COLOURS, NAMES, Words

__all__ = ["SETTINGS", "draw", "measure"]

SETTINGS = {"rnn": ("init", 1.5, 1.0), "gru": ("init", 1.0, 3.0), "lstm": ("init", 1.0, 3.0)}
"""Beside torch's initial weights ('init'): for Elman an orthogonal W_hh times this number, for the others
this bias of the gate that keeps the state (z, f). The first and the last are drawn as unrolled networks."""

INPUTS = 0.1
"""Small, so that it is the weights and not a saturated tanh that decide."""

DRAWN = 7
"""Steps back in the unrolled picture."""


def measure(*, hidden: int, steps: int, seeds: int, seed: int = 0) -> dict[str, dict[str, list[float]]]:
    """For each cell and setting, |dL/ds_t| over |dL/ds_T| for t = T, T-1, … (`steps` + 1 numbers).

    s is what the cell carries on (h; of an LSTM c), L a random direction of h_T, the inputs normal
    with deviation `INPUTS`. Geometric mean over `seeds` networks from `seed` on and 16 sequences each. float64.
    """
    result: dict[str, dict[str, list[float]]] = {}
    for cell, settings in SETTINGS.items():
        result[cell] = {}
        for setting in settings:
            logs = torch.stack([_one(cell, setting, hidden, steps, seed + n) for n in range(seeds)])
            result[cell][str(setting)] = logs.mean(0).exp().tolist()
    return result


def _one(cell: str, setting: str | float, hidden: int, steps: int, seed: int) -> Tensor:
    """Mean over the sequences of the logarithm of the gradient, (steps + 1,), the last step first."""
    torch.manual_seed(seed)
    layer = recurrent("reference", cell, 16, hidden, dtype=torch.float64)
    if isinstance(setting, float):
        if cell == "rnn":
            nn.init.orthogonal_(layer.get_parameter("weight_hh_l0"), gain=setting)
        else:
            open_gate(layer, setting)
    x = INPUTS * torch.randn(steps + 1, 16, 16, dtype=torch.float64)
    trace = walk(layer, x)
    loss = (trace[-1].h * torch.randn(hidden, dtype=torch.float64)).sum()
    gradients = torch.autograd.grad(loss, [step.state for step in trace])
    norms = torch.stack(gradients).norm(dim=2).clamp(min=1e-300).log()  # (T, B)
    return (norms - norms[-1]).mean(1).flip(0)


def draw(measured: dict[str, dict[str, list[float]]], words: Words, hidden: int, seeds: int) -> Figure:
    """A column a cell: unrolled networks with the gradient on its way back, and the gradient over all steps."""
    figure = Figure(figsize=(15, 9), dpi=110, layout="constrained")
    figure.suptitle(words("gradient.title"), fontsize=16)
    axes = figure.subplots(3, 3, height_ratios=(1, 1, 2.3), sharey="row")
    for column, (cell, settings) in enumerate(measured.items()):
        axes[0, column].set_title(f"{NAMES[cell]}\n", fontsize=14, color=COLOURS[cell])
        for row, setting in enumerate((next(iter(settings)), list(settings)[-1])):
            _unrolled(axes[row, column], cell, settings[setting], _label(cell, setting, words), words)
        _curves(axes[2, column], cell, settings, words)
    axes[2, 0].set_ylabel(words("gradient.y"))
    figure.supxlabel(words("gradient.note", hidden=hidden, seeds=seeds, inputs=INPUTS), fontsize=9)
    return figure


def _unrolled(ax: Axes, cell: str, norms: list[float], title: str, words: Words) -> None:
    """s_{T-7} … s_T as boxes; the way back as arrows as wide as the share of the gradient that comes through."""
    colour = COLOURS[cell]
    ax.set(xlim=(-0.7, DRAWN + 1.75), ylim=(-1.5, 1.9))
    ax.set_axis_off()
    ax.text((DRAWN + 1) / 2, 1.62, title, fontsize=10.5, ha="center")
    for place in range(DRAWN + 1):
        back = DRAWN - place
        share = min(1.0, norms[back])
        box = FancyBboxPatch((place - 0.27, -0.3), 0.54, 0.6, boxstyle="round,pad=0.04", lw=1.3, ec=colour,
                             fc=(*_rgb(colour), 0.05 + 0.75 * share))  # fmt: skip
        ax.add_patch(box)
        name = "$s_T$" if back == 0 else f"$s_{{T-{back}}}$"
        ax.text(place, 0, name, ha="center", va="center", fontsize=8.5,
                color="white" if share > 0.6 else "black")  # fmt: skip
        ax.annotate("", (place, -0.36), (place, -0.95), arrowprops={"arrowstyle": "->", "color": "0.6"})
        ax.text(place, -1.05, f"$x_{{T{-back or ''}}}$", ha="center", va="top", fontsize=9.5, color="0.4")
        ax.text(place, 0.85, _short(norms[back]), ha="center", va="bottom", fontsize=9.5, color="#b3122b")
        if place:
            ax.annotate("", (place - 0.33, -0.12), (place - 0.67, -0.12),
                        arrowprops={"arrowstyle": "->", "color": "0.6"})  # fmt: skip
    for back in range(DRAWN + 1):  # from step T - back + 1, or from the loss, to step T - back
        place = DRAWN - back
        ax.annotate("", (place + 0.1, 0.42), (place + 0.98 if back else place + 1.02, 0.42), zorder=3,
                    arrowprops={"arrowstyle": "-|>,head_width=0.22,head_length=0.35", "color": "#b3122b",
                                "connectionstyle": "arc3,rad=0.35", "shrinkA": 0, "shrinkB": 0,
                                "lw": 0.4 + 5 * min(1.3, norms[back])})  # fmt: skip
    ax.text(DRAWN + 1.05, 0.12, words("gradient.loss"), fontsize=11, color="#b3122b", ha="left", va="center")


def _curves(ax: Axes, cell: str, settings: dict[str, list[float]], words: Words) -> None:
    for style, (setting, norms) in zip(("-", "--", ":"), settings.items(), strict=True):
        label = _label(cell, setting, words)
        ax.plot(range(len(norms)), norms, style, color=COLOURS[cell], lw=2.2, label=label)
    ax.axvspan(0, DRAWN, color="0.92", zorder=0)
    ax.text(DRAWN / 2, 2e-10, words("gradient.above"), rotation=90, ha="center", va="bottom", color="0.45", fontsize=9)
    ax.axhline(1, color="0.7", lw=0.8)
    ax.set(yscale="log", ylim=(1e-10, 1e6), xlim=(len(norms) - 1, 0), xlabel=words("gradient.x"))
    ax.grid(alpha=0.25)
    ax.legend(loc="upper left", fontsize=9.5, framealpha=0.95)


def _label(cell: str, setting: str, words: Words) -> str:
    return words("gradient.init") if setting == "init" else words(f"gradient.{cell}", value=setting)


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5))


def _short(value: float) -> str:
    """1, 0.51, 0.043, and below a hundredth 1e-3."""
    if value >= 0.01:
        return f"{value:.2g}"
    return f"$10^{{{round(math.log10(value))}}}$" if value else "0"

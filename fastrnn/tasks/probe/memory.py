"""How long a bit is remembered: recall accuracy against distance."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from fastrnn.tasks.layers import recurrent
from fastrnn.tasks.probe.trace import open_gate
from fastrnn.tasks.probe.words import COLOURS, NAMES, Words
from fastrnn.tasks.recipes import AdamW

__all__ = ["Experiment", "Recall", "batch", "draw", "measure"]

BATCH = 64
RECIPE = AdamW(epochs=1, lr=1e-2, weight_decay=0.0)
OPEN = 3.0
NETS = {"rnn": None, "gru": None, "lstm": None, "gru open": OPEN, "lstm open": OPEN}
"""A cell, and the bias that its keeping gate starts with where that is not torch's draw."""


@dataclass(frozen=True)
class Experiment:
    """Sizes of the measurement. `distances`: of the nets that each learn one distance only."""

    hidden: int = 32
    longest: int = 50
    updates: int = 400
    seeds: int = 3
    seed: int = 0
    distances: tuple[int, ...] = (2, 5, 10, 20, 40, 60)


Results = dict[str, dict[str, list[list[float]]]]


def batch(distances: Tensor, steps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sequences (steps, B, 2) of random bits, ±1, with a mark at one of them, and that bit (B,), 0 or 1.

    The marked bit of sequence b stands `distances[b]` steps before the last; what follows is noise. The
    question, asked at the last step, is which bit was marked.
    """
    count = len(distances)
    bits = torch.randint(0, 2, (steps, count), generator=generator)
    place, column = steps - 1 - distances, torch.arange(count)
    mark = torch.zeros(steps, count)
    mark[place, column] = 1.0
    return torch.stack([2.0 * bits - 1, mark], 2), bits[place, column]


class Recall(nn.Module):
    """(bit, mark) → recurrent layer → last state → one logit: was the marked bit 1?"""

    def __init__(self, net: str, hidden: int) -> None:
        super().__init__()
        self.rnn = recurrent("fastrnn", net.removesuffix(" open"), 2, hidden)
        self.output = nn.Linear(hidden, 1)
        bias = NETS[net]
        if bias is not None:
            open_gate(self.rnn, bias)

    def forward(self, x: Tensor) -> Tensor:
        """(T, B, 2) to logits (B,)."""
        y, _ = self.rnn(x)
        return self.output(y[-1]).squeeze(1)


def measure(of: Experiment) -> Results:
    """Accuracies, one list a seed; even guesses are right half the time.

    'mixed': nets trained on distances drawn from 0 … longest, tested at each of them. 'single': a net for each
    of `of.distances`, trained and tested at that one. Each net sees `of.updates` batches of 64 fresh sequences.
    """
    seeds = [of.seed + n for n in range(of.seeds)]
    every = list(range(of.longest + 1))
    total = len(NETS) * of.seeds * (1 + len(of.distances)) * of.updates
    result: Results = {"mixed": {}, "single": {}}
    with tqdm(total=total, desc="memory", unit=" steps", leave=False, disable=None, dynamic_ncols=True) as bar:
        for net in NETS:
            result["mixed"][net] = [_learn(net, every, of, seed, bar) for seed in seeds]
            result["single"][net] = [
                [_learn(net, [distance], of, seed, bar)[0] for distance in of.distances] for seed in seeds
            ]
    return result


def _learn(net: str, distances: list[int], of: Experiment, seed: int, bar: tqdm) -> list[float]:
    """Train a net on distances drawn from `distances`; its accuracy at each."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model, steps, choice = Recall(net, of.hidden), max(distances) + 1, torch.tensor(distances)
    optimizer = RECIPE.optimizer(model)
    for step in range(of.updates):
        for group in optimizer.param_groups:
            group["lr"] = RECIPE.lr_at(step, of.updates)
        drawn = choice[torch.randint(0, len(choice), (BATCH,), generator=generator)]
        x, bit = batch(drawn, steps, generator)
        RECIPE.update(model, optimizer, F.binary_cross_entropy_with_logits(model(x), bit.float()))
        bar.update()
    accuracies = []
    with torch.no_grad():
        for distance in distances:
            x, bit = batch(torch.full((500,), distance), steps, generator)
            accuracies.append(((model(x) > 0) == bit.bool()).float().mean().item())
    return accuracies


def draw(results: Results, words: Words, of: Experiment) -> Figure:
    """Two panels: nets that learned all distances, and nets that each learned one."""
    figure = Figure(figsize=(13, 5.4), dpi=110, layout="constrained")
    figure.suptitle(words("memory.title"), fontsize=16)
    left, right = figure.subplots(1, 2, sharey=True)
    _panel(left, results["mixed"], range(of.longest + 1), words)
    _panel(right, results["single"], of.distances, words, marker="o")
    left.set(title=words("memory.mixed", longest=of.longest), ylabel=words("memory.y"), ylim=(0.42, 1.03))
    right.set(title=words("memory.single"), xscale="log", xticks=of.distances, xticklabels=of.distances)
    right.minorticks_off()
    right.text(1.01, 0.5, words("memory.chance"), color="0.4", va="center", transform=right.get_yaxis_transform())
    right.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
    note = words("memory.note", hidden=of.hidden, seeds=of.seeds, updates=of.updates, batch=BATCH, lr=RECIPE.lr)
    figure.supxlabel(note, fontsize=9)
    return figure


def _panel(
    ax: Axes, nets: dict[str, list[list[float]]], x: range | tuple[int, ...], words: Words, **style: Any
) -> None:
    for net, rows in nets.items():
        cell, opened = net.removesuffix(" open"), net.endswith(" open")
        label = words("memory.open", cell=NAMES[cell], bias=OPEN) if opened else NAMES[cell]
        line = "--" if opened else "-"
        for row in rows:
            ax.plot(x, row, line, color=COLOURS[cell], lw=0.8, alpha=0.35)
        middle = [mean(column) for column in zip(*rows, strict=True)]
        ax.plot(x, middle, line, color=COLOURS[cell], lw=2.4, label=label, **style)
    ax.axhline(0.5, color="0.5", lw=1)
    ax.set_xlabel(words("memory.x"))
    ax.grid(alpha=0.25)

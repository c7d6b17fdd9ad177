"""What padding costs in ragged batches, and what packing saves of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from fastrnn.tasks.batches import buckets, pack
from fastrnn.tasks.layers import recurrent
from fastrnn.tasks.names.data import read_classes, split_names
from fastrnn.tasks.probe.words import NAMES, Words
from fastrnn.tasks.speed import interleaved_rates

__all__ = ["Batches", "draw", "measure"]

BATCH = 64
INPUTS = 64
WAYS = ("padded", "packed", "equal")
COLOURS = {"fastrnn": "#0072b2", "torch": "0.6"}


@dataclass(frozen=True)
class Batches:
    """Batches of names: their lengths as they come, shuffled, and as the names task makes them, from names of like
    length. `padding`: the share of a batch's rectangle that no name fills, over all batches."""

    shuffled: list[Tensor]
    alike: list[Tensor]

    @classmethod
    def of(cls, lengths: Tensor, seed: int) -> Batches:
        shuffled = lengths[torch.randperm(len(lengths), generator=torch.Generator().manual_seed(seed))]
        alike = buckets(lengths, BATCH, torch.Generator().manual_seed(seed))
        return cls(list(shuffled.split(BATCH)), [lengths[batch] for batch in alike])

    def padding(self) -> dict[str, float]:
        both = {"shuffled": self.shuffled, "alike": self.alike}
        return {name: _padding(*lengths) for name, lengths in both.items()}


def _padding(*batches: Tensor) -> float:
    return 1 - sum(int(one.sum()) for one in batches) / sum(len(one) * int(one.max()) for one in batches)


def measure(*, cell: str, hidden: int, seed: int = 0) -> tuple[Batches, dict[str, dict[str, float]]]:
    """The batches of the built-in names, and of each backend the microseconds that a layer takes for a real character,
    forward and back, in shuffled batches: 'padded', 'packed', and 'equal', where all names have the mean length."""
    train = split_names(read_classes("builtin")).train
    batches = Batches.of(torch.tensor([len(name) for name, _ in train]), seed)
    passes: dict[str, Callable[[], int]] = {}
    for backend in ("fastrnn", "torch"):
        torch.manual_seed(seed)
        layer = recurrent(backend, cell, INPUTS, hidden)
        for way in WAYS:
            passes[f"{backend} {way}"] = _pass(layer, way, batches.shuffled)
    rates = interleaved_rates(passes)
    return batches, {
        backend: {way: 1e6 / rates[f"{backend} {way}"] for way in WAYS} for backend in ("fastrnn", "torch")
    }


def _pass(layer: Any, way: str, batches: list[Tensor]) -> Callable[[], int]:
    """Goes over all the batches and counts their real characters."""
    total = sum(int(lengths.sum()) for lengths in batches)
    mean = max(1, round(total / sum(len(lengths) for lengths in batches)))
    inputs: list[Any] = []
    for lengths in batches:
        ordered = lengths.sort(descending=True).values
        x = torch.randn(len(ordered), int(ordered[0]), INPUTS)
        if way == "packed":
            inputs.append(pack(x, ordered))
        else:
            inputs.append((x if way == "padded" else x[:, :mean]).transpose(0, 1).contiguous())
    count = total if way != "equal" else sum(len(lengths) for lengths in batches) * mean

    def run() -> int:
        for x in inputs:
            y, _ = layer(x)
            (y.data if isinstance(y, PackedSequence) else y).sum().backward()
        return count

    return run


def draw(batches: Batches, cost: dict[str, dict[str, float]], words: Words, cell: str, hidden: int) -> Figure:
    """A batch as it comes, one of like lengths, a packed one, and what a character costs each way."""
    figure = Figure(figsize=(14, 5.2), dpi=110, layout="constrained")
    figure.suptitle(words("packing.title"), fontsize=16)
    axes = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.5))
    padding = batches.padding()
    first = batches.shuffled[0]
    alike = min(batches.alike, key=lambda one: abs(_padding(one) - padding["alike"]))  # one like most of them
    longest = int(first.max())
    _cells(axes[0], first, longest, words("packing.shuffled", share=f"{100 * padding['shuffled']:.0f}"))
    _cells(axes[1], alike, longest, words("packing.alike", share=f"{100 * padding['alike']:.0f}"))
    _cells(axes[2], first.sort(descending=True).values, longest, words("packing.packed"), packed=True)
    axes[0].set_ylabel(words("packing.y"))
    for ax in axes[:3]:
        ax.set_xlabel(words("packing.x"))
    bars = axes[3]
    for number, (backend, ways) in enumerate(cost.items()):
        places = [place + 0.4 * number - 0.2 for place in range(len(WAYS))]
        drawn = bars.bar(places, [ways[way] for way in WAYS], 0.38, color=COLOURS[backend], label=backend)
        bars.bar_label(drawn, fmt="%.2g", fontsize=9)
    bars.set_xticks(range(len(WAYS)), [words(f"packing.{way}.bar") for way in WAYS])
    bars.set(title=words("packing.cost", cell=NAMES[cell], hidden=hidden), ylabel=words("packing.time"))
    bars.margins(y=0.12)
    bars.legend(frameon=False)
    figure.supxlabel(words("packing.note", batch=BATCH, threads=torch.get_num_threads()), fontsize=9)
    return figure


def _cells(ax: Axes, lengths: Tensor, longest: int, title: str, packed: bool = False) -> None:
    """A sequence a row, dark where it has a character, grey where it is filled up; packed, the fill is not there."""
    step = torch.arange(longest)
    real = step < lengths.unsqueeze(1)
    shown = torch.where(real, 1.0, torch.where(step < lengths.max(), 0.3, 0.0))
    if packed:
        shown = real.float()
    ax.imshow(shown.tolist(), cmap="Blues", vmin=0, vmax=1.25, aspect="auto", interpolation="nearest")
    ax.set_title(title, fontsize=10.5)
    ax.set_xticks(range(longest), [str(number + 1) for number in range(longest)], fontsize=8)
    ax.set_yticks([])
    if packed:
        for t, size in enumerate(real.sum(0).tolist()):
            inside = size > len(lengths) / 2
            ax.text(t, size - (1.2 if inside else 0.2), str(size), ha="center", va="bottom" if inside else "top",
                    fontsize=8, color="white" if inside else "#b3122b")  # fmt: skip

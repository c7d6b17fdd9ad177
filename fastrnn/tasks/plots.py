"""The plots of a run, as PNG bytes. Drawn without pyplot: no window, no global state, no display needed."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.figure import Figure
from torch import Tensor

__all__ = ["confusion_plot", "curve_plot"]


def confusion_plot(confusion: Tensor, classes: Sequence[str], title: str) -> bytes:
    """Counts (classes, classes), true class by row, as shares of the row; the row's count in its label."""
    n = len(classes)
    support = confusion.sum(1)
    share = (confusion / support.clamp(min=1).unsqueeze(1)).tolist()
    figure = Figure(figsize=(2.6 + 0.42 * n, 1.8 + 0.42 * n), dpi=120, layout="compressed")
    axes = figure.add_subplot()
    image = axes.imshow(share, vmin=0, vmax=1, cmap="Blues")
    axes.set_xticks(range(n), classes, rotation=60, ha="right", rotation_mode="anchor")
    labels = [f"{name} ({count})" for name, count in zip(classes, support.tolist(), strict=True)]
    axes.set_yticks(range(n), labels)
    for i, row in enumerate(share):
        for j, value in enumerate(row):
            if value >= 0.005:  # what would print as 0 only clutters
                axes.text(j, i, f"{100 * value:.0f}", ha="center", va="center", fontsize=7,
                          color="white" if value > 0.5 else "black")  # fmt: skip
    axes.set(xlabel="predicted", ylabel="true (test names)", title=title)
    figure.colorbar(image, label="share of the row", fraction=0.046)
    return _png(figure)


def curve_plot(curves: dict[str, list[dict[str, float]]], title: str) -> bytes:
    """A row of panels a model, from its history: training loss and validation scores over the epochs."""
    panels = [(model, key) for model, history in curves.items() for key in _scores(history)]
    per_row = max(sum(name == model for name, _ in panels) for model in curves)
    figure = Figure(figsize=(3.4 * per_row, 2.7 * len(curves)), dpi=120, layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(len(curves), per_row, squeeze=False)
    for row, (model, history) in zip(axes, curves.items(), strict=True):
        keys = _scores(history)
        for ax in row[len(keys) :]:
            ax.set_visible(False)
        for ax, key in zip(row, keys, strict=False):
            ax.plot([entry["epoch"] for entry in history], [entry[key] for entry in history], marker=".")
            ax.set(xlabel="epoch", title=f"{model}: {key.replace('_', ' ')}")
            ax.xaxis.get_major_locator().set_params(integer=True)
            ax.grid(alpha=0.3)
    return _png(figure)


def _scores(history: list[dict[str, float]]) -> list[str]:
    return [key for key in history[0] if key not in ("epoch", "lr")]


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()

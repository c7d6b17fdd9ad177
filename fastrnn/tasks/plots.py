"""The plots of a run, as PNG bytes. Drawn without pyplot: no window, no global state, no display needed."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import font_manager
from matplotlib.figure import Figure
from torch import Tensor

from fastrnn.tasks.errors import UserError

__all__ = ["attention_plot", "confusion_plot", "curve_plot", "fonts_for", "picture"]

FONT_PACKAGES = ("matplotlib_fontja", "japanize_matplotlib")
"""Python packages that bring a Japanese font in their folder `fonts`; it is used without importing them."""


def fonts_for(text: str) -> Any:
    """A context in which figures are made with fonts that are there and hold every character of `text`.

    What the default font lacks is looked for among the installed fonts and in `FONT_PACKAGES`. Raises
    `UserError`, naming the characters and what to install, where none has them: no plot is drawn in boxes.
    """
    default = font_manager.findfont("DejaVu Sans")
    lacking = _lacking(text, default)
    families = ["DejaVu Sans"]
    if lacking:
        for path in _font_files():
            if not _lacking(lacking, path):
                font_manager.fontManager.addfont(path)
                families.append(font_manager.FontProperties(fname=path).get_name())
                break
        else:
            raise UserError(
                f"no font here has the characters {lacking[:12]}: pip install matplotlib-fontja, or install a "
                "system font such as fonts-noto-cjk"
            )
    return matplotlib.rc_context({"font.family": families})


def _lacking(text: str, path: str) -> str:
    """The characters of `text`, each once, that the font file does not hold."""
    try:
        held = font_manager.get_font(path).get_charmap()
    except (OSError, RuntimeError):  # a font file that is damaged, or that FreeType does not read
        return text
    return "".join(c for c in dict.fromkeys(text) if ord(c) not in held and not c.isspace())


def _font_files() -> Iterable[str]:
    """Font files: those of `FONT_PACKAGES`, then the system's, plain ones with Japanese names first."""
    for package in FONT_PACKAGES:
        spec = find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            yield from sorted(str(file) for file in (Path(folder) / "fonts").glob("*.ttf"))
    japanese = ("CJK JP", "IPA", "Takao", "Hiragino", "Yu Gothic", "Meiryo", "MS Gothic", "JP", "CJK")

    def rank(font: font_manager.FontEntry) -> tuple[int, bool, str]:
        first = next((n for n, part in enumerate(japanese) if part in font.name), len(japanese))
        plain = font.style == "normal" and str(font.weight) in ("400", "normal", "regular")
        return first, not plain, font.fname

    for font in sorted(font_manager.fontManager.ttflist, key=rank):
        if font.name != "Last Resort High-Efficiency":  # it has a box for every character there is
            yield font.fname


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
    axes.set(xlabel="predicted", ylabel="true (test part)", title=title)
    figure.colorbar(image, label="share of the row", fraction=0.046)
    return picture(figure)


def attention_plot(weights: Tensor, source: Sequence[str], target: Sequence[str]) -> bytes:
    """Weights (target, source), each row of which sums to one: what each written word looked at."""
    figure = Figure(figsize=(1.8 + 0.45 * len(source), 1.6 + 0.36 * len(target)), dpi=120, layout="compressed")
    axes = figure.add_subplot()
    image = axes.imshow(weights.tolist(), vmin=0, vmax=1, cmap="Blues", aspect="auto")
    axes.set_xticks(range(len(source)), source, rotation=60, ha="left", rotation_mode="anchor")
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(target)), target)
    figure.colorbar(image, label="attention", fraction=0.046)
    return picture(figure)


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
    return picture(figure)


def _scores(history: list[dict[str, float]]) -> list[str]:
    return [key for key in history[0] if key not in ("epoch", "lr")]


def picture(figure: Figure, format: str = "png") -> bytes:
    """The figure as PNG or SVG, the same bytes for the same figure."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "fastrnn"}):
        figure.savefig(buffer, format=format, metadata={"Date": None} if format == "svg" else None)
    return buffer.getvalue()

"""`fastrnn probe gradient`, `memory`, `gates`, `sum` and `packing`: pictures of what the slides claim."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from matplotlib.figure import Figure

from fastrnn.tasks.layers import CELLS
from fastrnn.tasks.options import Command, RunPath, Seed
from fastrnn.tasks.plots import fonts_for, picture
from fastrnn.tasks.probe import gates as gates_
from fastrnn.tasks.probe import gradient as gradient_
from fastrnn.tasks.probe import memory as memory_
from fastrnn.tasks.probe import packing as packing_
from fastrnn.tasks.probe import sources, sums
from fastrnn.tasks.probe.words import LANGUAGES, NAMES, Words
from fastrnn.tasks.run import Run

__all__ = ["probe"]

F = TypeVar("F", bound=Callable[..., Any])

SENTENCE = "Doctors warn of flu outbreak in Lisbon"


@click.group()
def probe() -> None:
    """Pictures that teach: what the slides claim of Elman, GRU and LSTM, measured.

    Each command draws one picture and writes its numbers beside it, as JSON.
    """


probe.command_class = Command


def _drawing(function: F) -> F:
    """The options of every picture."""
    for option in (
        click.option("--seed", type=Seed, default=0, help="Of everything drawn at random."),
        click.option("--lang", type=click.Choice(LANGUAGES), default="en", help="Language of the titles."),
        click.option("--format", "kind", type=click.Choice(["png", "svg"]), default="png"),
        click.option("--out", type=RunPath, required=True, metavar="DIR", help="Folder of picture and numbers."),
    ):
        function = option(function)
    return function


@probe.command()
@click.option("--hidden", type=click.IntRange(1), default=64, help="Size of the state.")
@click.option("--steps", type=click.IntRange(gradient_.DRAWN), default=100, help="Steps back.")
@click.option("--seeds", type=click.IntRange(1), default=5, help="Networks a curve is the mean of.")
@_drawing
def gradient(out: Path, kind: str, lang: str, hidden: int, steps: int, seeds: int, seed: int) -> None:
    """The gradient that reaches each earlier step, beside the unrolled network of BPTT."""
    words = Words(lang)
    with fonts_for(words.all()):
        measured = gradient_.measure(hidden=hidden, steps=steps, seeds=seeds, seed=seed)
        _write(out, "gradient", gradient_.draw(measured, words, hidden, seeds), kind, measured)
    for cell, settings in measured.items():
        shown = ", ".join(f"{setting}: {norms[min(50, steps)]:.1e}" for setting, norms in settings.items())
        click.echo(f"{NAMES[cell]}: of the gradient, {min(50, steps)} steps back there is left {shown}")


@probe.command()
@click.option("--hidden", type=click.IntRange(1), default=32, help="Size of the state.")
@click.option("--longest", type=click.IntRange(2), default=50, help="Longest of the mixed distances.")
@click.option("--updates", type=click.IntRange(1), default=400, help="Steps of training a net.")
@click.option("--seeds", type=click.IntRange(1), default=3, help="Nets of each kind.")
@_drawing
def memory(out: Path, kind: str, lang: str, **sizes: Any) -> None:
    """How long a bit is remembered: recall against distance, of nets trained on the spot (a minute)."""
    words, of = Words(lang), memory_.Experiment(**sizes)
    with fonts_for(words.all()):
        results = memory_.measure(of)
        numbers = {"experiment": vars(of), "accuracy": results}
        _write(out, "memory", memory_.draw(results, words, of), kind, numbers)
    for net, rows in results["mixed"].items():
        ends = ", ".join(f"{row[-1]:.2f}" for row in rows)
        click.echo(f"{net}: recalls {ends} of the bits {of.longest} steps back, distances mixed")


@probe.command()
@click.option("--cell", type=click.Choice(list(CELLS)), default="gru", help="The recurrent cell.")
@click.option("--hidden", type=click.IntRange(1), default=128, help="Size of the state.")
@_drawing
def packing(out: Path, kind: str, lang: str, cell: str, hidden: int, seed: int) -> None:
    """What padding costs in batches of names, and what packing saves, with our kernels and with torch.nn's."""
    words = Words(lang)
    with fonts_for(words.all()):
        batches, cost = packing_.measure(cell=cell, hidden=hidden, seed=seed)
        padding = batches.padding()
        numbers = {"padding": padding, "microseconds_a_character": cost}
        _write(out, "packing", packing_.draw(batches, cost, words, cell, hidden), kind, numbers)
    click.echo(
        f"padding: {padding['shuffled']:.0%} of shuffled batches, {padding['alike']:.0%} of batches of like length"
    )
    for backend, ways in cost.items():
        click.echo(f"{backend}, µs a character: " + ", ".join(f"{way} {value:.2f}" for way, value in ways.items()))


def _reading(function: F) -> F:
    """The options of the pictures of a sentence."""
    for option in (
        click.option("--hidden", type=click.IntRange(1), default=48, help="State of the nets trained on the spot."),
        click.option("--epochs", type=click.IntRange(1), default=40, help="Their epochs, on the built-in headlines."),
        click.option("--layer", type=click.IntRange(1), default=1, help="Layer of RUN's net to look into."),
        click.option("--class", "klass", metavar="CLASS", help="Where RUN holds a generator of names: its class."),
        click.option("--run", type=RunPath, metavar="RUN",
                     help="Look into this names, news or lm run in place of three nets trained on the spot."),
        click.argument("sentence", default=SENTENCE),
    ):  # fmt: skip
        function = option(function)
    return _drawing(function)


def _readers(
    sentence: str, run: Path | None, klass: str | None, layer: int, hidden: int, epochs: int, seed: int
) -> tuple[list[sources.Reader], dict[str, float]]:
    if run is not None:
        return [sources.from_run(run, sentence, klass, layer)], {}
    readers, bits = sources.train_small(sentence, hidden=hidden, epochs=epochs, seed=seed)
    shown = ", ".join(f"{NAMES[cell]} {value:.2f}" for cell, value in bits.items())
    click.echo(f"trained on the built-in headlines, bits per character: {shown}")
    return readers, bits


@probe.command()
@_reading
def gates(out: Path, kind: str, lang: str, sentence: str, **source: Any) -> None:
    """Gates and state while a net reads SENTENCE, character by character."""
    words = Words(lang)
    with fonts_for(words.all() + sentence):
        readers, bits = _readers(sentence, **source)
        numbers = {
            reader.cell: {
                "symbols": reader.symbols,
                **{letter: values.tolist() for letter, values in gates_.measure(reader).items()},
            }
            for reader in readers
        }
        _write(out, "gates", gates_.draw(readers, words), kind, {"bits_per_character": bits, **numbers})


@probe.command("sum")
@_reading
def sum_(out: Path, kind: str, lang: str, sentence: str, **source: Any) -> None:
    """The state at every character as the exact sum of what each earlier step added."""
    words = Words(lang)
    with fonts_for(words.all() + sentence):
        readers, bits = _readers(sentence, **source)
        found = [sums.measure(reader) for reader in readers]
        numbers = {
            reader.cell: {"symbols": reader.symbols, "shares": one.shares.tolist(), "unit": one.unit,
                          "terms": one.terms.tolist(), "state": one.value, "largest_error": one.error}
            for reader, one in zip(readers, found, strict=True)
        }  # fmt: skip
        _write(out, "sum", sums.draw(readers, found, words), kind, {"bits_per_character": bits, **numbers})
    for reader, one in zip(readers, found, strict=True):
        click.echo(f"{NAMES[reader.cell]}: sum of the terms against the state, largest error {one.error:.1e}")


def _write(out: Path, name: str, figure: Figure, kind: str, numbers: dict[str, Any]) -> None:
    folder = Run.beside(out)
    folder.write_json(f"{name}.json", numbers)
    click.echo(folder.write_bytes(f"{name}.{kind}", picture(figure, kind)))

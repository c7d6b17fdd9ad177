"""`fastrnn names train`, `classify` and `generate`."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import click

from fastrnn.tasks.errors import UserError
from fastrnn.tasks.names import predict
from fastrnn.tasks.names.data import LONGEST, Alphabet, normalise
from fastrnn.tasks.names.models import Classifier, Generator
from fastrnn.tasks.names.objectives import TASKS
from fastrnn.tasks.names.train import load_data
from fastrnn.tasks.names.train import train as train_run
from fastrnn.tasks.options import Command, Real, RunPath, Seed, begin, note, stoppable, train_options
from fastrnn.tasks.run import Run
from fastrnn.tasks.text import located

__all__ = ["names"]


@click.group()
def names() -> None:
    """Names: which class one is of, and new ones of a class."""


names.command_class = Command


@names.command()
@click.option("--data", default="builtin", metavar="DIR|builtin", callback=lambda *args: located(args[-1]),
              help="Folder of CLASS.txt files, one name a line.")  # fmt: skip
@click.option("--models", type=click.Choice(["both", *TASKS]), default="both", help="What to train.")
@click.option("--bidirectional", is_flag=True, help="The classifier reads the name from both ends.")
@click.option("--embedding", type=click.IntRange(2), default=64, help="Size of a character's vector.")
@click.option("--dropout", type=Real(0, 1, max_open=True), default=0.2, help="Before the output.")
@train_options(epochs=10, batch_size=64, lr=3e-3, hidden=128)
def train(out: Path, resume: bool, no_compare: bool, **options: Any) -> None:
    """Train a classifier and a generator of names on --data, into the folder RUN.

    The generator's state is twice --hidden: it has more to keep in mind.
    """
    run, split = begin("names", options, out, resume, load_data)
    with stoppable("names", run):
        train_run(run, split, compare=not no_compare)


@names.command()
@click.argument("run", type=RunPath)
@click.argument("name", nargs=-1, required=True)
@click.option("--top", "-k", type=click.IntRange(1), default=3, help="Classes shown.")
def classify(run: Path, name: tuple[str, ...], top: int) -> None:
    """The likeliest classes of each NAME, by the model in RUN."""
    opened = Run.open(run, "names")
    model, alphabet = predict.load(opened, Classifier), predict.alphabet_of(opened)
    asked = [_checked(text, alphabet) for text in name]
    for text, row in zip(asked, predict.classify(model, alphabet, asked), strict=True):
        click.echo(text)
        shares, order = row.sort(descending=True)
        for share, klass in islice(zip(shares.tolist(), order.tolist(), strict=True), top):
            click.echo(f"  {100 * share:5.1f}%  {opened.config['classes'][klass]}")


@names.command()
@click.argument("run", type=RunPath)
@click.option("--class", "klass", required=True, metavar="CLASS", help="The class to make names of.")
@click.option("-n", "--number", type=click.IntRange(1), default=10, help="Names to make.")
@click.option("--start", default="", help="What each name begins with.")
@click.option("--temperature", type=Real(0), default=1.0,
              help="Below 1 safer, above 1 bolder, 0 always the likeliest.")  # fmt: skip
@click.option("--seed", type=Seed, default=0, help="The same seed, the same names.")
def generate(run: Path, klass: str, number: int, start: str, temperature: float, seed: int) -> None:
    """New names of a class, character by character, by the model in RUN."""
    opened = Run.open(run, "names")
    classes = opened.config["classes"]
    if klass not in classes:
        raise UserError(f"unknown class {klass}: {run} knows {', '.join(classes)}")
    model, alphabet = predict.load(opened, Generator), predict.alphabet_of(opened)
    begun = _checked(start, alphabet) if start else ""
    number_of_class = classes.index(klass)
    made = predict.generate(model, alphabet, number_of_class, start=begun, temperature=temperature, seed=seed)
    for name in islice(made, number):
        click.echo(name)


def _checked(text: str, alphabet: Alphabet) -> str:
    """`text` as the models read it, with a note on what they have never seen."""
    name = normalise(text)
    if not 0 < len(name) <= LONGEST:
        raise UserError(f"a name has 1 to {LONGEST} characters; {text!r:.40} has {len(name)}")
    unknown = alphabet.unknown(name)
    if unknown:
        note(f"{name}: {' '.join(unknown)} never seen in training, read as the unknown character")
    return name

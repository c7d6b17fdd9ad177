"""`fastrnn news ids`, `train` and `predict`: exercises 80 to 83."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor

from fastrnn.tasks.errors import UserError
from fastrnn.tasks.layers import BACKENDS, CELLS
from fastrnn.tasks.news.data import CATEGORIES, Dictionary, Headline, read_split, words_of
from fastrnn.tasks.news.models import POOLS, Classifier
from fastrnn.tasks.news.objectives import Headlines
from fastrnn.tasks.news.train import RATES, build, load_data
from fastrnn.tasks.news.train import train as train_run
from fastrnn.tasks.options import Command, Real, Seed, begin, lines_given, note, stoppable, train_options
from fastrnn.tasks.run import Run
from fastrnn.tasks.text import located

__all__ = ["load", "news"]

DATA = click.option("--data", default="builtin", metavar="DIR|builtin", callback=lambda *args: located(args[-1]),
                    help="Folder of train.txt, valid.txt, test.txt: 8 columns, title 2nd, category 5th.")  # fmt: skip

GIVEN = click.argument("headlines", nargs=-1, metavar="[HEADLINE]...")


@click.group()
def news() -> None:
    """Headlines: business, technology, entertainment or health."""


news.command_class = Command


@news.command()
@DATA
@click.option("--top", type=click.IntRange(1), default=10, help="Words shown without a HEADLINE.")
@GIVEN
def ids(data: str, top: int, headlines: tuple[str, ...]) -> None:
    """Words as numbers (80): the rank of their frequency in train.txt, 0 for words it has once or not at all.

    Of each HEADLINE, from standard input if that is a pipe; without one, of the most frequent words.
    """
    split = read_split(data)
    dictionary = Dictionary.of(headline.title for headline in split["train"])
    given = list(_given(headlines, needed=False))
    for headline in given:
        words = words_of(headline)
        click.echo("  ".join(f"{word} {number}" for word, number in zip(words, dictionary.ids(words), strict=True)))
    if not given:
        for number, word in enumerate(dictionary.words[:top], 1):
            click.echo(f"{number:5d}  {word}")
        click.echo(f"{len(dictionary.words)} words are numbered; every other word is 0")


@news.command()
@DATA
@click.option("--bidirectional/--one-way", default=True, help="Whether a second direction reads from the end.")
@click.option("--pool", type=click.Choice(POOLS), default="max", help="What of all states is looked at.")
@click.option("--embedding", type=click.IntRange(1), default=300, help="Size of a word's vector.")
@click.option("--dropout", type=Real(0, 1, max_open=True), default=0.5,
              help="Of word vectors and of the pooled state.")  # fmt: skip
@click.option("--wide", is_flag=True, help="Add a linear model of words, pairs and pieces of words to the net.")
@click.option("--optimizer", type=click.Choice(list(RATES)), default="adamw", help="sgd is the plain one.")
@click.option("--weight-decay", type=Real(0), default=0.01, help="Of AdamW.")
@train_options(epochs=8, batch_size=32, lr=None, hidden=128, cell="lstm",
               lr_help=f"Peak rate  [default: {RATES['adamw']:g} of AdamW, {RATES['sgd']:g} of SGD]")  # fmt: skip
def train(out: Path, resume: bool, no_compare: bool, **options: Any) -> None:
    """Train a classifier of headlines on --data, into the folder RUN (82, 83), and a linear one beside it.

    The exercises' own net: --cell rnn --hidden 50 --one-way --pool last --dropout 0, with --optimizer sgd
    --batch-size 1 for 82.
    """
    run, split = begin("news", options, out, resume, load_data)
    with stoppable("news", run):
        train_run(run, split, compare=not no_compare)


@news.command("predict")
@click.option("--untrained", is_flag=True, help="By a net as it is before any training (81): no RUN is given.")
@DATA
@click.option("--cell", type=click.Choice(list(CELLS)), default="rnn", help="Of the untrained net.")
@click.option("--backend", type=click.Choice(list(BACKENDS)), default="fastrnn", help="Of the untrained net.")
@click.option("--hidden", type=click.IntRange(1), default=50, help="Of the untrained net.")
@click.option("--seed", type=Seed, default=0, help="Of the untrained net.")
@click.argument("arguments", nargs=-1, metavar="RUN [HEADLINE]...")
def predict_command(untrained: bool, data: str, arguments: tuple[str, ...], **options: Any) -> None:
    """The kind of each HEADLINE by the net in RUN, with the probability of every kind.

    Headlines are also read from standard input if that is a pipe, one a line.
    """
    if untrained:
        dictionary = Dictionary.of(headline.title for headline in read_split(data)["train"])
        shape = {"embedding": 300, "layers": 1, "bidirectional": False, "pool": "last", "dropout": 0.0, "wide": False}
        model = build(dictionary, {**options, **shape}).eval()
        headlines = arguments
    else:
        if not arguments:
            raise UserError("which RUN? Give its folder, or --untrained")
        model, dictionary = load(Run.open(Path(arguments[0]), "news"))
        headlines = arguments[1:]
    for headline in _given(headlines, needed=True):
        words = words_of(headline)
        if not words:
            note(f"{headline!r:.60} has no word of the letters a to z")
        elif unknown := dictionary.unknown(words):
            note(f"{' '.join(unknown)}: not among the numbered words, read as 0")
        shares = predict(model, dictionary, [headline])[0].tolist()
        best = shares.index(max(shares))
        shown = "  ".join(f"{name} {share:.3f}" for name, share in zip(CATEGORIES.values(), shares, strict=True))
        click.echo(f"{list(CATEGORIES.values())[best]:13s}  {shown}  {headline}")


def load(run: Run) -> tuple[Classifier, Dictionary]:
    """The net of `run` on the CPU, at its best epoch so far, and its dictionary."""
    dictionary = Dictionary(run.config["words"])
    model = run.trained(
        f"{Classifier.name}.pt", lambda: build(dictionary, run.config["options"]), "net yet: let an epoch end"
    )
    return model, dictionary


@torch.no_grad()
def predict(model: Classifier, dictionary: Dictionary, headlines: list[str]) -> Tensor:
    """Probabilities (len(headlines), 4), kinds in the order of `CATEGORIES`."""
    part = Headlines.of([Headline(headline, "b") for headline in headlines], dictionary, model.wide is not None)
    order = part.lengths.argsort(descending=True, stable=True)
    return model(part.pick(order)).softmax(1)[order.argsort()]


def _given(headlines: tuple[str, ...], needed: bool) -> Iterator[str]:
    """The headlines of the command line, or else of standard input."""
    if headlines:
        yield from headlines
    elif needed or not sys.stdin.isatty():
        yield from filter(str.strip, lines_given("headline"))

"""`fastrnn lm train`, `generate` and `eval`."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import click

from fastrnn.tasks.errors import UserError
from fastrnn.tasks.lm import predict
from fastrnn.tasks.lm.corpus import Dictionary
from fastrnn.tasks.lm.sources import cut, join, load, read_part
from fastrnn.tasks.lm.train import RECIPES, complete, quality
from fastrnn.tasks.lm.train import train as train_run
from fastrnn.tasks.options import Command, Real, RunPath, Seed, begin, note, stoppable, train_options
from fastrnn.tasks.run import Run
from fastrnn.tasks.text import located

__all__ = ["lm"]


@click.group()
def lm() -> None:
    """Language models: which word, character or byte comes next."""


lm.command_class = Command


def _file(*names: str, **options: Any) -> Any:
    return click.option(*names, metavar="FILE", callback=lambda *args: args[-1] and located(args[-1]), **options)


def _by_recipe(name: str) -> str:
    return ", ".join(f"{values[name]} in {recipe}" for recipe, values in RECIPES.items())


@lm.command()
@click.option("--data", type=click.Choice(["builtin"]), default="builtin",
              help="Without --train: Japanese of a grammar whose true entropy is known.")  # fmt: skip
@_file("--train", help="The text to learn, UTF-8.")
@_file("--valid", help="The text to validate on; without it, the last tenth of --train is the test and the twentieth "
       "before it validates.")  # fmt: skip
@_file("--test", help="The text to judge by.")
@click.option("--level", type=click.Choice(["word", "char", "byte"]), default="word", help="What a token is.")
@click.option("--language", type=click.Choice(["auto", "ja", "en", "spaces"]), default="auto",
              help="Where words end: Japanese (fugashi), English, or at spaces.")  # fmt: skip
@click.option("--recipe", type=click.Choice(list(RECIPES)), default="course",
              help="course: SGD, its rate quartered when validation stalls. modern: AdamW, tied weights, more dropout, "
              "weight decay, windows that shift.")  # fmt: skip
@click.option("--bptt", type=click.IntRange(1), default=35, help="Steps that gradients go back.")
@click.option("--embedding", type=click.IntRange(1), help="Size of a token's vector.  [default: that of the state]")
@click.option("--softmax", type=click.Choice(["full", "adaptive"]), default="full", help="The output layer.")
@click.option("--clip", type=Real(0, min_open=True), help=f"Gradient norm.  [{_by_recipe('clip')}]")
@click.option("--dropout", type=Real(0, 1, max_open=True), help=f"[{_by_recipe('dropout')}]")
@click.option("--weight-decay", type=Real(0), help=f"[{_by_recipe('weight_decay')}]")
@click.option("--tied/--untied", default=None, help="Output weights are the embedding's.  [tied in modern]")
@click.option("--shift/--no-shift", default=None,
              help="Begin each epoch at another place of the text.  [shifted in modern]")  # fmt: skip
@train_options(epochs=None, batch_size=20, lr=None, hidden=200, layers=2, patience=None, cell="lstm",
               lr_help=f"[{_by_recipe('lr')}]")  # fmt: skip
def train(out: Path, resume: bool, no_compare: bool, **options: Any) -> None:
    """Train a language model into the folder RUN."""
    complete(options)
    if not resume:
        _check(options)
    run, corpus = begin("lm", options, out, resume, load)
    with stoppable("lm", run):
        train_run(run, corpus, compare=not no_compare)


def _check(options: dict[str, Any]) -> None:
    if options["train"] is None and (options["valid"] or options["test"]):
        raise UserError("--valid and --test need --train")
    if options["softmax"] == "adaptive":
        options["tied"] = False  # its clusters have weights of other sizes
    if options["tied"] and options["embedding"] != options["hidden"]:
        raise UserError(f"tied weights need one size: --embedding {options['embedding']}, --hidden {options['hidden']}")


@lm.command()
@click.argument("run", type=RunPath)
@click.option("--start", default="", help="What the text begins with.")
@click.option("-n", "--number", type=click.IntRange(1), default=100, help="Tokens to make.")
@click.option("--temperature", type=Real(0), default=1.0,
              help="Below 1 safer, above 1 bolder, 0 always the likeliest.")  # fmt: skip
@click.option("--seed", type=Seed, default=0, help="The same seed, the same text.")
def generate(run: Path, start: str, number: int, temperature: float, seed: int) -> None:
    """Text by the model in RUN, token by token."""
    opened = Run.open(run, "lm")
    level, language, dictionary = opened.config["options"]["level"], opened.config["language"], _dictionary(opened)
    model, tokens = predict.load(opened), cut(start, level, language)
    unknown = [token for token in dict.fromkeys(tokens) if token not in dictionary.numbers]
    if unknown:
        note(f"{' '.join(unknown)} never seen in training, read as the unknown word")
    made = predict.generate(model, dictionary, tokens, temperature=temperature, seed=seed)
    click.echo(join([*tokens, *islice(made, number)], level, language))


@lm.command("eval")
@click.argument("run", type=RunPath)
@_file("--data", required=True, help="The text to judge by, UTF-8.")
def evaluate(run: Path, data: str) -> None:
    """Perplexity and bits per character of a text under the model in RUN."""
    opened = Run.open(run, "lm")
    model = predict.load(opened)
    part, unknown = read_part(data, opened.config)
    tokens = len(part.numbers)
    if tokens < 2:
        raise UserError(f"{data}: {tokens} token, at least 2 are needed")
    if unknown:
        note(f"{unknown} of {tokens} tokens never seen in training, judged as the unknown word")
    scores = quality(model, part)
    click.echo(f"{tokens} tokens, {part.characters} characters: perplexity {scores['perplexity']:.2f}, "
               f"{scores['bits_per_character']:.3f} bits per character")  # fmt: skip


def _dictionary(run: Run) -> Dictionary:
    return Dictionary(run.config["words"])

"""`fastrnn translate train`, `run` and `eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fastrnn.tasks.errors import UserError
from fastrnn.tasks.options import Command, Real, RunPath, begin, lines_given, note, stoppable, train_options
from fastrnn.tasks.plots import attention_plot, fonts_for
from fastrnn.tasks.run import Run
from fastrnn.tasks.text import located
from fastrnn.tasks.translate.data import DIRECTIONS, examples, load_split, normalise, read_pairs
from fastrnn.tasks.translate.models import Translator
from fastrnn.tasks.translate.objective import Languages, translate
from fastrnn.tasks.translate.quality import quality
from fastrnn.tasks.translate.train import build, load_data
from fastrnn.tasks.translate.train import train as train_run
from fastrnn.tasks.translate.vocabulary import Side

__all__ = ["translate_group"]

LONGEST_INPUT = 400

Beam = click.IntRange(1, 64)


@click.group("translate")
def translate_group() -> None:
    """Translation between Japanese and English."""


translate_group.command_class = Command


@translate_group.command()
@click.option("--data", default="builtin", metavar="FILE|builtin", callback=lambda *args: located(args[-1]),
              help="Lines of english<TAB>japanese, as jpn.txt of manythings.org/anki.")  # fmt: skip
@click.option("--direction", type=click.Choice(DIRECTIONS), default="ja-en")
@click.option("--attention", is_flag=True, help="The encoder reads both ways, and the decoder looks at all it read.")
@click.option("--filter", "subset", type=click.Choice(["course"]),
              help="course: only sentences under ten words that start with I am, he is, …")  # fmt: skip
@click.option("--tokens", type=click.Choice(["word", "char", "piece"]), default="word",
              help="Japanese in words (needs fugashi and unidic-lite) or characters, or both languages in pieces of "
              "words (needs sentencepiece).")  # fmt: skip
@click.option("--pieces", type=click.IntRange(100), default=4000, help="Pieces a language has, with --tokens piece.")
@click.option("--embedding", type=click.IntRange(2), default=256, help="Size of a word's vector.")
@click.option("--dropout", type=Real(0, 1, max_open=True), default=0.3)
@click.option("--label-smoothing", type=Real(0, 1, max_open=True), default=0.1)
@click.option("--scheduled-sampling", type=Real(0, 1), default=0.0,
              help="Share of the decoder's input that is its own guess, in the last epoch; grows from 0.")  # fmt: skip
@click.option("--beam", type=Beam, default=5, help="Hypotheses followed at once, in the test.")
@click.option("--length-penalty", type=Real(0), default=1.0, help="0 favours short translations.")
@train_options(epochs=10, batch_size=96, lr=2e-3, hidden=256)
def train(out: Path, resume: bool, no_compare: bool, **options: Any) -> None:
    """Train a translator on --data, into the folder RUN.

    Parts are 90/5/5 by distinct English sentence; no sentence of validation or test is learned from.
    """
    run, split = begin("translate", options, out, resume, load_data)
    with stoppable("translate", run):
        train_run(run, split, compare=not no_compare)


@translate_group.command()
@click.argument("run", type=RunPath)
@click.argument("text", nargs=-1)
@click.option("--beam", type=Beam, help="Hypotheses followed at once; 1 is greedy.  [default: the run's]")
@click.option("--heat-map", type=click.Path(dir_okay=False, path_type=Path), metavar="PNG",
              help="Draw what the first translation looked at.")  # fmt: skip
def run(run: Path, text: tuple[str, ...], beam: int | None, heat_map: Path | None) -> None:
    """Translate each TEXT, or each line of standard input, by the model in RUN."""
    opened = Run.open(run, "translate")
    languages, options = Languages(opened.config), opened.config["options"]
    if heat_map and not options["attention"]:
        raise UserError(f"{run} has no attention to draw: train with --attention")
    model = load(opened)
    asked = [_checked(sentence, languages.source) for sentence in text or lines_given("sentence")]
    kept = [sentence for sentence in asked if sentence]
    found = iter(translate(model, languages, kept, width=beam or options["beam"], penalty=options["length_penalty"])
                 if kept else [])  # fmt: skip
    for number, sentence in enumerate(asked):
        hypothesis = next(found) if sentence else None
        click.echo(languages.target.decode(hypothesis.numbers) if hypothesis else "")
        if heat_map and hypothesis and number == 0:
            _draw(heat_map, languages, sentence, hypothesis)


@translate_group.command("eval")
@click.argument("run", type=RunPath)
@click.option("--data", metavar="FILE", help="Pairs to translate, all of them.  [default: the run's test part]")
@click.option("--beam", type=Beam, help="Hypotheses followed at once; 1 is greedy.  [default: the run's]")
@click.option("--show", type=click.IntRange(0), default=5, help="Translations printed beside their references.")
def eval_(run: Path, data: str | None, beam: int | None, show: int) -> None:
    """BLEU and chrF of the model in RUN."""
    opened = Run.open(run, "translate")
    languages, options = Languages(opened.config), opened.config["options"]
    model = load(opened)
    if data is None:
        split = load_split(options["data"], options["subset"])
        if split.fingerprint() != opened.config["fingerprint"]:
            raise UserError(f"--data {options['data']} changed since {run} was trained on it: give --data")
        pairs = split.test
    else:
        pairs = read_pairs(data)
    asked = examples(pairs, languages.direction)
    width = beam or options["beam"]
    found = translate(model, languages, [e.source for e in asked], width=width, penalty=options["length_penalty"])
    written = [languages.target.decode(hypothesis.numbers) for hypothesis in found]
    for number in range(0, len(asked), max(1, len(asked) // max(1, show)))[:show]:
        click.echo(f"{asked[number].source}\n  = {' | '.join(asked[number].references)}\n  > {written[number]}")
    scores = quality(written, [example.references for example in asked], languages.written)
    shown = "  ".join(f"{key} {value:.2f}" for key, value in scores.items())
    click.echo(f"{len(asked)} sentences, beam {width}: {shown}")


def load(opened: Run) -> Translator:
    """The model of a run, on the CPU, at its best epoch so far, ready to be used."""
    return opened.trained(
        "translator.pt", lambda: build(opened.config), "translator yet: its first epoch has not ended"
    )


def _checked(text: str, side: Side) -> str:
    """`text` as the model reads it, with a note on what it has never seen."""
    sentence = normalise(text)
    tokens = side.tokens(sentence)
    if len(tokens) > LONGEST_INPUT:
        raise UserError(f"a sentence has at most {LONGEST_INPUT} words; {text[:20]!r}… has {len(tokens)}")
    if unknown := side.unknown(tokens):
        note(f"{sentence}: {' '.join(unknown)} never seen in training, read as the unknown word")
    return sentence


def _draw(file: Path, languages: Languages, sentence: str, hypothesis: Any) -> None:
    source = [*languages.source.tokens(sentence), "END"]
    target = [*(languages.target.word(number) for number in hypothesis.numbers), "END"]
    with fonts_for("".join(source + target)):
        picture = attention_plot(hypothesis.weights[:, : len(source)], source, target)
    try:
        file.write_bytes(picture)
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}") from error

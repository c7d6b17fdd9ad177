"""Training of a translator, and what is reported of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from fastrnn.tasks import report
from fastrnn.tasks.options import recipe_options
from fastrnn.tasks.plots import curve_plot
from fastrnn.tasks.recipes import AdamW, Recipe
from fastrnn.tasks.run import Run
from fastrnn.tasks.speed import compare as compare_backends
from fastrnn.tasks.speed import recurrent_share, speed_line
from fastrnn.tasks.tokenise import resolve
from fastrnn.tasks.training import fit
from fastrnn.tasks.translate.data import Split, load_split
from fastrnn.tasks.translate.models import Translator
from fastrnn.tasks.translate.objective import Languages, TranslationTask
from fastrnn.tasks.translate.vocabulary import UNKNOWN, Pieces, Side, Vocabulary

__all__ = ["build", "describe", "load_data", "maker", "recipe_of", "train"]

LONGEST = 60
"""Words a training sentence may have on either side: a few longer ones would cost as much as batches of others."""


def load_data(options: dict[str, Any]) -> tuple[Split, dict[str, Any]]:
    """The data that a run's options name, and what its configuration holds of them."""
    split = load_split(options["data"], options["subset"])
    return split, describe(split, options)


def describe(split: Split, options: dict[str, Any]) -> dict[str, Any]:
    """What a configuration holds of its data: enough to use the model, and to notice changed data."""
    sides: list[Side] = []
    for name in options["direction"].split("-"):
        sentences = [pair[name == "ja"] for pair in split.train]
        if options["tokens"] == "piece":
            # of kanji, those of one sentence are left out
            sides.append(Pieces.of(sentences, options["pieces"], 0.9998 if name == "ja" else 1.0))
        else:
            japanese = "char" if options["tokens"] == "char" else resolve("ja")
            sides.append(Vocabulary.of(sentences, japanese if name == "ja" else "en"))
    return {"vocabularies": [side.config() for side in sides], "fingerprint": split.fingerprint()}


def build(config: dict[str, Any], backend: str | None = None) -> Translator:
    """The untrained model of a run's configuration, with the backend asked for or the run's own."""
    options, languages = config["options"], Languages(config)
    shape = {key: options[key] for key in ("cell", "embedding", "hidden", "layers", "dropout", "attention")}
    return Translator(
        len(languages.source), len(languages.target), backend=backend or options["backend"], **shape
    )  # fmt: skip


def recipe_of(options: dict[str, Any]) -> Recipe:
    """The recipe of a run's options."""
    return AdamW(**recipe_options(options))


def maker(config: dict[str, Any], split: Split) -> Callable[..., TranslationTask]:
    """`make(backend)`: the task of the configuration with a new model, by default of the run's own backend."""
    languages, options = Languages(config), config["options"]
    parts = {
        name: languages.encode(getattr(split, name), LONGEST if name == "train" else None)
        for name in ("train", "valid", "test")
    }

    def make(backend: str | None = None) -> TranslationTask:
        torch.manual_seed(options["seed"])
        return TranslationTask(build(config, backend).to(options["device"]), languages, parts, split, options)

    return make


def train(run: Run, split: Split, compare: bool = True) -> dict[str, Any]:
    """Train the translator of `run`'s configuration, or finish it; write and return the metrics, and draw the curves.

    Prints a line an epoch, one with the quality on the test part, and with `compare` the backends' speed.
    """
    config, options = run.config, run.config["options"]
    recipe, make = recipe_of(options), maker(config, split)
    task = make()
    done = fit(task, recipe, run)
    scores = task.test(options["beam"])
    metrics = report.common(run, task.unit)
    metrics["pairs"] = {name: len(getattr(split, name)) for name in ("train", "valid", "test")}
    metrics["dropped_from_training"] = split.dropped
    metrics["vocabulary"] = {"source": len(task.languages.source), "target": len(task.languages.target)}
    metrics["unknown_words_in_test"] = sum(
        int((side.padded == UNKNOWN).sum()) for side in (task.parts["test"].sources, task.parts["test"].targets)
    )
    metrics["quality"] = scores
    metrics[task.name] = report.fitted(task, recipe, done, scores, recurrent_share(make(), recipe))
    shown = "  ".join(f"{key} {value:.2f}" for key, value in scores.items())
    spent = f"{done.seconds:.1f} s of training, {done.units / done.seconds / 1000:.1f}k tokens/s"
    print(f"{len(split.test)} test pairs, best epoch {done.best_epoch}, beam {options['beam']}: {shown}  ({spent})",
          flush=True)  # fmt: skip
    title = f"translate {options['direction']}, {options['cell']} {options['hidden']}"
    run.write_bytes("curve.png", curve_plot({task.name: done.history}, title))
    run.write_json("metrics.json", metrics)
    if compare and (rates := compare_backends(make, recipe, options)):
        metrics["speed"] = rates
        run.write_json("metrics.json", metrics)
        print(speed_line(rates, task.unit), flush=True)
    return metrics

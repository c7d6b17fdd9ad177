"""Training of the recurrent net and the linear model beside it, and what is reported of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from fastrnn.tasks import report
from fastrnn.tasks.news.data import CATEGORIES, PARTS, Dictionary, Headline, fingerprint, overlap, read_split
from fastrnn.tasks.news.models import Bag, Classifier
from fastrnn.tasks.news.objectives import PLACES, BagTask, ClassifierTask, Features, Headlines
from fastrnn.tasks.options import recipe_options
from fastrnn.tasks.plots import confusion_plot, curve_plot
from fastrnn.tasks.recipes import SGD, AdamW, Recipe
from fastrnn.tasks.run import Run
from fastrnn.tasks.speed import compare as compare_backends
from fastrnn.tasks.speed import recurrent_share, speed_line
from fastrnn.tasks.training import fit

__all__ = ["RATES", "build", "describe", "load_data", "maker", "recipe_of", "train"]

RATES = {"adamw": 2e-3, "sgd": 0.1}
"""The rate of each optimizer unless --lr is given."""

BAG = AdamW(epochs=5, lr=1e-2)


def load_data(options: dict[str, Any]) -> tuple[dict[str, list[Headline]], dict[str, Any]]:
    """The data that a run's options name, and what its configuration holds of them."""
    split = read_split(options["data"])
    return split, describe(split)


def describe(split: dict[str, list[Headline]]) -> dict[str, Any]:
    """What a configuration holds of its data: enough to use the models, and to notice changed data."""
    words = Dictionary.of(headline.title for headline in split["train"]).words
    return {"words": words, "fingerprint": fingerprint(split)}


def build(dictionary: Dictionary, options: dict[str, Any], backend: str | None = None) -> Classifier:
    """The untrained net of a run's options, with the backend asked for or the run's own."""
    names = ("cell", "embedding", "hidden", "layers", "bidirectional", "pool", "dropout")
    shape = {name: options[name] for name in names}
    torch.manual_seed(options["seed"])
    features = PLACES if options["wide"] else 0
    sizes = len(dictionary), len(CATEGORIES)
    return Classifier(*sizes, backend=backend or options["backend"], features=features, **shape)


def recipe_of(options: dict[str, Any]) -> Recipe:
    """The recipe of a run's options."""
    chosen = {**recipe_options(options), "lr": options["lr"] or RATES[options["optimizer"]]}
    return AdamW(**chosen, weight_decay=options["weight_decay"]) if options["optimizer"] == "adamw" else SGD(**chosen)


def maker(config: dict[str, Any], split: dict[str, list[Headline]]) -> Callable[..., ClassifierTask]:
    """`make(backend)`: the task of the configuration with a new net, by default of the run's own backend."""
    options, dictionary = config["options"], Dictionary(config["words"])
    parts = {part: Headlines.of(split[part], dictionary, options["wide"]) for part in PARTS}

    def make(backend: str | None = None) -> ClassifierTask:
        return ClassifierTask(build(dictionary, options, backend).to(options["device"]), parts, options)

    return make


def train(run: Run, split: dict[str, list[Headline]], compare: bool = True) -> dict[str, Any]:
    """Train the models of `run`'s configuration, or finish them; write and return the metrics, and draw the
    plots."""
    options = run.config["options"]
    metrics = report.common(run, "headlines")
    metrics["headlines"] = {part: len(split[part]) for part in PARTS}
    metrics["titles_also_in_train"] = overlap(split)
    recipe, make = recipe_of(options), maker(run.config, split)
    task = make()
    done = fit(task, recipe, run)
    test = task.parts["test"]
    confusion = task.confusion(test)
    quality = metrics["quality"] = task.scores(test)
    metrics[task.name] = report.fitted(task, recipe, done, quality, recurrent_share(make(), recipe))
    bag = _bag(run, split)
    metrics[bag[0].name] = report.fitted(*bag, share=0.0)

    shared = metrics["titles_also_in_train"]["test"]
    print(f"{len(test.labels)} test headlines ({shared} of their titles stand in the training file as well):")
    added = " and linear part" * options["wide"]
    print(f"  recurrent net{added}   {_shown(quality)}  (epoch {done.best_epoch}, {done.seconds:.1f} s of training, "
          f"{done.units / done.seconds / 1000:.1f}k headlines/s)")  # fmt: skip
    print(f"  bag of words and pairs, linear   {_shown(bag[3])}  ({bag[2].seconds:.1f} s)", flush=True)
    title = f"{options['cell']} {options['hidden']}: accuracy {quality['accuracy']:.3f}"
    run.write_bytes("confusion.png", confusion_plot(confusion, list(CATEGORIES.values()), title))
    curves = {name: metrics[name]["epochs"] for name in (Classifier.name, Bag.name)}
    run.write_bytes("curve.png", curve_plot(curves, f"news, {options['cell']} {options['hidden']}"))
    run.write_json("metrics.json", metrics)
    if compare and (rates := compare_backends(make, recipe, options)):
        metrics["speed"] = rates
        run.write_json("metrics.json", metrics)
        print(speed_line(rates, "headlines"), flush=True)
    return metrics


def _bag(run: Run, split: dict[str, list[Headline]]) -> tuple[BagTask, Recipe, Any, dict[str, float]]:
    """The linear model, trained, with its recipe, what training came to, and its scores on the test part."""
    options = run.config["options"]
    known = Features.repeated(split["train"])
    parts = {part: Features.of(split[part], characters=False, known=known) for part in PARTS}
    task = BagTask(Bag(PLACES, len(CATEGORIES)).to(options["device"]), parts, {**options, "batch_size": 64})
    done = fit(task, BAG, run)
    return task, BAG, done, task.scores(parts["test"])


def _shown(quality: dict[str, float]) -> str:
    return "  ".join(f"{key} {value:.4f}" for key, value in quality.items())

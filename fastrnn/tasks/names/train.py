"""Training of the classifier and the generator, and what is reported of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from fastrnn.tasks import report
from fastrnn.tasks.names.data import UNKNOWN, Alphabet, Encoded, Split, read_classes, split_names
from fastrnn.tasks.names.models import Classifier, Generator
from fastrnn.tasks.names.objectives import TASKS, ClassifierTask, GeneratorTask
from fastrnn.tasks.options import recipe_options
from fastrnn.tasks.plots import confusion_plot, curve_plot
from fastrnn.tasks.recipes import AdamW, Recipe
from fastrnn.tasks.run import Run
from fastrnn.tasks.speed import compare as compare_backends
from fastrnn.tasks.speed import recurrent_share, speed_line
from fastrnn.tasks.training import fit

__all__ = ["build", "chosen", "describe", "load_data", "maker", "recipe_of", "train"]


def load_data(options: dict[str, Any]) -> tuple[Split, dict[str, Any]]:
    """The data that a run's options name, and what its configuration holds of them."""
    split = split_names(read_classes(options["data"]))
    return split, describe(split)


def describe(split: Split) -> dict[str, Any]:
    """What a configuration holds of its data: enough to use the models, and to notice changed data."""
    alphabet = Alphabet.of(split.train)
    return {
        "classes": split.classes,
        "characters": alphabet.characters,
        "rare": alphabet.rare,
        "fingerprint": split.fingerprint(),
    }


def chosen(options: dict[str, Any]) -> list[str]:
    """The models a run is asked to train."""
    return [which for which in TASKS if options["models"] in ("both", which)]


def build(which: str, config: dict[str, Any], backend: str | None = None) -> Classifier | Generator:
    """The untrained model `which` of a run's configuration, with the backend asked for or the run's own."""
    options = config["options"]
    shape = {key: options[key] for key in ("cell", "embedding", "hidden", "layers", "dropout")}
    sizes = (len(config["characters"]) + 2, len(config["classes"]))
    backend = backend or options["backend"]
    if which == "generator":
        shape["hidden"] *= 2  # worth a twentieth of a bit per character; the classifier gains nothing by it
        return Generator(*sizes, backend=backend, **shape)
    return Classifier(*sizes, backend=backend, bidirectional=options["bidirectional"], **shape)


def recipe_of(options: dict[str, Any]) -> Recipe:
    """The recipe of a run's options."""
    return AdamW(**recipe_options(options))


def maker(config: dict[str, Any], split: Split) -> Callable[..., ClassifierTask | GeneratorTask]:
    """`make(backend, which)`: a task of the configuration with a new model, by default of the run's own backend and
    the first that is to be trained; the same model for the same seed."""
    options = config["options"]
    alphabet = Alphabet(config["characters"], config["rare"])
    parts = {name: Encoded.of(getattr(split, name), alphabet) for name in ("train", "valid", "test")}

    def make(backend: str | None = None, which: str | None = None) -> ClassifierTask | GeneratorTask:
        which = which or chosen(options)[0]
        # seeded for each anew, so that a model is the same whether or not another was made before it
        torch.manual_seed(options["seed"])
        return TASKS[which](build(which, config, backend).to(options["device"]), parts, options)

    return make


def train(run: Run, split: Split, compare: bool = True) -> dict[str, Any]:
    """Train the models of `run`'s configuration, or finish them; write and return the metrics, and draw the
    plots.

    Prints a line an epoch, one a model with its quality on the test part, and with `compare` the backends'
    speed.
    """
    config, options = run.config, run.config["options"]
    recipe, make = recipe_of(options), maker(config, split)
    parts, metrics = make().parts, report.common(run, "names")
    metrics["names"] = {name: len(part) for name, part in parts.items()}
    metrics["unknown_characters_in_test"] = int((parts["test"].padded == UNKNOWN).sum())

    for which in chosen(options):
        task = make(which=which)
        done = fit(task, recipe, run)
        quality = task.scores(parts["test"])
        metrics["quality"].update(quality)
        metrics[which] = report.fitted(task, recipe, done, quality, recurrent_share(make(which=which), recipe))
        shown = "  ".join(f"{key} {value:.4f}" for key, value in quality.items())
        spent = f"{done.seconds:.1f} s of training, {done.units / done.seconds / 1000:.1f}k names/s"
        print(f"{which} on {len(parts['test'])} test names, best epoch {done.best_epoch}: {shown}  ({spent})",
              flush=True)  # fmt: skip
        if isinstance(task, ClassifierTask):
            confusion = task.confusion(parts["test"])
            title = f"{options['cell']} {options['hidden']}: accuracy {quality['accuracy']:.3f}"
            run.write_bytes("confusion.png", confusion_plot(confusion, split.classes, title))
    curves = {which: metrics[which]["epochs"] for which in chosen(options)}
    run.write_bytes("curve.png", curve_plot(curves, f"names, {options['cell']} {options['hidden']}"))
    run.write_json("metrics.json", metrics)
    if compare and (rates := compare_backends(make, recipe, options)):
        metrics["speed"] = rates
        run.write_json("metrics.json", metrics)
        print(speed_line(rates, "names"), flush=True)
    return metrics

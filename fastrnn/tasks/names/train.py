"""Training of the classifier and the generator, and what is reported of them."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

import torch

from fastrnn.info import version
from fastrnn.tasks.errors import UserError
from fastrnn.tasks.layers import BACKENDS, probe
from fastrnn.tasks.names.data import UNKNOWN, Alphabet, Encoded, Split
from fastrnn.tasks.names.models import Classifier, Generator
from fastrnn.tasks.names.objectives import TASKS, ClassifierTask, GeneratorTask
from fastrnn.tasks.plots import confusion_plot, curve_plot
from fastrnn.tasks.run import Run
from fastrnn.tasks.speed import interleaved_rates, speed_line
from fastrnn.tasks.training import Fit, Recipe, fit

__all__ = ["build", "chosen", "describe", "train"]

COMPARED_BATCHES = 12


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


def train(run: Run, split: Split, compare: bool = True) -> dict[str, Any]:
    """Train the models of `run`'s configuration, or finish them; write and return the metrics, and draw the
    plots.

    Prints a line an epoch, one a model with its quality on the test part, and with `compare` the backends'
    speed.
    """
    config, options = run.config, run.config["options"]
    torch.set_num_threads(options["threads"])
    alphabet = Alphabet(config["characters"], config["rare"])
    parts = {name: Encoded.of(getattr(split, name), alphabet) for name in ("train", "valid", "test")}
    recipe = Recipe(options["epochs"], options["lr"])
    metrics: dict[str, Any] = {
        "task": "names", "backend": options["backend"], "cell": options["cell"], "quality": {}, "unit":
        "names", "options": options, "names": {name: len(part) for name, part in parts.items()},
        "unknown_characters_in_test": int((parts["test"].padded == UNKNOWN).sum()), "versions":
        {"fastrnn": version(), "torch": torch.__version__, "python": platform.python_version()},
    }  # fmt: skip
    for which in chosen(options):
        # for each anew, so that a model is the same whether or not another was made before it
        torch.manual_seed(options["seed"])
        task = TASKS[which](build(which, config).to(options["device"]), parts, options)
        done = fit(task, recipe, run)
        quality = task.scores(parts["test"])
        metrics["quality"].update(quality)
        metrics[which] = _report(task, done, quality)
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
    if compare:
        metrics["speed"] = _compare(run.config, parts, recipe)
        run.write_json("metrics.json", metrics)
        print(speed_line(metrics["speed"], "names"), flush=True)
    return metrics


def _report(task: ClassifierTask | GeneratorTask, done: Fit, quality: dict[str, float]) -> dict[str, Any]:
    return {
        "test": quality,
        "best_epoch": done.best_epoch,
        "examples_per_second": done.units / done.seconds,
        "seconds": done.seconds,
        "parameters": sum(parameter.numel() for parameter in task.model.parameters()),
        "epochs": done.history,
    }


def _compare(config: dict[str, Any], parts: dict[str, Encoded], recipe: Recipe) -> dict[str, float]:
    """Names per second of whole training steps on the same batches, by each backend that runs here."""
    options = config["options"]
    which = chosen(options)[0]
    batches: list[Any] = []
    passes: dict[str, Callable[[], int]] = {}
    for backend in BACKENDS:
        torch.manual_seed(options["seed"])
        try:
            probe(backend, options["cell"], options["device"])
        except UserError as error:  # the run is done; a backend that is not there is only left out
            print(f"not compared: {error}", flush=True)
            continue
        task = TASKS[which](build(which, config, backend).to(options["device"]), parts, options)
        batches = batches or task.batches(0)[:COMPARED_BATCHES]
        passes[backend] = _Steps(task, recipe, batches)
    return interleaved_rates(passes)


class _Steps:
    """A pass over the batches, training on each."""

    def __init__(self, task: ClassifierTask | GeneratorTask, recipe: Recipe, batches: list[Any]) -> None:
        self.task, self.recipe, self.batches = task, recipe, batches
        self.optimizer = recipe.optimizer(task.model)

    def __call__(self) -> int:
        for batch in self.batches:
            self.recipe.update(self.task.model, self.optimizer, self.task.loss(batch))
        return sum(self.task.count(batch) for batch in self.batches)

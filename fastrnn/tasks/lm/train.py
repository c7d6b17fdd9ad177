"""Training of a language model, and what is reported of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from fastrnn.tasks import report
from fastrnn.tasks.lm.models import LanguageModel
from fastrnn.tasks.lm.objective import LanguageModelTask, nats_per_token
from fastrnn.tasks.lm.sources import Corpus, Part
from fastrnn.tasks.options import recipe_options
from fastrnn.tasks.plots import curve_plot
from fastrnn.tasks.recipes import SGD, AdamW, Recipe
from fastrnn.tasks.run import Run
from fastrnn.tasks.scores import perplexity
from fastrnn.tasks.speed import compare as compare_backends
from fastrnn.tasks.speed import recurrent_share, speed_line
from fastrnn.tasks.training import fit

__all__ = ["RECIPES", "build", "complete", "maker", "quality", "recipe_of", "train"]

RECIPES: dict[str, dict[str, Any]] = {
    "course": {
        "epochs": 6, "lr": 20.0, "clip": 0.25, "weight_decay": 0.0, "dropout": 0.2, "tied": False, "shift": False,
        "patience": 0,
    },
    "modern": {
        "epochs": 10, "lr": 4e-3, "clip": 1.0, "weight_decay": 0.1, "dropout": 0.4, "tied": True, "shift": True,
        "patience": 0,
    },
}  # fmt: skip
"""The options that a recipe sets where they are not given."""


def complete(options: dict[str, Any]) -> None:
    """Fill in those of the options that were not given: the recipe's, and the embedding's size."""
    for name, value in RECIPES[options["recipe"]].items():
        if options[name] is None:
            options[name] = value
    options["embedding"] = options["embedding"] or options["hidden"]


def build(config: dict[str, Any], backend: str | None = None) -> LanguageModel:
    """The untrained model of a run's configuration, with the backend asked for or the run's own."""
    options = config["options"]
    names = ("cell", "embedding", "hidden", "layers", "dropout", "tied", "softmax")
    shape = {name: options[name] for name in names}
    return LanguageModel(len(config["words"]), backend=backend or options["backend"], **shape)


def quality(model: LanguageModel, part: Part) -> dict[str, float]:
    """Perplexity and bits per character of a text, beside their floors where the true probability is known."""
    tokens, bits = len(part.numbers), math.log(2)
    nats = nats_per_token(model, part.numbers)
    scores = {"perplexity": perplexity(nats), "bits_per_character": nats * tokens / part.characters / bits}
    if part.nats is not None:
        scores["perplexity_floor"] = math.exp(part.nats / tokens)
        scores["bits_per_character_floor"] = part.nats / part.characters / bits
    return scores


def recipe_of(options: dict[str, Any]) -> Recipe:
    """The recipe of a run's options."""
    more = {"clip": options["clip"], "weight_decay": options["weight_decay"]}
    kind = SGD if options["recipe"] == "course" else AdamW
    return kind(**recipe_options(options), **more)


def maker(config: dict[str, Any], corpus: Corpus) -> Callable[..., LanguageModelTask]:
    """`make(backend)`: the task of the configuration with a new model, by default of the run's own backend."""
    options = config["options"]

    def make(backend: str | None = None) -> LanguageModelTask:
        torch.manual_seed(options["seed"])
        model = build(config, backend).to(options["device"])
        return LanguageModelTask(model, corpus.train.numbers, corpus.valid.numbers, options)

    return make


def train(run: Run, corpus: Corpus, compare: bool = True) -> dict[str, Any]:
    """Train the model of `run`'s configuration, or finish it; write and return the metrics, and draw the plot."""
    config, options = run.config, run.config["options"]
    recipe, make, metrics = recipe_of(options), maker(config, corpus), report.common(run, "tokens")
    task = make()
    done = fit(task, recipe, run)
    judged = "test" if corpus.test is not None else "valid"
    scores = quality(task.model, corpus.test or corpus.valid)
    parts = {"train": corpus.train, "valid": corpus.valid, "test": corpus.test}
    metrics.update(
        quality=scores, quality_on=judged, vocabulary=len(corpus.dictionary), recipe=options["recipe"],
        tokens={name: len(part.numbers) for name, part in parts.items() if part is not None},
        lm=report.fitted(task, recipe, done, scores, recurrent_share(make(), recipe)),
    )  # fmt: skip
    shown = f"perplexity {scores['perplexity']:.2f}, {scores['bits_per_character']:.3f} bits per character"
    if "perplexity_floor" in scores:
        shown += (f" (no model can do better than {scores['perplexity_floor']:.2f} and "
                  f"{scores['bits_per_character_floor']:.3f} here)")  # fmt: skip
    spent = f"{done.seconds:.1f} s of training, {done.units / done.seconds / 1000:.1f}k tokens/s"
    print(f"lm on {metrics['tokens'][judged]} {judged} tokens, best epoch {done.best_epoch}: {shown}  ({spent})",
          flush=True)  # fmt: skip
    title = f"lm, {options['cell']} {options['layers']} x {options['hidden']}, {options['recipe']}"
    run.write_bytes("curve.png", curve_plot({"lm": done.history}, title))
    run.write_json("metrics.json", metrics)
    if compare and (rates := compare_backends(make, recipe, options, steps=4, rounds=3)):
        metrics["speed"] = rates
        run.write_json("metrics.json", metrics)
        print(speed_line(rates, "tokens"), flush=True)
    return metrics

"""A row of the benchmark of whole training: a task's own steps with torch.nn's layers and with fastrnn's, interleaved.

The steps are those of `fastrnn.tasks.training.fit`, of the very objects that a task's `train` hands to it, under the
options of its command line.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.nn.utils.rnn import PackedSequence

from benchmarks.grid import Case
from benchmarks.measure import check_agreement
from benchmarks.peers import initial_weights, modules
from benchmarks.timing import WINDOW, interleave, turn
from fastrnn.tasks.commands import cli
from fastrnn.tasks.lm import sources as lm_sources
from fastrnn.tasks.lm import train as lm
from fastrnn.tasks.names import train as names
from fastrnn.tasks.news import train as news
from fastrnn.tasks.recipes import Learner, Recipe
from fastrnn.tasks.speed import recurrent_calls, replay
from fastrnn.tasks.training import Trainable
from fastrnn.tasks.translate import train as translate

BACKENDS = ("torch", "fastrnn")
AGREEMENT = 1e-4
"""Largest relative difference of the two backends' losses at any step timed: rounding, grown over the steps."""
ROUNDS = 12
"""Rounds that the budget of a row is to hold: what a pass may take follows from it."""
MOST_STEPS = 50


class Disagreement(RuntimeError):
    """The backends' losses differ: there is nothing to compare the speed of."""


@dataclass(frozen=True)
class Task:
    """A task as its command line trains it: `command` and `arguments`, `files` under a folder of real data as options,
    and the functions that make of the options what is trained."""

    command: str
    arguments: tuple[str, ...]
    files: tuple[tuple[str, str], ...]
    load: Callable[[dict[str, Any]], tuple[Any, dict[str, Any]]]
    maker: Callable[..., Callable[..., Trainable]]
    recipe_of: Callable[[dict[str, Any]], Recipe]


def _names(*arguments: str) -> Task:
    return Task("names", arguments, (("--data", "names"),), names.load_data, names.maker, names.recipe_of)


def _translate(*arguments: str) -> Task:
    load, files = translate.load_data, (("--data", "jpn/jpn.txt"),)
    return Task("translate", arguments, files, load, translate.maker, translate.recipe_of)


def _lm(*arguments: str) -> Task:
    files = (("--train", "lm/wikitext2.test.txt"), ("--valid", "lm/wikitext2.valid.txt"))
    return Task("lm", arguments, files, lm_sources.load, lm.maker, lm.recipe_of)


TASKS = {
    "names": _names("--models", "classifier"),
    "names, bidirectional": _names("--models", "classifier", "--bidirectional"),
    "names, generator": _names("--models", "generator"),
    "news": Task("news", (), (("--data", "news"),), news.load_data, news.maker, news.recipe_of),
    "translate": _translate(),
    "translate, attention": _translate("--attention"),
    "lm, course": _lm("--recipe", "course"),
    "lm, modern": _lm("--recipe", "modern"),
}


class Prepared:
    """A task with its data, from which models of any cell and backend are made.

    `folder` is one of real data, None for the data that are shipped. Raises `UserError` where they cannot be read.
    """

    def __init__(self, name: str, threads: int, folder: Path | None) -> None:
        task, group = TASKS[name], cli.commands[TASKS[name].command]
        files = [part for option, file in task.files if folder for part in (option, str(folder / file))]
        line = [*task.arguments, *files, "--device", "cpu", "--threads", str(threads), "--out", "RUN"]
        self.options = dict(group.commands["train"].make_context("train", line).params)
        for other in ("out", "resume", "no_compare"):
            del self.options[other]
        if task.command == "lm":
            lm.complete(self.options)
        data, description = task.load(self.options)
        self.name, self.recipe = name, task.recipe_of(self.options)
        self._make = task.maker({"options": self.options, **description}, data)

    def make(self, cell: str, backend: str) -> Trainable:
        """The task with a new model, ready to be trained; the same parameters for each backend."""
        self.options["cell"] = cell  # the maker looks there
        task = self._make(backend)
        task.model.train()
        return task

    @property
    def text(self) -> str:
        """The model and its batches in words."""
        o = self.options
        hidden = 2 * o["hidden"] if "generator" in self.name else o["hidden"]
        size = f"{o['layers']} × {hidden}" if o["layers"] > 1 else f"{hidden}"
        return f"{size}, batches of {o['batch_size']}"


class Passes:
    """One backend's steps over the same batches, every time from the same state: what `timing.turn` takes for a
    function that times itself.

    The state is that after one step, in which the optimizer makes its own. `losses` (steps,) are the last pass's.
    """

    def __init__(self, task: Trainable, recipe: Recipe, seed: int) -> None:
        self.task, self.seed, self.learner = task, seed, Learner(task.model, recipe)
        batches = task.batches(0)
        total = recipe.epochs * len(batches)
        self.plan = [(batch, recipe.lr_at(n, total)) for n, batch in enumerate(batches)]
        self.steps, self.apart = 1, 0.0
        self.losses = self.expected = torch.zeros(0)
        torch.manual_seed(seed)
        self._steps(self.plan[:1])
        self._state = copy.deepcopy((task.model.state_dict(), self.learner.optimizer.state_dict(), task.carried))

    def _steps(self, plan: Sequence[tuple[Any, float]]) -> torch.Tensor:
        return torch.stack([self.learner.step(self.task.loss, batch, lr) for batch, lr in plan])

    def _run(self) -> None:
        self.losses = self._steps(self.plan[1 : 1 + self.steps])

    def window(self, calls: int) -> tuple[float, float]:
        """Seconds a pass, and seconds lost to other processes. To return to the first state is not timed."""
        spent = lost = 0.0
        for _ in range(calls):
            model, optimizer, carried = copy.deepcopy(self._state)
            self.task.model.load_state_dict(model)
            self.learner.optimizer.load_state_dict(optimizer)
            self.task.carried = carried
            torch.manual_seed(self.seed)
            seconds, missed = turn(self._run, 1)
            spent, lost = spent + seconds, lost + missed
            if len(self.expected):
                self.apart = max(self.apart, ((self.losses - self.expected).abs() / self.expected.abs()).max().item())
                if not self.apart <= AGREEMENT:  # so written, NaN is caught too
                    raise Disagreement(f"the losses of a step differ by {self.apart:.1e} of it")
        return spent / calls, lost

    def __call__(self) -> None:
        self.window(1)


def measure(prepared: Prepared, cell: str, threads: int, budget: float) -> dict[str, Any]:
    """One record: what a step of the task takes with each backend's layers, and what its calls of these layers take
    alone, forward and backward.

    Raises Disagreement where the backends' losses differ in any step that was timed.
    """
    torch.set_num_threads(threads)
    tasks = {backend: prepared.make(cell, backend) for backend in BACKENDS}
    passes = {b: Passes(task, prepared.recipe, prepared.options["seed"]) for b, task in tasks.items()}
    first = passes[BACKENDS[0]]
    first.window(1)
    step = min(first.window(1)[0] for _ in range(3))
    most = min(MOST_STEPS, len(first.plan) - 1)
    steps = max(1, min(most, math.ceil(budget / ROUNDS / 4 / step)))
    for one in passes.values():
        one.steps = steps
    first.window(1)
    for one in passes.values():
        one.expected = first.losses
    runs: dict[str, Callable[[], None]] = dict(passes)
    for backend in BACKENDS:  # of a model of their own, whose parameters stay
        one = prepared.make(cell, backend)
        calls = [
            call for batch in one.batches(0)[1 : 1 + steps] for call in recurrent_calls(one, prepared.recipe, batch)
        ]
        runs[f"{backend} layers"] = partial(replay, calls, prepared.recipe)
    timing = interleave(runs, budget)
    count = sum(first.task.count(batch) for batch, _ in first.plan[1 : 1 + steps]) / steps
    taken = timing.as_dict()
    taken["spreads"] = {b: {k: v / steps for k, v in spread.items()} for b, spread in taken["spreads"].items()}
    return {
        "key": f"training/{prepared.name}/{cell}",
        "group": "training",
        "name": prepared.name,
        "cell": cell,
        "text": prepared.text,
        "mode": "train",
        "threads": threads,
        "unit": first.task.unit,
        "units": count,
        "steps": steps,
        "apart": passes["fastrnn"].apart,
        **taken,
    }


# ---- batches of equal length


def _shape(x: Any) -> tuple[int, int]:
    """Sequences and their mean length."""
    if isinstance(x, PackedSequence):
        return int(x.batch_sizes[0]), round(len(x.data) / int(x.batch_sizes[0]))
    return x.shape[1], x.shape[0]


def equal_cases(prepared: Prepared, cell: str, batches: int = 8) -> Iterator[Case]:
    """A dense case for each recurrent layer of the task; its length is the median of its batches' mean lengths."""
    task = prepared.make(cell, BACKENDS[0])
    shapes: dict[Any, list[tuple[int, int]]] = {}
    for batch in task.batches(0)[:batches]:
        for layer, inputs in recurrent_calls(task, prepared.recipe, batch):
            shapes.setdefault(layer, []).append(_shape(inputs[0]))
    for name, layer in task.model.named_modules():
        if layer in shapes:
            length = round(median(t for _, t in shapes[layer]))
            size = layer.input_size, layer.hidden_size, layer.num_layers, layer.bidirectional
            yield Case("equal", f"{prepared.name}: {name}", cell, shapes[layer][0][0], length, *size)


def measure_equal(case: Case, threads: int, budget: float) -> dict[str, Any]:
    """One record: the layer on a dense batch and on the same rows packed, forward+backward, with both libraries."""
    torch.set_num_threads(threads)
    weights, packed = initial_weights(case), replace(case, ragged=(case.T, case.T))
    prepared = {}
    for backend, prepare in zip(BACKENDS, (modules.torch_nn, modules.fastrnn), strict=True):
        prepared[f"{backend} dense"] = prepare(case, "train", weights)
        prepared[f"{backend} packed"] = prepare(packed, "train", weights)
    check_agreement(case, prepared)
    timing = interleave({name: p.run for name, p in prepared.items()}, budget, window=WINDOW)
    described = {"key": case.key, "group": case.group, "name": case.name, "cell": case.cell, "text": case.text}
    return {**described, "mode": "train", "threads": threads, **timing.as_dict()}

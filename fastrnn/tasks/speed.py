"""What a step costs: the recurrent layers' share of it, and the backends side by side in the same minute."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from fastrnn.tasks import processes
from fastrnn.tasks.errors import UserError
from fastrnn.tasks.layers import BACKENDS, is_recurrent, probe
from fastrnn.tasks.recipes import Learner, Recipe
from fastrnn.tasks.training import Trainable

__all__ = ["Steps", "compare", "interleaved_rates", "recurrent_calls", "recurrent_share", "replay", "speed_line"]


class Steps:
    """A pass over the batches, training on each; returns its units. The model learns meanwhile: give it one to
    spare."""

    def __init__(self, task: Trainable, recipe: Recipe, batches: Sequence[Any]) -> None:
        self.task, self.batches = task, batches
        self.learner = Learner(task.model, recipe)

    def __call__(self) -> int:
        self.task.model.train()
        self.task.carried = None
        for batch in self.batches:
            self.learner.step(self.task.loss, batch, self.learner.recipe.lr)
        _wait(self.learner.device)
        return sum(self.task.count(batch) for batch in self.batches)


def compare(make: Callable[[str], Trainable], recipe: Recipe, options: dict[str, Any], steps: int = 12,
            rounds: int = 5) -> dict[str, float]:  # fmt: skip
    """Units per second of whole training steps on the same batches, by each backend that runs here.

    `make(backend)` gives a task with a new model. Empty with several processes, which would disturb each other.
    """
    if processes.world() > 1:
        return {}
    passes: dict[str, Callable[[], int]] = {}
    for backend in BACKENDS:
        torch.manual_seed(options["seed"])
        try:
            probe(backend, options["cell"], options["device"])
        except UserError as error:  # the run is done; a backend that is not there is only left out
            print(f"not compared: {error}", flush=True)
            continue
        task = make(backend)
        passes[backend] = Steps(task, recipe, task.batches(0)[:steps])
    return interleaved_rates(passes, rounds)


def recurrent_calls(task: Trainable, recipe: Recipe, batch: Any) -> list[tuple[nn.Module, tuple[Any, ...]]]:
    """The calls that the loss of `batch` makes of layers made by `recurrent`: each layer and its inputs, cut from
    their graph."""
    calls: list[tuple[nn.Module, tuple[Any, ...]]] = []
    with ExitStack() as hooks:
        for module in filter(is_recurrent, task.model.modules()):
            hook = module.register_forward_pre_hook(lambda layer, inputs: calls.append((layer, inputs)))
            hooks.callback(hook.remove)
        with recipe.autocast(next(task.model.parameters()).device):
            task.loss(batch)
    return [(layer, _detached(inputs)) for layer, inputs in calls]


def replay(calls: Sequence[tuple[nn.Module, tuple[Any, ...]]], recipe: Recipe) -> None:
    """Those calls again, forward and backward, by themselves."""
    for layer, inputs in calls:
        with recipe.autocast(next(layer.parameters()).device):
            outputs = [out for out in _tensors(layer(*inputs)) if out.requires_grad][:1]
        leaves = [leaf for leaf in (*_tensors(inputs), *layer.parameters()) if leaf.requires_grad]
        torch.autograd.grad(outputs, leaves, [torch.ones_like(out) for out in outputs], allow_unused=True)


def recurrent_share(task: Trainable, recipe: Recipe, steps: int = 5) -> float:
    """The share of a training step that the recurrent layers take, forward and backward.

    Each call that a step makes of a layer made by `recurrent` is noted with its input, and repeated alone. Median
    over `steps` batches, after one that is warm-up. Draws and parameters change: for a model to spare.
    """
    batches = task.batches(0)[: steps + 1]
    one, shares = Steps(task, recipe, batches[:1]), []
    for batch in batches:
        calls = recurrent_calls(task, recipe, batch)
        one.batches = [batch]
        started = time.perf_counter()
        one()
        between = time.perf_counter()
        replay(calls, recipe)
        _wait(one.learner.device)
        shares.append((time.perf_counter() - between) / (between - started))
    return median(shares[1:] or shares)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, PackedSequence):
        return [value.data]
    if isinstance(value, Tensor):
        return [value]
    return [tensor for part in value for tensor in _tensors(part)] if isinstance(value, tuple | list) else []


def _detached(value: Any) -> Any:
    """`value` cut from its graph, its tensors wanting gradients where they did."""
    if isinstance(value, Tensor):
        return value.detach().requires_grad_(value.requires_grad)
    if isinstance(value, PackedSequence):
        return PackedSequence(_detached(value.data), *value[1:])
    return type(value)(map(_detached, value)) if isinstance(value, tuple | list) else value


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def interleaved_rates(passes: dict[str, Callable[[], int]], rounds: int = 5) -> dict[str, float]:
    """Units per second of each pass: the median over `rounds`, after one round that warms up and is not
    counted.

    A pass does a fixed piece of work and returns its number of units. The passes take turns within each
    round, so that whatever else the machine does falls on all of them.
    """
    rates: dict[str, list[float]] = {name: [] for name in passes}
    for _ in range(rounds + 1):
        for name, run in passes.items():
            started = time.perf_counter()
            units = run()
            rates[name].append(units / (time.perf_counter() - started))
    return {name: median(values[1:]) for name, values in rates.items()}


def speed_line(rates: dict[str, float], unit: str) -> str:
    """`speed: fastrnn 41.2k names/s, torch 18.3k names/s (2.25x), …`: the first is so many times as fast."""
    (first, best), *others = rates.items()
    parts = [f"{first} {best / 1000:.1f}k {unit}/s"]
    parts += [f"{name} {rate / 1000:.1f}k {unit}/s ({best / rate:.2f}x)" for name, rate in others]
    return "speed: " + ", ".join(parts)

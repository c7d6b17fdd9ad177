"""The training loop every task runs: progress, validation, the best model, interruption and exact resumption.

A run that is stopped or killed and resumed goes through the same numbers as one left alone, bit for bit on
one machine with one thread count: the batches of an epoch depend on the seed and the epoch alone, and a
checkpoint holds everything else (parameters, optimizer, random state, the place within the epoch and the sums
so far).
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from fastrnn.tasks.errors import Interrupted, UserError
from fastrnn.tasks.run import Run

__all__ = ["Fit", "Recipe", "Trainable", "fit"]


class Trainable(Protocol):
    """What a task hands to `fit`: one model and the data it learns from."""

    name: str  # of the checkpoint and the progress bar
    unit: str  # what is counted: names, tokens, …
    model: nn.Module
    best_by: str  # the validation score that picks the best epoch
    maximise: bool

    def batches(self, epoch: int) -> Sequence[Any]:
        """The batches of an epoch (from 0), the same for the same epoch."""

    def count(self, batch: Any) -> int:
        """How many units a batch holds; its loss weighs as much in the epoch's mean."""

    def loss(self, batch: Any) -> Tensor:
        """The batch's mean loss, a scalar to differentiate."""

    def validate(self) -> dict[str, float]:
        """Scores on the validation part, `best_by` among them."""


@dataclass(frozen=True)
class Recipe:
    """AdamW (Loshchilov & Hutter 2019, the fused implementation): warm-up, then a cosine down to zero."""

    epochs: int
    lr: float
    weight_decay: float = 0.01
    clip: float = 1.0
    warmup: float = 0.05

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """Fused: on a small model the unfused update costs as much as the recurrent layer."""
        return torch.optim.AdamW(model.parameters(), self.lr, weight_decay=self.weight_decay, fused=True)

    def lr_at(self, step: int, steps: int) -> float:
        """The rate of `step` (from 0) of `steps`."""
        warm = max(1, round(self.warmup * steps))
        if step < warm:
            return self.lr * (step + 1) / warm
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))

    def update(self, model: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        """One step down the gradient of `loss`, its norm clipped (Pascanu et al. 2013)."""
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), self.clip)
        optimizer.step()


@dataclass
class Fit:
    """What `fit` did: one entry an epoch, and the time spent in training steps, resumed parts included."""

    history: list[dict[str, float]]
    best_epoch: int
    units: int
    seconds: float


def fit(task: Trainable, recipe: Recipe, run: Run) -> Fit:
    """Train `task.model`, from the checkpoint in `run` if there is one; leave it with the best epoch's
    parameters.

    Saves after each epoch. Ctrl-C (or SIGTERM) saves after the step being run and raises `Interrupted`.
    Raises `UserError` when the loss is no longer a finite number.
    """
    model, file = task.model, f"{task.name}.pt"
    device = next(model.parameters()).device
    optimizer = recipe.optimizer(model)
    state: dict[str, Any] = {
        "epoch": 0, "step": 0, "loss": torch.zeros((), dtype=torch.float64), "units": 0,
        "all_units": 0, "seconds": 0.0, "history": [], "best": None, "best_epoch": -1,
    }  # fmt: skip

    def save() -> None:
        state["model"], state["optimizer"] = model.state_dict(), optimizer.state_dict()
        state["rng"] = torch.get_rng_state()
        if device.type == "cuda":
            state["cuda_rng"] = torch.cuda.get_rng_state(device)
        run.write_state(file, state)

    saved = run.read_state(file, device)
    if saved is not None:
        try:
            model.load_state_dict(saved["model"])
            optimizer.load_state_dict(saved["optimizer"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise run.misfit(file) from error
        state.update(saved)
        torch.set_rng_state(state["rng"].cpu())
        if device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_rng"].cpu(), device)
    loss_sum = state["loss"].to(device)

    with _StopRequest() as stop:
        while state["epoch"] < recipe.epochs:
            model.train()
            started, units_before = time.perf_counter(), state["units"]
            batches = task.batches(state["epoch"])
            steps = len(batches)
            with tqdm(
                desc=f"{task.name} {state['epoch'] + 1}/{recipe.epochs}", unit=" steps",
                total=steps, initial=state["step"], leave=False, disable=None, dynamic_ncols=True,
            ) as bar:  # fmt: skip
                for batch in islice(batches, state["step"], None):
                    rate = recipe.lr_at(state["epoch"] * steps + state["step"], recipe.epochs * steps)
                    for group in optimizer.param_groups:
                        group["lr"] = rate
                    loss = task.loss(batch)
                    recipe.update(model, optimizer, loss)
                    count = task.count(batch)
                    loss_sum += loss.detach() * count
                    state["step"] += 1
                    state["units"] += count
                    if bar.update():  # it was drawn: the loss is fetched no more often than that
                        bar.set_postfix_str(f"loss {loss.item():.3f}", refresh=False)
                    if stop.requested:
                        break
            state["loss"] = loss_sum
            seconds = time.perf_counter() - started
            state["seconds"] += seconds
            if not stop.requested:
                _end_epoch(task, state, (state["units"] - units_before) / seconds)
                loss_sum = torch.zeros_like(loss_sum)
                state.update(epoch=state["epoch"] + 1, step=0, units=0, loss=loss_sum)
            save()
            if stop.requested:
                raise Interrupted
    if state["best"] is not None:
        model.load_state_dict(state["best"])
    model.eval()
    return Fit(state["history"], state["best_epoch"], state["all_units"], state["seconds"])


def _end_epoch(task: Trainable, state: dict[str, Any], rate: float) -> None:
    """Validate, note the epoch in the history, keep the parameters if they are the best, and print a line."""
    mean = state["loss"].item() / max(1, state["units"])
    if not math.isfinite(mean):
        raise UserError(f"{task.name}: the loss of epoch {state['epoch'] + 1} is {mean}: try a lower --lr")
    task.model.eval()
    scores = task.validate()
    history = state["history"]
    entry = {f"valid_{score}": value for score, value in scores.items()}
    history.append({"epoch": state["epoch"] + 1, "loss": mean, **entry})
    state["all_units"] += state["units"]
    key, sign = f"valid_{task.best_by}", 1 if task.maximise else -1
    if state["best"] is None or sign * history[-1][key] > sign * history[state["best_epoch"] - 1][key]:
        state["best_epoch"] = state["epoch"] + 1
        state["best"] = {name: value.detach().clone() for name, value in task.model.state_dict().items()}
    shown = "  ".join(f"{name} {value:.4f}" for name, value in history[-1].items() if name != "epoch")
    print(f"{task.name} {state['epoch'] + 1:3d}  {shown}  {rate / 1000:.1f}k {task.unit}/s", flush=True)


class _StopRequest:
    """Turns the first Ctrl-C or SIGTERM into a wish, looked at between steps; a second one is immediate."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def _note(self, number: int, _: FrameType | None) -> None:
        self.requested = True
        signal.signal(number, self._before[number])

    def __enter__(self) -> _StopRequest:
        if threading.current_thread() is threading.main_thread():  # no other thread may set handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

"""The training loop every task runs: progress, validation, the best model, interruption and exact resumption.

How to write a task: derive from `Trainable`, hand an instance to `fit` with a recipe and a run, and report with
`fastrnn.tasks.report`. A batch is whatever the task makes of it; best a cheap description (example numbers, a
position in a text) from which `loss` takes its tensors.

A run that is stopped or killed and resumed goes through the same numbers as one left alone, bit for bit on
one machine with one thread count: the batches of an epoch depend on the seed and the epoch alone, and a
checkpoint holds everything else (parameters, optimizer, random state, the state carried from step to step, the
place within the epoch and the sums so far).
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from fastrnn.tasks import processes
from fastrnn.tasks.errors import Interrupted, UserError
from fastrnn.tasks.recipes import Learner, Recipe
from fastrnn.tasks.run import Run
from fastrnn.tasks.signals import StopRequest

__all__ = ["SAVE_EVERY", "Fit", "Trainable", "fit"]

SAVE_EVERY = 60.0
"""Seconds within an epoch after which a checkpoint is written, so that a kill loses no more than that."""

AGREE_EVERY = 8
"""Steps after which several processes ask each other whether to stop or save."""


class Trainable(ABC):
    """What a task hands to `fit`: one model and the data it learns from. The attributes are the task's to set."""

    name: str  # of the checkpoint and the progress bar
    unit: str  # what is counted: names, tokens, …
    model: nn.Module
    best_by: str  # the validation score that picks the best epoch
    maximise: bool
    carried: Any = None
    """What a step hands to the next (a language model's hidden state): detached tensors in tuples or lists. None
    at the start of an epoch; `loss` reads and replaces it, checkpoints hold it."""

    @abstractmethod
    def batches(self, epoch: int) -> Sequence[Any]:
        """The batches of an epoch (from 0), the same for the same epoch."""

    @abstractmethod
    def count(self, batch: Any) -> int:
        """How many units a batch holds, for the speed."""

    def weight(self, batch: Any) -> int:
        """How many terms the batch's mean loss is the mean of. The mean of an epoch and, with several processes,
        the gradient's sum are weighted by it."""
        return self.count(batch)

    def share(self, batch: Any, rank: int, world: int) -> Any:
        """The part of the batch that process `rank` of `world` takes, None if nothing is left for it. Fits batches
        that are tensors or lists of example numbers; those sorted by length stay so."""
        return batch[rank::world] if rank < len(batch) else None

    @abstractmethod
    def loss(self, batch: Any) -> Tensor:
        """The batch's mean loss, a scalar to differentiate."""

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Scores on the validation part, `best_by` among them. `carried` is not to be touched."""


@dataclass
class Fit:
    """What `fit` did, resumed parts included: an entry an epoch, the units trained on, the seconds spent in
    training steps, those spent in all (with validation), and when each epoch ended by that clock."""

    history: list[dict[str, float]]
    best_epoch: int
    units: int
    seconds: float
    seconds_in_all: float
    epoch_ends: list[float]


class _Loss(nn.Module):
    """A task's loss as a module's forward, which is what DistributedDataParallel can wrap."""

    def __init__(self, task: Trainable) -> None:
        super().__init__()
        self.model, self.loss = task.model, task.loss

    def forward(self, batch: Any) -> Tensor:
        return self.loss(batch)


def fit(task: Trainable, recipe: Recipe, run: Run) -> Fit:
    """Train `task.model`, from the checkpoint in `run` if there is one; leave it with the best epoch's
    parameters.

    Saves after each epoch and every `SAVE_EVERY` seconds. Ctrl-C (or SIGTERM) saves after the step being run and
    raises `Interrupted`. Raises `UserError` when the loss is no longer a finite number.
    """
    return _Training(task, recipe, run).run()


class _Training:
    def __init__(self, task: Trainable, recipe: Recipe, run: Run) -> None:
        self.task, self.recipe, self.folder, self.file = task, recipe, run, f"{task.name}.pt"
        self.learner = Learner(task.model, recipe)
        self.device = self.learner.device
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        self.state: dict[str, Any] = {
            "epoch": 0, "step": 0, "units": 0, "terms": 0, "all_units": 0, "history": [], "best": None,
            "best_epoch": -1, "stalls": 0, "lr": recipe.lr, "clock": {"steps": 0.0, "all": 0.0, "epochs": []},
        }  # fmt: skip
        if processes.rank():  # dropout draws differ between processes; process 0 draws what one alone would
            torch.manual_seed(torch.initial_seed() + processes.rank())
        self._load()
        self.module: nn.Module = _Loss(task)
        if processes.world() > 1:
            self.module = DistributedDataParallel(self.module)
        self.saved_at = self.mark = time.perf_counter()

    # ---- checkpoints ---------------------------------------------------------------------------------------------
    def _load(self) -> None:
        saved = self.folder.read_state(self.file, self.device)
        if saved is None:
            return
        try:
            own = saved["processes"]
            if len(own) != processes.world():
                raise UserError(f"{self.folder.path} was trained by {len(own)} processes: resume with as many")
            own = own[processes.rank()]
            self.task.model.load_state_dict(saved["model"])
            self.learner.optimizer.load_state_dict(saved["optimizer"])
            self.learner.scaler.load_state_dict(saved["scaler"])
            self.loss_sum, self.task.carried = own["loss"].to(self.device), own["carried"]
        except (KeyError, RuntimeError, ValueError) as error:
            raise self.folder.misfit(self.file) from error
        self.state.update(saved)
        torch.set_rng_state(own["rng"].cpu())
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(own["cuda_rng"].cpu(), self.device)

    def _save(self) -> None:
        task, state = self.task, self.state
        own = {"loss": self.loss_sum.cpu(), "carried": _to_cpu(task.carried), "rng": torch.get_rng_state()}
        if self.device.type == "cuda":
            own["cuda_rng"] = torch.cuda.get_rng_state(self.device)
        state["model"], state["optimizer"] = task.model.state_dict(), self.learner.optimizer.state_dict()
        state["scaler"], state["processes"] = self.learner.scaler.state_dict(), processes.gather(own)
        processes.first(lambda: self.folder.write_state(self.file, state))
        self._tick(training=False)
        self.saved_at = self.mark

    def _tick(self, training: bool) -> None:
        """Put the time since the last tick on the clock."""
        now, clock = time.perf_counter(), self.state["clock"]
        clock["all"] += now - self.mark
        clock["steps"] += (now - self.mark) * training
        self.mark = now

    # ---- the loop ------------------------------------------------------------------------------------------------
    def _over(self) -> bool:
        """Whether an earlier end than the last epoch has come."""
        recipe, state = self.recipe, self.state
        stalled = state["epoch"] - state["best_epoch"] if state["best_epoch"] > 0 else 0
        spent = bool(recipe.minutes) and state["clock"]["all"] >= 60 * recipe.minutes
        return (recipe.patience > 0 and stalled >= recipe.patience) or (spent and state["epoch"] > 0)

    def run(self) -> Fit:
        task, state = self.task, self.state
        with StopRequest(twice_is_immediate=processes.world() == 1) as stop:
            while state["epoch"] < self.recipe.epochs and not processes.broadcast(self._over()):
                stopped = self._epoch(stop)
                if not stopped:
                    self._end_epoch()
                    self.loss_sum = torch.zeros_like(self.loss_sum)
                    task.carried = None
                    state.update(epoch=state["epoch"] + 1, step=0, units=0, terms=0)
                self._save()
                if processes.greatest([stopped or stop.requested])[0]:  # in validation too, the last one as well
                    raise Interrupted
        if state["best"] is not None:
            task.model.load_state_dict(state["best"])
        task.model.eval()
        clock = state["clock"]
        return Fit(
            state["history"], state["best_epoch"], state["all_units"], clock["steps"], clock["all"], clock["epochs"]
        )

    def _epoch(self, stop: StopRequest) -> bool:
        """Train on the rest of the epoch's batches; True if the user stopped it."""
        task, recipe, state = self.task, self.recipe, self.state
        task.model.train()
        carried, task.carried = task.carried, None
        batches = task.batches(state["epoch"])
        if state["step"]:
            task.carried = carried
        steps, limit, wishes = len(batches), 60 * recipe.minutes or math.inf, [False] * 3
        with tqdm(
            desc=f"{task.name} {state['epoch'] + 1}/{recipe.epochs}", unit=" steps", total=steps,
            initial=state["step"], leave=False, disable=None if processes.main() else True, dynamic_ncols=True,
        ) as bar:  # fmt: skip
            for batch in islice(batches, state["step"], None):
                done = state["epoch"] * steps + state["step"]
                state["lr"] = recipe.lr_at(done, recipe.epochs * steps, state["stalls"])
                loss = self._step(batch)
                state["step"] += 1
                state["units"] += task.count(batch)
                state["terms"] += task.weight(batch)
                if bar.update():  # it was drawn: the loss is fetched no more often than that
                    bar.set_postfix_str(f"loss {loss.item():.3f}, lr {state['lr']:.3g}", refresh=False)
                now = time.perf_counter()
                spent = state["clock"]["all"] + now - self.mark
                wishes = [stop.requested, now - self.saved_at > SAVE_EVERY, spent >= limit]
                if processes.world() > 1:
                    asking = state["step"] % AGREE_EVERY == 0 or state["step"] == steps
                    wishes = processes.greatest(wishes) if asking else [False] * 3
                if wishes[0] or wishes[2]:
                    break
                if wishes[1] and state["step"] < steps:
                    self._tick(training=True)
                    self._save()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self._tick(training=True)
        return wishes[0]

    def _step(self, batch: Any) -> Tensor:
        """One step down the gradient of the whole batch's mean loss, of which each process computes a part."""
        task = self.task
        weight, factor = task.weight(batch), 1.0
        if processes.world() > 1:
            whole, weight = weight, 0
            part = task.share(batch, processes.rank(), processes.world())
            if part is not None:
                batch, weight = part, task.weight(part)
            else:  # fewer examples than processes: this one computes something too, and it counts for nothing
                batch = task.share(batch, 0, processes.world())
            factor = weight * processes.world() / whole  # DistributedDataParallel takes the mean over processes
        loss = self.learner.step(self.module, batch, self.state["lr"], factor)
        self.loss_sum += loss * weight
        return loss

    def _end_epoch(self) -> None:
        """Validate, note the epoch in the history, keep the parameters if they are the best, and print a line."""
        task, state, number = self.task, self.state, self.state["epoch"] + 1
        mean = processes.total(self.loss_sum.item()) / max(1, state["terms"])
        if not math.isfinite(mean):
            raise UserError(f"{task.name}: the loss of epoch {number} is {mean}: try a lower --lr")
        task.model.eval()
        carried = task.carried
        scores = processes.broadcast(task.validate() if processes.main() else {})
        task.carried = carried
        if not math.isfinite(scores[task.best_by]):
            raise UserError(
                f"{task.name}: after epoch {number} the {task.best_by} is {scores[task.best_by]}: try a lower --lr"
            )
        history, key, sign = state["history"], f"valid_{task.best_by}", 1 if task.maximise else -1
        entry = {f"valid_{score}": value for score, value in scores.items()}
        history.append({"epoch": number, "lr": state["lr"], "loss": mean, **entry})
        state["all_units"] += state["units"]
        if state["best"] is None or sign * history[-1][key] > sign * history[state["best_epoch"] - 1][key]:
            state["best_epoch"] = number
            state["best"] = {name: value.detach().clone() for name, value in task.model.state_dict().items()}
        else:
            state["stalls"] += 1
        self._tick(training=False)
        clock = state["clock"]
        clock["epochs"].append(clock["all"])
        shown = "  ".join(f"{name} {value:.4f}" for name, value in history[-1].items() if name not in ("epoch", "lr"))
        speed = f"{state['all_units'] / clock['steps'] / 1000:.1f}k {task.unit}/s"
        print(f"{task.name} {number:3d}  {shown}  lr {state['lr']:.3g}  {speed}  {clock['all']:.0f} s", flush=True)


def _to_cpu(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return type(value)(map(_to_cpu, value))
    return value.cpu() if isinstance(value, Tensor) else value

"""What every run reports: `metrics.json`, made of what all tasks have in common and what a fit came to."""

from __future__ import annotations

import platform
from typing import Any

import torch

from fastrnn.info import version
from fastrnn.tasks import processes
from fastrnn.tasks.recipes import Recipe
from fastrnn.tasks.run import Run
from fastrnn.tasks.training import Fit, Trainable

__all__ = ["common", "fitted"]


def common(run: Run, unit: str) -> dict[str, Any]:
    """The entries that stand in the metrics of every task, `quality` on the test part still empty."""
    config, options = run.config, run.config["options"]
    return {
        "task": config["task"], "backend": options["backend"], "cell": options["cell"], "quality": {}, "unit": unit,
        "seed": options["seed"], "device": options["device"], "threads": options["threads"],
        "processes": processes.world(), "options": options,
        "versions": {"fastrnn": version(), "torch": torch.__version__, "python": platform.python_version()},
    }  # fmt: skip


def fitted(task: Trainable, recipe: Recipe, done: Fit, quality: dict[str, float], share: float) -> dict[str, Any]:
    """What training one model came to: `quality` on the test part, `share` as `speed.recurrent_share` gives it.

    `seconds` are those of training steps, `seconds_in_all` have validation and checkpoints too, and
    `epoch_ends` says when each epoch was done by that clock.
    """
    return {
        "test": quality,
        "optimizer": recipe.stated(),
        "best_epoch": done.best_epoch,
        f"{task.unit}_per_second": done.units / done.seconds,
        "seconds": done.seconds,
        "seconds_in_all": done.seconds_in_all,
        "recurrent_share": share,
        "parameters": sum(parameter.numel() for parameter in task.model.parameters()),
        "epochs": done.history,
        "epoch_ends": done.epoch_ends,
    }

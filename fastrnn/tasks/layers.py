"""The recurrent layer of a backend: one class a cell, with torch.nn's constructor, in three implementations.

All three draw the same initial parameters for a seed and share their state_dict, so a model trained with one
can be continued or used with another, and their loss curves agree to rounding.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import nn

from fastrnn.tasks.errors import UserError

__all__ = ["BACKENDS", "CELLS", "is_recurrent", "probe", "recurrent"]

BACKENDS = {"fastrnn": "fastrnn", "torch": "torch.nn", "reference": "fastrnn.reference"}
"""Backend to the module that holds its classes: our kernels, torch's, and the plain loop to be read."""

CELLS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}
"""Cell to class name: Hochreiter & Schmidhuber 1997, Cho et al. 2014, Elman 1990."""


def recurrent(backend: str, cell: str, input_size: int, hidden_size: int, **options: Any) -> nn.RNNBase:
    """A recurrent layer, `options` being the other arguments of `torch.nn.LSTM`, `GRU` or `RNN`.

    Takes (T, B, input_size) or a PackedSequence and an optional state; returns what torch.nn's layer returns.
    Raises `UserError` where the backend cannot be imported, with the import's own explanation.
    """
    try:
        layer = getattr(import_module(BACKENDS[backend]), CELLS[cell])
    except ImportError as error:
        raise UserError(f"backend {backend} cannot be loaded: {error}") from error
    made = layer(input_size, hidden_size, **options)
    made.made_by_recurrent = True
    return made


def is_recurrent(module: nn.Module) -> bool:
    """Whether `module` was made by `recurrent`: what the recurrent share of a step is measured on."""
    return getattr(module, "made_by_recurrent", False)


def probe(backend: str, cell: str, device: str) -> None:
    """Raise `UserError` unless `backend` can be loaded and runs `cell` on `device`."""
    try:
        recurrent(backend, cell, 1, 1).to(device)(torch.zeros(1, 1, 1, device=device))
    except RuntimeError as error:
        raise UserError(f"backend {backend} does not run on {device}: {error}") from error

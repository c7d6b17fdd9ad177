"""A recurrent layer walked step by step with `fastrnn.reference`'s equations, nothing of a step thrown away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fastrnn import reference

__all__ = ["Step", "contributions", "open_gate", "walk"]


@dataclass(frozen=True)
class Step:
    """One step of a layer; every tensor is (B, H).

    What a cell carries on is `state`: c of an LSTM, h of the others. In all three

        state_t = keep_t * state_{t-1} + add_t

    with keep = f and add = i * g (LSTM), keep = z and add = (1 - z) * n (GRU), and keep = 0 and add = h
    (Elman, which writes its whole state anew at every step).
    """

    h: Tensor
    state: Tensor
    keep: Tensor
    add: Tensor
    gates: dict[str, Tensor]


def walk(layer: nn.RNNBase, x: Tensor, number: int = 0) -> list[Step]:
    """The steps of layer `number` (from 0; its forward direction) over x (T, B, I), from a state of zeros.

    `layer` is an RNN, GRU or LSTM of torch.nn, fastrnn or fastrnn.reference, without projection. Gradients
    flow as in the layer itself.
    """
    for below in range(number):  # what the layers below give, both directions beside each other
        outputs = [torch.stack([step.h for step in _direction(layer, x, f"_l{below}")])]
        if layer.bidirectional:
            back = _direction(layer, x.flip(0), f"_l{below}_reverse")
            outputs.append(torch.stack([step.h for step in back]).flip(0))
        x = torch.cat(outputs, -1)
    return _direction(layer, x, f"_l{number}")


def _direction(layer: nn.RNNBase, x: Tensor, suffix: str) -> list[Step]:
    weights: list[Any] = [getattr(layer, f"{name}{suffix}") for name in ("weight_ih", "weight_hh")]
    if layer.bias:
        weights += [getattr(layer, f"{name}{suffix}") for name in ("bias_ih", "bias_hh")]
    h = state = x.new_zeros(x.shape[1], layer.hidden_size)
    steps = []
    for x_t in x:
        if layer.mode == "LSTM":
            i, f, g, o = reference.lstm_gates(x_t, h, *weights)
            keep, add, gates = f, i * g, {"i": i, "f": f, "g": g, "o": o}
        elif layer.mode == "GRU":
            r, z, n = reference.gru_gates(x_t, h, *weights)
            keep, add, gates = z, (1 - z) * n, {"r": r, "z": z, "n": n}
        else:
            act: dict[str, Any] = {"nonlinearity": layer.mode.removeprefix("RNN_").lower()}
            add = reference.elman_step(x_t, h, *weights, **act)
            keep, gates = torch.zeros_like(add), {}
        state = keep * state + add
        h = o * torch.tanh(state) if layer.mode == "LSTM" else state
        steps.append(Step(h, state, keep, add, gates))
    return steps


def contributions(steps: Sequence[Step]) -> Tensor:
    """What step k added and is still there at t, (k, t, B, H): add_k times keep of the steps after it up to t.

    The sum over k is the state at t; zero where k > t.
    """
    left = torch.zeros(len(steps), *steps[0].state.shape, dtype=steps[0].state.dtype)  # (k, B, H)
    columns = []
    for t, step in enumerate(steps):
        left = left * step.keep
        left[t] = step.add
        columns.append(left.clone())
    return torch.stack(columns, 1)


def open_gate(layer: nn.RNNBase, bias: float) -> None:
    """Set the bias of the gate that keeps the state, z of a GRU or f of an LSTM: sigmoid(3) keeps .95 of it."""
    hidden = layer.hidden_size
    with torch.no_grad():
        layer.get_parameter("bias_hh_l0")[hidden : 2 * hidden] = 0.0  # z of r, z, n, and f of i, f, g, o
        layer.get_parameter("bias_ih_l0")[hidden : 2 * hidden] = bias

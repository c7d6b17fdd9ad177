"""JAX: lax.scan over the steps with the input projection before it, compiled once, gradients by vjp."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.grid import Case
from benchmarks.peers.common import Prepared, Weights, plain, random_gradient, random_input

# XLA sizes its thread pool when it starts, by these variables.
ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "PJRT_NPROC": "{threads}", "NPROC": "{threads}"}


def runs(case: Case, mode: str) -> bool:
    return mode in ("forward", "train") and plain(case)


def _step(cell: str) -> Callable[..., Any]:
    """(carry, gx, w_hh_t, b_hh) -> (carry, h): one step on projected input gx (B, G*H)."""
    import jax.numpy as jnp
    from jax.nn import sigmoid

    def lstm(carry, gx, w, b):
        h, c = carry
        i, f, g, o = jnp.split(gx + h @ w + b, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * jnp.tanh(g)
        h = sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    def gru(carry, gx, w, b):
        (h,) = carry
        (xr, xz, xn), (hr, hz, hn) = jnp.split(gx, 3, axis=1), jnp.split(h @ w + b, 3, axis=1)
        z = sigmoid(xz + hz)
        h = (1 - z) * jnp.tanh(xn + sigmoid(xr + hr) * hn) + z * h
        return (h,), h

    def rnn(carry, gx, w, b):
        h = jnp.tanh(gx + carry[0] @ w + b)
        return (h,), h

    return {"lstm": lstm, "gru": gru, "rnn": rnn}[cell]


def prepare(case: Case, mode: str, weights: Weights) -> Prepared:
    import jax
    import jax.numpy as jnp

    step = _step(case.cell)

    def layer(params, x):
        w_ih_t, w_hh_t, b_ih, b_hh = params
        carry = (jnp.zeros((case.B, case.H)),) * (2 if case.cell == "lstm" else 1)
        return jax.lax.scan(lambda carry, gx: step(carry, gx, w_hh_t, b_hh), carry, x @ w_ih_t + b_ih)[1]

    @jax.jit
    def train(params, x, dy):
        _, pull = jax.vjp(layer, params, x)
        return pull(dy)

    put = lambda t: jax.device_put(np.ascontiguousarray(t.numpy()))  # noqa: E731
    params = tuple(put(w.T if w.dim() == 2 else w) for w in weights.values())
    x, forward = put(random_input(case)), jax.jit(layer)
    output = torch.from_numpy(np.array(forward(params, x))).reshape(-1, case.H)
    if mode == "forward":
        return Prepared(lambda: jax.block_until_ready(forward(params, x)), output)
    dy = put(random_gradient(tuple(output.shape)).reshape(case.T, case.B, case.H))
    dx = torch.from_numpy(np.array(train(params, x, dy)[1])).reshape(-1, case.I)
    return Prepared(lambda: jax.block_until_ready(train(params, x, dy)), output, dx)

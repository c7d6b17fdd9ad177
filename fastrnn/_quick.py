"""The short way to the kernels: one layer in one direction without gradients, in the ordinary case.

A step of decoding or control lasts as long in the kernel as a few dozen operations in Python. So everything that
the long way (`fastrnn._run`, `autograd`, `ops`) checks one after the other is asked here in one loop. Whatever is out
of the ordinary, also every error, is declined, and the long way deals with it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad

from fastrnn import _native, ops
from fastrnn._checks import GATES


def quick(
    cell: str,
    x: Tensor,
    states: Sequence[Tensor],
    weights: Sequence[Tensor],
    batch: int,
    units: int,
    step: bool = False,
) -> list[Tensor] | None:
    """One layer, checked and run; None where anything is out of the ordinary.

    Args:
        x: (T, B, I) with batch = B, or one step (B, I) with step=True.
        states: () or h_0, or h_0 and c_0, of (1, B, H), or (B, H) for a step.
        weights: weight_ih, weight_hh, bias_ih, bias_hh.

    Returns: [y, h_n] or [y, h_n, c_n], y (T, B, H) and states as above; for a step without y.
    """
    if (
        torch.is_grad_enabled()
        or forward_ad._current_level >= 0
        or len(weights) != 4
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._get_tracing_state() is not None
        or torch.compiler.is_compiling()
    ):
        return None
    dtype, lstm, rows, inputs = x.dtype, cell == "lstm", GATES[cell] * units, x.shape[-1]
    number = _native.DTYPES.get(dtype)
    state = (batch, units) if step else (1, batch, units)
    shapes = (x.shape, (rows, inputs), (rows, units), (rows,), (rows,), state, state)
    addresses = []
    for t, shape in zip((x, *weights, *states), shapes, strict=False):
        if (
            type(t) not in ops._PLAIN
            or t.dtype is not dtype
            or t.shape != shape
            or t.layout is not torch.strided
            or not t.is_cpu
            or not t.is_contiguous()
            or t.is_neg()
            or t._is_zerotensor()
        ):
            return None
        addresses.append(t.data_ptr())
    if number is None or not all(addresses):
        return None
    h_n = ops._empty(state, x)
    y = h_n if step else ops._empty((*x.shape[:2], units), x)
    results = [y, h_n, ops._empty(state, x)] if lstm else [y, h_n]
    x_at, w_ih, w_hh, b_ih, b_hh, *initial = addresses
    hx, cx = (*initial, 0, 0)[:2]
    _native.kernels.forward(
        _native.CELLS[cell],
        *(1 if step else x.shape[0], batch, inputs, units, 0, 0, False, number, torch.get_num_threads()),
        *(w_ih, w_hh, b_ih, b_hh, 0, x_at, batch * inputs, inputs, hx, cx, y.data_ptr(), batch * units, units),
        *(h_n.data_ptr(), results[2].data_ptr() if lstm else 0, 0),
    )
    return results[1:] if step else results

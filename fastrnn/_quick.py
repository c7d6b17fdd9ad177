"""The short way to the kernels: one dense layer in one direction, in the ordinary case.

A step of decoding or control lasts as long in the kernel as a few dozen operations in Python. So the tensors of a call
are looked through once, and what was found is kept for calls with tensors alike: the same shapes, strides, dtype and
device. Whatever is out of the ordinary, also every error, is declined, and the long way (`fastrnn._run`, `autograd`,
`ops`) deals with it.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad

from fastrnn import _native, autograd, ops
from fastrnn._checks import GATES
from fastrnn._half import Halves

Check = Callable[..., bool]

# A private call in place of two public ones, because every step passes here. torch.nn.RNNBase asks it too.
_any_autocast: Callable[[], bool] = getattr(torch._C, "_is_any_autocast_enabled", lambda: True)

_KEPT = 256  # calls: who has more shapes than that does not run a loop of steps

_ZEROS = ((0, 0), (0,), ())  # addresses of the states that are not given

_calls: dict[tuple[Any, ...], "_Call"] = {}


def quick(
    cell: str, x: Any, hx: Any, weights: Sequence[Any], units: int, step: bool = False, halves: Halves | None = None
) -> list[Tensor] | None:
    """One layer, checked and run; None where anything is out of the ordinary.

    Args:
        x: (T, B, I), or one step (B, I) with step=True.
        hx: None, h_0, or for an LSTM the pair h_0, c_0; states of (1, B, H), or (B, H) for a step.
        weights: weight_ih, weight_hh, bias_ih, bias_hh.
        units: H.
        halves: where a layer without gradients finds its weights rounded to bf16; None: they are used as they are.

    Returns: y (T, B, H), h_n and, for an LSTM, c_n, like the states; for a step without y.
    """
    if (
        not isinstance(x, Tensor)
        or len(weights) != 4
        or forward_ad._current_level >= 0
        or _any_autocast()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack()
        or torch._C._get_tracing_state() is not None
        or torch.compiler.is_compiling()
    ):
        return None
    states: Sequence[Any] = () if hx is None else (hx,)
    if states and cell == "lstm":
        if type(hx) not in (tuple, list) or len(hx) != 2:
            return None
        states = hx if hx[0] is not hx[1] else hx[:1]  # the guard wants each tensor once
    key = cell, units, x.shape, step, len(states), x.requires_grad, torch.is_grad_enabled()
    call = _calls.get(key)
    if call is None or call.kernels is not _native.kernels or not call.guard(x, *weights, *states):
        if not _ordinary(cell, x, states, weights, units, step):
            return None
        if len(_calls) >= _KEPT:
            _calls.clear()
        call = _calls[key] = _Call(cell, x, states, weights, units, step)
    if call.recording:
        results: list[Tensor] = autograd._apply(_OneLayer, call, x, *weights, *(hx if call.lstm and hx else states))
        return results
    half = halves.packed(cell, weights[0], weights[1]) if halves else None
    return call.run(half, False, x, *weights, *(hx if call.lstm and hx else states))


def _ordinary(cell: str, x: Tensor, states: Sequence[Any], weights: Sequence[Any], units: int, step: bool) -> bool:
    """Whether all these are tensors that fit one another, and memory holds their values."""
    if x.dim() != (2 if step else 3) or not x.numel():
        return False
    rows, inputs = GATES[cell] * units, x.shape[-1]
    state = (x.shape[0], units) if step else (1, x.shape[1], units)
    shapes = (x.shape, (rows, inputs), (rows, units), (rows,), (rows,), state, state)
    return (
        units > 0
        and x.dtype in _native.DTYPES
        and all(
            type(t) in ops._PLAIN
            and t.dtype is x.dtype
            and t.shape == shape
            and t.layout is torch.strided
            and t.is_cpu
            and t.is_contiguous()
            and not t.is_neg()
            and not t._is_zerotensor()
            for t, shape in zip((x, *weights, *states), shapes, strict=False)
        )
    )


class _Call:
    """One layer on tensors of settled shapes, as `quick` describes them."""

    def __init__(
        self, cell: str, x: Tensor, states: Sequence[Tensor], weights: Sequence[Tensor], units: int, step: bool
    ) -> None:
        tensors = (x, *weights, *states)
        steps, batch, inputs = (1, *x.shape) if step else x.shape
        self.guard = _guard(tensors) if _guards_are_whole() else _never
        self.recording = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
        self.kernels = _native.kernels  # another ISA has another layout of the reserve
        fixed = self.kernels.fixed(_native.CELLS[cell], steps, batch, inputs, units, _native.DTYPES[x.dtype])
        self.kernel = functools.partial(self.kernels.forward_fixed, fixed)
        self.cell, self.lstm, self.step, self.batch = cell, cell == "lstm", step, batch
        self.sequence, self.state = (steps, batch, units), (batch, units) if step else (1, batch, units)
        self.reserve = ops._reserve_spec(cell, x, units)

    def run(
        self,
        half: Tensor | None,
        training: bool,
        x: Tensor,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor,
        b_hh: Tensor,
        *states: Tensor,
    ) -> list[Tensor]:
        """y (not of a step), h_n, c_n (of an LSTM) and the reserve (when training)."""
        given = [x.data_ptr(), w_ih.data_ptr(), w_hh.data_ptr(), b_ih.data_ptr(), b_hh.data_ptr()]
        given += [state.data_ptr() for state in states]
        if 0 in given:
            for t in (x, w_ih, w_hh, b_ih, b_hh, *states):
                ops._address(t)  # says which
        new = ops._new
        h_n = new(x, *self.state)
        results = [h_n] if self.step else [new(x, *self.sequence), h_n]
        if self.lstm:
            results.append(new(x, *self.state))
        if training:
            results.append(ops._empty((self.reserve[0],), x, self.reserve[1]))
        self.kernel(
            torch.get_num_threads(),
            *given,
            *_ZEROS[len(states)],
            results[0].data_ptr(),
            h_n.data_ptr(),
            results[-2 if training else -1].data_ptr() if self.lstm else 0,
            results[-1].data_ptr() if training else 0,
            0 if half is None else half.data_ptr(),
        )
        return results


class _OneLayer(Function):
    """forward: (call, x, w_ih, w_hh, b_ih, b_hh, states...) -> what `quick` returns."""

    @staticmethod
    def forward(ctx, call, *tensors):
        *results, reserve = call.run(None, True, *tensors)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, results[0], reserve)
        ctx.call = call
        return tuple(results)

    @staticmethod
    def backward(ctx, *grads):
        x, w_ih, w_hh, b_ih, b_hh, *states, y, reserve = ctx.saved_tensors
        call, given = ctx.call, len(states)
        dy, dh_n, dc_n = (*((None, *grads) if call.step else grads), None)[:3]
        _, n_x, n_w_ih, n_w_hh, n_b_ih, n_b_hh, n_hx, n_cx = (*ctx.needs_input_grad, False, False)[:8]
        hx, cx = (*states, None, None)[:2]
        like = (x, hx, cx, w_ih, w_hh, b_ih, b_hh, None)
        gradients = autograd.layer_gradients(
            call.cell, dy, dh_n, dc_n, *like, y, reserve, None, call.batch, False,
            [n_x, n_hx, n_cx, n_w_ih, n_w_hh, n_b_ih, n_b_hh, False],
        )  # fmt: skip
        dx, dhx, dcx, dw_ih, dw_hh, db_ih, db_hh, _ = gradients
        return (None, dx, dw_ih, dw_hh, db_ih, db_hh, *(dhx, dcx)[:given])


def _never(*_: Tensor) -> bool:
    return False


def _guard(tensors: Sequence[Tensor]) -> Check:
    """A function that tells in half a microsecond whether other tensors are like these in type, dtype, device, shape,
    strides, requires_grad and all that torch dispatches on. It is a private one of torch.compile's: where this torch
    has none, or another than is known, each call is looked through anew."""
    sizes: dict[str, Any] = {
        "dynamic_dims_sizes": [list(t.shape) for t in tensors],
        "dynamic_dims_strides": [list(t.stride()) for t in tensors],
    }
    try:
        check: Check = torch._C._dynamo.guards.TensorGuards(*tensors, **sizes).check
    except (AttributeError, TypeError, SystemError):
        return _never
    return check


@functools.cache
def _guards_are_whole() -> bool:
    """Whether this torch's guards see all that they are trusted with."""
    a, b = torch.zeros(2, 3), torch.zeros(3)
    others = (
        torch.zeros(2, 4),
        torch.zeros(3, 2).t(),
        torch.zeros(2, 3, 1),
        torch.zeros(2, 3, dtype=torch.float64),
        torch.zeros(2, 3, requires_grad=True),
        torch.zeros(2, 3, device="meta"),
        torch.nn.Parameter(torch.zeros(2, 3), requires_grad=False),
        torch._neg_view(torch.zeros(2, 3)),
        torch._efficientzerotensor((2, 3)),
        torch.zeros(2, 3).to_sparse(),
    )
    alike = _guard((a, b))
    return alike(torch.ones(2, 3), b) and not any(alike(other, b) for other in others)

"""The short way to the kernels: one layer in one direction, in the ordinary case.

A step of decoding or control lasts as long in the kernel as a few dozen operations in Python. So the tensors of a call
are looked through once, and what was found is kept for calls with tensors alike: the same shapes, strides, dtype and
device (`fastrnn._guards`). A module first asks the call that it made last, in C (`fastrnn._again`); others are found by
their shapes. Of ragged batches hardly two have as many rows, so for them the number of rows is free, and a call for the
batch sizes at hand is made from what was kept. What is out of the ordinary, also every error, is declined, and the long
way (`fastrnn._run`, `autograd`, `ops`) deals with it.
"""

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.autograd import forward_ad

from fastrnn import _cuda, _cuda_layer, _guards, _memory, _native, autograd, ops
from fastrnn._again import Again, Forgotten
from fastrnn._checks import GATES
from fastrnn._packed import PackedOnce

# Every step passes here, where to find a function in its module takes half as long as to call it.
_compiling, _tracing = torch.compiler.is_dynamo_compiling, torch._C._get_tracing_state
_dispatch_modes = torch._C._len_torch_dispatch_stack
_grad_enabled, _threads = torch.is_grad_enabled, torch.get_num_threads

_cpu = _native.load("_cpu")

_LAYER_WEIGHTS = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
CELL_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")

_KEPT = 256  # calls: who has more shapes than that does not run a loop of steps

_calls: dict[tuple[Any, ...], "_Call"] = {}


def quick(
    cell: str,
    x: Any,
    hx: Any,
    weights: Sequence[Any],
    units: int,
    step: bool = False,
    packed: PackedOnce | None = None,
    reverse: bool = False,
    batch_sizes: list[int] | None = None,
    owner: tuple[Again, Any] | None = None,
) -> Any:
    """One layer, checked and run; None where anything is out of the ordinary.

    Args:
        x: (T, B, I), or one step (B, I) with step=True, or rows (N, I) with batch_sizes.
        hx: None, h_0, or for an LSTM the pair h_0, c_0; states of (1, B, H), or (B, H) for a step.
        weights: weight_ih, weight_hh, bias_ih, bias_hh.
        units: H.
        packed: where a layer without gradients finds its weights packed once; None: they are used as they are.
        reverse: from the last step to the first.
        batch_sizes: rows of each step, N in all, as `_checks.check_packed` wants them.
        owner: an `Again` that always gives the same step and reverse, and no batch_sizes, with its `_settings()`
            from before any was looked at, since another thread may change them: it keeps this call.

    Returns: y (T, B, H), or (N, H), and h_n, or y and (h_n, c_n) for an LSTM, like the states; of a step the tuple
    of h_n, or of h_n and c_n.
    """
    if _compiling() or type(x) not in ops._PLAIN or len(weights) != 4 or forward_ad._current_level >= 0:
        return None
    states: Sequence[Any] = () if hx is None else (hx,)
    if states and cell == "lstm":
        if type(hx) not in (tuple, list) or len(hx) != 2:
            return None
        states = hx if hx[0] is not hx[1] else hx[:1]  # the guard wants each tensor once
    kind = cell, units, len(states), _grad_enabled()
    call = _find(kind, x, states, weights, step, reverse, batch_sizes)
    if call is None:
        return None
    if owner is not None:
        owner[0]._keep(call, owner[1])
    if hx is not None and call.lstm:
        states = hx
    results: tuple[Tensor, ...]
    if call.recording:
        results = autograd.apply(_OneLayer, call, x, *weights, *states)
    else:
        ready = packed.packed(cell, weights[0], weights[1]) if packed and not call.on_gpu else None
        results = call.run(ready, None, x, *weights, *states)
    if step:
        return results
    return results[0], results[1:] if call.lstm else results[1]


def _find(
    kind: tuple[str, int, int, bool],
    x: Tensor,
    states: Sequence[Any],
    weights: Sequence[Any],
    step: bool,
    reverse: bool,
    batch_sizes: list[int] | None,
) -> "_Call | None":
    """The call for these tensors, one that was kept or a new one; None where they are out of the ordinary.

    kind: cell, H, number of states, and whether gradients are recorded.
    """
    # with what else differs between layers of one shape, which would push each other out
    alike = x.shape if batch_sizes is None else (batch_sizes[0], *x.shape[1:])
    key = kind, alike, x.dtype, x.device, x.requires_grad, step, reverse, batch_sizes is None
    call = _calls.get(key)
    if call is None or not call.fits(x, *weights, *states):
        if _guards.any_autocast() or not ops._nothing_between():
            return None
        if not _ordinary(kind[0], x, states, weights, kind[1], step, batch_sizes):
            return None
        call = _Call(kind, x, states, weights, step, reverse, batch_sizes)
        if len(_calls) >= _KEPT:
            _calls.clear()
        _calls[key] = call
    return call if batch_sizes is None else call.for_sizes(x, batch_sizes)


def _ordinary(
    cell: str,
    x: Tensor,
    states: Sequence[Any],
    weights: Sequence[Any],
    units: int,
    step: bool,
    batch_sizes: list[int] | None,
) -> bool:
    """Whether all these are tensors that fit one another, and memory holds their values."""
    flat = step or batch_sizes is not None
    if x.dim() != (2 if flat else 3) or not x.numel() or torch._C._are_functorch_transforms_active():
        return False
    if _on_gpu(x) and _cuda.kernels is None:
        return False
    rows, inputs, device = GATES[cell] * units, x.shape[-1], x.device
    state = (x.shape[0], units) if step else (1, batch_sizes[0] if batch_sizes else x.shape[1], units)
    shapes = (x.shape, (rows, inputs), (rows, units), (rows,), (rows,), state, state)
    return (
        units > 0
        and x.dtype in _native.DTYPES
        and all(
            type(t) in ops._PLAIN
            and ops._plain(t, x.is_cuda)
            and t.dtype is x.dtype
            and t.device == device
            and t.shape == shape
            and t.is_contiguous()
            for t, shape in zip((x, *weights, *states), shapes, strict=False)
        )
    )


def _on_gpu(x: Tensor) -> bool:
    return not x.is_cpu


class _Call(Forgotten):
    """One layer on tensors of settled shapes, as `quick` describes them. That of a ragged batch is for any number of
    rows: `for_sizes` gives the one that runs."""

    def __init__(
        self,
        kind: tuple[str, int, int, bool],
        x: Tensor,
        states: Sequence[Tensor],
        weights: Sequence[Tensor],
        step: bool,
        reverse: bool,
        batch_sizes: list[int] | None,
    ) -> None:
        tensors, (cell, units, *_) = (x, *weights, *states), kind
        self.kind = kind
        if batch_sizes is not None:
            steps, batch, inputs = len(batch_sizes), batch_sizes[0], x.shape[1]
        else:
            steps, batch, inputs = (1, *x.shape) if step else x.shape
        self.ragged = batch_sizes is not None
        self.guard = _guards.guard(tensors, (self.ragged,))
        self.reverse, self.batch_sizes = reverse, batch_sizes
        self.recording = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
        self.on_gpu = _on_gpu(x)
        self.holder = _cuda if self.on_gpu else _native
        self.kernels = self.holder.kernels  # another ISA has another layout of the reserve
        self.cell, self.lstm, self.step, self.batch = cell, cell == "lstm", step, batch
        self.sizes = inputs, units, GATES[cell] * units, _native.DTYPES[x.dtype]
        self.forward, self.backward = self._fixed(x, steps, batch_sizes)
        self.reserve = ops._reserve_spec(cell, x, units, self.on_gpu)
        self.saved: list[Any] = []  # kinds of the tensors that forward saves
        # (which of dy, dh_n, dc_n are there) -> a guard
        self.ways_back: dict[tuple[bool, ...], _guards.Check] = {}
        self.again = _cpu.again(
            *(_ASKED, CELL_WEIGHTS if step else _LAYER_WEIGHTS, cell, kind[3], self.recording, step, self.lstm),
            *(not self.on_gpu, len(states), self.guard, self.holder, self.kernels, self.forward),
        )

    def _fixed(self, x: Tensor, steps: int, batch_sizes: list[int] | None) -> Any:
        """The kernels' forward and backward for these sizes."""
        if self.on_gpu:
            return _cuda_layer.fixed(self.cell, x, self.kind[1], self.step, batch_sizes, self.reverse)
        return self.kernels.fixed(
            *(_native.CELLS[self.cell], self.lstm, self.step, batch_sizes or [], self.reverse, steps, self.batch),
            *(*self.sizes, _memory.LEAST_GRADIENT),
        )

    def for_sizes(self, x: Tensor, batch_sizes: list[int]) -> "_Call":
        """The same layer on another ragged batch of as many sequences; the guards are shared."""
        call = object.__new__(_Call)
        call.__dict__.update(self.__dict__)
        call.batch_sizes, call.saved = batch_sizes, []
        call.forward, call.backward = call._fixed(x, len(batch_sizes), batch_sizes)
        call.reserve = ops._reserve_spec(self.cell, x, self.kind[1], self.on_gpu)
        return call

    def fits(self, *tensors: Tensor) -> bool:
        """Whether it is for these tensors, now: x, weights (4), and as many states as it was made for."""
        return (
            self.kernels is self.holder.kernels
            and not _dispatch_modes()
            and _tracing() is None
            and self.guard(*tensors)
        )

    def run(self, packed: Tensor | None, reserve: Tensor | None, *tensors: Tensor) -> tuple[Tensor, ...]:
        """y (not of a step), h_n and c_n (of an LSTM). tensors: x, weights (4), states."""
        results: tuple[Tensor, ...] = self.forward(ops._new, _threads(), packed, reserve, *tensors)
        return results if results is not None else _report_freed(tensors)

    def gradients(self, needed: tuple[bool, ...], above: Sequence[Any], saved: Sequence[Any]) -> Sequence[Any] | None:
        """The gradients of x, hx, cx, w_ih, w_hh, b_ih and b_hh, None for those not needed; None for all where anything
        is out of the ordinary.

        above: dy, dh_n, dc_n, None for zeros. saved: x, weights (4), states, y, reserve.
        """
        if _grad_enabled() or _dispatch_modes():
            return None
        x, *weights, y, reserve = saved
        hx, cx = (*weights[4:], None, None)[:2]
        if hx is cx and hx is not None:
            return None  # the guard wants each tensor once
        tensors = [t for t in (*above, *saved) if t is not None]
        there = tuple(g is not None for g in above)
        guard = self.ways_back.get(there)
        if guard is None or not guard(*tensors) or (self.ragged and not self._of_rows(x, y, above[0], reserve)):
            fit = [t.is_contiguous() and t.device == x.device for t in tensors]
            if ops.batched(*above) or not all(fit) or not ops._direct(*tensors, on_gpu=x.is_cuda):
                return None
            _guards.check_saved(self.saved, saved)
            by_row = (x, y, reserve, above[0]) if self.ragged else ()
            self.ways_back[there] = _guards.guard(tensors, [any(t is r for r in by_row) for t in tensors])
        results: Sequence[Any] = self.backward(
            *(ops._new, ops._new_gradient, _threads(), needed, *above, x, hx, cx, *weights[:4], y),
            reserve if self.reserve[0] else None,
        )
        return results if results is not None else _report_freed(tensors)

    def _of_rows(self, x: Tensor, y: Tensor, dy: Tensor | None, reserve: Tensor) -> bool:
        """Whether these have the rows that forward had; the guard leaves that open for ragged batches."""
        rows = self.saved[0][0][0]
        by_row = x.shape[0] == rows == y.shape[0] and (dy is None or dy.shape[0] == rows)
        return by_row and reserve.shape[0] == self.reserve[0]


def _report_freed(tensors: Sequence[Tensor]) -> NoReturn:
    for t in tensors:
        ops._address(t)
    raise RuntimeError("fastrnn: the packed weights or a result of this call have no memory: their storage was freed")


class _OneLayer(autograd.Direct):
    """forward: (call, x, w_ih, w_hh, b_ih, b_hh, states...) -> what `quick` returns."""

    @staticmethod
    def forward(ctx, call, *tensors):
        size, dtype = call.reserve
        if call.on_gpu:
            reserve = ops._empty((size,), tensors[0], dtype)
        else:
            reserve = ops._reserve(size, tensors[0], dtype) if size else ops._NOTHING
        results = call.run(None, reserve if size else None, *tensors)
        ctx.set_materialize_grads(False)
        saved = (*tensors, results[0], reserve)
        ctx.save_for_backward(*saved)
        call.saved = call.saved or _guards.kinds(saved)
        ctx.call = call
        return results

    @staticmethod
    def backward(ctx, *grads):
        call, saved = ctx.call, ctx.saved_tensors
        above = (*((None, *grads) if call.step else grads), None)[:3]
        _, n_x, n_w_ih, n_w_hh, n_b_ih, n_b_hh, n_hx, n_cx = (*ctx.needs_input_grad, False, False)[:8]
        needed = (n_x, n_hx, n_cx, n_w_ih, n_w_hh, n_b_ih, n_b_hh)
        gradients = call.gradients(needed, above, saved)
        if gradients is None:
            autograd.check_saved(call.saved, saved)
            x, *weights, y, reserve = saved
            like = (x, *(*weights[4:], None, None)[:2], *weights[:4], None)
            sizes = (
                None if call.batch_sizes is None else torch.tensor(call.batch_sizes, dtype=torch.int64, device="cpu")
            )
            gradients = autograd.layer_gradients(
                call.cell, *above, *like, y, reserve, sizes, call.batch, call.reverse, [*needed, False]
            )
        dx, dhx, dcx, dw_ih, dw_hh, db_ih, db_hh = gradients[:7]
        return (None, dx, dw_ih, dw_hh, db_ih, db_hh, *(dhx, dcx)[: len(saved) - 7])


_ASKED = _grad_enabled, _dispatch_modes, _tracing, _threads, forward_ad, ops._new, _OneLayer.recorded

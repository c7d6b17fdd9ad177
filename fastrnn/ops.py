"""One layer in one direction as two operations, `fastrnn::layer_forward` and `fastrnn::layer_backward`.

Eager calls on plain CPU or CUDA tensors go straight to the compiled kernels. Everything else (meta tensors,
FakeTensorMode, tensor subclasses, lazy negation, tracing) goes through the operations registered with torch.library,
which have fake implementations beside the real ones. `fastrnn._checks` has seen every shape, dtype and device, and
looks at them again here (`check_fit`), because a traced graph may be run on others.

Shapes: T steps, B rows of the first step, I inputs, H units, P projected units, R = P or H, G gates.
x is (T, B, I), or packed rows (N, I) with batch_sizes, a CPU int64 tensor (T,) that never grows; the backward also
takes one step (B, I), and states of (1, B, H).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastrnn import _cuda, _cuda_layer, _memory, _native
from fastrnn._checks import GATES, check_fit, check_reserve

GRADIENTS = _cuda_layer.GRADIENTS

_library = torch.library.Library("fastrnn", "DEF")
_library.define(
    "layer_forward(str cell, Tensor x, Tensor? hx, Tensor? cx, Tensor w_ih, Tensor w_hh, Tensor? b_ih, Tensor? b_hh, "
    "Tensor? w_hr, Tensor? batch_sizes, SymInt batch, bool reverse, bool training) -> (Tensor, Tensor, Tensor, Tensor)"
)
_library.define(
    "layer_backward(str cell, Tensor? dy, Tensor? dh_n, Tensor? dc_n, Tensor x, Tensor? hx, Tensor? cx, Tensor w_ih, "
    "Tensor w_hh, Tensor? b_ih, Tensor? b_hh, Tensor? w_hr, Tensor y, Tensor reserve, Tensor? batch_sizes, "
    "SymInt batch, bool reverse, bool[] needed) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
)


def _empty(shape: Sequence[int], like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Uninitialised memory that a kernel will fill whole (tests poison it)."""
    return like.new_empty(shape) if dtype is None else like.new_empty(shape, dtype=dtype)


# The same for a few plain integers as the shape, in two thirds of the time that torch.empty and new_empty take.
_new = Tensor.new

# In place of results that a call does not have, where nobody looks: an empty tensor takes a microsecond to make.
_NOTHING = torch.empty(0)

_address = _native.address


def _contiguous(t: Tensor | None) -> Tensor | None:
    return t if t is None or t.is_contiguous() else t.contiguous()


def _strided(t: Tensor | None) -> tuple[Tensor | None, int, int]:
    """A sequence's tensor with adjacent columns, and its strides from step to step and from row to row."""
    if t is None:
        return None, 0, 0
    if t.stride(-1) != 1 and t.size(-1) != 1:
        t = t.contiguous()
    return (t, 0, t.stride(0)) if t.dim() == 2 else (t, t.stride(0), t.stride(1))


def _dims(cell: str, x: Tensor, w_hh: Tensor, w_hr: Tensor | None, batch_sizes: Tensor | None) -> tuple[int, ...]:
    """T, I, H, P."""
    steps = batch_sizes.size(0) if batch_sizes is not None else x.size(0) if x.dim() == 3 else 1
    return steps, x.size(-1), w_hh.size(0) // GATES[cell], 0 if w_hr is None else w_hr.size(0)


def _reserve_spec(cell: str, x: Tensor, units: int, on_gpu: bool) -> tuple[int, torch.dtype]:
    """Number and dtype of the values that forward leaves for backward."""
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    rows = x.size(0) if x.dim() == 2 else x.size(0) * x.size(1)
    if on_gpu:
        return _cuda.reserve_size(cell, rows, units), dtype
    per_row, once = _native.kernels.reserve_size(_native.CELLS[cell], _native.DTYPES[dtype], units)
    return rows * per_row + once, dtype


def _reserve(size: int, x: Tensor, dtype: torch.dtype) -> Tensor:
    """Memory for so many values beside x, which is on the CPU."""
    if size * dtype.itemsize >= _memory.LEAST and (large := _memory.take((size,), dtype)) is not None:
        return large
    return _new(x, size) if dtype is x.dtype else _empty((size,), x, dtype)


def _new_gradient(x: Tensor, *sizes: int) -> Tensor:
    """Memory for a gradient of x's dtype, beside x, which is on the CPU."""
    large = _memory.take(sizes, x.dtype, _memory.LEAST_GRADIENT)
    return _new(x, *sizes) if large is None else large


def _forward_kernel(
    cell: str,
    x: Tensor,
    hx: Tensor | None,
    cx: Tensor | None,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
    w_hr: Tensor | None,
    batch_sizes: Tensor | None,
    batch: int,
    reverse: bool,
    training: bool,
    packed: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`packed`: w_ih and w_hh as `fastrnn._packed` packs them, which are then read in their place."""
    check_fit(cell, (x, hx, cx, w_ih, w_hh, b_ih, b_hh, w_hr), batch_sizes, batch)
    steps, inputs, units, projected = _dims(cell, x, w_hh, w_hr, batch_sizes)
    width = projected or units
    y = _empty((*x.shape[:-1], width), x)
    h_n = _empty((batch, width), x)
    c_n = _empty((batch, units), x) if cell == "lstm" else _empty((0,), x) if training else _NOTHING
    reserve = _NOTHING
    if training:
        size, dtype = _reserve_spec(cell, x, units, False)
        reserve = _reserve(size, x, dtype)
    x, x_step, x_row = _strided(x)  # type: ignore[assignment]
    y_step, y_row = (batch * width if batch_sizes is None else 0), width
    # every temporary below must live until the kernel returns
    hx, cx, w_ih, w_hh = _contiguous(hx), _contiguous(cx), w_ih.contiguous(), w_hh.contiguous()
    b_ih, b_hh, w_hr, batch_sizes = map(_contiguous, (b_ih, b_hh, w_hr, batch_sizes))
    _native.kernels.forward(
        _native.CELLS[cell],
        *(steps, batch, inputs, units, projected),
        *(_address(batch_sizes), reverse, _native.DTYPES[x.dtype], torch.get_num_threads()),
        *(_address(w_ih), _address(w_hh), _address(b_ih), _address(b_hh), _address(w_hr), _address(packed)),
        *(_address(x), x_step, x_row, _address(hx), _address(cx)),
        *(y.data_ptr(), y_step, y_row, h_n.data_ptr(), c_n.data_ptr(), reserve.data_ptr() if training else 0),
    )
    return y, h_n, c_n, reserve


def _backward_kernel(
    cell: str,
    dy: Tensor | None,
    dh_n: Tensor | None,
    dc_n: Tensor | None,
    x: Tensor,
    hx: Tensor | None,
    cx: Tensor | None,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None,
    b_hh: Tensor | None,
    w_hr: Tensor | None,
    y: Tensor,
    reserve: Tensor,
    batch_sizes: Tensor | None,
    batch: int,
    reverse: bool,
    needed: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    steps, inputs, units, projected = _dims(cell, x, w_hh, w_hr, batch_sizes)
    like = (x, hx, cx, w_ih, w_hh, b_ih, b_hh, w_hr)
    check_fit(cell, like, batch_sizes, batch, (dy, dh_n, dc_n), y)
    check_reserve(x, reserve, *_reserve_spec(cell, x, units, False))
    grads = [_new_gradient(x, *t.shape) if n and t is not None else None for n, t in zip(needed, like, strict=True)]
    x, x_step, x_row = _strided(x)  # type: ignore[assignment]
    y, y_step, y_row = _strided(y)  # type: ignore[assignment]
    dy, dy_step, dy_row = _strided(dy)
    dh_n, dc_n, hx, cx, batch_sizes = map(_contiguous, (dh_n, dc_n, hx, cx, batch_sizes))
    w_ih, w_hh, w_hr, reserve = w_ih.contiguous(), w_hh.contiguous(), _contiguous(w_hr), reserve.contiguous()
    _native.kernels.backward(
        _native.CELLS[cell],
        *(steps, batch, inputs, units, projected),
        *(_address(batch_sizes), reverse, _native.DTYPES[x.dtype], torch.get_num_threads()),
        *(_address(w_ih), _address(w_hh), _address(b_ih), _address(b_hh), _address(w_hr)),
        *(
            _address(x),
            x_step,
            x_row,
            _address(hx),
            _address(cx),
            _address(y),
            y_step,
            y_row,
            _address(reserve),
        ),
        *(_address(dy), dy_step, dy_row, _address(dh_n), _address(dc_n)),
        *map(_address, grads),
    )
    return tuple(grads)


def _as_operation(kernel: Callable[..., tuple[Tensor | None, ...]]) -> Callable[..., tuple[Tensor, ...]]:
    """The kernel with a fresh empty tensor for each result that it does not have, as the dispatcher wants it."""

    def operation(cell: str, *args: Any) -> tuple[Tensor, ...]:
        like = next(a for a in args if a is not None)
        return tuple(_empty((0,), like) if r is None or r is _NOTHING else r for r in kernel(cell, *args))

    return operation


_library.impl("layer_forward", _as_operation(_forward_kernel), "CPU")
_library.impl("layer_backward", _as_operation(_backward_kernel), "CPU")
_library.impl("layer_forward", _cuda_layer.forward, "CUDA")
_library.impl("layer_backward", _cuda_layer.backward, "CUDA")


@torch.library.register_fake("fastrnn::layer_forward")
def _(cell, x, hx, cx, w_ih, w_hh, b_ih, b_hh, w_hr, batch_sizes, batch, reverse, training):
    _, _, units, projected = _dims(cell, x, w_hh, w_hr, batch_sizes)
    width = projected or units
    size, dtype = _reserve_spec(cell, x, units, x.is_cuda) if training else (0, x.dtype)
    return (
        x.new_empty((*x.shape[:-1], width)),
        x.new_empty((batch, width)),
        x.new_empty((batch, units) if cell == "lstm" else (0,)),
        x.new_empty((size,), dtype=dtype),
    )


@torch.library.register_fake("fastrnn::layer_backward")
def _(
    cell,
    dy,
    dh_n,
    dc_n,
    x,
    hx,
    cx,
    w_ih,
    w_hh,
    b_ih,
    b_hh,
    w_hr,
    y,
    reserve,
    batch_sizes,
    batch,
    reverse,
    needed,
):
    like = (x, hx, cx, w_ih, w_hh, b_ih, b_hh, w_hr)
    return tuple(x.new_empty(t.shape if n and t is not None else (0,)) for n, t in zip(needed, like, strict=True))


_PLAIN = (Tensor, torch.nn.Parameter)


def _plain(t: Tensor | None, on_gpu: bool = False) -> bool:
    """Whether the tensor's memory, the CPU's or a CUDA device's, holds its values: no subclass, no lazy negation, no
    zeros without storage, no wrapper of torch.func's, which may outlive its transform."""
    return t is None or (
        type(t) in _PLAIN
        and (t.is_cuda if on_gpu else t.is_cpu)
        and t.layout is torch.strided
        and not t.is_neg()
        and not t._is_zerotensor()
        and not torch._C._functorch.is_functorch_wrapped_tensor(t)
    )


def _nothing_between() -> bool:
    """Whether no dispatch mode and no tracing stands between the caller and the kernels."""
    return torch._C._len_torch_dispatch_stack() == 0 and torch._C._get_tracing_state() is None


def _direct(*tensors: Tensor | None, on_gpu: bool = False) -> bool:
    """Whether the kernels may be called at once: plain tensors of the CPU, or of CUDA, no dispatch mode, no tracing."""
    return all(_plain(t, on_gpu) for t in tensors) and _nothing_between()


def batched(*gradients: Tensor | None) -> bool:
    """Whether autograd.grad(is_grads_batched=True) brought one of them, which only the dispatcher can take apart."""
    return any(g is not None and torch._C._functorch.is_legacy_batchedtensor(g) for g in gradients)


def _elsewhere(direct: Callable, registered: Callable, x: Tensor, *others: Tensor | None) -> Callable:
    """What runs a call that does not go straight to the CPU kernels: CUDA's, or the registered operation."""
    if not x.is_cpu and not x.is_meta:
        if reason := _cuda.refusal(x.device):
            raise RuntimeError(
                f'{reason}: move model and input to the CPU with .to("cpu"), or use fastrnn.to_torch(model) there'
            )
        if _direct(x, *others, on_gpu=True):
            return direct
    return registered


def layer_forward(cell, x, *args):
    """Returns y (T, B, R) or (N, R), h_n (B, R), c_n (B, H) or empty, and the reserve (empty unless training).
    What is empty may be one tensor for all calls: it is not to be changed.

    Arguments: cell, x, hx, cx, w_ih, w_hh, b_ih, b_hh, w_hr, batch_sizes, batch (B), reverse, training.
    """
    run = (
        _forward_kernel
        if _direct(x, *args[:7])
        else _elsewhere(_cuda_layer.forward, torch.ops.fastrnn.layer_forward, x, *args[:7])
    )
    return run(cell, x, *args)


def layer_backward(cell, dy, dh_n, dc_n, x, *args):
    """Returns the gradients named by GRADIENTS; those not needed are empty or None.

    Arguments: cell, dy, dh_n, dc_n, x, hx, cx, w_ih, w_hh, b_ih, b_hh, w_hr, y, reserve, batch_sizes, batch (B),
    reverse, needed (8 flags). dy, dh_n and dc_n may be None: zeros.
    """
    tensors = (x, dy, dh_n, dc_n, *args[:9])
    run: Callable
    if batched(dy, dh_n, dc_n):
        run = torch.ops.fastrnn.layer_backward
    elif _direct(*tensors):
        run = _backward_kernel
    else:
        run = _elsewhere(_cuda_layer.backward, torch.ops.fastrnn.layer_backward, *tensors)
    return run(cell, dy, dh_n, dc_n, x, *args)

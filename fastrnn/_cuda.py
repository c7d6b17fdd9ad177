"""The two operations of `fastrnn.ops` on CUDA tensors.

The recurrence runs in our kernels (`csrc/cuda`); the large products around it, x W_ih^T before and dx and the weight
gradients after, are torch's. All of it goes to torch's current stream without waiting for the device, so that a call
can be captured in a CUDA graph.

Shapes are those of `fastrnn.ops`; rows of every sequence stand together, (N, ...).
"""

import importlib
import os
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from fastrnn import _native


def _load() -> tuple[ModuleType | None, str]:
    """The compiled module, or why there is none."""
    try:
        return importlib.import_module("fastrnn._kernels_cuda"), ""
    except ModuleNotFoundError:
        return None, "not built (build it with nvcc in the PATH, or FASTRNN_CUDA=1 to see why it fails)"
    except ImportError as error:
        return None, f"built, but it cannot be loaded: {error}"


kernels, _missing = _load()


def info() -> str:
    """What there is of CUDA kernels, for `fastrnn info`."""
    if kernels is None:
        return _missing
    if not torch.backends.cuda.is_built():
        device = "this torch is built without CUDA"
    elif not torch.cuda.is_available():
        device = "no device"
    else:
        device = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return f"built for {kernels.ARCHS}; {device}"


def refusal(device: torch.device) -> str:
    """Why a tensor of this device cannot be computed on; empty if it can."""
    if device.type != "cuda":
        return f"fastrnn has kernels for CPU and CUDA tensors only, got a tensor on {device}"
    return "" if kernels is not None else f"fastrnn's CUDA kernels are missing: {_missing}; got a tensor on {device}"


def tf32() -> bool:
    """Whether fp32 products of the recurrence may use TF32: what torch lets cuDNN's recurrent layers do."""
    rnn = getattr(torch.backends.cudnn, "rnn", None)
    if rnn is not None:
        return bool(rnn.fp32_precision == "tf32")
    return bool(torch.backends.cudnn.allow_tf32)


TIERS = {"a": "cluster-persistent", "b": "grid-persistent", "c": "a kernel a step"}
_TIMEOUT_NS = 2_000_000_000  # after which a kernel gives up its wait for other blocks
_status: dict[torch.device, Tensor] = {}  # where such a kernel says so, memory of the host


def tier() -> str:
    """FASTRNN_CUDA_TIER: a, b or c runs that tier wherever it can run the call; empty: the plan's choice."""
    forced = os.environ.get("FASTRNN_CUDA_TIER", "")
    if forced and forced not in TIERS:
        raise RuntimeError(f"FASTRNN_CUDA_TIER={forced!r} is not one of {', '.join(TIERS)}")
    return forced


def _status_of(device: torch.device) -> Tensor | None:
    """The device's word to the host, None where it cannot be had now. A wait that was too long shows in the next call:
    its results were NaN, and from then on every call goes step by step."""
    status = _status.get(device)
    if status is None:
        if torch.cuda.is_current_stream_capturing():
            return None
        status = _status[device] = torch.zeros(1, dtype=torch.int32, pin_memory=True)
    if int(status) == 1:
        status.fill_(2)
        warnings.warn(
            "fastrnn: a persistent CUDA kernel waited too long for its own blocks. The results of that call are NaN; "
            "from now on calls on this device run a kernel a step. FASTRNN_CUDA_TIER=c avoids the attempt",
            RuntimeWarning,
            stacklevel=2,
        )
    return status


def _how(device: torch.device) -> tuple[int, str, int]:
    """What the kernels are told: where to report, the tier, and how long to wait."""
    status = _status_of(device)
    failed = status is not None and int(status) != 0
    return _address(status), "c" if failed else tier(), _TIMEOUT_NS


def plan(
    cell: str,
    steps: int,
    batch: int,
    units: int,
    dtype: torch.dtype,
    projected: int = 0,
    batch_sizes: Tensor | None = None,
    backward: bool = False,
) -> tuple[str, str]:
    """The tier in which the current device would run a layer, and why."""
    found = _module().plan(
        *(_native.CELLS[cell], steps, batch, units, projected, _address(batch_sizes), _native.DTYPES[dtype], tf32()),
        *(1, tier(), backward),
    )
    return str(found[0]), str(found[1])


def reserve_size(cell: str, rows: int, units: int) -> int:
    """Number of values that forward leaves for backward."""
    _, saved, has_state, *_ = _module().CELLS[cell]
    return rows * units * (saved + has_state)


_PLAIN = (Tensor, torch.nn.Parameter)


def plain(*tensors: Tensor | None) -> bool:
    """Whether each tensor's memory on the device holds its values, so that a kernel may read it."""
    return all(
        t is None
        or (type(t) in _PLAIN and t.is_cuda and t.layout is torch.strided and not t.is_neg() and not t._is_zerotensor())
        for t in tensors
    )


def _check_device(x: Tensor, *tensors: Tensor | None) -> None:
    for t in tensors:
        if t is not None and t.device != x.device:
            raise RuntimeError(f"fastrnn: expected all tensors on {x.device}, but one is on {t.device}")


def _module() -> ModuleType:
    if kernels is None:
        raise RuntimeError(f"fastrnn's CUDA kernels are missing: {_missing}")
    return kernels


def _stream(device: torch.device) -> int:
    return int(torch.cuda.current_stream(device).cuda_stream)


def _guard(device: torch.device) -> torch.cuda.device:
    return torch.cuda.device(device)


def _empty(shape: Sequence[int], like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Uninitialised memory that a kernel will fill whole (tests poison it)."""
    return torch.empty(shape, dtype=dtype or like.dtype, device=like.device)


def _rows(t: Tensor) -> Tensor:
    """(T, B, D) or (N, D) as adjacent rows (N, D)."""
    return t.reshape(-1, t.size(-1)).contiguous()


def _address(t: Tensor | None) -> int:
    return 0 if t is None else t.data_ptr()


def _contiguous(*tensors: Tensor | None) -> list[Tensor | None]:
    return [None if t is None else t.contiguous() for t in tensors]


_mm: Any = torch.mm  # torch before 2.8 has no out_dtype
_wide_products: bool | None = None  # whether torch multiplies 16-bit matrices into float32


def _project(x: Tensor, w_ih: Tensor) -> Tensor:
    """x W_ih^T (N, G*H), in float32 for 16-bit tensors where torch can: rounding it would cost a digit."""
    global _wide_products
    if x.dtype in (torch.float32, torch.float64):
        return torch.mm(x, w_ih.t())
    if _wide_products is None:
        try:
            _mm(x[:1], w_ih.t(), out_dtype=torch.float32)
            _wide_products = True
        except (TypeError, RuntimeError, NotImplementedError):
            _wide_products = False
    if _wide_products:
        return _mm(x, w_ih.t(), out_dtype=torch.float32)
    return torch.mm(x, w_ih.t())


def _shape(x: Tensor, w_hh: Tensor, w_hr: Tensor | None, batch_sizes: Tensor | None, gates: int) -> tuple[int, ...]:
    """T, H, P."""
    steps = x.size(0) if batch_sizes is None else batch_sizes.size(0)
    return steps, w_hh.size(0) // gates, 0 if w_hr is None else w_hr.size(0)


def forward(
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
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`fastrnn.ops.layer_forward` on one CUDA device."""
    module = _module()
    _check_device(x, hx, cx, w_ih, w_hh, b_ih, b_hh, w_hr)
    steps, units, projected = _shape(x, w_hh, w_hr, batch_sizes, module.CELLS[cell][0])
    width = projected or units
    arithmetic = torch.float64 if x.dtype == torch.float64 else torch.float32
    number, dtype, fast = _native.CELLS[cell], _native.DTYPES[x.dtype], tf32()
    with _guard(x.device):
        rows = _rows(x)
        y = _empty((*x.shape[:-1], width), x)
        h_n = _empty((batch, width), x)
        c_n = _empty((batch, units) if cell == "lstm" else (0,), x)
        reserve = _empty(
            (reserve_size(cell, rows.size(0), units) if training else 0,), x, arithmetic if training else None
        )
        gx = _project(rows, w_ih)
        space = _empty(
            (module.workspace_size(number, steps, batch, units, projected, dtype, fast, False),), x, torch.uint8
        )
        # every temporary must live until the kernels are launched; then the stream's order keeps its memory
        given = _contiguous(w_hh, b_ih, b_hh, w_hr, hx, cx)
        sizes = None if batch_sizes is None else batch_sizes.contiguous()
        module.forward(
            number,
            *(steps, batch, units, projected, _address(sizes), reverse, dtype, gx.dtype == arithmetic, fast),
            *(_stream(x.device), _address(space), *_how(x.device), _address(gx)),
            *map(_address, given),
            *(_address(y), _address(h_n), _address(c_n), _address(reserve) if training else 0, 0),
        )
    return y, h_n, c_n, reserve


def backward(
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
) -> tuple[Tensor, ...]:
    """`fastrnn.ops.layer_backward` on one CUDA device."""
    module = _module()
    _check_device(x, dy, dh_n, dc_n, hx, cx, w_ih, w_hh, b_ih, b_hh, w_hr, y, reserve)
    gates, saved, _, columns, first_x, first_h = module.CELLS[cell]
    steps, units, projected = _shape(x, w_hh, w_hr, batch_sizes, gates)
    number, dtype, fast = _native.CELLS[cell], _native.DTYPES[x.dtype], tf32()
    needs = dict(zip(("x", "hx", "cx", "w_ih", "w_hh", "b_ih", "b_hh", "w_hr"), needed, strict=True))
    with _guard(x.device):
        rows, y, dy = _rows(x), _rows(y), None if dy is None else _rows(dy)
        count = rows.size(0)
        dg = _empty((count, columns * units), x)
        dhx = _empty((batch, projected or units), x) if needs["hx"] and hx is not None else None
        dcx = _empty((batch, units), x) if needs["cx"] and cx is not None else None
        dh = _empty((count, projected), x) if projected else None
        reserve = reserve.contiguous()
        space = _empty(
            (module.workspace_size(number, steps, batch, units, projected, dtype, fast, True),), x, torch.uint8
        )
        given = _contiguous(w_hh, w_hr, hx, cx)
        ups = _contiguous(dy, dh_n, dc_n)
        sizes = None if batch_sizes is None else batch_sizes.contiguous()
        module.backward(
            number,
            *(steps, batch, units, projected, _address(sizes), reverse, dtype, fast),
            *(_stream(x.device), _address(space), *_how(x.device)),
            *map(_address, (*given, y, reserve, *ups, dg, dhx, dcx, dh)),
        )
        width = gates * units
        dg_x, dg_h = dg[:, first_x * units :][:, :width], dg[:, first_h * units :][:, :width]
        order = [module.gate_of_x(number, j) for j in range(gates)]

        def sorted_rows(t: Tensor) -> Tensor:
            """Row blocks in the order of dg's input side, as those of the weights."""
            if order == list(range(gates)):
                return t
            blocks = t.split(units)
            return torch.cat([blocks[order.index(g)] for g in range(gates)])

        grads: dict[str, Tensor | None] = {"hx": dhx, "cx": dcx}
        if needs["x"]:
            weights = torch.cat([w_ih.split(units)[g] for g in order]) if order != list(range(gates)) else w_ih
            grads["x"] = torch.mm(dg_x, weights).view(x.shape)
        if needs["w_ih"]:
            grads["w_ih"] = sorted_rows(torch.mm(dg_x.t(), rows))
        if needs["w_hh"]:
            grads["w_hh"] = torch.mm(dg_h.t(), _previous(y, hx, batch_sizes, batch, steps, reverse))
        sums = None
        if needs["b_ih"] and b_ih is not None:
            sums = sorted_rows(dg_x.sum(0))
            grads["b_ih"] = sums
        if needs["b_hh"] and b_hh is not None:
            # a copy where the sides are the same: two results must not share memory
            grads["b_hh"] = sums.clone() if sums is not None and first_x == first_h else dg_h.sum(0)
        if needs["w_hr"] and dh is not None:
            grads["w_hr"] = torch.mm(dh.t(), _hidden(reserve, count, units, saved, x.dtype))
    return tuple(_empty((0,), x) if (g := grads.get(name)) is None else g for name in needs)


def _hidden(reserve: Tensor, rows: int, units: int, saved: int, dtype: torch.dtype) -> Tensor:
    """h before the projection (N, H), again from what forward saved: o tanh(c)."""
    gates, c = reserve.split([rows * saved * units, rows * units])
    return (gates.view(rows, saved, units)[:, 3] * c.view(rows, units).tanh()).to(dtype)


def _previous(
    y: Tensor, hx: Tensor | None, batch_sizes: Tensor | None, batch: int, steps: int, reverse: bool
) -> Tensor:
    """h_{t-1} of every row (N, R), in running order; hx or zeros where a row begins."""
    first = y.new_zeros(batch, y.size(1)) if hx is None else hx
    if batch_sizes is None:
        inner = y[batch:] if reverse else y[: (steps - 1) * batch]
        return torch.cat((inner, first) if reverse else (first, inner))
    sizes = batch_sizes.tolist()
    parts, offset = [], 0
    if reverse:  # step t continues rows [0, sizes[t + 1]) of the step after it
        for t, rows in enumerate(sizes):
            following = sizes[t + 1] if t + 1 < steps else 0
            offset += rows
            parts += [y[offset : offset + following], first[following:rows]]
    else:
        parts.append(first)
        for t in range(steps - 1):
            parts.append(y[offset : offset + sizes[t + 1]])
            offset += sizes[t]
    return torch.cat(parts)

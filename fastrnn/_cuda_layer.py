"""The two operations of `fastrnn.ops` on CUDA tensors.

The recurrence runs in our kernels (`csrc/cuda`); the large products around it, x W_ih^T before and dx and the weight
gradients after, are torch's. All of it goes to torch's current stream without waiting for the device, so that a call
can be captured in a CUDA graph.

Shapes are those of `fastrnn.ops`; rows of every sequence stand together, (N, ...).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fastrnn import _cuda, _native
from fastrnn._native import address


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


def _contiguous(*tensors: Tensor | None) -> list[Tensor | None]:
    return [None if t is None else t.contiguous() for t in tensors]


class _Layer:
    """One layer call in either direction: its tensors and sizes, and how the kernels are called for it."""

    def __init__(self, cell: str, tensors: Sequence[Any], batch_sizes: Tensor | None, batch: int, reverse: bool):
        self.x, self.hx, self.cx, self.w_ih, self.w_hh, self.b_ih, self.b_hh, self.w_hr = tensors
        self.module = _cuda.module()
        self.gates, self.saved, *columns = self.module.CELLS[cell]
        _, self.grad_columns, self.first_x, self.first_h = columns
        self.number, self.lstm = _native.CELLS[cell], cell == "lstm"
        self.batch, self.reverse = batch, reverse
        self.batch_sizes = None if batch_sizes is None else batch_sizes.contiguous()
        self.steps = self.x.size(0) if batch_sizes is None else batch_sizes.size(0)
        self.units = self.w_hh.size(0) // self.gates
        self.projected = 0 if self.w_hr is None else self.w_hr.size(0)
        self.width = self.projected or self.units
        self.rows = _rows(self.x)
        self.arithmetic = torch.float64 if self.x.dtype == torch.float64 else torch.float32

    def check(self, *more: Tensor | None) -> None:
        """All tensors have memory, on one device."""
        for t in (self.x, self.hx, self.cx, self.w_ih, self.w_hh, self.b_ih, self.b_hh, self.w_hr, *more):
            if t is not None and t.device != self.x.device:
                raise RuntimeError(f"fastrnn: expected all tensors on {self.x.device}, but one is on {t.device}")
            address(t)

    def run(self, backward: bool, *tensors: Tensor | None) -> None:
        """Starts the kernels of a pass. `tensors` are those of the binding, adjacent in memory; they must live until
        this returns, and then the stream's order keeps their memory."""
        call = _cuda.call(
            (self.steps, self.batch, self.units, self.projected),
            self.x.dtype,
            self.x.device,
            _stream(self.x.device),
            self.batch_sizes,
            self.reverse,
        )
        space = _empty((self.module.workspace_size(self.number, call, backward),), self.x, torch.uint8)
        run = self.module.backward if backward else self.module.forward
        run(self.number, call, address(space), *map(address, tensors))


# torch 2.8 and later multiply 16-bit matrices into float32
_wide: Any = torch.ops.aten.mm.dtype if "dtype" in torch.ops.aten.mm.overloads() else None


def _project(x: Tensor, w_ih: Tensor) -> Tensor:
    """x W_ih^T (N, G*H) in the arithmetic type: 16-bit matrices are multiplied into float32 where torch can, since
    rounding the product would cost a digit."""
    if x.dtype in (torch.float32, torch.float64):
        return torch.mm(x, w_ih.t())
    if _wide is None or not x.is_cuda:
        return torch.mm(x, w_ih.t()).float()
    return _wide(x, w_ih.t(), torch.float32)


def _by_unit(w: Tensor, gates: int) -> Tensor:
    """The rows of W (G*H, I), gate by gate, in another order: the gates of each unit side by side."""
    return w if gates == 1 else w.unflatten(0, (gates, -1)).transpose(0, 1).flatten(0, 1)


def forward(cell: str, *args: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`fastrnn.ops.layer_forward` on one CUDA device."""
    *tensors, batch_sizes, batch, reverse, training = args
    layer = _Layer(cell, tensors, batch_sizes, batch, reverse)
    layer.check()
    x, units, arithmetic = layer.x, layer.units, layer.arithmetic
    with _guard(x.device):
        y = _empty((*x.shape[:-1], layer.width), x)
        h_n = _empty((batch, layer.width), x)
        c_n = _empty((batch, units) if layer.lstm else (0,), x)
        size = _cuda.reserve_size(cell, layer.rows.size(0), units) if training else 0
        reserve = _empty((size,), x, arithmetic if training else None)
        gx = _project(layer.rows, _by_unit(layer.w_ih, layer.gates))
        given = _contiguous(layer.w_hh, layer.b_ih, layer.b_hh, layer.w_hr, layer.hx, layer.cx)
        kept = reserve if training else None
        layer.run(False, gx, *given, y, h_n, c_n, kept, None)
    return y, h_n, c_n, reserve


def backward(cell: str, *args: Any) -> tuple[Tensor, ...]:
    """`fastrnn.ops.layer_backward` on one CUDA device."""
    dy, dh_n, dc_n, *tensors, y, reserve, batch_sizes, batch, reverse, needed = args
    layer = _Layer(cell, tensors, batch_sizes, batch, reverse)
    layer.check(dy, dh_n, dc_n, y, reserve)
    x, hx, cx, units, count = layer.x, layer.hx, layer.cx, layer.units, layer.rows.size(0)
    names = ("x", "hx", "cx", "w_ih", "w_hh", "b_ih", "b_hh", "w_hr")
    present = dict(zip(names, tensors, strict=True))
    needs = {name: n and present[name] is not None for name, n in zip(names, needed, strict=True)}
    with _guard(x.device):
        y, dy = _rows(y), None if dy is None else _rows(dy)
        if address(reserve) % 16:  # a slice, of vmap or a saved-tensor hook: the kernels read 16 bytes at once
            reserve = reserve.clone()
        dg = _empty((count, layer.grad_columns * units), x)
        grads: dict[str, Tensor] = {}
        if needs["hx"]:
            grads["hx"] = _empty((batch, layer.width), x)
        if needs["cx"]:
            grads["cx"] = _empty((batch, units), x)
        dh = _empty((count, layer.projected), x) if layer.projected else None
        given = _contiguous(layer.w_hh, layer.w_hr, hx, cx, y, reserve, dy, dh_n, dc_n)
        layer.run(True, *given, dg, grads.get("hx"), grads.get("cx"), dh)
        width = layer.gates * units
        dg_x, dg_h = (dg[:, first * units :][:, :width] for first in (layer.first_x, layer.first_h))
        order = [layer.module.gate_of_x(layer.number, j) for j in range(layer.gates)]
        if needs["x"]:
            grads["x"] = torch.mm(dg_x, _blocks(layer.w_ih, order)).view(x.shape)
        # dg's input side has its row blocks in another order than the weights
        back = [order.index(g) for g in range(layer.gates)]
        if needs["w_ih"]:
            grads["w_ih"] = _blocks(torch.mm(dg_x.t(), layer.rows), back)
        if needs["w_hh"]:
            grads["w_hh"] = torch.mm(dg_h.t(), _previous(y, hx, batch_sizes, batch, layer.steps, reverse))
        if needs["b_ih"]:
            grads["b_ih"] = _blocks(dg_x.sum(0), back)
        if needs["b_hh"]:
            # a copy where the sides are the same: two results must not share memory
            same = needs["b_ih"] and layer.first_x == layer.first_h
            grads["b_hh"] = grads["b_ih"].clone() if same else dg_h.sum(0)
        if needs["w_hr"] and dh is not None:
            grads["w_hr"] = torch.mm(dh.t(), _hidden(reserve, count, units, layer.saved, x.dtype))
    return tuple(grads[name] if name in grads else _empty((0,), x) for name in names)


def _blocks(t: Tensor, order: list[int]) -> Tensor:
    """The row blocks of t, a block a gate, in this order."""
    if order == list(range(len(order))):
        return t
    blocks = t.split(t.size(0) // len(order))
    return torch.cat([blocks[g] for g in order])


def _hidden(reserve: Tensor, rows: int, units: int, saved: int, dtype: torch.dtype) -> Tensor:
    """h before the projection (N, H), again from what forward saved: o tanh(c)."""
    gates, c = reserve.split([rows * saved * units, rows * units])
    return (gates.view(rows, units, saved)[..., 3] * c.view(rows, units).tanh()).to(dtype)


def _previous(
    y: Tensor, hx: Tensor | None, batch_sizes: Tensor | None, batch: int, steps: int, reverse: bool
) -> Tensor:
    """h_{t-1} of every row (N, R), in running order; hx or zeros where a row begins.

    Steps of equal batch size are one run, whose rows and those before them are adjacent."""
    first = y.new_zeros(batch, y.size(1)) if hx is None else hx
    sizes, counts = [batch], [steps]
    if batch_sizes is not None:
        sizes, counts = (t.tolist() for t in batch_sizes.unique_consecutive(return_counts=True))
    parts, offset = [] if reverse else [first], 0
    for size, count, following in zip(sizes, counts, [*sizes[1:], 0], strict=True):
        end = offset + size * count
        if reverse:  # step t continues the rows of step t + 1
            parts += [y[offset + size : end + following], first[following:size]]
        else:
            parts.append(y[offset : end - size + following])
        offset = end
    return torch.cat(parts)

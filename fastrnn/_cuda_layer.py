"""The two operations of `fastrnn.ops` on CUDA tensors.

The recurrence runs in our kernels (`csrc/cuda`); the large products around it, x W_ih^T before and dx and the weight
gradients after, are torch's. All of it goes to torch's current stream without waiting for the device, so that a call
can be captured in a CUDA graph.

Shapes are those of `fastrnn.ops`; rows of every sequence stand together, (N, ...).
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fastrnn import _cuda, _cuda_products, _native
from fastrnn._checks import GATES, check_fit, check_reserve
from fastrnn._native import address

# Order of the gradients that a backward returns, and of its `needed` flags.
GRADIENTS = ("x", "hx", "cx", "w_ih", "w_hh", "b_ih", "b_hh", "w_hr")


def _stream(device: torch.device) -> int:
    return int(_raw_stream(device.index))


# A private call, in a tenth of the time that making an object of the stream takes.
_raw_stream: Any = getattr(torch._C, "_cuda_getCurrentRawStream", lambda i: torch.cuda.current_stream(i).cuda_stream)
_HERE = contextlib.nullcontext()


def _guard(device: torch.device) -> Any:
    """The device is the current one within."""
    return _HERE if torch.cuda.current_device() == device.index else torch.cuda.device(device)


def _empty(shape: Sequence[int], like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Uninitialised memory that a kernel will fill whole (tests poison it)."""
    return torch.empty(shape, dtype=dtype or like.dtype, device=like.device)


def _rows(t: Tensor) -> Tensor:
    """(T, B, D) or (N, D) as adjacent rows (N, D)."""
    return t.reshape(-1, t.size(-1)).contiguous()


def _contiguous(*tensors: Tensor | None) -> list[Tensor | None]:
    return [None if t is None else t.contiguous() for t in tensors]


class _Layer:
    """One layer in one direction, of settled sizes: the kernels, and what torch does around them. Its tensors are
    adjacent in memory, and rows of every sequence stand together; they must live until a call returns, and then the
    stream's order keeps their memory."""

    def __init__(
        self,
        cell: str,
        like: Tensor,
        sizes: tuple[int, int, int, int],
        batch_sizes: Tensor | None,
        reverse: bool,
    ) -> None:
        """like: x, of which dtype and device count. sizes: T, B, H, P."""
        self.module = _cuda.module()
        self.gates, self.saved, *columns = self.module.CELLS[cell]
        _, self.grad_columns, self.first_x, self.first_h = columns
        self.number, self.lstm = _native.CELLS[cell], cell == "lstm"
        order = [self.module.gate_of_x(self.number, j) for j in range(self.gates)]
        # dg's input side has its row blocks in another order than the weights: theirs in dg's, and dg's in theirs
        self.order, self.back = order, [order.index(g) for g in range(self.gates)]
        self.sizes, self.reverse = sizes, reverse
        self.batch_sizes = None if batch_sizes is None else batch_sizes.contiguous()
        self.dtype, self.device = like.dtype, like.device
        self.arithmetic = torch.float64 if like.dtype == torch.float64 else torch.float32
        self.made: tuple[Any, Any, list[tuple[str, int] | None]] = (None, None, [])

    def _call(self, backward: bool) -> tuple[Any, str, int]:
        """The binding's call for now, and the tier and the bytes of workspace of a pass."""
        dense = self.batch_sizes is None and not self.sizes[3]
        told = _cuda.told(self.device, self.dtype, _stream(self.device), dense)
        made = self.made
        if made[0] != told:
            call = _cuda.call(self.sizes, self.dtype, told, self.batch_sizes, self.reverse)
            self.made = made = told, call, [None, None]
        _, call, passes = made
        found = passes[backward]
        if found is None:
            tier = self.module.plan(self.number, call, backward)[0]
            size = 0 if tier == "e" else self.module.workspace_size(self.number, call, backward)
            found = passes[backward] = tier, size
        return call, *found

    def _run(self, backward: bool, call: Any, size: int, like: Tensor, tensors: Sequence[Tensor | None]) -> None:
        """Starts the kernels of a pass. tensors: those of the binding."""
        space = _empty((size,), like, torch.uint8)
        run = self.module.backward if backward else self.module.forward
        run(self.number, call, address(space), *map(address, tensors), None)

    def _states(self, like: Tensor, h: Tensor | None, c: Tensor | None) -> Tensor:
        """Running states of tier e, (2, B, H) of the arithmetic type, beginning with these; None: zeros."""
        _, batch, units, _ = self.sizes
        states = torch.zeros((2, batch, units), dtype=self.arithmetic, device=like.device)
        for state, given in zip(states, (h, c), strict=True):
            if given is not None:
                state.copy_(given.view(batch, units))
        return states

    def _steps(
        self,
        backward: bool,
        call: Any,
        first: Tensor | None,
        by_row: Tensor,
        weights: Tensor,
        states: Tensor,
        tensors: Sequence[Tensor | None],
    ) -> None:
        """Tier e: for each step torch's product of the rows that the step before wrote, or of `first`, then the cell.

        by_row: what the cell writes and the next product takes, h (N, H) or gate gradients (N, G*H).
        weights: (H, G*H), or (G*H, H)."""
        steps, batch, *_ = self.sizes
        down = self.reverse != backward
        h, c = (state.data_ptr() for state in states)
        run, addresses = self.module.backward if backward else self.module.forward, [*map(address, tensors)]
        for s in range(steps + backward):
            sums = None if first is None else _cuda_products.product(first, weights)
            run(self.number, call, 0, *addresses, (s, address(sums), h, c))
            row = (steps - 1 - s if down else s) * batch
            first = by_row[row : row + batch]

    def forward(
        self,
        rows: Tensor,
        hx: Tensor | None,
        cx: Tensor | None,
        w_ih: Tensor,
        w_hh: Tensor,
        b_ih: Tensor | None,
        b_hh: Tensor | None,
        w_hr: Tensor | None,
        y: Tensor,
        h_n: Tensor,
        c_n: Tensor | None,
        reserve: Tensor | None,
    ) -> None:
        """Fills y, h_n, c_n of an LSTM, and the reserve if there is one."""
        with _guard(self.device), _cuda_products.as_given(self.device):
            gx = _cuda_products.project(rows, _cuda_products.by_unit(w_ih, self.gates))
            call, tier, size = self._call(False)
            tensors = (gx, w_hh, b_ih, b_hh, w_hr, hx, cx, y, h_n, c_n, reserve, None)
            if tier != "e":
                self._run(False, call, size, rows, tensors)
                return
            first = None if hx is None else hx.view(self.sizes[1:3])
            by_row = y.view(rows.size(0), self.sizes[2])
            self._steps(False, call, first, by_row, w_hh.t(), self._states(rows, hx, cx), tensors)

    def backward(
        self,
        needs: dict[str, bool],
        dy: Tensor | None,
        dh_n: Tensor | None,
        dc_n: Tensor | None,
        rows: Tensor,
        hx: Tensor | None,
        cx: Tensor | None,
        w_ih: Tensor,
        w_hh: Tensor,
        w_hr: Tensor | None,
        y: Tensor,
        reserve: Tensor,
    ) -> dict[str, Tensor]:
        """The gradients that `needs` names, of those in `fastrnn.ops.GRADIENTS`; that of x has its rows (N, I)."""
        _, batch, units, projected = self.sizes
        count = rows.size(0)
        with _guard(self.device), _cuda_products.as_given(self.device):
            if address(reserve) % 16:  # a slice, of vmap or a saved-tensor hook: the kernels read 16 bytes at once
                reserve = reserve.clone()
            dg = _empty((count, self.grad_columns * units), rows)
            grads: dict[str, Tensor] = {}
            if needs["hx"]:
                grads["hx"] = _empty((batch, projected or units), rows)
            if needs["cx"]:
                grads["cx"] = _empty((batch, units), rows)
            dh = _empty((count, projected), rows) if projected else None
            given = (w_hh, w_hr, hx, cx, y, reserve, dy, dh_n, dc_n, dg, grads.get("hx"), grads.get("cx"), dh)
            width = self.gates * units
            dg_x, dg_h = (dg[:, first * units :][:, :width] for first in (self.first_x, self.first_h))
            call, tier, size = self._call(True)
            if tier == "e":
                self._steps(True, call, None, dg_h, w_hh, self._states(rows, dh_n, dc_n), given)
            else:
                self._run(True, call, size, rows, given)
            if needs["x"]:
                grads["x"] = torch.mm(dg_x, _cuda_products.blocks(w_ih, self.order))
            if needs["w_ih"]:
                grads["w_ih"] = _cuda_products.blocks(torch.mm(dg_x.t(), rows), self.back)
            if needs["w_hh"]:
                grads["w_hh"] = self._recurrent_gradient(dg_h, y, hx)
            if needs["b_ih"]:
                grads["b_ih"] = _cuda_products.blocks(dg_x.sum(0), self.back)
            if needs["b_hh"]:
                # a copy where the sides are the same: two results must not share memory
                same = needs["b_ih"] and self.first_x == self.first_h
                grads["b_hh"] = grads["b_ih"].clone() if same else dg_h.sum(0)
            if needs["w_hr"] and dh is not None:
                grads["w_hr"] = torch.mm(dh.t(), _cuda_products.hidden(reserve, count, units, self.saved, rows.dtype))
        return grads

    def _recurrent_gradient(self, dg: Tensor, y: Tensor, hx: Tensor | None) -> Tensor:
        """dW_hh: the gate gradients of every row times the h that it came from."""
        steps, batch, *_ = self.sizes
        if self.batch_sizes is None and hx is None and steps > 1:  # the first step came from zeros
            rest, before = (dg[:-batch], y[batch:]) if self.reverse else (dg[batch:], y[:-batch])
            return torch.mm(rest.t(), before)
        return torch.mm(dg.t(), _cuda_products.previous(y, hx, self.batch_sizes, batch, steps, self.reverse))


def _layer(cell: str, tensors: Sequence[Any], batch_sizes: Tensor | None, batch: int, reverse: bool) -> _Layer:
    """The layer of these tensors: x, hx, cx, w_ih, w_hh, b_ih, b_hh, w_hr. x of two dimensions without batch_sizes is
    one step."""
    x, w_hh, w_hr = tensors[0], tensors[4], tensors[7]
    steps = batch_sizes.size(0) if batch_sizes is not None else x.size(0) if x.dim() == 3 else 1
    units = w_hh.size(0) // GATES[cell]
    return _Layer(cell, x, (steps, batch, units, 0 if w_hr is None else w_hr.size(0)), batch_sizes, reverse)


def _check_memory(*tensors: Tensor | None) -> None:
    """None was freed: torch's products do not ask."""
    for t in tensors:
        address(t)


def forward(cell: str, *args: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`fastrnn.ops.layer_forward` on one CUDA device."""
    *tensors, batch_sizes, batch, reverse, training = args
    check_fit(cell, tensors, batch_sizes, batch)
    _check_memory(*tensors)
    x, *given = tensors
    layer = _layer(cell, tensors, batch_sizes, batch, reverse)
    rows, (_, _, units, projected) = _rows(x), layer.sizes
    y = _empty((*x.shape[:-1], projected or units), x)
    h_n = _empty((batch, projected or units), x)
    c_n = _empty((batch, units) if layer.lstm else (0,), x)
    size = _cuda.reserve_size(cell, rows.size(0), units) if training else 0
    reserve = _empty((size,), x, layer.arithmetic if training else None)
    layer.forward(rows, *_contiguous(*given), y, h_n, c_n, reserve if training else None)  # type: ignore[call-arg,arg-type]
    return y, h_n, c_n, reserve


def backward(cell: str, *args: Any) -> tuple[Tensor, ...]:
    """`fastrnn.ops.layer_backward` on one CUDA device."""
    dy, dh_n, dc_n, *tensors, y, reserve, batch_sizes, batch, reverse, needed = args
    check_fit(cell, tensors, batch_sizes, batch, (dy, dh_n, dc_n), y)
    _check_memory(*tensors, dy, dh_n, dc_n, y, reserve)
    x, hx, cx, w_ih, w_hh, _, _, w_hr = tensors
    layer = _layer(cell, tensors, batch_sizes, batch, reverse)
    check_reserve(x, reserve, _cuda.reserve_size(cell, x.numel() // x.size(-1), layer.sizes[2]), layer.arithmetic)
    needs = {name: n and t is not None for name, n, t in zip(GRADIENTS, needed, tensors, strict=True)}
    above = _contiguous(None if dy is None else _rows(dy), dh_n, dc_n)
    states = [None if s is None else _rows(s) for s in (hx, cx)]  # also of (1, B, H)
    saved = _contiguous(*states, w_ih, w_hh, w_hr, _rows(y), reserve)
    grads = layer.backward(needs, *above, _rows(x), *saved)  # type: ignore[call-arg,arg-type]
    for name, like in (("x", x), ("hx", hx), ("cx", cx)):
        if name in grads:
            grads[name] = grads[name].view(like.shape)
    return tuple(grads[name] if name in grads else _empty((0,), x) for name in GRADIENTS)


Passes = tuple[Callable[..., tuple[Tensor, ...]], Callable[..., Sequence[Tensor | None]]]


def fixed(cell: str, like: Tensor, units: int, step: bool, batch_sizes: list[int] | None, reverse: bool) -> Passes:
    """forward and backward of `fastrnn._quick` for inputs like this one. All their tensors are as x is: on its device,
    adjacent in memory, and of shapes that fit."""
    if batch_sizes is not None:
        steps, batch = len(batch_sizes), batch_sizes[0]
    else:
        steps, batch = (1, like.size(0)) if step else like.shape[:2]
    sizes = None if batch_sizes is None else torch.tensor(batch_sizes, dtype=torch.int64, device="cpu")
    layer = _Layer(cell, like, (steps, batch, units, 0), sizes, reverse)
    state = (batch, units) if step else (1, batch, units)
    width, lstm = like.size(-1), layer.lstm

    def forward(
        _new: Any, _threads: int, _packed: None, reserve: Tensor | None, x: Tensor, *rest: Tensor
    ) -> tuple[Tensor, ...]:
        w_ih, w_hh, b_ih, b_hh, hx, cx = (*rest, None, None)[:6]
        h_n = _empty(state, x)
        y = h_n if step else _empty((*x.shape[:-1], units), x)
        c_n = _empty(state, x) if lstm else None
        layer.forward(x.view(-1, width), hx, cx, w_ih, w_hh, b_ih, b_hh, None, y, h_n, c_n, reserve)  # type: ignore[arg-type]
        results = (h_n,) if step else (y, h_n)
        return results if c_n is None else (*results, c_n)

    def backward(
        _new: Any,
        _large: Any,
        _threads: int,
        needed: Sequence[bool],
        dy: Any,
        dh_n: Any,
        dc_n: Any,
        x: Tensor,
        *rest: Any,
    ) -> list[Tensor | None]:
        hx, cx, w_ih, w_hh, _, _, y, reserve = rest
        needs = dict(zip(GRADIENTS, (*needed, False), strict=True))
        hx_rows = None if hx is None else hx.view(batch, units)
        saved = hx_rows, cx, w_ih, w_hh, None, y.view(-1, units), reserve
        grads = layer.backward(needs, dy, dh_n, dc_n, x.view(-1, width), *saved)
        for name, shape in (("x", x.shape), ("hx", state), ("cx", state)):
            if name in grads:
                grads[name] = grads[name].view(shape)
        return [grads.get(name) for name in GRADIENTS[:7]]

    return forward, backward

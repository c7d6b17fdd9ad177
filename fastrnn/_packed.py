"""Weights packed once, for inference on the CPU: as they are, or as bf16, half the memory that a step of one row has to
read.

The kernels read w_ih and w_hh in a packing of their own, which a call otherwise makes for itself; activations, sums and
states stay fp32. It is kept from call to call while the weights are the ones that it was made of.
"""

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter

from fastrnn import _native, autograd, ops

_KEPT = 64  # packings at most: a module has one for each layer and direction


class _Kept(NamedTuple):
    w_ih: Callable[[], Tensor | None]  # weak references, so that no other tensor is taken for these
    w_hh: Callable[[], Tensor | None]
    state: tuple[Any, ...]
    packed: Tensor


def _state(w_ih: Tensor, w_hh: Tensor) -> tuple[Any, ...]:
    """What changes when these do; but changes through .data are not counted, those of optimizers and load_state_dict
    are."""
    of_both = w_ih.data_ptr(), w_ih._version, w_ih.shape, w_hh.data_ptr(), w_hh._version, w_hh.shape
    return *of_both, w_ih.is_contiguous() and w_hh.is_contiguous(), _native.kernels


class PackedOnce:
    """The packings of one module's layers. Copies and pickles of a module make their own."""

    def __init__(self, dtype: torch.dtype) -> None:
        """dtype: what the weights are rounded to, torch.bfloat16, or torch.float32: not at all."""
        self.dtype = dtype
        self._kept: dict[int, _Kept] = {}  # by the address of the object w_hh

    def __reduce__(self) -> tuple[Any, ...]:
        return PackedOnce, (self.dtype,)

    def forget(self) -> None:
        """Where the weights may have changed without a trace."""
        self._kept.clear()

    def packed(self, cell: str, w_ih: Tensor, w_hh: Tensor) -> Tensor | None:
        """The packing of w_ih (G*H, I) and w_hh (G*H, R); None where they are not float32 on the CPU, row by row."""
        kept = self._kept.get(id(w_hh))  # first, since each step asks
        if kept is not None and kept.w_ih() is w_ih and kept.w_hh() is w_hh and kept.state == _state(w_ih, w_hh):
            return kept.packed
        if w_ih.dtype is not torch.float32 or not all(w.is_cpu and w.is_contiguous() for w in (w_ih, w_hh)):
            return None
        # Inference tensors do not count their changes, and what is no parameter may be made anew at each call.
        if any(type(w) is not Parameter or w.is_inference() for w in (w_ih, w_hh)):
            return self._pack(cell, w_ih, w_hh)
        if len(self._kept) >= _KEPT:
            self._kept.clear()
        state = _state(w_ih, w_hh)  # from before: another thread may change them meanwhile
        packed = self._pack(cell, w_ih, w_hh)
        self._kept[id(w_hh)] = _Kept(weakref.ref(w_ih), weakref.ref(w_hh), state, packed)
        return packed

    def _pack(self, cell: str, w_ih: Tensor, w_hh: Tensor) -> Tensor:
        inputs, width, units = w_ih.size(1), w_hh.size(1), w_hh.size(0) // ops.GATES[cell]
        asked = (_native.CELLS[cell], self.dtype is torch.bfloat16, inputs, units, width)
        # four vectors more may be read behind a panel
        packed = torch.empty(_native.kernels.pack_weights(*asked, 0, 0, 0) + 64, dtype=torch.int32, device="cpu")
        _native.kernels.pack_weights(*asked, ops._address(w_ih), ops._address(w_hh), packed.data_ptr())
        return packed

    def recurrent_layer(self, cell: str, x: Tensor, hx: Any, cx: Any, *rest: Any) -> tuple[Tensor, Tensor, Any]:
        """`autograd.recurrent_layer`, by the packing where no gradients are recorded."""
        w_ih, w_hh, b_ih, b_hh, w_hr, batch_sizes, reverse = rest
        tensors = (x, hx, cx, w_ih, w_hh, b_ih, b_hh, w_hr)
        packed = None
        if not autograd.recording(tensors) and ops._direct(*tensors, batch_sizes):
            packed = self.packed(cell, w_ih, w_hh)
        if packed is None:
            return autograd.recurrent_layer(cell, x, hx, cx, *rest)
        batch = x.size(1) if batch_sizes is None else int(batch_sizes[0])
        y, h_n, c_n, _ = ops._forward_kernel(cell, *tensors, batch_sizes, batch, reverse, False, packed)
        return y, h_n, c_n if cell == "lstm" else None

"""What torch does around the steps of a CUDA layer: the large products, and the operands that these take.

Rows of every sequence stand together, (N, ...).
"""

import contextlib
from typing import Any

import torch
from torch import Tensor

from fastrnn import _cuda
from fastrnn._guards import any_autocast

_HERE = contextlib.nullcontext()


def as_given(device: torch.device) -> Any:
    """Within, torch's products have the dtype of their operands. Around a backward there may be an autocast that was
    not there, or was off, around its forward."""
    return torch.autocast(device.type, enabled=False) if any_autocast() else _HERE


def product(a: Tensor, b: Tensor) -> Tensor:
    """a b in the arithmetic type: 16-bit matrices are multiplied into float32 where torch can, since rounding the
    product would cost a digit."""
    if a.dtype in (torch.float32, torch.float64):
        return torch.mm(a, b)
    if _cuda.wide is None or not a.is_cuda:
        return torch.mm(a, b).float()
    wide: Tensor = _cuda.wide(a, b, torch.float32)
    return wide


def project(x: Tensor, w_ih: Tensor) -> Tensor:
    """x W_ih^T (N, G*H), in the arithmetic type."""
    return product(x, w_ih.t())


def by_unit(w: Tensor, gates: int) -> Tensor:
    """The rows of W (G*H, I), gate by gate, in another order: the gates of each unit side by side."""
    return w if gates == 1 else w.view(gates, w.size(0) // gates, w.size(1)).transpose(0, 1).reshape(w.shape)


def blocks(t: Tensor, order: list[int]) -> Tensor:
    """The row blocks of t, a block a gate, in this order."""
    if order == list(range(len(order))):
        return t
    parts = t.split(t.size(0) // len(order))
    return torch.cat([parts[g] for g in order])


def hidden(reserve: Tensor, rows: int, units: int, saved: int, dtype: torch.dtype) -> Tensor:
    """h before the projection (N, H), again from what forward saved: o tanh(c)."""
    gates, c = reserve.split([rows * saved * units, rows * units])
    return (gates.view(rows, units, saved)[..., 3] * c.view(rows, units).tanh()).to(dtype)


def previous(y: Tensor, hx: Tensor | None, batch_sizes: Tensor | None, batch: int, steps: int, reverse: bool) -> Tensor:
    """h_{t-1} of every row (N, R), in running order; hx or zeros where a row begins.

    Steps of equal batch size are one run, whose rows and those before them are adjacent."""
    first = y.new_zeros(batch, y.size(1)) if hx is None else hx
    if steps == 1:
        return first
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

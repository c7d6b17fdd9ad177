"""Guards: functions that tell in half a microsecond whether tensors are like those seen before."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Check = Callable[..., bool]


def guard(tensors: Sequence[Tensor]) -> Check:
    """Whether as many other tensors are like these in type, dtype, device, shape, strides, requires_grad and all that
    torch dispatches on, autocast, dispatch modes and functorch's transforms among it. Each tensor may be given once.

    Where this torch cannot tell, every answer is no."""
    return _guard(tensors) if _whole() else _never


def _never(*_: Tensor) -> bool:
    return False


def _guard(tensors: Sequence[Tensor]) -> Check:
    """A private one of torch.compile's."""
    sizes: dict[str, Any] = {
        "dynamic_dims_sizes": [list(t.shape) for t in tensors],
        "dynamic_dims_strides": [list(t.stride()) for t in tensors],
    }
    try:
        check: Check = torch._C._dynamo.guards.TensorGuards(*tensors, **sizes).check
    except (AttributeError, TypeError, SystemError):
        return _never
    return check


class _Mode(TorchDispatchMode):
    """Any dispatch mode."""


@functools.cache
def _whole() -> bool:
    """Whether this torch's guards see all that they are trusted with."""
    a, b = torch.zeros(2, 3), torch.zeros(3)
    alike = _guard((a, b))
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
        None,
    )
    return alike(torch.ones(2, 3), b) and not any(alike(other, b) for other in others) and not _seen(alike, a, b)


def _seen(alike: Check, a: Tensor, b: Tensor) -> bool:
    """Whether the guard says yes where torch would not run an operation as it stands."""
    answers = []

    def ask(x: Tensor) -> Tensor:
        answers.append(alike(a, b))
        return x.sum()

    with torch.autocast("cpu", torch.bfloat16):
        ask(a)
    with _Mode():
        answers.append(alike(a, b))
    torch.func.vmap(ask)(a)
    torch.func.grad(ask)(a)
    return any(answers)

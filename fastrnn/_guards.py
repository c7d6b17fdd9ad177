"""Whether tensors are like those seen before: guards, which tell it in half a microsecond, and a check with words."""

import contextlib
import functools
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Check = Callable[..., bool]

# A private call in place of two public ones, because every step asks. torch.nn.RNNBase asks it too.
any_autocast: Callable[[], bool] = getattr(torch._C, "_is_any_autocast_enabled", lambda: True)


def guard(tensors: Sequence[Tensor], any_rows: Sequence[bool] = ()) -> Check:
    """Whether as many other tensors are like these in type, dtype, device, shape, strides, requires_grad and all that
    torch dispatches on, autocast, dispatch modes and functorch's transforms among it. Each tensor may be given once.

    any_rows: of each tensor, whether its first dimension may be of any size; such tensors have to be contiguous.

    Where this torch cannot tell, every answer is no."""
    return _guard(tensors, any_rows) if _whole() else never


def kinds(tensors: Sequence[Tensor | None]) -> list[tuple[torch.Size, torch.dtype, torch.device] | None]:
    """Shape, dtype and device of each."""
    return [None if t is None else (t.shape, t.dtype, t.device) for t in tensors]


def check_saved(expected: Sequence[Any], saved: Sequence[Tensor | None]) -> None:
    """Raise RuntimeError where backward got other tensors than forward saved, of `kinds` expected: the kernels would
    read beyond them."""
    for before, now in zip(expected, kinds(saved), strict=True):
        if before != now:
            was, is_ = ("nothing" if k is None else f"{k[1]} {tuple(k[0])} on {k[2]}" for k in (before, now))
            raise RuntimeError(
                f"fastrnn: a tensor that forward saved as {was} came back as {is_}: the hooks of "
                "torch.autograd.graph.saved_tensors_hooks should give back what they were given"
            )


def never(*_: Tensor) -> bool:
    """The guard where this torch has none: tensors are looked at each time."""
    return False


def _guard(tensors: Sequence[Tensor], any_rows: Sequence[bool] = ()) -> Check:
    """A private one of torch.compile's."""
    shapes: list[list[int | None]] = [list(t.shape) for t in tensors]
    strides = [list(t.stride()) for t in tensors]
    for i, free in enumerate(any_rows):
        if free:  # a single row is contiguous at any stride, and no rule for others
            strides[i] = [math.prod(tensors[i].shape[d + 1 :]) for d in range(tensors[i].dim())]
            shapes[i][0] = None
    sizes: dict[str, Any] = {"dynamic_dims_sizes": shapes, "dynamic_dims_strides": strides}
    try:
        check: Check = torch._C._dynamo.guards.TensorGuards(*tensors, **sizes).check
    except (AttributeError, TypeError, SystemError):
        return never
    return check


class _Mode(TorchDispatchMode):
    """Any dispatch mode."""


@functools.cache
def _whole() -> bool:
    """Whether this torch's guards see all that they are trusted with.

    Asked once, in a thread of its own: modes, hooks and transforms belong to a thread, and those that stand around the
    first call must neither decide the answer nor refuse the question.
    """
    answers: list[bool] = []

    def ask() -> None:
        with contextlib.suppress(Exception):  # a torch that cannot be asked is not trusted
            answers.append(_tells_tensors_apart() and _tells_modes_apart())

    thread = threading.Thread(target=ask, name="fastrnn guards")
    thread.start()
    thread.join()
    return answers == [True]


def _tells_tensors_apart() -> bool:
    a, b = _zeros(2, 3), _zeros(3)
    alike = _guard((a, b))
    others = (
        _zeros(2, 4),
        _zeros(3, 2).t(),
        _zeros(2, 3, 1),
        _zeros(2, 3).double(),
        _zeros(2, 3).requires_grad_(),
        _zeros(2, 3).to("meta"),
        torch.nn.Parameter(_zeros(2, 3), requires_grad=False),
        torch._neg_view(_zeros(2, 3)),
        torch._efficientzerotensor((2, 3), dtype=torch.float32, device="cpu"),
        _zeros(2, 3).to_sparse(),
        None,
    )
    wide = _zeros(1, 6)[:, :3]
    any_rows = _guard((wide, b), (True, False))
    return (
        alike(_zeros(2, 3), b)
        and not any(alike(other, b) for other in others)
        and any_rows(_zeros(5, 3), b)
        and not any(any_rows(other, b) for other in others)
        and not any_rows(a, _zeros(4))
        and not any_rows(_zeros(5, 6)[:, :3], b)
    )


def _tells_modes_apart() -> bool:
    """Whether the guard says no where torch would not run an operation as it stands."""
    a, b = _zeros(2, 3), _zeros(3)
    alike, answers = _guard((a, b)), []

    def ask(x: Tensor) -> Tensor:
        answers.append(alike(a, b))
        return x.sum()

    with torch.autocast("cpu", torch.bfloat16):
        ask(a)
    with _Mode():
        answers.append(alike(a, b))
    torch.func.vmap(ask)(a)
    torch.func.grad(ask)(a)
    return not any(answers)


def _zeros(*shape: int) -> Tensor:
    """The process may have another default dtype and device."""
    return torch.zeros(shape, dtype=torch.float32, device="cpu")

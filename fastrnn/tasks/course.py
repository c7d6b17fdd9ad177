"""The check of the exercises in docs/course: a student's function beside one of ours that it shall equal."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["BLANK", "OK", "WRONG", "check"]

OK, WRONG, BLANK = "✓", "✗", "□"
"""What the line that `check` prints begins with."""

Function = Callable[..., Any]


class _StandIn:
    """The reference in place of a function that was not right, so that a check run again does not take it for it."""

    def __init__(self, name: str, reference: Function) -> None:
        self.__name__, self.reference = name, reference

    def __call__(self, *arguments: Any) -> Any:
        return self.reference(*arguments)


def check(yours: Function, reference: Function, *cases: tuple[Any, ...]) -> Function:
    """Call both functions with the arguments of each case and print one line: right, still blank, or what is wrong.

    A function that is to be filled in returns `...`. Tensors are compared by shape and values, to 1e-4 relative and
    1e-5 absolute, not by dtype; where the reference's result hangs on no graph, yours must not either. Each function
    gets arguments of its own, so that one written to in place misleads no one. Whatever exception `yours` raises is
    reported, not passed on.

    Returns `yours` if it is right, and otherwise what calls `reference`, with which the notebook goes on.
    """
    name = yours.__name__
    if isinstance(yours, _StandIn):
        print(f"{BLANK} {name}: 上のセルを先に実行してください (run the cell above first)")
        return yours
    for number, arguments in enumerate(cases, 1):
        expected = reference(*map(_own, arguments))
        try:
            found = yours(*map(_own, arguments))
            fault = _fault(found, expected)
            blank = _blank(found)
        except Exception as error:
            fault = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]:.100}"
            blank = "ellipsis" in fault  # computed with a blank further up
        if blank:
            print(f"{BLANK} {name}: まだ空欄です (still blank)")
            return _StandIn(name, reference)
        if fault:
            print(f"{WRONG} {name}: まだ違います (not yet): 例 case {number}: {fault}")
            return _StandIn(name, reference)
    print(f"{OK} {name}: 正解です (correct)")
    return yours


def _own(value: Any) -> Any:
    """A copy that may be written to. A tensor keeps its graph, which copy.deepcopy cannot follow; a model is shared."""
    if isinstance(value, Tensor):
        return value.clone()
    if type(value) in (list, tuple):
        return type(value)(map(_own, value))
    return copy.copy(value) if isinstance(value, dict | set) else value


def _blank(found: Any) -> bool:
    return found is ... or (isinstance(found, tuple | list) and any(map(_blank, found)))


def _fault(found: Any, expected: Any) -> str:
    """What is wrong with `found`, in Japanese and English; empty if nothing is."""
    if isinstance(expected, Tensor):
        return _tensor_fault(found, expected)
    if isinstance(expected, tuple | list):
        return _sequence_fault(found, expected)
    if isinstance(found, Tensor) and found.numel() == 1:
        found = found.item()
    if isinstance(expected, float):
        if not isinstance(found, float | int):
            return f"数ではなく {_kind(found)} です (not a number)"
        return _tensor_fault(torch.tensor(found), torch.tensor(expected, dtype=torch.float64))
    return "" if found == expected else f"{found!r:.60}、正しくは expected {expected!r:.60}"


def _tensor_fault(found: Any, expected: Tensor) -> str:
    if not isinstance(found, Tensor):
        return f"テンソルではなく {_kind(found)} です (not a tensor)"
    if found.shape != expected.shape:
        return f"形 shape {tuple(found.shape)}、正しくは expected {tuple(expected.shape)}"
    if found.requires_grad and not expected.requires_grad:
        return "まだ計算グラフにつながっています (still attached to its graph)"
    a, b = found.detach().double(), expected.detach().double()
    if torch.allclose(a, b, rtol=1e-4, atol=1e-5):
        return ""
    at = tuple(((a - b).abs() > 1e-5 + 1e-4 * b.abs()).logical_or(a.isnan()).nonzero()[0].tolist())
    where = f" [{', '.join(map(str, at))}]" * bool(at)
    return f"値 value{where} {a[at].item():.6g}、正しくは expected {b[at].item():.6g}"


def _sequence_fault(found: Any, expected: Sequence[Any]) -> str:
    if not isinstance(found, tuple | list):
        return f"{len(expected)} 個の組ではなく {_kind(found)} です (not {len(expected)} values)"
    if len(found) != len(expected):
        return f"長さ length {len(found)}、正しくは expected {len(expected)}"
    for number, pair in enumerate(zip(found, expected, strict=True)):
        if fault := _fault(*pair):
            return f"[{number}] {fault}"
    return ""


def _kind(found: Any) -> str:
    return type(found).__name__

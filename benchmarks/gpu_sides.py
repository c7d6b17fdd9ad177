"""What `benchmarks/gpu.py` times a case on: fastrnn, torch's cuDNN, and peers where they are installed.

A side is a pair of calls: forward under no_grad, and backward, the gradients of all that a forward call was given; that
call runs before it and is not timed (a graph that is kept would cost cuDNN a copy). With the input's projection
x W_ih^T, and without (`recurrence`), where it is given ready-made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.utils.rnn import pack_padded_sequence

import fastrnn
from benchmarks.gpu_grid import CLASSES, Case
from fastrnn import _cuda_products

DEVICE = "cuda"
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass
class Call:
    """What is timed, and what runs before it each time."""

    run: Callable[[], Any]
    before: Callable[[], Any] = lambda: None


Calls = dict[str, Call]


class Skip(Exception):
    """Why a side does not run a case, in one line."""


def pin(dtype: str) -> None:
    """TF32 is off for fp32 and on for tf32, in cuDNN and in torch's products alike; no sums in 16 bits."""
    torch.backends.cudnn.enabled = True
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = dtype == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = dtype == "tf32"
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False


def _random(*shape: int, dtype: torch.dtype, seed: int = 1, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator(DEVICE).manual_seed(seed)
    return (scale * torch.randn(*shape, device=DEVICE, generator=generator)).to(dtype)


def _calls(output: Callable[[], torch.Tensor], leaves: list[torch.Tensor]) -> Calls:
    def forward() -> torch.Tensor:
        with torch.no_grad():
            return output()

    y = forward()
    gradient = _random(*y.shape, dtype=y.dtype, seed=2)
    made: list[torch.Tensor] = []

    def backward() -> Any:
        return torch.autograd.grad(made.pop(), leaves, gradient, allow_unused=True)

    return {"forward": Call(forward), "backward": Call(backward, lambda: made.append(output()))}


def module(namespace: Any, case: Case, dtype: str, weights: dict[str, torch.Tensor]) -> Calls:
    """torch.nn's layer, or ours."""
    kind = DTYPES[dtype]
    layer = getattr(namespace, CLASSES[case.cell])(
        case.I, case.H, bidirectional=case.bidirectional, dtype=kind, device=DEVICE
    )
    layer.load_state_dict(weights)
    x = _random(case.T, case.B, case.I, dtype=kind)
    source: Any = x.requires_grad_()
    if case.ragged:
        lengths = [max(1, case.T - case.T * b // case.B) for b in range(case.B)]
        source = pack_padded_sequence(x.detach(), lengths)
        x = source.data.requires_grad_()

    def output() -> torch.Tensor:
        y = layer(source)[0]
        return y.data if case.ragged else y

    return _calls(output, [x, *layer.parameters()])


@contextmanager
def _projected(gx: torch.Tensor) -> Iterator[None]:
    """Our layers take gx in place of x W_ih^T."""
    before = _cuda_products.project
    _cuda_products.project = lambda x, w: gx
    try:
        yield
    finally:
        _cuda_products.project = before


def recurrence(case: Case, dtype: str, weights: dict[str, torch.Tensor]) -> Calls:
    """Our kernels alone: no product with W_ih in either pass."""
    if case.bidirectional or case.ragged:
        raise Skip("one direction of dense rows only")
    layer = getattr(fastrnn, CLASSES[case.cell])(case.I, case.H, dtype=DTYPES[dtype], device=DEVICE)
    layer.load_state_dict(weights)
    layer.weight_ih_l0.requires_grad_(False)
    x = _random(case.T, case.B, case.I, dtype=DTYPES[dtype])
    gates = layer.weight_ih_l0.size(0) // case.H
    gx = _cuda_products.project(x.flatten(0, 1), _cuda_products.by_unit(layer.weight_ih_l0, gates))

    def output() -> torch.Tensor:
        with _projected(gx):
            return layer(x)[0]

    return _calls(output, [p for p in layer.parameters() if p.requires_grad])


def flashrnn(case: Case, dtype: str, weights: dict[str, torch.Tensor]) -> Calls:
    """FlashRNN's fused kernels, one head. They take x W_ih^T ready-made, so this is to be read beside `recurrence`.
    It compiles for every batch and hidden size, which takes far longer than the measurement."""
    if dtype not in ("bf16", "fp16") or case.bidirectional or case.ragged or case.cell != "lstm":
        raise Skip("bf16 and fp16, one direction, dense rows, LSTM only")
    try:
        from flashrnn import flashrnn as run
    except ImportError as error:
        raise Skip(f"cannot be imported: {error}") from None
    kind = DTYPES[dtype]
    wx = _random(case.B, case.T, 4, 1, case.H, dtype=kind).requires_grad_()
    r = _random(4, 1, case.H, case.H, dtype=kind, scale=case.H**-0.5).requires_grad_()
    b = _random(4, 1, case.H, dtype=kind).requires_grad_()
    options = {
        "states": torch.zeros(2, case.B, 1, 1, case.H, dtype=kind, device=DEVICE),
        "function": "lstm",
        "backend": "cuda_fused",
        "dtype": {"bf16": "bfloat16", "fp16": "float16"}[dtype],
    }

    def output() -> torch.Tensor:
        return run(wx, r, b, **options)[0][0]

    return _calls(output, [wx, r, b])


def haste(case: Case, dtype: str, weights: dict[str, torch.Tensor]) -> Calls:
    """haste's layers, which are of fp32."""
    if dtype != "fp32" or case.bidirectional or case.ragged or case.cell == "rnn":
        raise Skip("fp32, one direction, dense rows, LSTM and GRU only")
    try:
        import haste_pytorch
    except ImportError as error:
        raise Skip(f"cannot be imported: {error}") from None
    layer = getattr(haste_pytorch, CLASSES[case.cell])(case.I, case.H).to(DEVICE)
    x = _random(case.T, case.B, case.I, dtype=torch.float32).requires_grad_()
    return _calls(lambda: layer(x)[0], [x, *layer.parameters()])


SIDES: dict[str, Callable[[Case, str, dict[str, torch.Tensor]], Calls]] = {
    "fastrnn": lambda *args: module(fastrnn, *args),
    "cudnn": lambda *args: module(torch.nn, *args),
    "recurrence": recurrence,
    "flashrnn": flashrnn,
    "haste": haste,
}

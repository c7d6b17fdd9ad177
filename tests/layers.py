"""Random arguments for one layer and direction, and comparisons, shared by the kernel and autograd tests."""

from dataclasses import dataclass, replace

import torch
from helpers import drawn
from torch import Tensor

from fastrnn import ops, reference
from fastrnn.autograd import recurrent_layer

CELLS = ("rnn_tanh", "rnn_relu", "gru", "lstm")


@dataclass(frozen=True)
class Case:
    cell: str
    T: int = 5
    B: int = 3
    I: int = 4
    H: int = 6
    P: int = 0
    lengths: tuple[int, ...] = ()  # ragged rows, longest first
    reverse: bool = False
    state: bool = True
    bias: bool = True
    dtype: torch.dtype = torch.float64

    def with_(self, **changes) -> "Case":
        return replace(self, **changes)


def ragged(case: Case) -> Case:
    """The case with lengths that fall from T to 1."""
    steps = torch.linspace(case.T, 1, case.B).round().long().tolist()
    return case.with_(lengths=tuple(steps))


def arguments(case: Case, seed: int = 0, requires_grad: bool = True) -> list[Tensor | None]:
    """x, hx, cx, w_ih, w_hh, b_ih, b_hh, w_hr, batch_sizes: values that are the same in every dtype up to
    rounding."""
    g = torch.Generator().manual_seed(seed)
    gates, R = ops.GATES[case.cell], case.P or case.H

    def random(*shape: int, scale: float = 0.5) -> Tensor:
        t = drawn(g, *shape).mul_(scale).to(case.dtype)
        return t.requires_grad_() if requires_grad else t

    sizes = None
    if case.lengths:
        sizes = torch.tensor([sum(length > t for length in case.lengths) for t in range(case.T)], device="cpu")
    x = random(*((int(sizes.sum()), case.I) if sizes is not None else (case.T, case.B, case.I)), scale=1.0)
    hx = random(case.B, R) if case.state else None
    cx = random(case.B, case.H) if case.state and case.cell == "lstm" else None
    w_ih = random(gates * case.H, case.I, scale=case.I**-0.5)
    w_hh = random(gates * case.H, R, scale=0.8 * R**-0.5)
    b_ih, b_hh = (random(gates * case.H), random(gates * case.H)) if case.bias else (None, None)
    w_hr = random(case.P, case.H, scale=case.H**-0.5) if case.P else None
    return [x, hx, cx, w_ih, w_hh, b_ih, b_hh, w_hr, sizes]


def outputs(run, case: Case, args: list[Tensor | None]) -> list[Tensor]:
    *tensors, sizes = args
    return [o for o in run(case.cell, *tensors, batch_sizes=sizes, reverse=case.reverse) if o is not None]


def upstream(outs: list[Tensor], seed: int = 1) -> list[Tensor]:
    g = torch.Generator().manual_seed(seed)
    return [drawn(g, *o.shape).to(o) for o in outs]


def gradients(outs: list[Tensor], args: list[Tensor | None], seed: int = 1) -> list[Tensor]:
    """Gradients of random upstream gradients into all outputs at once."""
    leaves = [a for a in args[:-1] if a is not None and a.requires_grad]
    return list(torch.autograd.grad(outs, leaves, upstream(outs, seed)))


def ours_and_reference(case: Case) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs and gradients of the kernels, and those of the reference, from equal arguments."""
    results = []
    for run in (recurrent_layer, reference.recurrent_layer):
        args = arguments(case)
        outs = outputs(run, case, args)
        results.append([o.detach() for o in outs] + gradients(outs, args))
    return results[0], results[1]


def assert_as_reference(case: Case) -> None:
    ours, true = ours_and_reference(case)
    for mine, ref in zip(ours, true, strict=True):
        torch.testing.assert_close(mine, ref, rtol=1e-9, atol=1e-11)


FORMS = ("dense", "ragged", "no state", "no bias")


def in_form(case: Case, form: str) -> Case:
    return {
        "dense": case,
        "ragged": ragged(case),
        "no state": ragged(case.with_(state=False)),
        "no bias": case.with_(bias=False),
    }[form]


def assert_each_gradient_comes_alone(case: Case) -> None:
    """Each gradient alone is, to the bit, the one that comes with all the others."""
    args = arguments(case)
    full = gradients(outputs(recurrent_layer, case, args), args)
    present = [i for i, a in enumerate(args[:-1]) if a is not None]
    for position, i in enumerate(present):
        alone = [a if a is None or k in (i, 8) else a.detach() for k, a in enumerate(args)]
        (grad,) = gradients(outputs(recurrent_layer, case, alone), alone)
        assert torch.equal(grad, full[position])

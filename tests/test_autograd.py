"""Derivatives of every order and mode, and what autograd promises about saved tensors."""

import pytest
import torch
from layers import CELLS, Case, arguments, outputs, ragged
from torch.autograd import gradcheck, gradgradcheck

from fastrnn import reference
from fastrnn.autograd import recurrent_layer

TINY = [
    pytest.param(Case(cell, 3, 2, 2, 3, P), id=f"{cell}{'-proj' if P else ''}")
    for cell, P in [*((c, 0) for c in CELLS), ("lstm", 2)]
]


def as_function(case: Case):
    """The layer as a function of its differentiable arguments, and those arguments."""
    args = arguments(case)
    present = [a is not None for a in args[:-1]]

    def layer(*leaves):
        rest = iter(leaves)
        full = [next(rest) if p else None for p in present] + args[-1:]
        return tuple(outputs(recurrent_layer, case, full))

    return layer, tuple(a for a in args[:-1] if a is not None)


@pytest.mark.parametrize("case", TINY)
@pytest.mark.parametrize("form", ["dense", "ragged reverse"])
def test_gradcheck(case, form):
    function, leaves = as_function(case if form == "dense" else ragged(case).with_(reverse=True))
    assert gradcheck(function, leaves, check_forward_ad=True, check_batched_grad=form == "dense", fast_mode=False)


@pytest.mark.parametrize("case", TINY)
@pytest.mark.parametrize("form", ["dense", "ragged reverse"])
def test_gradgradcheck(case, form):
    function, leaves = as_function(case if form == "dense" else ragged(case).with_(reverse=True))
    assert gradgradcheck(function, leaves, check_fwd_over_rev=True, fast_mode=True)


@pytest.mark.parametrize("case", TINY)
def test_first_derivative_of_create_graph_is_the_kernels(case):
    function, leaves = as_function(case)
    plain = torch.autograd.grad(sum(o.sum() for o in function(*leaves)), leaves)
    graph = torch.autograd.grad(sum(o.sum() for o in function(*leaves)), leaves, create_graph=True)
    assert all(torch.equal(a, b) for a, b in zip(plain, graph, strict=True))
    assert all(g.requires_grad for g in graph)


@pytest.mark.parametrize("case", TINY)
def test_third_derivative(case):
    """Of a scalar along one direction, against the reference."""
    results = []
    for run in (recurrent_layer, reference.recurrent_layer):
        args = arguments(case)
        x = args[0]
        value = outputs(run, case, args)[0].pow(2).sum()
        for _ in range(3):
            (g,) = torch.autograd.grad(value, x, create_graph=True)
            value = (g * torch.linspace(-1, 1, g.numel(), dtype=g.dtype).view_as(g)).sum()
        results.append(value.detach())
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("case", TINY)
def test_torch_func(case):
    x, *rest = arguments(case, requires_grad=False)

    def loss(run):
        return lambda x: outputs(run, case, [x, *rest])[0].square().sum()

    ours, true = loss(recurrent_layer), loss(reference.recurrent_layer)
    torch.testing.assert_close(torch.func.grad(ours)(x), torch.func.grad(true)(x), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(torch.func.jacrev(ours)(x), torch.func.jacrev(true)(x), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(torch.func.hessian(ours)(x), torch.func.hessian(true)(x), rtol=1e-9, atol=1e-11)
    for a, b in zip(*(torch.func.vjp(run, x)[1](torch.ones((), dtype=x.dtype)) for run in (ours, true)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
    tangent = torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view_as(x)
    for a, b in zip(torch.func.jvp(ours, (x,), (tangent,)), torch.func.jvp(true, (x,), (tangent,)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
    batch = torch.stack([x, 2 * x, -x])
    torch.testing.assert_close(
        torch.func.vmap(ours)(batch), torch.stack([true(b) for b in batch]), rtol=1e-9, atol=1e-11
    )
    per_example = torch.func.vmap(torch.func.grad(ours))(batch)
    torch.testing.assert_close(
        per_example, torch.stack([torch.func.grad(true)(b) for b in batch]), rtol=1e-9, atol=1e-11
    )


@pytest.mark.parametrize("case", TINY)
def test_float32_forward_mode(case):
    case = case.with_(dtype=torch.float32)
    args = arguments(case, requires_grad=False)
    with torch.autograd.forward_ad.dual_level():
        dual = [torch.autograd.forward_ad.make_dual(args[0], torch.ones_like(args[0])), *args[1:]]
        tangents = [
            torch.autograd.forward_ad.unpack_dual(outputs(run, case, dual)[0]).tangent
            for run in (recurrent_layer, reference.recurrent_layer)
        ]
    torch.testing.assert_close(tangents[0], tangents[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_saved_tensors_are_seen_by_hooks_and_can_be_replaced(cell):
    """Everything backward reads goes through the hooks: copies made by them give the same gradients."""
    case = Case(cell, 4, 3, 4, 10)
    args = arguments(case)
    leaves = [a for a in args[:-1] if a is not None]
    true = torch.autograd.grad(outputs(recurrent_layer, case, args)[0].sum(), leaves)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.detach().clone(), lambda t: t):
        y = outputs(recurrent_layer, case, args)[0]
    assert all(torch.equal(a, b) for a, b in zip(true, torch.autograd.grad(y.sum(), leaves), strict=True))


@pytest.mark.parametrize("cell", CELLS)
def test_change_between_forward_and_backward_is_an_error(cell):
    case = Case(cell, 4, 3, 4, 10)
    for changed in (0, 3, 4):
        args = arguments(case)
        y = outputs(recurrent_layer, case, args)[0]
        with torch.no_grad():
            args[changed].mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


def test_no_graph_where_none_is_needed():
    case = Case("lstm")
    args = arguments(case, requires_grad=False)
    assert not any(o.requires_grad for o in outputs(recurrent_layer, case, args))
    with torch.no_grad():
        assert not any(o.requires_grad for o in outputs(recurrent_layer, case, arguments(case)))

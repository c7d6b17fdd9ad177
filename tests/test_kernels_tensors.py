"""Tensors that are not plain memory: their values count, or there is a clear error, never a wrong result or a crash."""

import pytest
import torch
from layers import CELLS, Case, arguments, outputs, ragged
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.two_tensor import TwoTensor

import fastrnn
from fastrnn.autograd import recurrent_layer

CASE = Case("lstm", 4, 3, 5, 6, dtype=torch.float32)


@pytest.mark.parametrize("position", [0, 1, 2, 3, 4, 5])
def test_lazy_negation(position):
    args = arguments(CASE, requires_grad=False)
    lazy = list(args)
    lazy[position] = torch._neg_view(-args[position])
    assert lazy[position].is_neg()
    for a, b in zip(outputs(recurrent_layer, CASE, lazy), outputs(recurrent_layer, CASE, args), strict=True):
        assert torch.equal(a, b)


def test_lazily_negated_gradient():
    args = arguments(CASE)
    y = outputs(recurrent_layer, CASE, args)[0]
    dy = torch.randn_like(y)
    (lazy,) = torch.autograd.grad(y, args[0], torch._neg_view(-dy), retain_graph=True)
    assert torch.equal(lazy, torch.autograd.grad(y, args[0], dy)[0])


def test_zeros_without_storage():
    args = arguments(CASE, requires_grad=False)
    x = torch._efficientzerotensor(args[0].shape, device=args[0].device)
    y = outputs(recurrent_layer, CASE, [x, *args[1:]])[0]
    assert torch.equal(y, outputs(recurrent_layer, CASE, [torch.zeros_like(args[0]), *args[1:]])[0])


@pytest.mark.parametrize("position", [1, 3, 4])
def test_wrapper_subclass(position):
    args = arguments(CASE, requires_grad=False)
    wrapped = list(args)
    wrapped[position] = TwoTensor(args[position], args[position])
    y = outputs(recurrent_layer, CASE, wrapped)[0]
    inner = y.a if isinstance(y, TwoTensor) else y
    assert torch.equal(inner, outputs(recurrent_layer, CASE, args)[0])


def test_fake_weight_outside_its_mode_is_an_error():
    args = arguments(CASE, requires_grad=False)
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(args[4])
    with pytest.raises(Exception, match=r"[Ff]ake"):
        outputs(recurrent_layer, CASE, [*args[:4], fake, *args[5:]])


@pytest.mark.parametrize("position", [0, 3, 4, 5])
def test_freed_storage_is_an_error(position):
    args = arguments(CASE, requires_grad=False)
    args[position] = args[position].clone()
    args[position].untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match="storage was freed"):
        outputs(recurrent_layer, CASE, args)


@pytest.mark.parametrize("grad", [False, True])
def test_jit_trace_records_the_layer(grad):
    layer, x, other = fastrnn.GRU(5, 6), torch.randn(4, 3, 5), torch.randn(4, 3, 5)
    layer.requires_grad_(grad)
    with torch.no_grad():
        traced = torch.jit.trace(layer, (x,), check_trace=False)
        assert torch.equal(traced(other)[0], layer(other)[0])


def test_sparse_is_refused():
    with pytest.raises(TypeError, match="should be dense"):
        fastrnn.GRU(5, 6)(torch.randn(4, 3, 5).to_sparse())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("T, B", [(1, 2), (1, 7), (3, 7)])
@pytest.mark.parametrize("cell", CELLS)
def test_a_broken_weight_shows_at_the_first_step(cell, T, B, value):
    """Also where no state is given: zero times infinity is NaN."""
    case = Case(cell, T, B, 3, 40, state=False)
    args = arguments(case, requires_grad=False)
    args[4][-1, -1] = value
    y = outputs(recurrent_layer, case, args)[0]
    assert y[0, :, -1].isnan().all()
    assert y[0].isnan().sum() == B


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("form", ["dense", "ragged"])
@pytest.mark.parametrize("T", [1, 3])
@pytest.mark.parametrize("cell", ["rnn_tanh", "gru", "lstm"])
def test_a_broken_gradient_of_the_first_step_shows_in_every_weight(cell, T, form, reverse):
    case = Case(cell, T, 7, 3, 40, state=False, reverse=reverse)
    if form == "ragged":
        case = ragged(case)
    args = arguments(case)
    y = outputs(recurrent_layer, case, args)[0]
    above = torch.zeros_like(y)
    above.view(-1, 40)[-1 if reverse else 2, -1] = float("nan")  # a row of the first step in running order
    for grad in torch.autograd.grad(y, args[3:7], above):
        assert grad[-1].isnan().all()

"""The short way back: the gradients of the long one, saved tensors looked at, what is out of the ordinary declined."""

import pytest
import torch
from quick_calls import CELLS, FORMS, arguments, long, short

import fastrnn
from fastrnn import _native, _quick

pytestmark = [pytest.mark.cpu, pytest.mark.usefixtures("no_calls_kept")]


@pytest.fixture
def back(monkeypatch):
    """Which backward passes went the short way."""
    short_ones, gradients = [], _quick._Call.gradients

    def counted(*args):
        made = gradients(*args)
        short_ones.append(made is not None)
        return made

    monkeypatch.setattr(_quick._Call, "gradients", counted)
    return short_ones


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cell", CELLS)
def test_the_way_back(cell, form, back, poisoned):
    """Each mixture of gradients that arrive and that are asked for, twice, so that the second finds the guard."""
    args = [t.requires_grad_() for t in arguments(cell, form)]
    count = len(long(cell, form, *args))
    for there in ([0], [count - 1], list(range(count))):
        for wanted in ([0], [1, 4], list(range(len(args)))):
            for seed in range(2):
                made = []
                for way in (short, long):
                    all_outs = way(cell, form, *args)
                    outs = [all_outs[i] for i in there]
                    above = [torch.randn(o.shape, generator=torch.Generator().manual_seed(seed)) for o in outs]
                    made.append(torch.autograd.grad(outs, [args[i] for i in wanted], above, allow_unused=True))
                for mine, theirs in zip(*made, strict=True):
                    torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    assert back == [True] * 18


def test_the_long_way_back():
    """A gradient that is expanded, and one that comes in parts of a batch, after an ordinary one."""
    args = [t.requires_grad_() for t in arguments("gru", "layer")]
    y = short("gru", "layer", *args)[0]
    y.backward(torch.ones_like(y), retain_graph=True)
    ordinary = args[0].grad.clone()
    args[0].grad = None
    y.sum().backward(retain_graph=True)
    torch.testing.assert_close(args[0].grad, ordinary)
    stacked = torch.stack([torch.ones_like(y), torch.zeros_like(y)])
    (batch,) = torch.autograd.grad(y, args[0], stacked, is_grads_batched=True)
    torch.testing.assert_close(batch, torch.stack([ordinary, torch.zeros_like(ordinary)]))


@pytest.mark.parametrize("cell", CELLS)
def test_storage_freed_before_the_way_back_is_an_error(cell):
    for position in range(6):
        args = [t.requires_grad_() for t in arguments(cell, "layer")]
        y = short(cell, "layer", *args)[0]
        y.backward(torch.ones_like(y), retain_graph=True)
        args[position].untyped_storage().resize_(0)
        with pytest.raises(RuntimeError, match="storage was freed"):
            y.backward(torch.ones_like(y))


HOOKS = {
    "half": torch.Tensor.half,
    "double": torch.Tensor.double,
    "one row": lambda t: t[:1],
    "another device": lambda t: t.to("meta"),
}


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("after_another", [False, True], ids=["first", "after another"])
@pytest.mark.parametrize("form", ["layer", "ragged"])
@pytest.mark.parametrize("way", [short, long])
def test_what_hooks_make_of_saved_tensors_is_looked_at(way, form, after_another, hook):
    args = [t.requires_grad_() for t in arguments("gru", form)]

    def grad(pack):
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            y = way("gru", form, *args)[0]
        return torch.autograd.grad(y, args, torch.ones_like(y))

    expected = grad(torch.clone) if after_another else None
    with pytest.raises(RuntimeError, match="saved_tensors_hooks should give back what they were given"):
        grad(HOOKS[hook])
    if expected:
        for again, before in zip(grad(lambda t: t), expected, strict=True):
            torch.testing.assert_close(again, before, rtol=0, atol=0)


def test_the_way_back_under_another_isa_is_that_of_the_way_there():
    args = [t.requires_grad_() for t in arguments("lstm", "layer", H=40)]
    for isa in _native.available_isas():
        y = short("lstm", "layer", *args)[0]
        expected = torch.autograd.grad(y, args, torch.ones_like(y), retain_graph=True)
        with _native.use_isa(isa):
            for mine, before in zip(torch.autograd.grad(y, args, torch.ones_like(y)), expected, strict=True):
                torch.testing.assert_close(mine, before, rtol=0, atol=0)


def test_a_saved_tensor_that_changed_is_an_error():
    module, x = fastrnn.GRU(4, 5), torch.randn(3, 2, 4)
    y, _ = module(x)
    y.detach().zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()

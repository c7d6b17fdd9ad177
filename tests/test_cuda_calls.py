"""How Python calls the CUDA kernels: the plan, the short way, what is told to a call and by it, and what torch does
around them. On a GPU where there is one, and with emulated kernels (tests/emulation.py) everywhere.
"""

import pytest
import quick_calls
import torch
from layers import CELLS, Case, arguments, gradients, outputs, ragged

import fastrnn
from fastrnn import _cuda, _cuda_layer, _cuda_products, _quick
from fastrnn.autograd import recurrent_layer


def test_who_may_take_torchs_products(emulated, monkeypatch):
    monkeypatch.setattr(_cuda, "tf32", lambda: False)
    monkeypatch.delenv("FASTRNN_CUDA_TIER", raising=False)
    wide = "lstm", 100, 64, 1024, torch.float32
    sizes = torch.tensor([64] * 99 + [3])
    assert _cuda.plan(*wide)[0] == "e"
    assert _cuda.plan(*wide, batch_sizes=sizes)[0] == "d"  # ragged
    assert _cuda.plan(*wide, 512)[0] == "c"  # projected
    assert _cuda.plan("lstm", 100, 16, 512, torch.float32)[0] == "d"  # small
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        assert _cuda.plan(*wide)[0] == "d"  # torch's products would be rounded, and ours are not to be
        monkeypatch.setattr(_cuda, "tf32", lambda: True)
        assert _cuda.plan("lstm", 100, 128, 2048, torch.float32)[0] == "e"
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_reserve_that_begins_anywhere(device, cell):
    """vmap hands slices to backward, and the kernels read 16 bytes at once."""
    case = Case(cell, 3, 1, 2, 7, dtype=torch.float32)
    args = [None if a is None else torch.stack([a, a + 0.1, a - 0.1]).detach() for a in arguments(case)[:-1]]

    def loss(*tensors):
        rest = iter(tensors)
        given = [None if a is None else next(rest) for a in args]
        return sum(out.square().sum() for out in outputs(recurrent_layer, case, [*given, None]))

    present = [a for a in args if a is not None]
    together = torch.func.vmap(torch.func.grad(loss, argnums=tuple(range(len(present)))))(*present)
    for i in range(3):
        alone = torch.func.grad(loss, argnums=tuple(range(len(present))))(*(a[i] for a in present))
        for one, all_ in zip(alone, together, strict=True):
            torch.testing.assert_close(all_[i], one, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("which", ["x", "hx", "w_ih", "b_hh", "dy", "dh_n", "y", "reserve", "batch"])
def test_what_does_not_fit_reaches_no_kernel(device, which):
    """A traced graph of fixed sizes, or a hook, may bring it past the modules' checks."""
    case = Case("gru", 3, 2, 2, 7, dtype=torch.float32)
    x, hx, cx, *weights = (
        None if a is None else a.detach().to("cuda" if device == "gpu" else "cpu") for a in arguments(case)[:-1]
    )
    names = ("x", "hx", "cx", "w_ih", "w_hh", "b_ih", "b_hh", "w_hr")
    forward = dict(zip(names, (x, hx, cx, *weights), strict=True)) | {"batch_sizes": None, "batch": 2, "reverse": False}
    y, h_n, _, reserve = _cuda_layer.forward("gru", *forward.values(), True)
    above = {"dy": y, "dh_n": h_n, "dc_n": None}
    backward = above | dict(zip(names, forward.values(), strict=False)) | {"y": y, "reserve": reserve}
    backward |= {"batch_sizes": None, "batch": 2, "reverse": False}
    needed = [t is not None for t in (x, hx, cx, *weights)]
    _cuda_layer.backward("gru", *backward.values(), needed)
    for run, given, last in ((_cuda_layer.forward, forward, True), (_cuda_layer.backward, backward, needed)):
        if which in given:
            wrong = given | {which: 5 if which == "batch" else given[which][..., :1]}
            with pytest.raises(RuntimeError, match="should be"):
                run("gru", *wrong.values(), last)


@pytest.mark.parametrize("given", [True, False], ids=["states", "no states"])
@pytest.mark.parametrize("form", quick_calls.FORMS)
@pytest.mark.parametrize("cell", quick_calls.CELLS)
def test_the_short_way_is_equal_to_the_long_one(device, no_calls_kept, cell, form, given):
    where = "cuda" if device == "gpu" else "cpu"
    for seed in (0, 1):  # the second is not looked through again
        args = [t.to(where).requires_grad_() for t in quick_calls.arguments(cell, form, given, seed)]
        found = []
        for way in (quick_calls.short, quick_calls.long):
            with torch.no_grad():
                without = way(cell, form, *args)
            outs = way(cell, form, *args)
            gradients = torch.autograd.grad(outs, args, [torch.ones_like(o).cumsum(-1) for o in outs])
            found.append([*without, *outs, *gradients])
        for mine, theirs in zip(*found, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    assert len(_quick._calls) == 2  # with gradients, and without


def test_what_changes_between_calls_is_seen(emulated, monkeypatch, no_calls_kept):
    """The tier, TF32 and the wait belong to a call, not to what is kept for calls alike."""
    layer, x = fastrnn.LSTM(7, 40), torch.randn(6, 5, 7)
    asked = []
    make = _cuda.call
    monkeypatch.setattr(
        _cuda, "call", lambda sizes, dtype, told, *more: asked.append(told) or make(sizes, dtype, told, *more)
    )
    with torch.no_grad():
        for tier, fast in (("c", False), ("c", False), ("d", False), ("d", True), ("b", True)):
            monkeypatch.setenv("FASTRNN_CUDA_TIER", tier)
            monkeypatch.setattr(_cuda, "tf32", lambda fast=fast: fast)
            layer(x)
    assert [(told.tier, told.tf32) for told in asked] == [("c", False), ("d", False), ("d", True), ("b", True)]


@pytest.mark.parametrize("tier", ["c", "e"])
def test_autocast_around_backward_alone_changes_nothing(device, monkeypatch, no_calls_kept, tier):
    monkeypatch.setenv("FASTRNN_CUDA_TIER", tier)
    layer, x = fastrnn.LSTM(7, 40), torch.randn(6, 5, 7, requires_grad=True)
    leaves = [x, *layer.parameters()]
    plain = torch.autograd.grad(layer(x)[0].sum(), leaves)
    y = layer(x)[0].sum()
    with torch.autocast(x.device.type, dtype=torch.bfloat16):
        under = torch.autograd.grad(y, leaves)
    for a, b in zip(under, plain, strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, b)


def test_weight_dtype_is_for_the_cpu(device, no_calls_kept):
    layer = fastrnn.LSTM(7, 40)
    x = torch.randn(6, 5, 7)
    with torch.no_grad():
        plain = layer(x)[0]
        layer.weight_dtype = torch.bfloat16
        assert torch.equal(layer(x)[0], plain)
    assert not layer._packed._kept  # nothing was packed


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_wait_that_is_too_long_is_told_and_done_again(device, persistent, monkeypatch, cell, reverse):
    case = ragged(Case(cell, 5, 20, 4, 72, dtype=torch.bfloat16, reverse=reverse))
    args = arguments(case)
    monkeypatch.setattr(_cuda, "_TIMEOUT_NS", -1)

    def told():
        if device == "gpu":
            torch.cuda.synchronize()
        (status,) = _cuda._status.values()
        return status

    late = outputs(recurrent_layer, case, args)
    assert int(told()) == 1
    told().zero_()
    late += gradients(late, args)
    assert int(told()) == 1
    with pytest.warns(RuntimeWarning, match="waited too long"):
        stepwise = outputs(recurrent_layer, case, args)
    stepwise += gradients(stepwise, args)
    # the doing again has the order of k of the kernel that gave up, and a GPU's compiler may contract differently
    slack = 0 if device == "emulated" and persistent != "a" else 0.02
    for a, b in zip(late, stepwise, strict=True):
        torch.testing.assert_close(a, b, rtol=slack, atol=slack)
    told().zero_()


def test_plan_says_why(emulated, monkeypatch):
    monkeypatch.setattr(_cuda, "tf32", lambda: False)
    monkeypatch.delenv("FASTRNN_CUDA_TIER", raising=False)
    half = torch.bfloat16
    assert _cuda.plan("lstm", 100, 16, 512, half) == ("a", "the weights fit a cluster", 8)
    assert _cuda.plan("lstm", 100, 16, 512, half, backward=True)[0] == "a"
    assert _cuda.plan("lstm", 100, 16, 1024, half)[0] == "b"
    assert _cuda.plan("lstm", 100, 16, 1024, half, backward=True)[0] == "b"
    for arguments_, tier, why in [
        (("lstm", 100, 16, 512, torch.float32), "d", "exact fp32"),
        (("lstm", 100, 16, 513, half), "c", "no multiple of 8"),
        (("lstm", 100, 16, 513, half), "c", "a launch a step is faster"),
        (("lstm", 100, 16, 513, half, 0, None, True), "d", "no multiple of 8"),
        (("lstm", 100, 64, 1024, half, 0, None, True), "d", "cannot all run at once"),
        (("lstm", 100, 64, 1025, half, 0, None, True), "c", "a launch a step is faster"),
        (("lstm", 100, 16, 4096, half, 0, None, True), "c", "do not fit the registers"),
        (("lstm", 2, 16, 512, half), "c", "too few steps"),
        (("lstm", 100, 16, 512, half, 64), "c", "projection"),
    ]:
        found, reason, _ = _cuda.plan(*arguments_)
        assert found == tier and why in reason, reason
    monkeypatch.setenv("FASTRNN_CUDA_TIER", "b")
    assert _cuda.plan("lstm", 100, 16, 512, half)[:2] == ("b", "forced")
    monkeypatch.setenv("FASTRNN_CUDA_TIER", "x")
    with pytest.raises(RuntimeError, match="not one of a, b, d, e, c"):
        _cuda.plan("lstm", 100, 16, 512, half)


def test_wide_products_are_torchs_where_it_has_them():
    """torch 2.8 and later multiply 16-bit matrices into float32 on CUDA."""
    version = tuple(map(int, torch.__version__.split("+")[0].split(".")[:2]))
    assert (_cuda.wide is not None) == (version >= (2, 8))
    x, w = torch.randn(3, 4).bfloat16(), torch.randn(5, 4).bfloat16()
    assert torch.equal(_cuda_products.project(x, w), (x @ w.t()).float())  # and on the CPU there are none

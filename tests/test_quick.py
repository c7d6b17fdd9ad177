"""The short way: it gives what the long way gives, in every order of calls, and declines what it is not for."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

import fastrnn
from fastrnn import _guards, _native, _quick
from fastrnn.autograd import recurrent_layer

CELLS = ("rnn_tanh", "gru", "lstm")
LAYERS = {"rnn_tanh": fastrnn.RNN, "gru": fastrnn.GRU, "lstm": fastrnn.LSTM}
STEPS = {"rnn_tanh": fastrnn.RNNCell, "gru": fastrnn.GRUCell, "lstm": fastrnn.LSTMCell}
FORMS = ("layer", "reverse", "ragged", "ragged reverse", "step")
SIZES = [2, 2, 1]  # rows of the steps of a ragged batch
pytestmark = pytest.mark.cpu


@pytest.fixture(autouse=True)
def _no_calls_kept():
    _quick._calls.clear()


@pytest.fixture
def taken(monkeypatch):
    """How often the short way was taken, and how often it looked through the tensors."""
    counts = {"runs": 0, "looks": 0}
    run, look = _quick._Call.run, _quick._ordinary

    def count(name, function):
        def counted(*args):
            counts[name] += 1
            return function(*args)

        return counted

    monkeypatch.setattr(_quick._Call, "run", count("runs", run))
    monkeypatch.setattr(_quick, "_ordinary", count("looks", look))
    return counts


def arguments(cell, form, given=True, seed=0, dtype=torch.float32, B=2, T=3, I=4, H=5):
    """x, weights (4) and states of one call."""
    g = torch.Generator().manual_seed(seed)
    rows = fastrnn._checks.GATES[cell] * H
    x = (B, I) if form == "step" else (sum(SIZES), I) if "ragged" in form else (T, B, I)
    shapes = [x, (rows, I), (rows, H), (rows,), (rows,)]
    shapes += ([(B, H) if form == "step" else (1, B, H)] * (2 if cell == "lstm" else 1)) if given else []
    return [torch.randn(shape, generator=g, dtype=dtype) for shape in shapes]


def hx_of(cell, states):
    return None if not states else tuple(states) if cell == "lstm" else states[0]


def short(cell, form, x, *rest):
    weights, states = rest[:4], rest[4:]
    sizes = SIZES if "ragged" in form else None
    units = weights[1].shape[1]
    results = _quick.quick(cell, x, hx_of(cell, states), weights, units, form == "step", None, "reverse" in form, sizes)
    assert results is not None
    if form == "step":
        return tuple(results)
    y, hx = results
    return (y, *hx) if cell == "lstm" else (y, hx)


def long(cell, form, x, *rest):
    weights, states = rest[:4], [s if form == "step" else s.squeeze(0) for s in rest[4:]]
    hx, cx = (*states, None, None)[:2]
    sizes = torch.tensor(SIZES) if "ragged" in form else None
    x = x.unsqueeze(0) if form == "step" else x
    y, h_n, c_n = recurrent_layer(cell, x, hx, cx, *weights, None, sizes, "reverse" in form)
    finals = [s if form == "step" else s.unsqueeze(0) for s in (h_n, c_n) if s is not None]
    return tuple(finals if form == "step" else [y, *finals])


@pytest.mark.parametrize("given", [True, False], ids=["states", "no states"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cell", CELLS)
def test_equal_to_the_long_way(cell, form, given, poisoned):
    args = arguments(cell, form, given)
    for one in (args, arguments(cell, form, given, seed=1)):  # the second is not looked through again
        for mine, theirs in zip(short(cell, form, *one), long(cell, form, *one), strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=0)
    for t in args:
        t.requires_grad_()
    gradients = []
    for way in (short, long):
        outs = way(cell, form, *args)
        gradients.append(torch.autograd.grad(outs, args, [torch.ones_like(o).cumsum(-1) for o in outs]))
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cell", CELLS)
def test_derivatives(cell, form):
    args = tuple(t.requires_grad_() for t in arguments(cell, form, dtype=torch.float64, T=2, I=2, H=3))
    assert gradcheck(lambda *a: short(cell, form, *a), args, check_batched_grad=True)
    assert gradgradcheck(lambda *a: short(cell, form, *a), args, fast_mode=True)


@pytest.mark.parametrize("cell", CELLS)
def test_only_what_requires_a_gradient_gets_one(cell):
    for position in range(5):
        args = arguments(cell, "step")
        args[position].requires_grad_()
        outs = short(cell, "step", *args)
        assert all(o.requires_grad for o in outs)
        outs[0].sum().backward()
        assert [t.grad is not None for t in args] == [i == position for i in range(len(args))]
    with torch.no_grad():
        assert not any(o.requires_grad for o in short(cell, "step", *args))


@pytest.mark.parametrize("form", ["layer", "step"])
@pytest.mark.parametrize("cell", CELLS)
def test_a_loop_is_looked_through_once(cell, form, taken):
    module = (STEPS if form == "step" else LAYERS)[cell](4, 5)
    x = torch.randn(2, 4) if form == "step" else torch.randn(1, 2, 4)
    for grad in (False, True):
        with torch.set_grad_enabled(grad):
            out = module(x)
            hx = out if form == "step" else out[1]
            for _ in range(4):
                out = module(x, hx)
    # without states, with new ones, and (in the loop with gradients) with these
    assert taken == {"runs": 10, "looks": 4}


@pytest.mark.parametrize("cell", CELLS)
def test_every_layer_and_direction_goes_the_short_way(cell, taken):
    module, x = LAYERS[cell](4, 5, num_layers=2, bidirectional=True), torch.randn(3, 2, 4)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, torch.tensor([2, 3]), enforce_sorted=False)
    h = torch.randn(4, 2, 5)
    for hx in (None, (h, h.clone()) if cell == "lstm" else h):
        module(x, hx)
        module(packed, hx)
    assert taken["runs"] == 16


@pytest.mark.parametrize("cell", CELLS)
def test_layers_of_one_shape_do_not_push_each_other_out(cell, taken):
    modules = [LAYERS[cell](6, 6, num_layers=2).to(dtype) for dtype in (torch.float32, torch.bfloat16)]
    for _ in range(3):
        for module in modules:
            module(torch.ones(3, 2, 6, dtype=module.weight_ih_l0.dtype))
    assert taken == {"runs": 12, "looks": 4}


def test_a_ragged_backward_may_stand_under_another_default_device():
    module, gradients = fastrnn.GRU(4, 5), []
    for device in ("cpu", "meta"):
        x = torch.ones(5, 4, requires_grad=True)
        y = module(torch.nn.utils.rnn.PackedSequence(x, torch.tensor(SIZES)))[0].data
        above = torch.ones(1).expand(y.shape)  # sends it the long way
        with torch.device(device):
            gradients.append(torch.autograd.grad(y, x, above)[0])
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


def test_batch_sizes_may_change_after_forward():
    """The kernels read no more rows than there were."""
    module, x = fastrnn.GRU(4, 5), torch.randn(5, 4, requires_grad=True)
    gradients = []
    for changes in (False, True):
        sizes = torch.tensor(SIZES)
        y = module(torch.nn.utils.rnn.PackedSequence(x, sizes))[0].data
        if changes:
            sizes.fill_(1000)
        gradients.append(torch.autograd.grad(y.sum(), x)[0])
    torch.testing.assert_close(*gradients, rtol=0, atol=0)


def test_one_tensor_as_both_states():
    module, x, h = fastrnn.LSTM(4, 5), torch.randn(3, 2, 4), torch.randn(1, 2, 5, requires_grad=True)
    outs, copies = module(x, (h, h)), module(x, (h, h.clone()))
    assert torch.equal(outs[1][1], copies[1][1])
    for out in (outs, copies):
        out[0].sum().backward()
    both = h.grad.clone()
    h.grad = None
    module(x, (h, h))[0].sum().backward()
    torch.testing.assert_close(2 * h.grad, both)


@pytest.mark.parametrize("form", FORMS)
def test_freed_storage_is_an_error(form):
    for position in range(7):
        args = arguments("lstm", form)
        short("lstm", form, *args)
        args[position].untyped_storage().resize_(0)
        with pytest.raises(RuntimeError, match="storage was freed"):
            short("lstm", form, *args)


def test_results_are_ones_own():
    """No two results share memory, with each other or with those of another call."""
    module, x = fastrnn.LSTM(4, 5), torch.randn(1, 2, 4)
    with torch.no_grad():
        tensors = [t for _ in range(2) for out in [module(x)] for t in (out[0], *out[1])]
    assert len({t.data_ptr() for t in tensors}) == len(tensors)


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


def test_without_guards_every_call_is_looked_through(monkeypatch, taken):
    monkeypatch.setattr(_guards, "_whole", lambda: False)
    module, x = fastrnn.RNNCell(4, 5), torch.randn(2, 4)
    first = module(x)
    assert torch.equal(module(x), first)
    assert taken == {"runs": 2, "looks": 2}


def test_kept_calls_are_bounded(monkeypatch):
    monkeypatch.setattr(_quick, "_KEPT", 3)
    module = fastrnn.RNN(4, 5)
    for T in range(1, 9):
        module(torch.randn(T, 2, 4))
        assert len(_quick._calls) <= 3


def test_under_another_isa_the_call_is_made_anew():
    module, x = fastrnn.GRU(4, 40), torch.randn(3, 2, 4)
    for isa in _native.available_isas() * 2:
        with _native.use_isa(isa):
            y, _ = module(x)
            y.sum().backward()
            torch.testing.assert_close(y, module(x, torch.zeros(1, 2, 40))[0], rtol=0, atol=0)

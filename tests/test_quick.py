"""The short way: it gives what the long way gives, in every order of calls, and declines what it is not for."""

import copy
import pickle

import pytest
import torch
from quick_calls import CELLS, FORMS, LAYERS, SIZES, STEPS, arguments, long, short
from torch.autograd import gradcheck, gradgradcheck

import fastrnn
from fastrnn import _guards, _native, _quick

pytestmark = [pytest.mark.cpu, pytest.mark.usefixtures("no_calls_kept")]


@pytest.fixture
def taken(monkeypatch):
    """How often the short way was taken, and how often it looked through the tensors."""
    counts = {"runs": 0, "looks": 0}
    fixed, look = _quick._Call._fixed, _quick._ordinary

    def count(name, function):
        def counted(*args):
            counts[name] += 1
            return function(*args)

        return counted

    def counting(*args):
        forward, backward = fixed(*args)
        return count("runs", forward), backward

    monkeypatch.setattr(_quick._Call, "_fixed", counting)
    monkeypatch.setattr(_quick, "_ordinary", count("looks", look))
    return counts


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


def test_the_last_call_is_not_taken_for_another_one():
    """What a module kept of its last call serves the next one only where that is alike."""
    module, x, h = fastrnn.RNNCell(4, 4), torch.randn(2, 4), torch.randn(2, 4)
    assert module(x, h).requires_grad
    with torch.no_grad():
        assert not module(x, h).requires_grad
        assert torch.equal(module(x), module(x, torch.zeros(2, 4)))
        tanh = module(x, h)
        module.nonlinearity = "relu"
        assert not torch.equal(module(x, h), tanh) and (module(x, h) >= 0).all()
        assert module(x[:1], h[:1]).shape == (1, 4)
        assert module.double()(x.double(), h.double()).dtype == torch.float64


@pytest.mark.parametrize("cell", CELLS)
def test_copies_and_pickles_leave_the_last_call_behind(cell):
    for module, x in ((STEPS[cell](4, 5), torch.randn(2, 4)), (LAYERS[cell](4, 5), torch.randn(3, 2, 4))):
        expected = module(x)[0]
        assert module._kept_call is not None
        for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            assert other._kept_call is None
            assert torch.equal(other(x)[0], expected)


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


def ragged_rows(lengths, width=4, seed=0):
    x = torch.randn(max(lengths), len(lengths), width, generator=torch.Generator().manual_seed(seed))
    return torch.nn.utils.rnn.pack_padded_sequence(x, lengths)


@pytest.mark.parametrize("cell", CELLS)
def test_ragged_batches_of_other_lengths_are_not_looked_through_again(cell, taken):
    module = LAYERS[cell](4, 5)
    theirs = getattr(torch.nn, type(module).__name__)(4, 5)
    theirs.load_state_dict(module.state_dict())
    for lengths in ([3, 2, 2], [7, 1, 1], [1, 1, 1], [3, 2, 2]):
        packed = ragged_rows(lengths)
        found, true = (
            [layer(packed)[0].data, *torch.autograd.grad(layer(packed)[0].data.square().sum(), layer.parameters())]
            for layer in (module, theirs)
        )
        for a, b in zip(found, true, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert taken == {"runs": 8, "looks": 1}


@pytest.mark.parametrize("cell", CELLS)
def test_a_single_row_sets_no_rule_for_others(cell):
    """It is contiguous at any stride; more rows at that stride are not."""
    module = LAYERS[cell](4, 5)

    def run(lengths, wide):
        packed = ragged_rows(lengths)
        rows, above = packed.data, torch.arange(float(packed.data.size(0) * 5)).reshape(-1, 5)
        if wide:
            rows, above = (torch.cat([t, t], 1)[:, : t.size(1)] for t in (rows, above))
        rows.requires_grad_()
        y = module(torch.nn.utils.rnn.PackedSequence(rows, packed.batch_sizes))[0].data
        return [y, *torch.autograd.grad(y, [rows, *module.parameters()], above)]

    lengths = ([1], [3])
    found, true = ([run(one, wide) for one in lengths] for wide in (True, False))
    for results, expected in zip(found, true, strict=True):
        for a, b in zip(results, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)

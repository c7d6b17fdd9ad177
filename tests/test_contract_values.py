"""Outputs and gradients equal torch.nn's: shapes, layouts, initial states, stacks, dropout."""

import pytest
import torch
from helpers import LAYERS, assert_alike, assert_same, both, evaluate, initial, leaves, rand, variants

STACKS = {
    "one": {},
    "two layers": {"num_layers": 2},
    "bidirectional": {"bidirectional": True},
    "deep bidirectional": {"num_layers": 3, "bidirectional": True},
    "no bias": {"num_layers": 2, "bidirectional": True, "bias": False},
}


@variants
@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)
def test_stacks(kind, options, stack):
    assert_alike(kind, 5, 7, input=rand(4, 3, 5), batch=3, **options, **stack)


@variants
@pytest.mark.parametrize("num_layers", [1, 2])
def test_initial_states_default_to_zeros(kind, options, num_layers):
    x = rand(4, 3, 5)
    assert_alike(kind, 5, 7, num_layers, bidirectional=True, input=x, with_hx=False, **options)


@variants
@pytest.mark.parametrize(
    ("steps", "batch", "input_size", "hidden_size"),
    [(1, 1, 1, 3), (1, 1, 129, 64), (2, 17, 3, 7), (63, 1, 7, 64), (63, 3, 4, 129), (2, 3, 64, 129)],
)
def test_sizes(kind, options, steps, batch, input_size, hidden_size):
    x = rand(steps, batch, input_size)
    assert_alike(kind, input_size, hidden_size, input=x, batch=batch, **options)


@pytest.mark.parametrize("kind", LAYERS)
def test_hidden_size_one(kind):
    assert_alike(kind, 2, 1, 2, input=rand(3, 2, 2), batch=2)


@variants
def test_batch_first(kind, options):
    options = {**options, "num_layers": 2, "bidirectional": True, "batch_first": True}
    assert_alike(kind, 5, 7, input=rand(3, 4, 5), batch=3, **options)


@variants
@pytest.mark.parametrize("batch_first", [True, False])
def test_unbatched(kind, options, batch_first):
    options = {**options, "num_layers": 2, "bidirectional": True, "batch_first": batch_first}
    assert_alike(kind, 5, 7, input=rand(4, 5), batch=None, **options)


def layouts():
    """The same (4, 3, 5) in memory of every kind that users make."""
    wide = rand(8, 6, 10)
    return {
        "every second value": wide[::2, ::2, ::2],
        "transposed": rand(3, 4, 5).transpose(0, 1),
        "features first": rand(5, 4, 3).permute(1, 2, 0),
        "one sequence for all": rand(4, 1, 5).expand(4, 3, 5),
        "one step for all": rand(1, 3, 5).expand(4, 3, 5),
        "one value for all": rand(1, 1, 1).expand(4, 3, 5),
        "offset": rand(61)[1:].view(4, 3, 5),
    }


@variants
@pytest.mark.parametrize("layout", layouts())
def test_any_memory_layout(kind, options, layout):
    theirs, mine = both(kind, 5, 7, bidirectional=True, **options)
    base = layouts()[layout]
    found, expected = [], []
    for module, results in ((mine, found), (theirs, expected)):
        x = base.detach().requires_grad_()
        assert x.stride() == base.stride()
        y, h = module(x)
        (y.sum() + sum(s.pow(2).sum() for s in leaves(h))).backward()
        results += [y, *leaves(h), x.grad, *(p.grad for p in module.parameters())]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@variants
def test_initial_states_of_any_layout(kind, options):
    theirs, mine = both(kind, 5, 7, bidirectional=True, **options)
    x = rand(4, 3, 5)
    hx = initial(theirs, 3)
    for change in (lambda h: h[:, :1].expand_as(h), lambda h: h.transpose(0, 2).contiguous().transpose(0, 2)):
        changed = tuple(change(h) for h in leaves(hx))
        changed = changed if kind == "LSTM" else changed[0]
        for a, b in zip(leaves(mine(x, changed)), leaves(theirs(x, changed)), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_one_tensor_for_h_and_c():
    theirs, mine = both("LSTM", 5, 7)
    results = []
    for module in (mine, theirs):
        h = torch.linspace(-1, 1, 21).double().view(1, 3, 7).requires_grad_()
        module(torch.ones(4, 3, 5).double(), (h, h))[0].sum().backward()
        results.append(h.grad)
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


def test_lstm_takes_a_list_and_returns_a_tuple():
    theirs, mine = both("LSTM", 5, 7)
    x, hx = rand(4, 3, 5), initial(theirs, 3)
    _, states = mine(x, list(hx))
    assert type(states) is tuple
    assert_same(evaluate(mine, x, list(hx)), evaluate(theirs, x, tuple(hx)))


@variants
def test_results_are_laid_out_as_in_torch(kind, options):
    _, mine = both(kind, 5, 7, batch_first=True, **options)
    y, h = mine(rand(3, 4, 5))
    assert y.transpose(0, 1).is_contiguous() and y._is_view()
    for state in leaves(h):
        assert state.untyped_storage().data_ptr() != y.untyped_storage().data_ptr()
        assert state.is_contiguous()


@pytest.mark.cpu  # on a GPU torch.nn is cuDNN, which draws its own masks
@variants
@pytest.mark.parametrize("p", [0.3, 1.0])
def test_dropout_between_layers(kind, options, p):
    """The same mask as torch.nn's for a seed, so a training run can be compared step by step."""
    theirs, mine = both(kind, 5, 7, 3, dropout=p, bidirectional=True, **options)
    x = rand(4, 3, 5)
    results = []
    for module in (mine, theirs, mine):
        torch.manual_seed(5)
        results.append(evaluate(module, x))
    assert_same(results[0], results[1])
    assert_same(results[2], results[0], 0.0)
    assert all(value.isfinite().all() for value in results[0].values())


@pytest.mark.cpu  # on a GPU torch.nn is cuDNN, which draws its own masks
def test_dropout_is_read_at_call_time_and_only_in_training():
    theirs, mine = both("GRU", 5, 7, 2)
    x = rand(4, 3, 5)
    plain = mine(x)[0]
    mine.dropout = theirs.dropout = 0.5
    results = []
    for module in (mine, theirs):
        torch.manual_seed(5)
        results.append(module(x)[0])
    torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)
    assert not torch.equal(results[0], plain)
    assert torch.equal(mine.eval()(x)[0], plain)


def test_no_dropout_after_the_last_layer():
    _, mine = both("GRU", 5, 7, 2, dropout=1.0)
    assert (mine(rand(4, 3, 5))[0] != 0).all()


@pytest.mark.cpu  # on a GPU torch.nn is cuDNN, whose relu decides for itself what NaN becomes
@variants
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_inf_propagate(kind, options, bad):
    theirs, mine = both(kind, 5, 7, **options)
    x = rand(4, 3, 5)
    x[1, 1, 2] = bad
    hx = initial(theirs, 3)
    leaves(hx)[0][0, 2, 1] = bad
    assert_same(evaluate(mine, x, hx), evaluate(theirs, x, hx))


@pytest.mark.cpu  # on a GPU torch.nn is cuDNN, which wants rows
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("with_hx", [True, False], ids=["hx", "zeros"])
@pytest.mark.parametrize("batch_first", [True, False])
def test_batch_of_none(kind, with_hx, batch_first):
    """No sequences: empty results, and gradients of zero, also next to a parameter that is not finite."""
    theirs, mine = both(kind, 5, 7, 2, bidirectional=True, batch_first=batch_first)
    x = torch.zeros((0, 4, 5) if batch_first else (4, 0, 5)).double()
    hx = initial(theirs, 0) if with_hx else None
    with torch.no_grad():
        mine.bias_ih_l0[0] = float("inf")
    found, expected = evaluate(mine, x, hx), evaluate(theirs, x, hx)
    assert_same(found, expected)
    assert not any(value.any() for value in found.values())


@pytest.mark.cpu  # on a GPU torch.nn is cuDNN, which wants rows
def test_batch_of_none_with_projection():
    assert_alike("LSTM", 5, 7, proj_size=2, input=torch.zeros(4, 0, 5).double(), batch=0)


@variants
def test_large_batch_of_short_sequences(kind, options):
    assert_alike(kind, 3, 5, input=rand(2, 300, 3), batch=300, **options)

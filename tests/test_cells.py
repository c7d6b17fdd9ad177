"""RNNCell, GRUCell and LSTMCell against torch.nn's: values, gradients, construction, and every refusal."""

import copy
import pickle

import pytest
import torch
from helpers import CELLS, assert_same, assert_same_error, both, error_of, evaluate, leaves
from torch.nn.utils import parametrizations

import fastrnn

VARIANTS = [("RNNCell", {}), ("RNNCell", {"nonlinearity": "relu"}), ("GRUCell", {}), ("LSTMCell", {})]
variants = pytest.mark.parametrize(("kind", "options"), VARIANTS, ids=["rnn_tanh", "rnn_relu", "gru", "lstm"])


def state(kind, *shape, dtype=torch.float64):
    h = torch.randn(*shape, dtype=dtype)
    return (h, torch.randn(*shape, dtype=dtype)) if kind == "LSTMCell" else h


@variants
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [None, 1, 3, 17])
@pytest.mark.parametrize("with_hx", [True, False], ids=["hx", "zeros"])
def test_values_and_gradients(kind, options, bias, batch, with_hx):
    theirs, mine = both(kind, 5, 7, bias=bias, **options)
    lead = () if batch is None else (batch,)
    x, hx = torch.randn(*lead, 5).double(), state(kind, *lead, 7) if with_hx else None
    assert_same(evaluate(mine, x, hx), evaluate(theirs, x, hx))


@variants
@pytest.mark.parametrize(("input_size", "hidden_size"), [(1, 1), (129, 64), (3, 129)])
def test_sizes(kind, options, input_size, hidden_size):
    theirs, mine = both(kind, input_size, hidden_size, **options)
    x, hx = torch.randn(2, input_size).double(), state(kind, 2, hidden_size)
    assert_same(evaluate(mine, x, hx), evaluate(theirs, x, hx))


@variants
def test_unrolled_by_the_user(kind, options):
    """The usual loop: the state of one step goes into the next, and BPTT through all of them."""
    theirs, mine = both(kind, 5, 7, **options)

    def unroll(cell):
        def forward(x, hx):
            outputs = []
            for step in x:
                hx = cell(step, hx)
                outputs.append(leaves(hx)[0])
            return torch.stack(outputs), hx

        return forward

    x, hx = torch.randn(6, 3, 5).double(), state(kind, 3, 7)
    results = []
    for cell in (mine, theirs):
        leaf = x.clone().requires_grad_()
        output, last = unroll(cell)(leaf, hx)
        (output.sum() + sum(s.pow(2).sum() for s in leaves(last))).backward()
        results.append([output, *leaves(last), leaf.grad, *(p.grad for p in cell.parameters())])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.cpu  # on a GPU torch.nn runs a kernel that wants rows
@variants
def test_batch_of_none(kind, options):
    theirs, mine = both(kind, 5, 7, **options)
    for hx in (None, state(kind, 0, 7)):
        assert_same(evaluate(mine, torch.zeros(0, 5).double(), hx), evaluate(theirs, torch.zeros(0, 5).double(), hx))


@variants
def test_strided_input_and_state(kind, options):
    theirs, mine = both(kind, 5, 7, **options)
    x = torch.randn(10, 3).double().t()[:, ::2]
    hx = state(kind, 1, 7)
    hx = tuple(h.expand(3, 7) for h in hx) if kind == "LSTMCell" else hx.expand(3, 7)
    for a, b in zip(leaves(mine(x, hx)), leaves(theirs(x, hx)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_lstm_takes_a_list_and_returns_a_tuple():
    _, mine = both("LSTMCell", 5, 7)
    x, hx = torch.randn(3, 5).double(), state("LSTMCell", 3, 7)
    result = mine(x, list(hx))
    assert type(result) is tuple and torch.equal(result[0], mine(x, hx)[0])


@variants
@pytest.mark.parametrize("bias", [True, False])
def test_parameters_and_repr(kind, options, bias):
    made = []
    for package in (fastrnn, torch.nn):
        torch.manual_seed(7)
        made.append(getattr(package, kind)(3, 4, bias=bias, **options))
    mine, theirs = made
    assert repr(mine) == repr(theirs)
    assert list(mine.state_dict()) == list(theirs.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), theirs.parameters(), strict=True))
    assert set(vars(mine)) == set(vars(theirs))
    assert (mine.bias_ih is None) == (theirs.bias_ih is None)


@pytest.mark.cpu  # skip_init makes its module on the CPU
@pytest.mark.parametrize("kind", CELLS)
def test_copies_and_new_modules(kind):
    _, mine = both(kind, 3, 4)
    x = torch.randn(2, 3).double()
    for other in (copy.deepcopy(mine), pickle.loads(pickle.dumps(mine))):
        assert_same(evaluate(other, x), evaluate(mine, x), 0.0)
    assert getattr(fastrnn, kind)(3, 4, device="meta").weight_ih.is_meta
    skipped = torch.nn.utils.skip_init(getattr(fastrnn, kind), 3, 4, dtype=torch.float64)
    skipped.load_state_dict(mine.state_dict())
    assert torch.equal(leaves(skipped(x))[0], leaves(mine(x))[0])


@pytest.mark.parametrize("kind", CELLS)
def test_weights_are_read_at_call_time(kind):
    theirs, mine = both(kind, 3, 4)
    x = torch.randn(2, 3).double()
    for module in (theirs, mine):
        parametrizations.weight_norm(module, "weight_hh")
    assert_same(evaluate(mine, x), evaluate(theirs, x))
    _, plain = both(kind, 3, 4)
    doubled = {name: 2 * value for name, value in plain.state_dict().items()}
    expected = leaves(torch.func.functional_call(theirs.__class__(3, 4, dtype=torch.float64), doubled, (x,)))[0]
    torch.testing.assert_close(
        leaves(torch.func.functional_call(plain, doubled, (x,)))[0], expected, rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize(
    ("x", "h", "error", "text"),
    [
        ((2, 3, 1), (2, 4), ValueError, "{kind}: Expected input to be 1D or 2D, got 3D instead"),
        ((), (2, 4), ValueError, "{kind}: Expected input to be 1D or 2D, got 0D instead"),
        ((2, 3), (2, 4, 1), ValueError, "{kind}: Expected {hidden} to be 1D or 2D, got 3D instead"),
        ((2, 5), (2, 4), RuntimeError, "input has inconsistent input_size: got 5 expected 3"),
        ((2, 3), (2, 5), RuntimeError, "hidden0 has inconsistent hidden_size: got 5, expected 4"),
        ((2, 3), (3, 4), RuntimeError, "Input batch size 2 doesn't match hidden0 batch size 3"),
        ((3,), (5,), RuntimeError, "hidden0 has inconsistent hidden_size: got 5, expected 4"),
    ],
)
def test_size_errors(kind, x, h, error, text):
    theirs, mine = both(kind, 3, 4, dtype=torch.float32)
    x, hx = torch.zeros(x), state(kind, *h, dtype=torch.float32)
    text = text.format(kind=kind, hidden="hx[0]" if kind == "LSTMCell" else "hidden")
    assert_same_error(lambda: mine(x, hx), lambda: theirs(x, hx), error, text)


def test_cell_state_errors():
    theirs, mine = both("LSTMCell", 3, 4, dtype=torch.float32)
    x, h = torch.zeros(2, 3), torch.zeros(2, 4)
    for wrong, error, text in (
        (torch.zeros(2, 4, 1), ValueError, "LSTMCell: Expected hx[1] to be 1D or 2D, got 3D instead"),
        (torch.zeros(3, 4), RuntimeError, "Input batch size 2 doesn't match hidden1 batch size 3"),
        (torch.zeros(2, 5), RuntimeError, "hidden1 has inconsistent hidden_size: got 5, expected 4"),
    ):
        args = (x, (h, wrong))
        assert_same_error(lambda args=args: mine(*args), lambda args=args: theirs(*args), error, text)


@pytest.mark.parametrize("kind", CELLS)
def test_rank_of_state_and_input(kind):
    _, mine = both(kind, 3, 4, dtype=torch.float32)
    for x, h, ndim in (((3,), (1, 4), 1), ((4, 3), (4,), 2)):
        args = (torch.zeros(x), state(kind, *h, dtype=torch.float32))
        text = f"For {ndim}-D input, hidden0 should also be {ndim}-D but got {3 - ndim}-D tensor"
        assert error_of(lambda args=args: mine(*args)) == (RuntimeError, text)


@pytest.mark.parametrize("kind", CELLS)
def test_constructor_errors(kind):
    cell = getattr(fastrnn, kind)
    assert error_of(lambda: cell(0, 4)) == (ValueError, "input_size must be greater than zero")
    assert error_of(lambda: cell(3, -1)) == (ValueError, "hidden_size must be greater than zero")
    assert error_of(lambda: cell(3, 4.0)) == (TypeError, "hidden_size should be of type int, got: float")


def test_nonlinearity_is_refused_when_called():
    theirs, mine = both("RNNCell", 3, 4, nonlinearity="x", dtype=torch.float32)
    x = torch.zeros(2, 3)
    assert_same_error(lambda: mine(x), lambda: theirs(x), RuntimeError, "Unknown nonlinearity: x")


@pytest.mark.parametrize("kind", CELLS)
def test_replaced_weights(kind):
    _, mine = both(kind, 3, 4)
    x = torch.zeros(2, 3).double()
    mine.weight_ih = torch.nn.Parameter(torch.zeros(5, 3).double())
    with pytest.raises(RuntimeError, match=f"{kind}: weight_ih should have shape"):
        mine(x)
    _, mine = both(kind, 3, 4)
    mine.bias_hh = None
    with pytest.raises(TypeError, match=f"{kind}: bias_hh should be a Tensor of shape"):
        mine(x)

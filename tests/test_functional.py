"""The functions: torch's own for the same weights, sizes read off the weights, and what they refuse."""

import pytest
import torch
from helpers import error_of, initial, leaves, packed

import fastrnn
from fastrnn import functional

STACKS = {
    "rnn_tanh": functional.rnn_tanh,
    "rnn_relu": functional.rnn_relu,
    "gru": functional.gru,
    "lstm": functional.lstm,
}


def layer(cell, *args, **options):
    torch.manual_seed(0)
    if cell.startswith("rnn"):
        options["nonlinearity"] = cell.removeprefix("rnn_")
    return getattr(torch.nn, cell[:3].upper() if cell != "lstm" else "LSTM")(*args, dtype=torch.float64, **options)


@pytest.mark.parametrize("cell", STACKS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("batch_first", [True, False])
def test_stacks(cell, bias, bidirectional, batch_first):
    options = {"bias": bias, "bidirectional": bidirectional, "batch_first": batch_first}
    theirs = layer(cell, 3, 4, 2, **options)
    x, weights = torch.randn(5, 2, 3).double(), list(theirs.parameters())
    hx = initial(theirs, 5 if batch_first else 2)
    found = STACKS[cell](x, hx, weights, 2, **options)
    for a, b in zip(leaves(found), leaves(theirs(x, hx)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_projection_is_read_off_the_weights(bias, num_layers):
    theirs = layer("lstm", 3, 4, num_layers, bias=bias, proj_size=2, bidirectional=True)
    x = torch.randn(5, 2, 3).double()
    found = functional.lstm(x, None, list(theirs.parameters()), num_layers, bias=bias, bidirectional=True)
    for a, b in zip(leaves(found), leaves(theirs(x)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("proj_size", [4, 7])
def test_projection_need_not_be_smaller(proj_size):
    """torch.nn's modules insist on it; the mathematics does not."""
    torch.manual_seed(0)
    shapes = [(16, 3), (16, proj_size), (16,), (16,), (proj_size, 4)]
    weights = [torch.randn(shape).double().requires_grad_() for shape in shapes]
    x = torch.randn(5, 2, 3).double().requires_grad_()
    output, states = functional.lstm(x, None, weights)
    expected = fastrnn.reference.recurrent_layer("lstm", x, None, None, *weights)
    results = []
    for values in ([output, *(s.squeeze(0) for s in states)], expected):
        total = sum(value.pow(2).sum() for value in values)
        results.append([*values, *torch.autograd.grad(total, [x, *weights])])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("cell", STACKS)
def test_packed_and_unbatched(cell):
    theirs = layer(cell, 3, 4)
    weights = tuple(theirs.parameters())
    for x in (torch.randn(5, 3).double(), packed([torch.randn(n, 3).double() for n in (4, 2, 1)])):
        for a, b in zip(leaves(STACKS[cell](x, None, weights)), leaves(theirs(x)), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.cpu  # on a GPU torch.nn is cuDNN, which draws its own masks
def test_dropout_needs_training():
    theirs = layer("gru", 3, 4, 2)
    x, weights = torch.randn(5, 2, 3).double(), list(theirs.parameters())
    plain = functional.gru(x, None, weights, 2)[0]
    assert torch.equal(functional.gru(x, None, weights, 2, dropout=0.5)[0], plain)
    torch.manual_seed(1)
    dropped = functional.gru(x, None, weights, 2, dropout=0.5, training=True)[0]
    theirs.dropout = 0.5
    torch.manual_seed(1)
    torch.testing.assert_close(dropped, theirs(x)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
def test_cells(bias):
    torch.manual_seed(0)
    x, h, c = torch.randn(2, 3).double(), torch.randn(2, 4).double(), torch.randn(2, 4).double()
    made = {kind: getattr(torch.nn, kind)(3, 4, bias=bias, dtype=torch.float64) for kind in ("GRUCell", "LSTMCell")}
    for nonlinearity in ("tanh", "relu"):
        cell = torch.nn.RNNCell(3, 4, bias=bias, nonlinearity=nonlinearity, dtype=torch.float64)
        found = functional.rnn_cell(x, h, *cell.parameters(), nonlinearity=nonlinearity)
        torch.testing.assert_close(found, cell(x, h), rtol=1e-12, atol=1e-12)
    found = functional.gru_cell(x, h, *made["GRUCell"].parameters())
    torch.testing.assert_close(found, made["GRUCell"](x, h), rtol=1e-12, atol=1e-12)
    found, expected = (
        functional.lstm_cell(x, (h, c), *made["LSTMCell"].parameters()),
        made["LSTMCell"](x, (h, c)),
    )
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_one_bias_of_two_is_refused():
    w_ih, w_hh, b = torch.zeros(12, 3), torch.zeros(12, 4), torch.zeros(12)
    with pytest.raises(TypeError, match=r"GRUCell: bias_hh should be a Tensor of shape \(12,\), got NoneType"):
        functional.gru_cell(torch.zeros(2, 3), None, w_ih, w_hh, b)
    with pytest.raises(RuntimeError, match="Unknown nonlinearity: x"):
        functional.rnn_cell(torch.zeros(2, 3), None, w_ih[:4], w_hh[:4], nonlinearity="x")


GOOD = [torch.zeros(12, 3), torch.zeros(12, 4), torch.zeros(12), torch.zeros(12)]
BAD_WEIGHTS = {
    "too few": (
        GOOD[:3],
        RuntimeError,
        "GRU: expected 4 weights (weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0), got 3",
    ),
    "none": ([], TypeError, "GRU: weights should begin with the matrices weight_ih"),
    "no matrices": ([GOOD[2], *GOOD[1:]], TypeError, "GRU: weights should begin with the matrices weight_ih"),
    "not tensors": ([None] * 4, TypeError, "GRU: weights should begin with the matrices weight_ih"),
    "gates": (
        [torch.zeros(13, 3), *GOOD[1:]],
        RuntimeError,
        "GRU: weight_ih_l0 should have shape (12, 3), got (13, 3)",
    ),
    "rows": (
        [GOOD[0], torch.zeros(13, 4), *GOOD[2:]],
        RuntimeError,
        "weight_hh_l0 should have shape (12, 4), got (13, 4)",
    ),
    "bias": ([*GOOD[:3], torch.zeros(1)], RuntimeError, "GRU: bias_hh_l0 should have shape (12,), got (1,)"),
    "dtype": ([*GOOD[:3], GOOD[3].double()], ValueError, "bias_hh_l0 has torch.float64. Convert model"),
    "no input": (
        [torch.zeros(12, 0), *GOOD[1:]],
        ValueError,
        "input_size and hidden_size must be greater than zero",
    ),
    "no units": (
        [torch.zeros(0, 3), torch.zeros(0, 0), torch.zeros(0), torch.zeros(0)],
        ValueError,
        "input_size and hidden_size must be greater than zero",
    ),
}


@pytest.mark.cpu  # checks of arguments, made once for all tests
@pytest.mark.parametrize("fault", BAD_WEIGHTS)
def test_bad_weights_are_refused(fault):
    weights, kind, text = BAD_WEIGHTS[fault]
    error, found = error_of(lambda: functional.gru(torch.zeros(5, 2, 3), None, weights))
    assert error is kind and text in found


@pytest.mark.cpu  # checks of arguments, made once for all tests
def test_wrong_number_of_layers_is_refused():
    with pytest.raises(RuntimeError, match=r"GRU: expected 8 weights .*weight_ih_l1.*, got 4"):
        functional.gru(torch.zeros(5, 2, 3), None, GOOD, num_layers=2)
    with pytest.raises(RuntimeError, match="GRU: expected 0 weights"):
        functional.gru(torch.zeros(5, 2, 3), None, GOOD, num_layers=0)


@pytest.mark.cpu  # checks of arguments, made once for all tests
def test_wrong_dropout_is_refused():
    weights = [*GOOD, torch.zeros(12, 4), *GOOD[1:]]
    with pytest.raises(ValueError, match="dropout probability has to be between 0 and 1, but got 2"):
        functional.gru(torch.zeros(5, 2, 3), None, weights, 2, dropout=2.0, training=True)

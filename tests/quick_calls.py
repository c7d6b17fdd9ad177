"""The same call by the short way and by the long one, for the tests of both passes."""

import torch

import fastrnn
from fastrnn import _quick
from fastrnn.autograd import recurrent_layer

CELLS = ("rnn_tanh", "gru", "lstm")
LAYERS = {"rnn_tanh": fastrnn.RNN, "gru": fastrnn.GRU, "lstm": fastrnn.LSTM}
STEPS = {"rnn_tanh": fastrnn.RNNCell, "gru": fastrnn.GRUCell, "lstm": fastrnn.LSTMCell}
FORMS = ("layer", "reverse", "ragged", "ragged reverse", "step")
SIZES = [2, 2, 1]  # rows of the steps of a ragged batch


def arguments(cell, form, given=True, seed=0, dtype=torch.float32, B=2, T=3, I=4, H=5):
    """x, weights (4) and states of one call."""
    g = torch.Generator("cpu").manual_seed(seed)
    rows = fastrnn._checks.GATES[cell] * H
    x = (B, I) if form == "step" else (sum(SIZES), I) if "ragged" in form else (T, B, I)
    shapes = [x, (rows, I), (rows, H), (rows,), (rows,)]
    shapes += ([(B, H) if form == "step" else (1, B, H)] * (2 if cell == "lstm" else 1)) if given else []
    return [torch.randn(shape, generator=g, dtype=dtype, device="cpu") for shape in shapes]


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
    sizes = torch.tensor(SIZES, device="cpu") if "ragged" in form else None
    x = x.unsqueeze(0) if form == "step" else x
    y, h_n, c_n = recurrent_layer(cell, x, hx, cx, *weights, None, sizes, "reverse" in form)
    finals = [s if form == "step" else s.unsqueeze(0) for s in (h_n, c_n) if s is not None]
    return tuple(finals if form == "step" else [y, *finals])

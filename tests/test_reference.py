"""The reference: its steps against equations in NumPy, its loop and modules against torch.nn, its
derivatives."""

import numpy as np
import pytest
import torch
from helpers import LAYERS, assert_same, both, evaluate, initial, leaves, variants
from torch.func import jvp, vjp, vmap
from torch.nn.utils.rnn import pack_sequence

import fastrnn
from fastrnn import reference


def weights(gates, inputs=3, units=4, projected=0):
    torch.manual_seed(0)
    shapes = [
        (gates * units, inputs),
        (gates * units, projected or units),
        (gates * units,),
        (gates * units,),
    ]
    shapes += [(projected, units)] if projected else []
    return [torch.randn(shape).double() for shape in shapes]


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def test_elman_equation():
    w_ih, w_hh, b_ih, b_hh = weights(1)
    x, h = torch.randn(3).double(), torch.randn(4).double()
    a = w_ih.numpy() @ x.numpy() + b_ih.numpy() + w_hh.numpy() @ h.numpy() + b_hh.numpy()
    found = [reference.elman_step(x[None], h[None], w_ih, w_hh, b_ih, b_hh, name)[0] for name in ("tanh", "relu")]
    np.testing.assert_allclose(found[0], np.tanh(a), rtol=1e-13)
    np.testing.assert_allclose(found[1], np.maximum(a, 0), rtol=1e-13)


def test_gru_equations():
    w_ih, w_hh, b_ih, b_hh = weights(3)
    x, h = torch.randn(3).double(), torch.randn(4).double()
    gx = (w_ih.numpy() @ x.numpy() + b_ih.numpy()).reshape(3, 4)
    gh = (w_hh.numpy() @ h.numpy() + b_hh.numpy()).reshape(3, 4)
    r, z = sigmoid(gx[0] + gh[0]), sigmoid(gx[1] + gh[1])
    n = np.tanh(gx[2] + r * gh[2])
    found = reference.gru_step(x[None], h[None], w_ih, w_hh, b_ih, b_hh)[0]
    np.testing.assert_allclose(found, (1 - z) * n + z * h.numpy(), rtol=1e-13)


@pytest.mark.parametrize("projected", [0, 2])
def test_lstm_equations(projected):
    w_ih, w_hh, b_ih, b_hh, *w_hr = weights(4, projected=projected)
    x, h, c = torch.randn(3).double(), torch.randn(projected or 4).double(), torch.randn(4).double()
    a = (w_ih.numpy() @ x.numpy() + b_ih.numpy() + w_hh.numpy() @ h.numpy() + b_hh.numpy()).reshape(4, 4)
    i, f, g, o = sigmoid(a[0]), sigmoid(a[1]), np.tanh(a[2]), sigmoid(a[3])
    c_t = f * c.numpy() + i * g
    m_t = o * np.tanh(c_t)
    found_h, found_c = reference.lstm_step(x[None], h[None], c[None], w_ih, w_hh, b_ih, b_hh, *w_hr)
    np.testing.assert_allclose(found_c[0], c_t, rtol=1e-13)
    np.testing.assert_allclose(found_h[0], w_hr[0].numpy() @ m_t if projected else m_t, rtol=1e-13)


@variants
@pytest.mark.parametrize("stack", [{}, {"num_layers": 2, "bidirectional": True}, {"bias": False}], ids=str)
@pytest.mark.parametrize("with_hx", [True, False])
def test_modules_equal_torch(kind, options, stack, with_hx):
    theirs, mine = both(kind, 3, 4, ours=reference, **options, **stack)
    hx = initial(theirs, 3) if with_hx else None
    packed = pack_sequence([torch.randn(n, 3).double() for n in (2, 5, 1)], enforce_sorted=False)
    for x in (torch.randn(5, 3, 3).double(), packed):
        assert_same(evaluate(mine, x, hx), evaluate(theirs, x, hx))
    assert repr(mine) == repr(theirs)


@pytest.mark.parametrize("kind", LAYERS)
def test_modules_are_the_packages_but_for_the_layer(kind):
    layer = getattr(reference, kind)
    assert issubclass(layer, getattr(fastrnn, kind))
    assert set(vars(layer)) <= {
        "__module__",
        "__doc__",
        "recurrent_layer",
        "__firstlineno__",
        "__static_attributes__",
    }
    assert layer.recurrent_layer is reference.recurrent_layer
    with pytest.raises(RuntimeError, match=r"input.size\(-1\) must be equal to input_size. Expected 3, got 5"):
        layer(3, 4)(torch.zeros(2, 2, 5))
    assert layer(3, 4)(torch.zeros(2, 0, 3))[0].shape == (2, 0, 4)


CASES = [("rnn_tanh", 1, 0), ("gru", 3, 0), ("lstm", 4, 0), ("lstm", 4, 2)]
cases = pytest.mark.parametrize(("cell", "gates", "projected"), CASES, ids=["rnn", "gru", "lstm", "lstm_projected"])


def layer_of(cell, gates, projected, batch_sizes=None, reverse=False):
    """The layer as a function of its tensors alone, and small random ones: x, hx, (cx,) weights."""
    given = weights(gates, 2, 3, projected)
    x = torch.randn(*((4, 2) if batch_sizes is not None else (3, 2, 2))).double()
    states = [torch.randn(2, projected or 3).double()] + ([torch.randn(2, 3).double()] if cell == "lstm" else [])

    def function(x, *rest):
        states, given = rest[: 2 if cell == "lstm" else 1], rest[2 if cell == "lstm" else 1 :]
        c = states[1] if cell == "lstm" else None
        w_hr = given[4] if projected else None
        out = reference.recurrent_layer(cell, x, states[0], c, *given[:4], w_hr, batch_sizes, reverse)
        return tuple(part for part in out if part is not None)

    return function, [x, *states, *given]


@cases
@pytest.mark.parametrize("batch_sizes", [None, [2, 1, 1]], ids=["dense", "packed"])
@pytest.mark.parametrize("reverse", [False, True])
def test_first_and_second_derivatives(cell, gates, projected, batch_sizes, reverse):
    sizes = None if batch_sizes is None else torch.tensor(batch_sizes)
    function, arguments = layer_of(cell, gates, projected, sizes, reverse)
    leaves_ = [a.requires_grad_() for a in arguments]
    assert torch.autograd.gradcheck(function, leaves_, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(function, leaves_, fast_mode=True)


@cases
def test_functional_transforms(cell, gates, projected):
    """vjp and jvp are each other's adjoint, and vmap over any argument equals a loop."""
    function, arguments = layer_of(cell, gates, projected)
    tangents = [torch.randn_like(a) for a in arguments]
    outputs, pushed = jvp(function, tuple(arguments), tuple(tangents))
    cotangents = tuple(torch.randn_like(out) for out in outputs)
    pulled = vjp(function, *arguments)[1](cotangents)
    left = sum((a * b).sum() for a, b in zip(pushed, cotangents, strict=True))
    right = sum((a * b).sum() for a, b in zip(pulled, tangents, strict=True))
    torch.testing.assert_close(left, right, rtol=1e-11, atol=0)
    for i, argument in enumerate(arguments):
        stacked = torch.stack([argument, 2 * argument])
        dims = tuple(0 if j == i else None for j in range(len(arguments)))
        given = [stacked if j == i else a for j, a in enumerate(arguments)]
        for k in range(2):
            alone = function(*(stacked[k] if j == i else a for j, a in enumerate(arguments)))
            together = vmap(function, dims)(*given)
            for a, b in zip(together, alone, strict=True):
                torch.testing.assert_close(a[k], b, rtol=1e-12, atol=1e-12)


@cases
def test_reverse_starts_each_row_at_its_own_end(cell, gates, projected):
    """A packed batch in reverse equals each sequence flipped and run forwards."""
    given = weights(gates, 2, 3, projected)
    w_hr = given[4] if projected else None
    sequences = [torch.randn(n, 2).double() for n in (4, 2, 1)]
    packed = pack_sequence(sequences)
    h = torch.randn(3, projected or 3).double()
    c = torch.randn(3, 3).double() if cell == "lstm" else None
    y, *finals = reference.recurrent_layer(cell, packed.data, h, c, *given[:4], w_hr, packed.batch_sizes, True)
    offsets = [0, *packed.batch_sizes.cumsum(0).tolist()]
    for i, sequence in enumerate(sequences):
        own = [None if state is None else state[i : i + 1] for state in (h, c)]
        flipped, *own_finals = reference.recurrent_layer(cell, sequence.flip(0)[:, None], *own, *given[:4], w_hr)
        rows = torch.stack([y[offsets[t] + i] for t in range(len(sequence))])
        torch.testing.assert_close(rows, flipped.flip(0)[:, 0], rtol=1e-12, atol=1e-12)
        for state, alone in zip(leaves(finals[:1]), leaves(own_finals[:1]), strict=True):
            torch.testing.assert_close(state[i], alone[0], rtol=1e-12, atol=1e-12)

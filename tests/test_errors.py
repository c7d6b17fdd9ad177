"""Every refusal of the contract: the exception's type and text, which are torch.nn's where torch.nn has
them."""

import warnings

import numpy as np
import pytest
import torch
from helpers import CELLS, LAYERS, assert_same_error, both, error_of

import fastrnn

DROPOUT = "dropout should be a number in range [0, 1] representing the probability of an element being zeroed"


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((3.0, 4), TypeError, "input_size should be of type int, got: float"),
        ((3, "4"), TypeError, "hidden_size should be of type int, got: str"),
        ((np.int64(3), 4), TypeError, "input_size should be of type int, got: int64"),
        ((0, 4), ValueError, "input_size must be greater than zero"),
        ((3, -1), ValueError, "hidden_size must be greater than zero"),
        ((3, 4, 0), ValueError, "num_layers must be greater than zero"),
    ],
)
def test_sizes(kind, arguments, error, text):
    assert_same_error(
        lambda: getattr(fastrnn, kind)(*arguments), lambda: getattr(torch.nn, kind)(*arguments), error, text
    )


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"bias": 1}, TypeError, "bias should be of type bool, got: int"),
        ({"batch_first": "yes"}, TypeError, "batch_first should be of type bool, got: str"),
        ({"dropout": True}, ValueError, DROPOUT),
        ({"dropout": "0.1"}, ValueError, DROPOUT),
        ({"dropout": 1.5}, ValueError, DROPOUT),
        ({"dropout": -0.1}, ValueError, DROPOUT),
        ({"dropout": float("nan")}, ValueError, DROPOUT),
    ],
)
def test_options(kind, options, error, text):
    assert_same_error(
        lambda: getattr(fastrnn, kind)(3, 4, **options),
        lambda: getattr(torch.nn, kind)(3, 4, **options),
        error,
        text,
    )


@pytest.mark.parametrize("kind", LAYERS)
def test_where_torch_is_less_clear(kind):
    layer = getattr(fastrnn, kind)
    assert error_of(lambda: layer(3, 4, dropout=None)) == (ValueError, DROPOUT)
    assert error_of(lambda: layer(3, 4, 1.0)) == (TypeError, "num_layers should be of type int, got: float")


@pytest.mark.parametrize("kind", LAYERS)
def test_accepted_as_in_torch(kind):
    """True is an int, and num_layers may be any integer."""
    layer = getattr(fastrnn, kind)(True, 4, np.int64(2), bidirectional=1)
    assert layer(torch.zeros(2, 3, 1))[0].shape == (2, 3, 8)


@pytest.mark.parametrize(
    ("proj_size", "text"),
    [
        (-1, "proj_size should be a positive integer or zero to disable projections"),
        (4, "proj_size has to be smaller than hidden_size"),
    ],
)
def test_projection_sizes(proj_size, text):
    options = {"proj_size": proj_size}
    assert_same_error(lambda: fastrnn.LSTM(3, 4, **options), lambda: torch.nn.LSTM(3, 4, **options), ValueError, text)


def test_projection_size_of_another_type():
    assert error_of(lambda: fastrnn.LSTM(3, 4, proj_size=1.5)) == (
        TypeError,
        "proj_size should be of type int, got: float",
    )


@pytest.mark.parametrize("kind", ["RNN", "GRU"])
@pytest.mark.parametrize("proj_size", [0, 2])
def test_projection_of_other_layers(kind, proj_size):
    text = "proj_size argument is only supported for LSTM, not RNN or GRU"
    options = {"proj_size": proj_size}
    assert_same_error(
        lambda: getattr(fastrnn, kind)(3, 4, **options),
        lambda: getattr(torch.nn, kind)(3, 4, **options),
        ValueError,
        text,
    )
    positional = (3, 4, 1, *(("tanh",) if kind == "RNN" else ()), True, False, 0.0, False, proj_size)
    assert error_of(lambda: getattr(fastrnn, kind)(*positional)) == (ValueError, text)


def test_nonlinearity():
    text = "Unknown nonlinearity 'x'. Select from 'tanh' or 'relu'."
    for name in ("x", "relu6"):
        assert_same_error(
            lambda name=name: fastrnn.RNN(3, 4, nonlinearity=name),
            lambda name=name: torch.nn.RNN(3, 4, 1, name),
            ValueError,
            text.replace("'x'", f"'{name}'"),
        )


@pytest.mark.parametrize("kind", LAYERS)
def test_dropout_warning(kind):
    """Once, with torch.nn's text, and pointing at the line that makes the layer."""
    texts = []
    for package in (fastrnn, torch.nn):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            getattr(package, kind)(3, 4, dropout=0.5)
        (warning,) = caught
        texts.append(str(warning.message))
        if package is fastrnn:
            assert warning.filename == __file__
    assert texts[0] == texts[1]
    assert "non-zero dropout expects num_layers greater than 1, but got dropout=0.5 and num_layers=1" in texts[0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        getattr(fastrnn, kind)(3, 4, 2, dropout=0.5)


def states(kind, *shape, dtype=torch.float32, device="cpu"):
    h = torch.zeros(*shape, dtype=dtype, device=device)
    return (h, h) if kind == "LSTM" else h


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("shape", [(3,), (1, 5, 2, 3), ()])
def test_input_rank(kind, shape):
    theirs, mine = both(kind, 3, 4, dtype=torch.float32)
    tail = "D tensor instead" if kind == "RNN" else "D instead"
    text = f"{kind}: Expected input to be 2D or 3D, got {len(shape)}{tail}"
    x = torch.zeros(shape)
    assert_same_error(lambda: mine(x), lambda: theirs(x), ValueError, text)


@pytest.mark.parametrize("kind", LAYERS)
def test_input_size(kind):
    theirs, mine = both(kind, 3, 4, dtype=torch.float32)
    text = "input.size(-1) must be equal to input_size. Expected 3, got 5"
    for shape in ((5, 2, 5), (5, 5), (5, 0, 5)):
        x = torch.zeros(shape)
        assert_same_error(lambda x=x: mine(x), lambda x=x: theirs(x), RuntimeError, text)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("options", [{}, {"bidirectional": True, "num_layers": 2}, {"batch_first": True}])
def test_state_sizes(kind, options):
    theirs, mine = both(kind, 3, 4, dtype=torch.float32, **options)
    blocks = 4 if "num_layers" in options else 1
    x = torch.zeros((2, 5, 3) if "batch_first" in options else (5, 2, 3))
    label = "hidden[0]" if kind == "LSTM" else "hidden"
    for wrong in ((blocks, 1, 4), (blocks, 2, 5), (blocks + 1, 2, 4), (blocks, 3, 4)):
        hx = states(kind, *wrong)
        text = f"Expected {label} size ({blocks}, 2, 4), got {list(wrong)}"
        assert_same_error(lambda hx=hx: mine(x, hx), lambda hx=hx: theirs(x, hx), RuntimeError, text)


def test_cell_state_size():
    theirs, mine = both("LSTM", 3, 4, proj_size=2, dtype=torch.float32)
    x, h = torch.zeros(5, 2, 3), torch.zeros(1, 2, 2)
    text = "Expected hidden[1] size (1, 2, 4), got [1, 2, 2]"
    assert_same_error(lambda: mine(x, (h, h)), lambda: theirs(x, (h, h)), RuntimeError, text)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize(("form", "ndim", "wrong"), [("unbatched 2-D", 2, 3), ("batched 3-D", 3, 2)])
def test_state_rank(kind, form, ndim, wrong):
    theirs, mine = both(kind, 3, 4, dtype=torch.float32)
    x, hx = torch.zeros((5, 2, 3)[3 - ndim :]), states(kind, *(1, 2, 4)[3 - wrong :])
    found = f"({wrong}-D, {wrong}-D) tensors" if kind == "LSTM" else f"{wrong}-D tensor"
    names = "hx and cx" if kind == "LSTM" else "hx"
    text = f"For {form} input, {names} should also be {ndim}-D but got {found}"
    assert_same_error(lambda: mine(x, hx), lambda: theirs(x, hx), RuntimeError, text)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("shape", [(0, 2, 3), (0, 3), (0, 0, 3)])
def test_no_steps(kind, shape):
    theirs, mine = both(kind, 3, 4, dtype=torch.float32)
    x = torch.zeros(shape)
    text = "Expected sequence length to be larger than 0 in RNN"
    assert_same_error(lambda: mine(x), lambda: theirs(x), RuntimeError, text)


@pytest.mark.parametrize("kind", LAYERS)
def test_input_dtype(kind):
    theirs, mine = both(kind, 3, 4, dtype=torch.float32)
    for dtype in (torch.float64, torch.bfloat16, torch.int64, torch.complex64):
        x = torch.zeros(5, 2, 3, dtype=dtype)
        text = (
            f"RNN input dtype ({dtype}) does not match weight dtype (torch.float32). "
            f"Convert input: input.to(torch.float32), or convert model: model.to({dtype})"
        )
        assert_same_error(lambda x=x: mine(x), lambda x=x: theirs(x), ValueError, text)


@pytest.mark.filterwarnings("ignore:Complex modules are a new feature")
@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_unsupported_dtype(kind):
    module = getattr(fastrnn, kind)(3, 4).to(torch.complex64)
    x = torch.zeros((2, 3) if "Cell" in kind else (5, 2, 3), dtype=torch.complex64)
    with pytest.raises(TypeError, match=f"{kind}: dtype torch.complex64 is not supported. Convert model and input"):
        module(x)


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_state_dtype_and_device(kind):
    module = getattr(fastrnn, kind)(3, 4)
    cell = "Cell" in kind
    x, shape = torch.zeros((2, 3) if cell else (5, 2, 3)), (2, 4) if cell else (1, 2, 4)
    base = kind.removesuffix("Cell")
    label = "hidden0" if cell else "hx[0]" if kind == "LSTM" else "hx"
    assert error_of(lambda: module(x, states(base, *shape, dtype=torch.float64))) == (
        ValueError,
        f"RNN {label} dtype (torch.float64) does not match input dtype (torch.float32). "
        f"Convert it: {label}.to(torch.float32)",
    )
    assert error_of(lambda: module(x, states(base, *shape, device="meta"))) == (
        RuntimeError,
        "Input and hidden tensors are not at the same device, found input tensor at cpu "
        f"and {label} at meta. Convert it: {label}.to('cpu')",
    )


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_input_device(kind):
    module = getattr(fastrnn, kind)(3, 4)
    with pytest.raises(RuntimeError, match=r"found input tensor at meta and parameter tensor at cpu\. Convert input"):
        module(torch.zeros((2, 3) if "Cell" in kind else (5, 2, 3), device="meta"))


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
@pytest.mark.parametrize("wrong", [None, [1.0], np.zeros((5, 2, 3))], ids=["none", "list", "array"])
def test_objects_that_are_no_input(kind, wrong):
    with pytest.raises(TypeError, match=f"{kind}: input should be a Tensor.*, got {type(wrong).__name__}"):
        getattr(fastrnn, kind)(3, 4)(wrong)


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_objects_that_are_no_state(kind):
    module = getattr(fastrnn, kind)(3, 4)
    cell = "Cell" in kind
    x, h = torch.zeros((2, 3) if cell else (5, 2, 3)), torch.zeros((2, 4) if cell else (1, 2, 4))
    if kind.startswith("LSTM"):
        text = "should be a pair of Tensors (h_0, c_0), got "
        wrongs = {
            "Tensor": h,
            "(Tensor)": (h,),
            "(Tensor, NoneType)": (h, None),
            "(Tensor, Tensor, Tensor)": [h, h, h],
        }
    else:
        text, wrongs = "should be a Tensor, got ", {"tuple": (h,), "float": 0.0}
    for found, wrong in wrongs.items():
        assert error_of(lambda wrong=wrong: module(x, wrong)) == (TypeError, f"{kind}: hx {text}{found}")


WEIGHT_ERRORS = {
    "shape": (
        lambda w: torch.nn.Parameter(torch.zeros(w.shape[0], 99)),
        RuntimeError,
        r"weight_hh_l0 should have shape",
    ),
    "rank": (
        lambda w: torch.nn.Parameter(w.detach().flatten()),
        RuntimeError,
        r"weight_hh_l0 should have shape",
    ),
    "dtype": (
        lambda w: torch.nn.Parameter(w.detach().double()),
        ValueError,
        r"weight_hh_l0 has torch.float64. Convert",
    ),
    "device": (
        lambda w: torch.nn.Parameter(w.detach().to("meta")),
        RuntimeError,
        r"weight_hh_l0 on meta. Convert",
    ),
    "none": (lambda w: None, TypeError, r"weight_hh_l0 should be a Tensor of shape .* got NoneType"),
}


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("fault", WEIGHT_ERRORS)
def test_replaced_weights(kind, fault):
    """Someone may have put anything in a weight's place; a size that does not fit never reaches a kernel."""
    replace, error, text = WEIGHT_ERRORS[fault]
    module = getattr(fastrnn, kind)(3, 4, 2)
    module.weight_hh_l0 = replace(module.weight_hh_l0)
    with pytest.raises(error, match=text):
        module(torch.zeros(5, 2, 3))


@pytest.mark.parametrize("kind", LAYERS)
def test_changed_sizes(kind):
    module = getattr(fastrnn, kind)(3, 4)
    module.hidden_size = 5
    with pytest.raises(RuntimeError, match="weight_ih_l0 should have shape"):
        module(torch.zeros(5, 2, 3))
    module.hidden_size, module.num_layers = 4, 2
    with pytest.raises(RuntimeError, match=r"expected 8 weights .*weight_hh_l1.*, got 4"):
        module(torch.zeros(5, 2, 3))

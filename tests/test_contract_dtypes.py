"""float32, bfloat16 and float16, and autocast. Accuracy is measured against float64: our error may be twice
torch.nn's own for the same dtype, plus one unit in the last place of the largest value. A parameter's
gradient is a sum over all rows, which torch takes step by step and we in another order: log2(rows) units, the
bound of a pairwise sum."""

import math

import pytest
import torch
from helpers import CELLS, LAYERS, both, error_of, evaluate, initial, leaves, to_float64, variants
from helpers import packed as pack
from torch.nn.utils.rnn import PackedSequence

import fastrnn

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def device_type():
    return torch.get_default_device().type


def assert_accurate(theirs, mine, x, hx):
    """x and hx are of the modules' dtype; the exact result is that of float64 from the same rounded
    numbers."""
    wide = tuple(leaf.double() for leaf in leaves(hx))
    exact = evaluate(to_float64(theirs), x.double(), wide if len(wide) == 2 else wide[0])
    ours, torchs = evaluate(mine, x, hx), evaluate(theirs, x, hx)
    rows = x.numel() // x.shape[-1]
    for name, value in exact.items():
        assert ours[name].dtype == x.dtype, name
        error, allowed = ((found[name].double() - value).abs().max().item() for found in (ours, torchs))
        # Over some thousand results of few terms both were up to three units off, and torch.nn's error is another one
        # where its operands lie elsewhere in memory: it may be next to nothing where ours is not.
        unit = 2 * torch.finfo(x.dtype).eps * value.abs().max().item()
        floor = unit * max(1.0, math.log2(rows)) if name.startswith(("grad weight", "grad bias")) else unit
        assert error <= 2 * allowed + floor, f"{name}: error {error:.3g}, torch.nn's {allowed:.3g}, unit {unit:.3g}"


@variants
@pytest.mark.parametrize(
    ("dtype", "steps", "batch", "hidden"),
    [
        (torch.float32, 1, 1, 7),
        (torch.float32, 9, 3, 65),
        (torch.float32, 30, 17, 33),
        (torch.bfloat16, 1, 1, 7),
        (torch.bfloat16, 7, 5, 33),
        (torch.float16, 7, 5, 33),
    ],
)
def test_accuracy(kind, options, dtype, steps, batch, hidden):
    theirs, mine = both(kind, 9, hidden, bidirectional=True, dtype=dtype, **options)
    x, hx = torch.randn(steps, batch, 9, dtype=dtype), initial(theirs, batch, dtype)
    assert_accurate(theirs, mine, x, hx)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", CELLS)
def test_accuracy_of_cells(kind, dtype):
    theirs, mine = both(kind, 9, 33, dtype=dtype)
    x, h = torch.randn(17, 9, dtype=dtype), torch.randn(17, 33, dtype=dtype)
    assert_accurate(theirs, mine, x, (h, h.flip(0)) if kind == "LSTMCell" else h)


@pytest.mark.parametrize(("kind", "cap"), [("LSTM", 5e-7), ("GRU", 1e-6), ("RNN", 2e-6)])
def test_long_float32_sequences(kind, cap):
    """T = 200, H = 64: rounding does not build up over the steps."""
    theirs, mine = both(kind, 16, 64, dtype=torch.float32)
    x = torch.randn(200, 4, 16)
    exact = to_float64(theirs)(x.double())[0]
    error, allowed = ((module(x)[0].double() - exact).abs().max().item() for module in (mine, theirs))
    assert error <= 2 * allowed and error < cap


def test_a_long_memory_of_bf16_data():
    """T = 1000 with forget gates next to 1: c stays float32, and an error of what is forgotten would build up. No W_hh,
    through which the rounding of h would."""
    theirs, mine = both("LSTM", 8, 16, dtype=torch.bfloat16)
    with torch.no_grad():
        for module in (theirs, mine):
            module.bias_ih_l0[16:32] = 6
            module.weight_hh_l0.zero_()
        x = torch.randn(1000, 3, 8, dtype=torch.bfloat16)
        exact = to_float64(theirs)(x.double())[0]
        error = (mine(x)[0].double() - exact).abs().max().item()
    assert error < 0.004  # half a unit in the last place of 1 is 0.002


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", LAYERS)
def test_packed_rows_equal_dense_ones(kind, dtype):
    _, mine = both(kind, 5, 7, dtype=dtype)
    x = torch.randn(4, 3, 5, dtype=dtype)
    dense, packed = mine(x)[0], mine(pack(list(x.unbind(1))))[0]
    assert packed.data.dtype == dtype
    torch.testing.assert_close(packed.data.view_as(dense), dense, rtol=0, atol=torch.finfo(dtype).eps)


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16], ids=str)
def test_autocast(kind, dtype, given):
    """Autocast's dtype in and out, whatever was given; gradients in the dtypes of their leaves."""
    options = {"proj_size": 2} if kind == "LSTM" else {}
    _, mine = both(kind, 5, 7, 2, bidirectional=True, dtype=torch.float32, **options)
    x, hx = torch.randn(4, 3, 5, dtype=given, requires_grad=True), initial(mine, 3, torch.float32)
    with torch.autocast(device_type(), dtype):
        output, states = mine(x, hx)
        assert torch.is_autocast_enabled(device_type())
    assert {leaf.dtype for leaf in leaves((output, states))} == {dtype}
    output.float().sum().backward()
    assert x.grad.dtype == given and mine.weight_ih_l0.grad.dtype == torch.float32

    lower = getattr(fastrnn, kind)(5, 7, 2, bidirectional=True, dtype=dtype, **options)
    lower.load_state_dict(mine.state_dict())
    expected = lower(x.to(dtype), tuple(h.to(dtype) for h in hx) if kind == "LSTM" else hx.to(dtype))
    for a, b in zip(leaves((output, states)), leaves(expected), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", CELLS)
def test_autocast_of_cells(kind):
    _, mine = both(kind, 5, 7, dtype=torch.float32)
    x, h = torch.randn(3, 5), torch.randn(3, 7)
    with torch.autocast(device_type(), torch.bfloat16):
        results = leaves(mine(x)) + leaves(mine(x, (h, h) if kind == "LSTMCell" else h))
    assert {leaf.dtype for leaf in results} == {torch.bfloat16}
    results[-1].float().sum().backward()
    assert mine.weight_hh.grad.dtype == torch.float32


@pytest.mark.parametrize("kind", LAYERS)
def test_autocast_on_packed_rows_and_dropout(kind):
    _, mine = both(kind, 5, 7, 2, dropout=0.5, dtype=torch.float32)
    packed = pack([torch.randn(4, 5), torch.randn(2, 5)])
    with torch.autocast(device_type(), torch.bfloat16):
        output, _ = mine(packed)
    assert isinstance(output, PackedSequence) and output.data.dtype == torch.bfloat16


@pytest.mark.parametrize("kind", LAYERS)
def test_autocast_leaves_float64_alone(kind):
    theirs, mine = both(kind, 5, 7)
    x = torch.randn(4, 3, 5).double()
    with torch.autocast(device_type(), torch.bfloat16):
        torch.testing.assert_close(mine(x)[0], theirs(x)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", LAYERS)
def test_autocast_of_another_device_changes_nothing(kind):
    _, mine = both(kind, 5, 7, dtype=torch.float32)
    x = torch.randn(4, 3, 5)
    expected = mine(x)[0]
    with torch.autocast(device_type(), torch.bfloat16), torch.autocast(device_type(), enabled=False):
        assert torch.equal(mine(x)[0], expected)
    meta = getattr(fastrnn, kind)(5, 7, device="meta")
    with torch.autocast(device_type(), torch.bfloat16):
        assert meta(x.to("meta"))[0].dtype == torch.float32


def test_autocast_still_checks():
    _, mine = both("GRU", 5, 7, dtype=torch.float32)
    with torch.autocast(device_type(), torch.bfloat16):
        error, text = error_of(lambda: mine(torch.zeros(4, 3, 6)))
        assert (error, text) == (
            RuntimeError,
            "input.size(-1) must be equal to input_size. Expected 5, got 6",
        )
        with pytest.raises(ValueError, match=r"RNN input dtype \(torch.int64\) does not match weight dtype"):
            mine(torch.zeros(4, 3, 5, dtype=torch.int64))

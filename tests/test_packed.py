"""weight_dtype: inference on weights packed once, as they are or rounded to bf16, everything else as it was."""

import copy
import os
import pickle

import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

import fastrnn
from fastrnn import _native

pytestmark = pytest.mark.cpu
KEPT = [torch.float32, torch.bfloat16]
LAYERS = {"rnn": fastrnn.RNN, "gru": fastrnn.GRU, "lstm": fastrnn.LSTM}


def packed(module, dtype=torch.bfloat16):
    module.weight_dtype = dtype
    return module


def leaves(result):
    return [t for part in result for t in (part if type(part) is tuple else [part])]


def rounded(module):
    """The same module on float32 weights that its weight_dtype holds."""
    other = copy.deepcopy(module)
    other.weight_dtype = None
    if module.weight_dtype is torch.float32:
        return other
    with torch.no_grad():
        for name, weight in other.named_parameters():
            if name.startswith(("weight_ih", "weight_hh")):
                weight.copy_(weight.bfloat16())
    return other


def assert_same(module, *args):
    with torch.no_grad():
        for mine, true in zip(leaves(module(*args)), leaves(rounded(module)(*args)), strict=True):
            mine, true = getattr(mine, "data", mine), getattr(true, "data", true)
            torch.testing.assert_close(mine, true, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", KEPT)
@pytest.mark.parametrize("sizes", [(1, 1, 7, 5), (9, 1, 33, 65), (4, 3, 16, 16), (5, 40, 9, 21)], ids=str)
@pytest.mark.parametrize("cell", LAYERS)
def test_equals_the_same_weights(cell, sizes, dtype, poisoned):
    T, B, inputs, units = sizes
    torch.manual_seed(0)
    assert_same(packed(LAYERS[cell](inputs, units), dtype), torch.randn(T, B, inputs))


@pytest.mark.parametrize("cell", LAYERS)
def test_what_is_not_rounded_is_the_same_to_the_bit(cell, poisoned):
    """Where a call would pack: the panels are the same, and so is the order of sums."""
    torch.manual_seed(0)
    module, x, hx = LAYERS[cell](9, 70), torch.randn(3, 30, 9), torch.randn(1, 30, 70)
    state = (hx, hx.flip(0)) if cell == "lstm" else hx
    with torch.no_grad():
        for given in (state, None):
            plain = leaves(module(x, given))
            module.weight_dtype = torch.float32
            assert all(map(torch.equal, leaves(module(x, given)), plain))
            module.weight_dtype = None


@pytest.mark.parametrize("rows", [2, 8, 9])
def test_few_rows_of_weights_beyond_the_caches(rows):
    """One thread reads up to eight as they lie, where packed ones would be slower: as a call does without any."""
    torch.manual_seed(0)
    module, x = fastrnn.LSTM(5, 1024), torch.randn(1, rows, 5)
    hx = (torch.randn(1, rows, 1024), torch.randn(1, rows, 1024))
    with torch.no_grad():
        plain = module(x, hx)[0]
        module.weight_dtype = torch.float32
        kept = module(x, hx)[0]
    torch.testing.assert_close(kept, plain, rtol=1e-5, atol=1e-5)
    second_level = os.sysconf("SC_LEVEL2_CACHE_SIZE") if "SC_LEVEL2_CACHE_SIZE" in os.sysconf_names else 0
    if 0 < 4 * second_level < 4 * 1024 * 1024 * 4:
        assert torch.equal(kept, plain) == (rows <= 8 and torch.get_num_threads() == 1)


@pytest.mark.parametrize("cell", LAYERS)
def test_a_weight_that_is_not_finite_shows_at_the_first_step(cell):
    """Without a state h is zero, and its product is left out only where it is known to be zero."""
    module = packed(LAYERS[cell](4, 40), torch.float32)
    with torch.no_grad():
        module.weight_hh_l0[3, 2] = float("inf")
        assert module(torch.randn(1, 6, 4))[0][0, :, 3].isnan().all()


@pytest.mark.parametrize("dtype", KEPT)
def test_weights_are_packed_once(monkeypatch, dtype):
    module, x = packed(fastrnn.LSTM(4, 5, 2), dtype), torch.randn(3, 2, 4)
    asked = []
    pack = _native.kernels.pack_weights
    monkeypatch.setattr(_native.kernels, "pack_weights", lambda *args: asked.append(args) or pack(*args))
    with torch.no_grad():
        for _ in range(3):
            module(x)
    assert len(asked) == 4  # two layers, each asked for its size and packed


@pytest.mark.parametrize("dtype", KEPT)
@pytest.mark.parametrize(
    "options", [{"num_layers": 2, "bidirectional": True}, {"bias": False}, {"proj_size": 3}], ids=str
)
def test_stacks(options, dtype):
    torch.manual_seed(0)
    module = packed(fastrnn.LSTM(7, 11, **options), dtype)
    assert_same(module, torch.randn(4, 2, 7))
    assert_same(module, pack_sequence([torch.randn(n, 7) for n in (5, 3, 1)]))


def test_training_uses_the_weights_themselves():
    torch.manual_seed(0)
    module, x = packed(fastrnn.GRU(4, 5)), torch.randn(3, 2, 4)
    plain = copy.deepcopy(module)
    plain.weight_dtype = None
    assert torch.equal(module(x)[0], plain(x)[0])
    with torch.no_grad():
        assert not torch.equal(module(x)[0], plain(x)[0])


@pytest.mark.parametrize(
    "change", ["optimizer", "load_state_dict", "new parameter", "inference tensors", "parametrized"]
)
@pytest.mark.parametrize("dtype", KEPT)
def test_changed_weights_are_packed_anew(change, dtype):
    torch.manual_seed(0)
    module, x = packed(fastrnn.GRU(4, 5), dtype), torch.randn(3, 2, 4)
    assert_same(module, x)
    if change == "optimizer":
        module(x)[0].sum().backward()
        torch.optim.SGD(module.parameters(), 0.5).step()
    elif change == "load_state_dict":
        module.load_state_dict(fastrnn.GRU(4, 5).state_dict())
    elif change == "new parameter":
        module.weight_hh_l0 = torch.nn.Parameter(torch.randn(15, 5))
    elif change == "inference tensors":
        with torch.inference_mode():
            for name in ("weight_ih_l0", "weight_hh_l0"):
                setattr(module, name, torch.nn.Parameter(torch.randn_like(getattr(module, name)), requires_grad=False))
            module(x)
            module.weight_hh_l0.mul_(2)
            expected = rounded(module)(x)[0]
            torch.testing.assert_close(module(x)[0], expected, rtol=1e-5, atol=1e-5)
        return
    else:
        torch.nn.utils.parametrizations.weight_norm(module, "weight_hh_l0")
        with torch.no_grad():
            for _ in range(5):  # the weight is a new tensor each time, and may stand where the one before stood
                first = module(x)[0]
                module.parametrizations.weight_hh_l0.original0.mul_(2)
                assert not torch.equal(first, module(x)[0])
        return
    assert_same(module, x)


@pytest.mark.parametrize("dtype", KEPT)
def test_it_goes_along_with_copies_and_pickles_and_is_no_part_of_the_state(dtype):
    module, x = packed(fastrnn.LSTM(4, 5), dtype), torch.randn(3, 2, 4)
    assert list(module.state_dict()) == list(fastrnn.LSTM(4, 5).state_dict())
    with torch.no_grad():
        expected = module(x)[0]
        for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            assert other.weight_dtype is dtype
            assert torch.equal(other(x)[0], expected)
            other.weight_hh_l0.zero_()
            assert torch.equal(module(x)[0], expected)
    assert f"weight_dtype={dtype}" in repr(module) and "weight_dtype" not in repr(fastrnn.LSTM(4, 5))


@pytest.mark.parametrize("dtype", KEPT)
def test_memory_that_comes_back_with_other_values(dtype):
    """As after module.bfloat16() and module.float(), which tell no version that they changed a weight."""
    module, x = packed(fastrnn.GRU(4, 5), dtype), torch.randn(3, 2, 4)
    model, memory = torch.nn.Sequential(module), [p.data for p in module.parameters()]
    with torch.no_grad():
        before = module(x)[0]
        model._apply(torch.clone)
        back = iter([values.mul_(2) for values in memory])
        model._apply(lambda _: next(back))
        assert module.weight_hh_l0.data_ptr() == memory[1].data_ptr()
        assert not torch.equal(module(x)[0], before)
    assert_same(module, x)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_of_other_dtypes_nothing_is_rounded(dtype):
    module = packed(fastrnn.GRU(4, 5, dtype=dtype))
    plain, x = copy.deepcopy(module), torch.randn(3, 2, 4, dtype=dtype)
    plain.weight_dtype = None
    with torch.no_grad():
        assert torch.equal(module(x)[0], plain(x)[0])


def test_no_other_dtype_is_taken():
    with pytest.raises(ValueError, match=r"torch\.float32, torch\.bfloat16 or None, got torch\.float16"):
        fastrnn.GRU(4, 5).weight_dtype = torch.float16

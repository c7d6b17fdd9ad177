"""Memory of large reserves and gradients: kept from step to step, never taken from under a graph or a tensor."""

import copy
import gc
import pickle
import subprocess
import sys

import pytest
import torch

import fastrnn
from fastrnn import _memory, ops

pytestmark = [pytest.mark.cpu, pytest.mark.skipif(not _memory._FLAGS, reason="this system maps no private memory")]

LARGE = _memory.LEAST // 4  # fp32 values


@pytest.fixture(autouse=True)
def nothing_kept():
    def forget():
        _memory._kept.add(-sum(map(len, _memory._free)))
        _memory._free.clear()

    gc.collect()
    forget()
    assert _memory._kept.bytes == 0 and _memory._in_use.bytes == sum(len(b) for _, b in _memory._used.values())
    yield
    forget()


def test_small_pieces_are_left_to_the_c_library():
    assert _memory.take((LARGE - 1,), torch.float32) is None
    assert _memory.take((LARGE // 2,), torch.float64) is not None
    assert _memory.take((2, 32), torch.bfloat16, least=129) is None
    assert _memory.take((2, 32), torch.bfloat16, least=128).shape == (2, 32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_it_serves_again_once_nobody_has_it(dtype):
    with torch.device("meta"):
        first = _memory.take((2, LARGE), dtype)
    assert first.device.type == "cpu" and first.dtype is dtype and first.shape == (2, LARGE)
    assert first.is_contiguous() and not first._is_view()
    assert first.data_ptr() % 64 == 0
    address, part = first.data_ptr(), first[:1]
    del first
    other = _memory.take((2, LARGE), dtype)
    assert other.data_ptr() != address  # part is still there
    del part
    # `other` is still there, too; a little shorter or longer is all the same
    assert {_memory.take((2 * LARGE + k,), dtype).data_ptr() for k in (0, 1, 100)} == {address}


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(_memory, "MOST_KEPT", 3 * _memory.LEAST)
    monkeypatch.setattr(_memory, "FRESH", 0)
    pieces = [_memory.take((LARGE,), torch.float32) for _ in range(5)]
    while pieces:
        pieces.pop(0)
    assert len(_memory._free) == 2
    larger = _memory.take((2 * LARGE,), torch.float32)
    assert len(_memory._free) == 2  # other layers may want them yet
    del larger
    assert [len(b) for b in _memory._free] == [2 * _memory.LEAST * 9 // 8]  # the older ones went
    huge = _memory.take((3 * LARGE,), torch.float32)
    del huge
    assert not _memory._free and not _memory._used  # more than may be kept


def test_what_could_not_be_kept_is_left_to_the_c_library(monkeypatch):
    monkeypatch.setattr(_memory, "MOST_KEPT", 3 * _memory.LEAST)
    pieces = [_memory.take((LARGE,), torch.float32) for _ in range(4)]
    assert [p is None for p in pieces] == [False, False, True, True]  # an eighth more than was asked for, each
    assert _memory.take((_memory.FRESH // 4,), torch.float32) is not None  # glibc would map it anew
    pieces.clear()
    assert _memory.take((LARGE,), torch.float32) is not None


def test_the_best_fit_is_found_among_many():
    pieces = [_memory.take((LARGE * n // 4,), torch.float32) for n in (4, 8, 5, 7, 6)]
    addresses = [p.data_ptr() for p in pieces]
    while pieces:
        pieces.pop(0)
    found = _memory.take((LARGE * 5 // 4 + 1000,), torch.float32)
    assert found.data_ptr() == addresses[2]


def test_layers_of_two_sizes_each_find_theirs_again():
    def step():
        pieces = [_memory.take((n * LARGE,), torch.float32) for n in (1, 4)]
        return [piece.data_ptr() for piece in pieces]

    assert step() == step() == step()


def test_without_memory_torch_says_so(monkeypatch):
    def none_left(*_, **__):
        raise OSError("Cannot allocate memory")

    monkeypatch.setattr(_memory.mmap, "mmap", none_left)
    assert _memory.take((LARGE,), torch.float32) is None
    assert ops._reserve(LARGE, torch.zeros(1), torch.float32).shape == (LARGE,)


def test_a_process_may_end_with_a_graph():
    code = """
import builtins, torch, fastrnn
builtins.kept = fastrnn.LSTM(1, 512)(torch.randn(55, 64, 1))
from fastrnn import _memory
assert _memory._used
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and not done.stderr, done.stderr


def test_steps_share_it_and_graphs_do_not():
    torch.manual_seed(0)
    layer, x = fastrnn.LSTM(1, 64), torch.randn(55, 512, 1)  # whose gradients are small
    assert ops._reserve_spec("lstm", x, 64, False)[0] >= LARGE

    def gradients(y, **options):
        return torch.autograd.grad(y.sum(), list(layer.parameters()), **options)

    y = layer(x)[0]
    expected = gradients(y, retain_graph=True)
    other = layer(2 * x)[0]  # must not write over what the first graph still has
    assert len(_memory._used) == 2
    for first, again in zip(expected, gradients(y), strict=True):
        assert torch.equal(first, again)
    gradients(other)
    del y, other
    assert len(_memory._free) == 2 and not _memory._used
    for first, again in zip(expected, gradients(layer(x)[0]), strict=True):
        assert torch.equal(first, again)
    assert len(_memory._free) == 2


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_share_it_with_those_that_are_gone(monkeypatch, quick, dtype):
    torch.manual_seed(0)
    if not quick:
        monkeypatch.setattr("fastrnn.modules.quick", lambda *_, **__: None)
    size = 512
    layer, x = fastrnn.GRU(size, size, dtype=dtype), torch.randn(2, 3, size, dtype=dtype)
    weights = [layer.weight_ih_l0, layer.weight_hh_l0]
    assert weights[0].nbytes >= _memory.LEAST_GRADIENT > layer.bias_ih_l0.nbytes

    def step():
        layer(x)[0].sum().backward()
        return [w.grad.data_ptr() for w in weights]

    first = step()
    assert len(_memory._used) == 2 and not _memory._free
    expected = [w.grad.clone() for w in weights]
    layer.zero_grad()
    assert len(_memory._free) == 2
    assert sorted(step()) == sorted(first)  # at last .grad has it alone
    kept = [w.grad for w in weights]
    layer.zero_grad()
    assert not set(step()) & set(first)  # kept is still there
    for w, k, e in zip(weights, kept, expected, strict=True):
        assert torch.equal(w.grad, e) and torch.equal(k, e)
    step()  # is added to
    for w, e in zip(weights, expected, strict=True):
        assert torch.equal(w.grad, 2 * e)


def test_a_gradient_is_a_tensor_like_any_other():
    layer = fastrnn.LSTM(512, 512)
    layer(torch.randn(2, 1, 512))[0].sum().backward()
    grad = layer.weight_hh_l0.grad
    assert _memory._used
    expected = grad.clone()
    for copy_of in (copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t)), lambda t: torch.from_numpy(t.numpy())):
        assert torch.equal(copy_of(grad), expected)
    with pytest.raises(RuntimeError, match="not resizable"):
        grad.untyped_storage().resize_(0)
    grad.share_memory_()
    assert grad.is_shared() and torch.equal(grad, expected)
    torch.nn.utils.clip_grad_norm_(layer.parameters(), 1e-3)
    torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9).step()


def test_an_input_of_many_rows_has_a_large_gradient():
    x = torch.randn(400, 64, 64, requires_grad=True)
    layer = fastrnn.RNN(64, 8)
    layer(x)[0].sum().backward()
    assert len(_memory._used) == 1
    lengths = torch.tensor([200] * 64)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x.detach(), lengths)
    data = packed.data.requires_grad_()
    rows = torch.nn.utils.rnn.PackedSequence(data, packed.batch_sizes)
    layer(rows)[0].data.sum().backward()
    assert len(_memory._used) == 2 and data.grad.shape == data.shape

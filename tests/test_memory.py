"""Memory of large reserves: kept from step to step, never taken from under a graph that is still there."""

import gc
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
    gc.collect()
    _memory._free.clear()
    yield
    _memory._free.clear()


def test_small_pieces_are_left_to_the_c_library():
    assert _memory.take(LARGE - 1, torch.float32) is None
    assert _memory.take(LARGE // 2, torch.float64) is not None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_serves_again_once_nobody_has_it(dtype):
    with torch.device("meta"):
        first = _memory.take(LARGE, dtype)
    assert first.device.type == "cpu" and first.dtype is dtype and first.shape == (LARGE,)
    assert first.data_ptr() % 64 == 0
    address, part = first.data_ptr(), first[:1]
    del first
    other = _memory.take(LARGE, dtype)
    assert other.data_ptr() != address  # part is still there
    del part
    # `other` is still there, too; a little shorter or longer is all the same
    assert {_memory.take(LARGE + k, dtype).data_ptr() for k in (0, 1, 100)} == {address}


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(_memory, "MOST_KEPT", 3 * _memory.LEAST)
    pieces = [_memory.take(LARGE, torch.float32) for _ in range(5)]
    while pieces:
        pieces.pop(0)
    assert len(_memory._free) == 2
    larger = _memory.take(2 * LARGE, torch.float32)
    assert len(_memory._free) == 2  # other layers may want them yet
    del larger
    assert [len(b) for b in _memory._free] == [2 * _memory.LEAST * 9 // 8]  # the older ones went
    huge = _memory.take(3 * LARGE, torch.float32)
    del huge
    assert not _memory._free and not _memory._used  # more than may be kept


def test_layers_of_two_sizes_each_find_theirs_again():
    def step():
        pieces = [_memory.take(n * LARGE, torch.float32) for n in (1, 4)]
        return [piece.data_ptr() for piece in pieces]

    assert step() == step() == step()


def test_without_memory_torch_says_so(monkeypatch):
    def none_left(*_, **__):
        raise OSError("Cannot allocate memory")

    monkeypatch.setattr(_memory.mmap, "mmap", none_left)
    assert _memory.take(LARGE, torch.float32) is None
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
    layer, x = fastrnn.LSTM(1, 512), torch.randn(55, 64, 1)
    assert ops._reserve_spec("lstm", x, 512)[0] >= LARGE

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

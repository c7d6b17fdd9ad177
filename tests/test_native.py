"""Which kernels are loaded, how that is forced, and what is said when it fails."""

import os
import subprocess
import sys
import threading
import time

import pytest
import torch

import fastrnn
from fastrnn import _cuda, _native


def python(code: str, **environment: str) -> subprocess.CompletedProcess:
    env = {k: v for k, v in os.environ.items() if k not in ("FASTRNN_ISA", "FASTRNN_BF16")} | environment
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=120)


def test_best_isa_is_chosen():
    done = python("from fastrnn import _native; print(_native.isa_in_use())")
    assert done.stdout.strip() == _native.available_isas()[0], done.stderr
    assert _native.available_isas()[-1] == "baseline"
    assert set(_native.available_isas()) <= set(_native.built_isas())


@pytest.mark.parametrize("isa", _native.available_isas())
def test_isa_can_be_forced(isa):
    call = "fastrnn.LSTM(2, 3)(torch.ones(1, 2))[0].shape[1]"
    code = f"import torch, fastrnn; print(fastrnn._native.isa_in_use(), {call})"
    done = python(code, FASTRNN_ISA=isa)
    assert done.stdout.split() == [isa, "3"], done.stderr


def test_unknown_isa_is_an_import_error():
    done = python("import fastrnn", FASTRNN_ISA="mmx")
    assert "ImportError: FASTRNN_ISA='mmx' is not one of avx512, avx2, baseline" in done.stderr


BF16_AGAINST_FP64 = """
from itertools import product
import torch, fastrnn
from torch.nn.utils.rnn import pack_padded_sequence
from fastrnn import _native
torch.manual_seed(0)
worst = 0
# rows and sizes that fill whole tiles, that do not, that leave one row, and that two threads share unevenly
shapes = (3, 16, 64, 64), (4, 21, 50, 37), (5, 1, 33, 96), (3, 70, 96, 20), (6, 35, 40, 64)
cells = ("LSTM", {}), ("GRU", {}), ("RNN", {}), ("LSTM", {"proj_size": 19}), ("GRU", {"bidirectional": True})
for (steps, batch, inputs, units), (cell, options), ragged in product(shapes, cells, (False, True)):
    torch.set_num_threads(1 + (units == 64))
    ours = getattr(fastrnn, cell)(inputs, units, **options).bfloat16()
    true = getattr(torch.nn, cell)(inputs, units, **options).double()
    true.load_state_dict({k: v.double() for k, v in ours.state_dict().items()})
    x = torch.randn(steps, batch, inputs).bfloat16().requires_grad_()
    x64 = x.detach().double().requires_grad_()
    lengths = torch.linspace(steps, 1, batch).long()
    run = lambda m, x: m(pack_padded_sequence(x, lengths))[0].data if ragged else m(x)[0]
    y, y64 = run(ours, x), run(true, x64)
    dy = torch.randn_like(y)
    y.backward(dy), y64.backward(dy.double())
    grads = [(a.grad, b.grad) for a, b in zip(ours.parameters(), true.parameters())]
    pairs = [(y, y64), (x.grad, x64.grad), *grads]
    worst = max(worst, *(float((a.double() - b).abs().max() / b.abs().max()) for a, b in pairs))
print(_native.bf16_in_use(), worst)
"""


@pytest.mark.parametrize("way", ["amx", "dots", "fp32", ""])
def test_bf16_products_can_be_forced(way):
    done = python(BF16_AGAINST_FP64, FASTRNN_BF16=way)
    assert done.returncode == 0, done.stderr
    used, worst = done.stdout.split()
    if way and used != way:
        pytest.skip(f"this processor or this build has no {way}: {used} is used")
    assert float(worst) < 0.015  # 0.0072 by pairs, 0.0054 in fp32: h and the results are rounded to bf16


def test_unknown_bf16_products_are_an_import_error():
    done = python("import fastrnn", FASTRNN_BF16="tf32")
    assert "ImportError: FASTRNN_BF16='tf32' is not one of amx, dots, fp32" in done.stderr


@pytest.mark.parametrize("missing", ["_cpu", "_kernels_avx2", "_kernels_baseline"])
def test_missing_module_says_what_to_run(missing):
    forced = {"FASTRNN_ISA": missing.removeprefix("_kernels_")} if "kernels" in missing else {}
    if forced and forced["FASTRNN_ISA"] not in _native.available_isas():
        pytest.skip(f"{missing} does not run on this processor")
    done = python(f"import sys; sys.modules['fastrnn.{missing}'] = None; import fastrnn", **forced)
    assert done.returncode != 0
    assert "ImportError" in done.stderr and "pip install" in done.stderr, done.stderr


RESULTS = """
import hashlib, torch, fastrnn
digest = hashlib.sha256()
for dtype in torch.float32, torch.float64, torch.bfloat16, torch.float16:
    for layer in fastrnn.LSTM(3, 4, dtype=dtype), fastrnn.GRU(3, 4, bidirectional=True, dtype=dtype):
        torch.manual_seed(0)
        for p in layer.parameters():
            torch.nn.init.uniform_(p)
        for shape in (5, 2, 3), (1, 1, 3):
            output, states = layer(torch.rand(shape).to(dtype).requires_grad_())
            output.sum().backward()
            states = states if isinstance(states, tuple) else (states,)
            for t in output, *states, *(p.grad for p in layer.parameters()):
                digest.update(repr((t.dtype, t.shape, t.stride(), t.device, type(t).__name__)).encode())
                digest.update(t.detach().contiguous().view(torch.uint8).numpy().tobytes())
print(fastrnn._native.tensors_in_use(), digest.hexdigest(), sep=": ")
"""


def test_results_do_not_depend_on_who_makes_them():
    by_c, by_python = (python(RESULTS, FASTRNN_TORCH_C=wanted) for wanted in ("", "0"))
    assert not by_c.returncode and not by_python.returncode, by_c.stderr + by_python.stderr
    (c, first), (new, second) = by_c.stdout.split(": "), by_python.stdout.split(": ")
    assert (c, new) == ("torch's C functions", "Tensor.new")
    assert first == second


@pytest.mark.parametrize("around", ["plain", "no_grad", "inference", "default device", "deterministic"])
def test_results_are_torchs_own(around, monkeypatch):
    layer, x = fastrnn.LSTM(3, 4), torch.ones(2, 1, 3)
    modes = {
        "no_grad": torch.no_grad,
        "inference": torch.inference_mode,
        "default device": lambda: torch.device("meta"),
        "deterministic": lambda: torch.random.fork_rng(devices=[]),
    }
    expected = layer(x)[0].detach().clone()
    if around == "deterministic":  # torch then fills what is not initialised
        monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
        torch.use_deterministic_algorithms(True)
    try:
        with modes.get(around, torch.enable_grad)():
            for _ in range(2):
                y, (h_n, c_n) = layer(x)
                assert {type(t) for t in (y, h_n, c_n)} == {torch.Tensor}
                assert [t.shape for t in (y, h_n, c_n)] == [(2, 1, 4), (1, 1, 4), (1, 1, 4)]
                assert all(t.device.type == "cpu" and t.is_contiguous() and t._base is None for t in (y, h_n, c_n))
                assert len({t.untyped_storage().data_ptr() for t in (y, h_n, c_n)}) == 3
                assert y.is_inference() == (around == "inference")
                assert y.requires_grad == (around not in ("no_grad", "inference"))
                y += 1  # a result may be written, as any
                torch.testing.assert_close(y.detach() - 1, expected)
                assert y._version == 1 if around != "inference" else y.is_inference()
    finally:
        torch.use_deterministic_algorithms(False)


def test_results_too_large_for_memory_are_torchs_error():
    """Its C function says no, and Tensor.new tells why."""
    cell = _native.CELLS["rnn_tanh"]
    forward, _ = _native.kernels.fixed(cell, False, False, [], False, 1 << 50, 1, 1, 1, 1, 0, 0)
    tensors = [torch.zeros(1, 1, 1), torch.zeros(1, 1), torch.zeros(1, 1), torch.zeros(1), torch.zeros(1)]
    with pytest.raises(RuntimeError, match="memory"):
        forward(torch.Tensor.new, 1, None, None, *tensors)


def test_use_isa_comes_back():
    before = _native.isa_in_use()
    with _native.use_isa("baseline"):
        assert _native.isa_in_use() == "baseline"
    assert _native.isa_in_use() == before
    with pytest.raises(ValueError, match="not available"), _native.use_isa("mmx"):
        pass


ONE_RUNTIME = """
import os, threadpoolctl, torch, fastrnn
from fastrnn import _native
fastrnn.GRU(64, 256)(torch.randn(8, 32, 64))
runtimes = {os.path.realpath(m["filepath"]) for m in threadpoolctl.threadpool_info() if m["user_api"] == "openmp"}
assert runtimes == {os.path.realpath(_native.openmp_runtime())}, runtimes
"""


def test_one_openmp_runtime_in_the_process():
    """In a process of its own: what other tests import (sentencepiece) brings another one."""
    pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed")
    done = python(ONE_RUNTIME)
    assert done.returncode == 0, done.stderr


PANELS_OF_TWO = """
import hashlib, torch, fastrnn
torch.set_num_threads(2)
torch.manual_seed(0)
digest = hashlib.sha256()
for dtype in (torch.float32, torch.float64, torch.bfloat16):
    for kind in (fastrnn.LSTM, fastrnn.GRU, fastrnn.RNN):
        layer, x = kind(203, 331).to(dtype), torch.randn(9, 24, 203, dtype=dtype, requires_grad=True)
        for _ in range(3):  # into memory that both threads have read
            layer.zero_grad()
            x.grad = None
            y, _ = layer(x)
            y.square().sum().backward()
            for t in (y.detach(), x.grad, *(p.grad for p in layer.parameters())):
                digest.update(t.float().numpy().tobytes())
print(digest.hexdigest())
"""


@pytest.mark.parametrize("isa", _native.available_isas())
def test_panels_past_the_caches_change_nothing(isa):
    """What threads on two chiplets do is forced here, wherever they run."""
    far, near = (python(PANELS_OF_TWO, FASTRNN_FAR_APART=apart, FASTRNN_ISA=isa) for apart in "10")
    assert far.returncode == near.returncode == 0, far.stderr + near.stderr
    assert far.stdout == near.stdout


def test_barrier_is_timed():
    assert 0 < _native.barrier_ns(1) < _native.barrier_ns(2) < 1e9


def test_gil_is_released_while_a_kernel_runs():
    """A thread that holds the GIL on and off makes progress during one long call."""
    layer, x = fastrnn.LSTM(256, 256), torch.randn(400, 32, 256)
    ticks, running = [], threading.Event()

    def tick():
        running.set()
        while running.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    running.wait()
    with torch.no_grad():
        start = time.perf_counter()
        layer(x)
        end = time.perf_counter()
    running.clear()
    thread.join()
    inside = [t for t in ticks if start < t < end]
    assert len(inside) >= 5, f"{len(inside)} ticks in {end - start:.3f} s"


def test_tensors_elsewhere_are_refused_clearly():
    class Elsewhere:
        is_cpu, is_meta, device = False, False, torch.device("xpu:0")

    with pytest.raises(RuntimeError, match=r"CPU and CUDA tensors only, got a tensor on xpu:0.*\.to\("):
        fastrnn.ops._elsewhere(None, None, Elsewhere())


def test_cuda_tensors_without_cuda_kernels_are_refused_clearly(monkeypatch):
    class OnDevice:
        is_cpu, is_meta, device = False, False, torch.device("cuda:0")

    monkeypatch.setattr(_cuda, "kernels", None)
    monkeypatch.setattr(_cuda, "_missing", "not built")
    with pytest.raises(RuntimeError, match="CUDA kernels are missing: not built"):
        fastrnn.ops._elsewhere(None, None, OnDevice())
    assert _cuda.info() == "not built"

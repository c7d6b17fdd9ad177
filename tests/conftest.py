"""Every test of the compiled code runs on each ISA this processor has, with one thread and with two."""

import os

import emulation
import pytest
import torch

from fastrnn import _cuda, _cuda_layer, _native, _quick, ops

# Files whose tests go through the kernels. Each of their tests runs once for every (ISA, threads).
KERNEL_FILES = (
    "test_kernels",
    "test_autograd",
    "test_modules",
    "test_functional",
    "test_cells",
    "test_contract",
    "test_quick",
    "test_guards",
    "test_packed",
)
CONFIGURATIONS = [(isa, threads) for isa in _native.available_isas() for threads in (1, 2)]
# Under torch.use_deterministic_algorithms cuBLAS wants this, before it starts.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def no_gpu() -> str:
    """Why tests marked `cuda` cannot run; empty if they can."""
    if _cuda.kernels is None:
        return f"CUDA kernels: {_cuda.info()}"
    return "" if torch.cuda.is_available() else "no CUDA device"


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")
    parser.addoption("--emulated", action="store_true", help="run the tests of the kernels on emulated CUDA kernels")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: long; run with --slow")
    config.addinivalue_line("markers", "cuda: needs a GPU")
    config.addinivalue_line("markers", "cpu: not run on a GPU, where something else is true")


def pytest_collection_modifyitems(config, items):
    if reason := no_gpu():
        for item in items:
            if item.get_closest_marker("cuda"):  # keywords hold folder names too
                item.add_marker(pytest.mark.skip(reason=reason))
    if config.getoption("--slow"):
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow; run with --slow"))


def pytest_report_header():
    return f"tests on a GPU: {no_gpu() or torch.cuda.get_device_name()}"


def pytest_generate_tests(metafunc):
    if not metafunc.module.__name__.rpartition(".")[2].startswith(KERNEL_FILES):
        return
    metafunc.fixturenames.append("configuration")
    chosen = [pytest.param(c, id=f"{c[0]}-{c[1]}") for c in CONFIGURATIONS]
    if not metafunc.definition.get_closest_marker("cpu"):
        if metafunc.config.getoption("--emulated"):
            chosen = [pytest.param("emulated")]
        elif not no_gpu():
            chosen.append(pytest.param("gpu", marks=pytest.mark.cuda))
    metafunc.parametrize("configuration", chosen, indirect=True)


@pytest.fixture
def no_calls_kept():
    """The short way has looked through no tensors yet."""
    _quick._calls.clear()


@pytest.fixture
def configuration(request):
    """One of CONFIGURATIONS; "gpu": the same test on tensors of a GPU; or "emulated"."""
    if isinstance(request.param, str):
        yield request.getfixturevalue(request.param)
        return
    isa, threads = request.param
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    with _native.use_isa(isa):
        yield isa, threads
    torch.set_num_threads(before)


@pytest.fixture
def gpu(monkeypatch):
    """Whatever is made without a device is made on the GPU. No TF32, neither in ours nor in cuDNN's."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
    torch.set_default_device("cuda")
    yield
    torch.set_default_device(None)


@pytest.fixture(scope="session")
def emulated_module(tmp_path_factory):
    return emulation.build(tmp_path_factory.mktemp("emulated"))


@pytest.fixture
def emulated(emulated_module, monkeypatch):
    """CPU tensors take the place of CUDA tensors."""
    emulation.install(monkeypatch, emulated_module)


@pytest.fixture(params=["emulated", pytest.param("gpu", marks=pytest.mark.cuda)])
def device(request, monkeypatch):
    """Calls run the CUDA kernels in exact arithmetic, on memory that comes filled with NaN."""
    request.getfixturevalue("poisoned")
    request.getfixturevalue(request.param)
    monkeypatch.setenv("FASTRNN_CUDA_TIER", "c")
    monkeypatch.setattr(_cuda, "tf32", lambda: False)
    return request.param


@pytest.fixture(params=["a", "b", "d"])
def persistent(request, monkeypatch):
    """The kernels that run all steps in one launch, in every tier."""
    monkeypatch.setenv("FASTRNN_CUDA_TIER", request.param)
    monkeypatch.setattr(_cuda, "tf32", lambda: True)
    return request.param


@pytest.fixture
def poisoned(monkeypatch):
    """What the kernels are to fill comes filled with NaN, so a value left unwritten shows."""
    for module, name in (
        (ops, "_empty"),
        (ops, "_new"),
        (ops, "_new_gradient"),
        (ops, "_reserve"),
        (_cuda_layer, "_empty"),
    ):
        empty = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, empty=empty: poison(empty(*args)))


def poison(t):
    return t.fill_(255 if t.dtype == torch.uint8 else float("nan"))  # bytes of ones are NaN in every float type

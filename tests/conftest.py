"""Every test of the compiled code runs on each ISA this processor has, with one thread and with two."""

import pytest
import torch

from fastrnn import _cuda, _native, ops

# Files whose tests go through the kernels. Each of their tests runs once for every (ISA, threads).
KERNEL_FILES = (
    "test_kernels",
    "test_autograd",
    "test_modules",
    "test_functional",
    "test_cells",
    "test_contract",
    "test_quick",
    "test_half",
)
CONFIGURATIONS = [(isa, threads) for isa in _native.available_isas() for threads in (1, 2)]


def no_gpu() -> str:
    """Why tests marked `cuda` cannot run; empty if they can."""
    if _cuda.kernels is None:
        return f"CUDA kernels: {_cuda.info()}"
    return "" if torch.cuda.is_available() else "no CUDA device"


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: long; run with --slow")
    config.addinivalue_line("markers", "cuda: needs a GPU")


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


def pytest_generate_tests(metafunc):
    if metafunc.module.__name__.rpartition(".")[2].startswith(KERNEL_FILES):
        metafunc.fixturenames.append("configuration")
        ids = [f"{isa}-{threads}" for isa, threads in CONFIGURATIONS]
        metafunc.parametrize("configuration", CONFIGURATIONS, ids=ids, indirect=True)


@pytest.fixture
def configuration(request):
    isa, threads = request.param
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    with _native.use_isa(isa):
        yield isa, threads
    torch.set_num_threads(before)


@pytest.fixture
def poisoned(monkeypatch):
    """What the kernels are to fill comes filled with NaN, so a value left unwritten shows."""
    for name in ("_empty", "_new"):
        empty = getattr(ops, name)
        monkeypatch.setattr(ops, name, lambda *args, empty=empty: empty(*args).fill_(float("nan")))

"""What setup.py does where CUDA's compiler is missing, does not work, or fails: the rest is built all the same."""

import importlib.util
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

setuptools = pytest.importorskip("setuptools", reason="setuptools is not installed")
pytest.importorskip("pybind11", reason="pybind11 is not installed")
SETUP = Path(__file__).parent.parent / "setup.py"
pytestmark = pytest.mark.skipif(not SETUP.exists(), reason="setup.py is not here (installed package)")


@pytest.fixture
def toolkit(tmp_path, monkeypatch):
    """Makes an nvcc of a shell script's lines, the only one there is."""
    monkeypatch.setenv("FASTRNN_ISAS", "baseline")
    for name in ("FASTRNN_CUDA", "FASTRNN_CUDA_ARCHS", "FASTRNN_SANITIZE", "CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "bin").mkdir()
    (tmp_path / "include").mkdir()
    (tmp_path / "include/cuda_runtime.h").touch()
    nvcc = tmp_path / "bin/nvcc"
    monkeypatch.setenv("NVCC", str(nvcc))

    def make(script: str) -> None:
        nvcc.write_text(f"#!/bin/sh\n{script}\n")
        nvcc.chmod(0o755)

    return make


KNOWS = 'if [ "$1" = --list-gpu-code ]; then echo "sm_80 sm_90"; exit 0; fi'


def build(tmp_path, monkeypatch) -> list[str]:
    """Runs setup.py's build with one source a module, an empty one for the processor. Returns the modules left."""
    given = {}
    monkeypatch.setattr(setuptools, "setup", lambda **options: given.update(options))
    monkeypatch.chdir(SETUP.parent)
    runpy.run_path(str(SETUP))
    modules = [e for e in given["ext_modules"] if e.name in ("fastrnn._cpu", "fastrnn._kernels_cuda")]
    empty = tmp_path / "empty.cpp"
    empty.touch()
    modules[0].sources = [str(empty)]
    for module in modules[1:]:
        module.sources = module.sources[:1]
    command = given["cmdclass"]["build_ext"](setuptools.Distribution({"name": "x", "ext_modules": modules}))
    command.build_lib, command.build_temp = str(tmp_path / "lib"), str(tmp_path / "temp")
    command.ensure_finalized()
    command.run()
    return [module.name for module in command.extensions]


@pytest.mark.parametrize(
    "script, reason",
    [
        ("echo 'nvcc fatal: no host compiler' >&2; exit 1", "--list-gpu-code failed: nvcc fatal: no host compiler"),
        (f"{KNOWS}\necho 'note'; echo 'x.cu(3): error: bad' >&2; exit 1", "layer_bf16.cu: x.cu(3): error: bad"),
        ("echo sm_35", "too old"),
    ],
    ids=["broken", "compile error", "too old"],
)
def test_failing_nvcc_leaves_the_rest(toolkit, tmp_path, monkeypatch, capfd, script, reason):
    toolkit(script)
    assert build(tmp_path, monkeypatch) == ["fastrnn._cpu"]
    assert list((tmp_path / "lib/fastrnn").glob("_cpu*"))
    warnings = [line for line in capfd.readouterr().err.splitlines() if "CUDA" in line]
    assert len(warnings) == 1 and warnings[0].startswith("warning: fastrnn is built without CUDA kernels")
    assert reason in warnings[0]
    monkeypatch.setenv("FASTRNN_CUDA", "1")
    with pytest.raises(SystemExit, match="FASTRNN_CUDA=1, but"):
        build(tmp_path, monkeypatch)


def test_missing_nvcc_is_no_news_unless_cuda_is_wanted(toolkit, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("NVCC", "")
    monkeypatch.setattr("shutil.which", lambda *args, **options: None)
    assert build(tmp_path, monkeypatch) == ["fastrnn._cpu"]
    assert "CUDA" not in capfd.readouterr().err
    monkeypatch.setenv("FASTRNN_CUDA", "1")
    with pytest.raises(SystemExit, match="nvcc was not found"):
        build(tmp_path, monkeypatch)


def test_unknown_architecture_is_refused(toolkit, tmp_path, monkeypatch):
    toolkit(KNOWS)
    monkeypatch.setenv("FASTRNN_CUDA_ARCHS", "80,91")
    with pytest.raises(SystemExit, match="names 91"):
        build(tmp_path, monkeypatch)


def test_default_architectures_are_those_that_nvcc_knows(toolkit, tmp_path, monkeypatch):
    log = tmp_path / "log"
    toolkit(f"{KNOWS}\necho $@ >>{log}; exit 1")
    build(tmp_path, monkeypatch)
    (command,) = log.read_text().splitlines()
    targets = [word.removeprefix("-gencode=") for word in command.split() if word.startswith("-gencode=")]
    assert targets == [f"arch=compute_{a},code=sm_{a}" for a in ("80", "90a")] + ["arch=compute_90,code=compute_90"]


def test_host_code_calls_no_device_function():
    """In a template, nvcc takes such a call without a word, and has the process exit there."""
    module = importlib.util.find_spec("fastrnn._kernels_cuda")
    if module is None or module.origin is None:
        pytest.skip("the CUDA kernels are not built")
    if not shutil.which("nm"):
        pytest.skip("nm (binutils) is not in the PATH")
    listed = subprocess.run(["nm", "-D", "--undefined-only", module.origin], capture_output=True, text=True, check=True)
    names = {line.split()[-1].partition("@")[0] for line in listed.stdout.splitlines()}
    assert "atexit" in names or "__cxa_atexit" in names  # the list is one of names
    assert "exit" not in names

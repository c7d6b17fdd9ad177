"""The command line as a whole: what works on the base package, and how a missing extra is told."""

import subprocess
import sys

import pytest

from fastrnn import _cuda, _native, cli, info


def python(*arguments):
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=120)


WITHOUT_CLICK = "import sys; sys.modules['click'] = None; from fastrnn.cli import main; sys.exit(main({}))"


def test_info_shows_what_the_native_layer_says(monkeypatch, capsys):
    monkeypatch.setattr(_native, "isa_in_use", lambda: "tier_b")
    monkeypatch.setattr(_native, "available_isas", lambda: ["tier_b", "tier_a"])
    monkeypatch.setattr(_native, "built_isas", lambda: ["tier_c", "tier_b", "tier_a"])
    monkeypatch.setattr(_native, "openmp_runtime", lambda: "/somewhere/libgomp.so.1")
    monkeypatch.setattr(_cuda, "info", lambda: "not built")
    info.main()
    shown = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert {label: value.strip() for label, value in shown.items()} == info.describe()
    facts = info.describe()
    assert facts["CPU ISA in use"] == "tier_b"
    assert facts["CPU ISA available"] == "tier_b, tier_a"
    assert facts["CPU ISA built"] == "tier_c, tier_b, tier_a"
    assert facts["OpenMP runtime"] == "/somewhere/libgomp.so.1"
    assert facts["CUDA"] == "not built"


def test_info_tells_of_kernels_that_cannot_be_loaded(monkeypatch):
    def broken():
        raise ImportError("undefined symbol: sgemm_")

    monkeypatch.setattr(_native, "isa_in_use", broken)
    facts = info.describe()
    assert facts["kernels"] == "not loaded: undefined symbol: sgemm_"
    assert "torch" in facts and "CPU ISA in use" not in facts


def test_info_works_without_the_extra():
    result = python("-c", WITHOUT_CLICK.format("['info']"))
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("fastrnn ") and "OpenMP runtime" in result.stdout


def test_other_commands_name_the_missing_extra():
    result = python("-c", WITHOUT_CLICK.format("['names', 'train', '--out', 'run']"))
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "click not installed" in result.stderr and 'pip install "fastrnn[tasks]"' in result.stderr


def test_the_module_runs_as_a_program():
    pytest.importorskip("click", reason='needs pip install "fastrnn[tasks]"')
    result = python("-m", "fastrnn", "--version")
    assert (result.returncode, result.stdout) == (0, f"fastrnn, version {info.version()}\n")


@pytest.mark.parametrize("argv", [["names", "train"], ["no-such-command"], ["names", "train", "--cell", "x"]])
def test_wrong_usage_exits_with_2(argv, capsys):
    pytest.importorskip("click", reason='needs pip install "fastrnn[tasks]"')
    assert cli.main(argv) == 2
    assert "Error: " in capsys.readouterr().err


def test_the_command_line_returns_0_on_success(capsys):
    pytest.importorskip("click", reason='needs pip install "fastrnn[tasks]"')
    assert cli.main(["info"]) == 0
    assert "CPU ISA in use" in capsys.readouterr().out

"""The GPU benchmark as far as it goes without a GPU: its grids, its sides on the CPU, its tables, ptxas's reports."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import gpu, gpu_grid, gpu_sides, ptxas
from benchmarks.gpu_grid import Case

SMALL = Case("ours", "lstm", 4, 3, 5, 6)


@pytest.fixture
def on_the_cpu(monkeypatch):
    monkeypatch.setattr(gpu_sides, "DEVICE", "cpu")
    monkeypatch.setattr(gpu_sides, "pin", lambda dtype: None)
    monkeypatch.setattr(gpu, "median_us", lambda call, seconds: (call.before(), call.run(), (8.0, 0.5))[2])


def test_grids_are_the_published_ones():
    found = list(gpu_grid.cases())
    assert len(set(found)) == len(found)
    flash = {(c.B, c.T, c.H) for c in found if c.grid == "flashrnn"}
    assert {(16, 1024, h) for h in (64, 128, 256, 512, 768)} <= flash
    assert {(b, 1024, 768) for b in (2, 4, 8, 16, 32, 64, 128, 256)} <= flash
    assert {(16, t, 768) for t in (256, 512, 1024, 2048)} <= flash
    haste = {(c.cell, c.B, c.H) for c in found if c.grid == "haste" and c.T == 50}
    assert len(haste) == 2 * 5 * 6
    assert {c.cell for c in found if (c.T, c.B, c.I, c.H) == (100, 64, 512, 512)} == {"lstm", "gru", "rnn"}
    for cell in ("lstm", "gru"):
        ours = [c for c in found if c.grid == "ours" and c.cell == cell]
        assert {1, 3, 12} <= {c.B for c in ours} and {200, 650, 1500} <= {c.H for c in ours}
        assert any(c.bidirectional for c in ours) and any(c.ragged for c in ours) and any(c.T == 4096 for c in ours)
    assert {t.case for t in gpu_grid.targets()} <= set(found)


@pytest.mark.parametrize("cell", gpu_grid.CLASSES)
@pytest.mark.parametrize("form", [{}, {"bidirectional": True}, {"ragged": True}], ids=["plain", "bi", "ragged"])
def test_both_sides_run_and_agree(on_the_cpu, cell, form):
    result = gpu.measure(Case("ours", cell, 4, 3, 5, 6, **form), "fp32", 0.0, ["fastrnn", "cudnn"])
    assert set(result["us_per_step"]) == {f"{s} {m}" for s in ("fastrnn", "cudnn") for m in gpu.MODES}
    assert result["apart"] < 1e-5 and result["left_out"] == {}
    json.dumps(result)


def test_recurrence_leaves_the_projection_out(on_the_cpu, emulated, monkeypatch):
    products = []
    mm = torch.mm
    monkeypatch.setattr(torch, "mm", lambda a, b: (products.append(a.shape), mm(a, b))[1])
    monkeypatch.setenv("FASTRNN_CUDA_TIER", "c")
    weights = torch.nn.LSTM(5, 6).state_dict()
    whole = gpu_sides.SIDES["fastrnn"](SMALL, "fp32", weights)["forward"].run()
    calls = gpu_sides.SIDES["recurrence"](SMALL, "fp32", weights)
    products.clear()
    torch.testing.assert_close(calls["forward"].run(), whole)
    assert products == []
    calls["backward"].before()
    calls["backward"].run()
    assert products == [(24, 9)]  # dW_hh, but for the first step's rows, which came from zeros


def test_peers_that_are_not_there_are_left_out_with_a_reason(on_the_cpu):
    for side, dtype in (("flashrnn", "bf16"), ("haste", "fp32")):
        result = gpu.measure(SMALL, dtype, 0.0, [side])
        if not result["us_per_step"]:
            assert "cannot be imported" in result["left_out"][side]
    assert "LSTM only" in gpu.measure(SMALL, "fp32", 0.0, ["flashrnn"])["left_out"]["flashrnn"]


def row(case, dtype="bf16", **us):
    times = {name.replace("_", " "): value for name, value in us.items()}
    return {"case": vars(case), "dtype": dtype, "us_per_step": times, "iqr": {}, "left_out": {"haste": "not there"}}


def test_tables():
    target = gpu_grid.targets()[0]
    results = [
        row(target.case, fastrnn_forward=0.9, fastrnn_backward=2.0, cudnn_forward=1.8, cudnn_backward=1.0),
        row(SMALL, fastrnn_forward=1.0, fastrnn_backward=1.0, cudnn_forward=8.0, cudnn_backward=1.0),
    ]
    text = gpu.table(results, [{"cell": "lstm", "H": 32, "us_per_step": {"a forward": 1.234}}])
    assert "cudnn / fastrnn: all bf16 forward                 mean  4.00 worst  2.00 of 2" in text
    assert f"target {target.case.text} bf16 forward: 0.90 of 1.0 us, met" in text
    assert "backward: 2.00 of 1.4 us, NOT met" in text
    assert "a forward 1.23" in text and "flashrnn" not in text
    assert "0.90/2.00" in gpu.rows(results) and "left out: haste not there" in gpu.rows(results)


REPORT = """ptxas info    : Compiling entry function '{name}' for 'sm_90a'
ptxas info    : Function properties for {name}
    0 bytes stack frame, {spill} bytes spill stores, 0 bytes spill loads
ptxas info    : Used 246 registers, used 1 barriers
"""
RESIDENT = (
    "_ZN7fastrnn4cuda13gather_kernelINS0_4Bf16ENS0_12BackwardCellINS_4LstmES2_EELi2ENS0_15ClusterExchangeIS2_Li2EEEEE"
    "vT0_NS0_8ResidentIT_EE"
)


@pytest.mark.parametrize("spill", [0, 8])
def test_ptxas_reports(tmp_path, monkeypatch, capsys, spill):
    folder = tmp_path / "ptxas"
    folder.mkdir(parents=True)
    (folder / "layer_bf16.ptxas").write_text(REPORT.format(name=RESIDENT, spill=spill))
    monkeypatch.setattr(ptxas, "BUILD", tmp_path)
    monkeypatch.setattr("sys.argv", ["ptxas.py", "--all"])
    if not ptxas.shutil.which("c++filt"):
        pytest.skip("c++filt is not installed")
    if spill:
        with pytest.raises(SystemExit, match="spills"):
            ptxas.main()
    else:
        ptxas.main()
    out = capsys.readouterr().out
    assert "gather a backward lstm 16 rows" in out and "246" in out
    assert f"1 kernels, {int(spill > 0)} of them spill" in out


def test_without_reports_ptxas_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(ptxas, "BUILD", Path(tmp_path))
    monkeypatch.setattr("sys.argv", ["ptxas.py"])
    with pytest.raises(SystemExit, match="build the CUDA kernels first"):
        ptxas.main()

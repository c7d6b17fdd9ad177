"""The benchmark harness: peers in worker processes, what is compiled on demand, peak memory. Nothing is timed."""

from __future__ import annotations

import dataclasses
import os

import pytest
import torch

from benchmarks import grid, machine, measure, memory, native, peers, run
from benchmarks.peers import modules, onednn
from benchmarks.worker import Worker, WorkerError, Workers


def tiny(**changes) -> grid.Case:
    return dataclasses.replace(grid.Case("shapes", "tiny", "lstm", 3, 4, 5, 6), **changes)


# ---- worker processes


@pytest.fixture(scope="module")
def workers():
    with Workers() as made:
        yield made


@pytest.mark.parametrize("name", [name for name, peer in peers.PEERS.items() if peer.environment is not None])
def test_a_peer_in_a_worker_computes_the_same_function(name, workers):
    peer = peers.PEERS[name]
    if why := peer.missing():
        pytest.skip(f"{name}: {why}")
    worker = workers.get(name, 1, peer.environment)
    for cell in grid.GATES:
        case = tiny(cell=cell)
        weights = peers.initial_weights(case)
        for mode in ("forward", "train"):
            if peer.runs(case, mode):
                there = worker.prepare(peer.prepare, case, mode, weights)
                measure.check_agreement(case, {"torch": modules.torch_nn(case, mode, weights), name: there})
                seconds, lost = there.run.window(2)
                assert seconds > 0 and lost >= 0


def test_a_worker_tells_of_its_errors_and_of_its_end():
    with Worker(1, {"BENCH_THREADS": "{threads}"}) as worker:
        assert worker.ask("call", os.getenv, "BENCH_THREADS") == "1"
        with pytest.raises(WorkerError, match="ValueError: invalid literal"):
            worker.ask("call", int, "no number")
        with pytest.raises(WorkerError, match="ended with status 3"):
            worker.ask("call", os._exit, 3)


def test_onednn_gives_torchs_gradients_of_the_weights():
    if why := peers.PEERS["onednn"].missing():
        pytest.skip(why)
    for cell in grid.GATES:
        case = tiny(cell=cell)
        weights = peers.initial_weights(case)
        layer = onednn.Layer(case, "train", weights)
        layer(), layer()  # a second call must not add to the first one's gradients
        _, w_ih, w_hh, *_ = modules.torch_nn(case, "train", weights).run()
        results = layer.results()
        torch.testing.assert_close(results["dw_ih"], w_ih, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(results["dw_hh"], w_hh, rtol=1e-4, atol=1e-5)


# ---- the machine and its memory


def test_cache_sizes_are_read_or_guessed(tmp_path):
    for name, (level, size, kind) in {"index0": (1, "48K", "Data"), "index1": (1, "64K", "Instruction")}.items():
        (tmp_path / name).mkdir()
        for file, text in (("level", level), ("size", size), ("type", kind)):
            (tmp_path / name / file).write_text(f"{text}\n")
    assert machine.cache_bytes(tmp_path) == {"L1": 48 << 10, "L2": 1 << 20, "L3": 32 << 20}


def test_without_a_compiler_there_are_no_measured_limits(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert native.compiler() is None
    assert machine.probe(1) == {}


def test_the_probe_compiles_and_prints_what_the_report_reads(monkeypatch):
    if native.compiler() is None:
        pytest.skip("no C++ compiler")
    monkeypatch.setattr(machine, "cache_bytes", lambda: {"L1": 32 << 10, "L2": 64 << 10, "L3": 128 << 10})
    found = machine.probe(1)
    assert found["fma fp32 GF/s"] > 0
    assert tuple(found["read GB/s"]) == machine.LEVELS


@pytest.mark.skipif("libasan" in os.environ.get("LD_PRELOAD", ""), reason="AddressSanitizer keeps freed memory")
@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="the system keeps no high-water mark")
def test_peak_memory_counts_what_a_call_allocates():
    case = tiny(group="memory", B=64, T=256, I=8, H=64)
    record = memory.measure(case, "forward", 1)
    result = case.rows * case.H * 4 / 2**20  # at least the output, at most a few times it
    assert all(result * 0.9 < mib < result * 20 for mib in record["mib"].values()), record


# ---- where rows are timed


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not place threads on cores")
def test_rows_of_one_thread_share_one_core():
    allowed = os.sched_getaffinity(0)
    with run.placed(1):
        assert len(os.sched_getaffinity(0)) == 1
        with Worker(1, {}) as worker:
            assert worker.ask("call", os.sched_getaffinity, 0) == os.sched_getaffinity(0)
    assert os.sched_getaffinity(0) == allowed
    with run.placed(2):
        assert os.sched_getaffinity(0) == allowed


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system does not place threads on cores")
def test_a_run_places_its_rows(monkeypatch):
    allowed, seen = os.sched_getaffinity(0), []
    monkeypatch.setattr(run.machine, "about", lambda *args: {})
    monkeypatch.setattr(run.report, "line", lambda record: "")
    monkeypatch.setattr(
        run, "measure", lambda case, mode, threads, *rest: seen.append((threads, os.sched_getaffinity(0)))
    )
    chosen = ["--group", "shapes", "--cells", "rnn", "--shapes", "A", "--mode", "forward", "--threads", "1", "2"]
    arguments = run.parser().parse_args(chosen)
    arguments.command = ""
    run.run(arguments, {}, {}, say=lambda text: None)
    assert [(threads, len(cores)) for threads, cores in seen] == [(1, 1), (2, len(allowed))]

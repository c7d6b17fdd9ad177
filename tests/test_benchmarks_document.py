"""The benchmark harness: several runs joined, targets judged, the page and its plots. Nothing is timed."""

from __future__ import annotations

import subprocess

import pytest

from benchmarks import base, document, grid, plots, report
from benchmarks.records import limit_of, row_cost, share_of_limit
from benchmarks.targets import FORWARD, TARGETS, TRAIN, Target, everywhere
from benchmarks.verdicts import VALUES, bound_of, judge, rows_of

PROBE = {"fma fp32 GF/s": 100.0, "read GB/s": {"L1": 200.0, "L2": 100.0, "L3": 50.0, "DRAM": 20.0}}
SIZES = {"L1": 32 << 10, "L2": 1 << 20, "L3": 32 << 20}


def spread(ms):
    return {"median": ms, "low": ms, "high": ms, "best": ms}


def record(name="A", cell="lstm", mode="forward", threads=2, group="shapes", quiet=True, **times):
    case = next(c for c in grid.GRID if (c.group, c.name, c.cell) == (group, name, cell))
    times = times or {"torch": 2.0, "onednn": 1.5, "fastrnn": 1.0}
    return {
        "key": case.key,
        "group": group,
        "name": name,
        "cell": cell,
        "text": case.text,
        "shape": {"B": case.B, "T": case.T, "I": case.I, "H": case.H},
        "ragged": case.ragged is not None,
        "unrolled": case.unrolled,
        "rows": case.rows,
        "flop": case.flop(mode),
        "weight bytes": case.weight_bytes(mode),
        "mode": mode,
        "threads": threads,
        "spreads": {peer: spread(ms) for peer, ms in times.items()},
        "quiet": quiet,
    }


def run(*records, memory=()):
    return {
        "command": "python benchmarks/run.py",
        "date": "2026-01-01 00:00 UTC",
        "commit": "abc1234",
        "machine": {"model": "A processor", "logical CPUs": 2, "vector extensions": ["avx2"], "caches": {}},
        "versions": {"torch": "2.6"},
        "isa": "avx2",
        "labels": {"torch": "torch.nn", "onednn": "oneDNN primitive", "fastrnn": "fastrnn"},
        "limits": {
            "mm fp32 GF/s": {"1": 10.0},
            "barrier ns": {},
            "probe": {"1": PROBE, "2": PROBE},
            "cache bytes": SIZES,
        },
        "records": list(records),
        "memory": list(memory),
    }


# ---- figures


def test_large_batches_are_held_against_multiply_adds():
    big = record("G", fastrnn=1.0)
    assert limit_of(big, run()["limits"])[0] == "FMA"
    assert share_of_limit(big, run()["limits"]) == pytest.approx(big["flop"] * 1e-6 / 100)
    assert limit_of(record("F"), run()["limits"]) is None
    assert limit_of(big, {}) is None


@pytest.mark.parametrize(
    ("name", "cell", "threads", "level"), [("A", "lstm", 1, "L2"), ("A", "rnn", 2, "L1"), ("B", "lstm", 2, "L3")]
)
def test_one_sequence_is_held_against_reads_of_the_cache_that_holds_its_weights(name, cell, threads, level):
    one = record(name, cell, threads=threads, fastrnn=0.5)
    assert limit_of(one, run()["limits"])[0] == f"{level} read"
    rate = one["weight bytes"] / 0.5e-3 * 1e-9
    assert share_of_limit(one, run()["limits"]) == pytest.approx(rate / PROBE["read GB/s"][level])


def test_a_row_of_a_ragged_batch_is_priced_against_the_dense_one():
    ragged = record("D", group="ragged", torch=3.0, fastrnn=1.0, companion=1.0)
    ragged["companion"] = {"text": "", "rows": 700}
    assert row_cost(ragged) == pytest.approx(700 / ragged["rows"])
    assert VALUES["row cost"](ragged, run()) == row_cost(ragged)


# ---- runs joined


def test_rows_are_medians_over_the_runs_and_tell_how_far_they_are_apart():
    runs = [run(record(torch=t, fastrnn=1.0)) for t in (2.0, 3.0, 2.5)]
    (row,) = rows_of(runs)
    assert row.median(VALUES["over torch"]) == 2.5
    assert row.spread(VALUES["over torch"]) == pytest.approx(1.0 / 2.5)


def test_disturbed_runs_do_not_count_where_another_was_quiet():
    disturbed = run(record(torch=100.0, fastrnn=1.0, quiet=False))
    (row,) = rows_of([disturbed, run(record(torch=2.0, fastrnn=1.0))])
    assert row.quiet and row.median(VALUES["over torch"]) == 2.0
    (alone,) = rows_of([disturbed])
    assert not alone.quiet and alone.median(VALUES["over torch"]) == 100.0
    assert judge(TARGETS[0], [alone]).met is None  # a target is not decided by it


# ---- targets


def test_the_best_of_all_peers_is_sought_where_all_were_timed():
    """Runs with torch.nn alone must not outvote the one in which another library won."""
    alone, all_peers = record(torch=2.0, fastrnn=1.0), record(torch=2.0, onednn=0.5, fastrnn=1.0)
    target = Target("1", "", "over best peer", everywhere(1.0))
    (check,) = judge(target, rows_of([run(alone), run(alone), run(all_peers)])).checks
    assert check.value == pytest.approx(0.5) and not check.met
    disturbed = {**all_peers, "quiet": False}
    assert judge(target, rows_of([run(alone), run(disturbed)])).checks == ()


def test_torch_alone_says_nothing_of_the_best_of_all_peers():
    rows = rows_of([run(record(torch=4, fastrnn=2))])
    target = Target("1", "", "over best peer", everywhere(1.0))
    assert rows[0].median(VALUES["over best peer"]) is None
    assert judge(target, rows).checks == ()


def test_bounds_of_the_training_table_are_its_ratios_and_never_below_one():
    assert TRAIN["gru"]["A"] == pytest.approx(14.3 / 1.27, abs=0.01)
    assert min(bound for bounds in TRAIN.values() for bound in bounds.values()) >= 1
    assert all(set(bounds) == set("ABCDEFGHIJ") for bounds in TRAIN.values())


def test_a_shapes_own_bound_goes_before_the_general_one():
    assert (bound_of(FORWARD, "gru", "A"), bound_of(FORWARD, "gru", "C")) == (3.0, 1.4)
    assert bound_of({"gru": {"A": 1.0}}, "gru", "B") is None
    assert bound_of({"gru": {"*": 1.0}}, "lstm", "B") is None


def test_every_target_is_computed_by_a_figure_and_finds_its_cases():
    for target in TARGETS:
        assert target.value in VALUES
        cases = [c for c in grid.GRID if c.group in target.groups]
        assert cases
        assert all(any(bound_of(target.bounds, c.cell, c.name) for c in cases) for _ in cases[:1])


def test_a_verdict_counts_rows_and_names_the_worst():
    target = Target("1", "", "over torch", {"lstm": {"*": 1.0, "A": 2.5}, "gru": {"*": 1.5}})
    rows = rows_of([run(record(), record("B"), record("A", "gru"), record("A", "rnn"))])
    verdict = judge(target, rows)
    assert [(c.name, c.met) for c in verdict.checks] == [("A/lstm", False), ("B/lstm", True), ("A/gru", True)]
    assert verdict.met is False and verdict.worst.name == "A/lstm"
    assert judge(target, rows[1:]).met is True
    assert (verdict.missing, judge(target, rows[1:]).missing) == (17, 18)  # of 20: LSTM and GRU, A to J


def test_a_whole_grid_leaves_nothing_missing():
    every = [record(name, cell) for cell in grid.GATES for name in "ABCDEFGHIJ"]
    assert judge(TARGETS[0], rows_of([run(*every)])).missing == 0
    every[3]["quiet"] = False
    assert judge(TARGETS[0], rows_of([run(*every)])).missing == 1


def test_a_bound_beyond_the_machine_is_told_apart():
    """At its peak of 100 GF/s the machine takes the least time that there is."""
    fast = record("G", torch=4.0, fastrnn=3.0)
    least = fast["flop"] / 100 * 1e-6
    fast["spreads"]["torch"]["median"] = 1.3 * least
    fast["spreads"]["fastrnn"]["median"] = 1.1 * least
    (check,) = judge(Target("1", "", "over torch", {"lstm": {"*": 1.2}}), rows_of([run(fast)])).checks
    assert check.ceiling == pytest.approx(1.3) and not check.met and not check.beyond
    (check,) = judge(Target("1", "", "over torch", {"lstm": {"*": 1.4}}), rows_of([run(fast)])).checks
    assert check.beyond
    fast["spreads"]["fastrnn"]["median"] = 0.9 * least  # so it is no limit
    (check,) = judge(Target("1", "", "over torch", {"lstm": {"*": 1.5}}), rows_of([run(fast)])).checks
    assert check.ceiling is None and not check.beyond
    unmeasured = run(fast)
    del unmeasured["limits"]["probe"]
    (check,) = judge(Target("1", "", "over torch", {"lstm": {"*": 1.4}}), rows_of([unmeasured])).checks
    assert check.ceiling is None and not check.beyond


def test_a_greatest_bound_turns_the_comparison_round():
    target = Target("4", "", "microseconds", everywhere(12.0), ("step",), threads=1, at_most=True)
    fast, slow = (
        record("128", cell, threads=1, group="step", fastrnn=ms) for cell, ms in (("gru", 0.01), ("rnn", 0.02))
    )
    verdict = judge(target, rows_of([run(fast, slow)]))
    assert [c.met for c in verdict.checks] == [True, False] and verdict.worst.name == "128/rnn"


def test_a_mean_is_held_against_its_cells_bound():
    target = Target("2", "", "over torch", {"lstm": {"*": 1.9}}, mean=True)
    rows = rows_of([run(record(torch=8.0, fastrnn=1.0), record("B", torch=0.5, fastrnn=1.0))])
    (check,) = judge(target, rows).checks
    assert check.value == pytest.approx(2.0) and check.met


def test_the_second_threads_worth_is_told_as_a_share_of_the_multiply_adds():
    one, two = (record("D-2", "gru", threads=n, group="stacked", fastrnn=ms) for n, ms in ((1, 3.0), (2, 2.0)))
    measured = run(one, two)
    measured["limits"]["probe"] = {"1": PROBE, "2": {**PROBE, "fma fp32 GF/s": 200.0}}
    assert VALUES["scaling"](two, measured) == pytest.approx(75.0)


def test_memory_and_errors_are_told_as_multiples_of_torchs():
    assert VALUES["memory ratio"]({"mib": {"torch": 4.0, "fastrnn": 3.0}}, {}) == 0.75
    assert VALUES["error ratio"]({"errors": {"torch": 0.02, "fastrnn": 0.01}}, {}) == 0.5


# ---- the page


MEMORY = {"key": "memory/G/lstm", "name": "G", "cell": "lstm", "text": "B=32", "mode": "train", "threads": 2}
RUNS = [
    run(
        record("A", fastrnn=f, torch=2.0, onednn=1.5),
        record("B", torch=1.0, onednn=0.9, fastrnn=2 * f),
        record("128", threads=1, group="step", torch=0.1, fastrnn=0.01),
        memory=[{**MEMORY, "mib": {"torch": 4.0, "fastrnn": 3.0}}],
    )
    for f in (1.0, 1.1)
]


def test_the_page_shows_wins_beside_losses_and_each_verdict():
    text = document.page(document.SKELETON, RUNS)
    assert "| LSTM A | B=1 T=100 128→128 | 2 | 1.5 | 1.05 | 1.91 | 1.43 onednn |" in text
    assert "| LSTM B | B=1 T=200 512→512 | 1 | 0.9 | 2.1 | **0.48** | **0.43** onednn |" in text
    verdict = "**not met**, in part measured | 1 of 2, 28 missing | B/lstm: 0.477x"
    assert f"| 1 | Forward against torch.nn, shape by shape | {verdict}" in text
    assert "| 4 | A layer's step without gradients, one thread | met, in part measured | 1 of 1, 2 missing |" in text
    assert "| 5 | bf16 weights packed for inference, B=1 and H≥512, against our fp32 | not measured |" in text
    assert "| LSTM G, forward+backward | B=32 | 4.0 | 3.0 | 0.75 |" in text
    for block in text.split("\n\n"):
        assert len({line.count("|") for line in block.splitlines() if line.startswith("|")}) <= 1


def test_notes_survive_and_a_page_without_markers_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "draw", lambda rows, folder: [])
    page = tmp_path / "benchmarks.md"
    document.write(page, RUNS)
    noted = page.read_text().replace("Nothing is noted yet.", "B misses for a reason.") + "An afterword.\n"
    page.write_text(noted)
    document.write(page, RUNS)
    assert page.read_text() == noted
    page.write_text("no markers")
    with pytest.raises(ValueError, match="bench:targets:start"):
        document.write(page, RUNS)
    assert page.read_text() == "no markers"


def test_plots_are_drawn_and_shown(tmp_path):
    pytest.importorskip("matplotlib", reason='matplotlib draws the plots: pip install "fastrnn[bench-peers]"')
    page = tmp_path / "benchmarks.md"
    written = document.write(page, RUNS)
    assert [path.name for path in written] == ["benchmarks.md", "speed-up.png", "roofline.png", "step.png"]
    assert all(path.stat().st_size > 1000 for path in written)
    assert "![Latency of one step](benchmarks/step.png)" in page.read_text()


def test_the_command_takes_several_runs_only_for_the_page(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(report, "load", lambda path: RUNS[0])
    with pytest.raises(SystemExit):
        report.main(["a.json", "b.json"])
    assert "several results need --doc" in capsys.readouterr().err
    monkeypatch.setattr(plots, "draw", lambda rows, folder: [])
    assert report.main(["a.json", "b.json", "--doc", str(tmp_path / "page.md")]) == 0
    assert "over 2 runs" in (tmp_path / "page.md").read_text()


# ---- another revision


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_a_revision_is_built_once_from_its_own_files(tmp_path, monkeypatch):
    source, builds = tmp_path / "source", []
    source.mkdir()
    git(source, "init", "-q")
    (source / "file").write_text("old")
    git(source, "add", "file")
    git(source, "commit", "-qm", "old")
    (source / "file").write_text("new, and not committed")
    real = subprocess.run

    def fake(command, **options):
        if "pip" not in command:
            return real(command, **options)
        target, built = command[command.index("--target") + 1], command[-1]
        with open(f"{built}/file") as file:
            builds.append(file.read())
        base.Path(target).mkdir()
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(base.subprocess, "run", fake)
    site = base.build("HEAD", source, tmp_path / "built")
    assert site.is_dir() and base.build("HEAD", source, tmp_path / "built") == site
    assert builds == ["old"]
    with pytest.raises(base.CannotBuild, match="no commit is named nowhere"):
        base.build("nowhere", source, tmp_path / "built")

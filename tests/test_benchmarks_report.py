"""The benchmark harness: its tables and its command. Nothing here depends on how long anything takes."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from benchmarks import peers, report, run


def record(name="A", cell="lstm", old=2.0, new=1.0, **changes):
    spread = lambda ms: {"median": ms, "low": ms * 0.99, "high": ms * 1.01, "best": ms * 0.9}  # noqa: E731
    fields = {
        "key": f"shapes/{name}/{cell}",
        "group": "shapes",
        "name": name,
        "cell": cell,
        "text": "B=1 T=2 3→4",
        "flop": 2_000_000,
        "mode": "forward",
        "threads": 1,
        "spreads": {"torch": spread(old), "fastrnn": spread(new)},
        "rounds": 9,
        "dropped": 0,
        "quiet": True,
        "foreign": 0.0,
    }
    return fields | changes


def result(*records):
    return {
        "command": "python benchmarks/run.py",
        "date": "2026-01-01 00:00 UTC",
        "commit": "abc1234",
        "machine": {
            "model": "A processor",
            "logical CPUs": 2,
            "vector extensions": ["avx2"],
            "caches": {"L1 Data": "32K, CPUs 0"},
        },
        "versions": {"torch": "2.6", "fastrnn": "0.1.0"},
        "isa": "avx2",
        "labels": {"torch": "torch.nn", "fastrnn": "fastrnn"},
        "limits": {
            "mm fp32 GF/s": {"1": 10.0, "2": 20.0},
            "mm scaling": {"2": 2.0},
            "barrier ns": {"2": None},
        },
        "records": list(records),
    }


def test_a_win_is_plain_and_a_loss_is_bold():
    assert report.ratio_text(record(old=3.0, new=2.0)) == "1.50"
    assert report.ratio_text(record(old=1.0, new=2.0)) == "**0.50**"


def test_noise_and_disturbance_are_marked():
    noisy = record()
    noisy["spreads"]["torch"]["high"] *= 1.2
    assert report.ratio_text(noisy) == "2.00~"
    assert report.ratio_text(record(quiet=False)) == "2.00!"


def test_gflops_is_work_over_median_time():
    assert report.gflops(record(old=2.0), "torch") == pytest.approx(1.0)


def test_geometric_mean_is_taken_for_each_cell():
    text = report.means(result(record(old=8.0), record(name="B", old=0.5), record(cell="gru", old=3.0)))
    assert "| LSTM, shapes | forward, 1 thread | 2.00 | 0.50 | 1 | 1 | 0 |" in text
    assert "| GRU, shapes | forward, 1 thread | 3.00 | 3.00 | 1 | 0 | 0 |" in text


def test_disturbed_rows_are_shown_but_not_counted():
    disturbed = record(name="B", old=500.0, quiet=False)
    both = result(record(old=4.0), disturbed)
    assert "| LSTM, shapes | forward, 1 thread | 4.00 | 4.00 | 1 | 0 | 1 |" in report.means(both)
    assert "| LSTM | forward, 1 thread | 4.00 | 500.0! | 4.00 |" in report.summary(both)
    assert report.closing(both).endswith("1 rows, geometric mean 4.00x, slower in 0; 1 more were disturbed")
    assert "| LSTM, shapes | forward, 1 thread | nan | nan | 0 | 0 | 1 |" in report.means(result(disturbed))


def test_page_shows_every_record_with_losses_beside_wins():
    text = report.page(result(record(), record(name="B", new=4.0), record(mode="train", threads=2)))
    assert "| LSTM A | B=1 T=2 3→4 | 2 ± 2% | 1 ± 2% | 2 |  | 2.00 | 2.00 torch |  |" in text
    assert "| LSTM B | B=1 T=2 3→4 | 2 ± 2% | 4 ± 2% | 0.5 |  | **0.50** | **0.50** torch |  |" in text
    assert "| LSTM, shapes | forward, 1 thread | 1.00 | 0.50 | 1 | 1 | 0 |" in text
    assert "## Forward+backward, 2 threads" in text
    assert "fastrnn kernels: avx2" in text and "2 threads not measured" in text


def test_tables_have_as_many_cells_in_every_row():
    text = report.page(result(record(), record(name="B", cell="gru")))
    for block in text.split("\n\n"):
        widths = {line.count("|") for line in block.splitlines() if line.startswith("|")}
        assert len(widths) <= 1


def test_summary_leaves_a_gap_where_a_shape_was_not_timed():
    text = report.summary(result(record(), record(name="B", cell="gru", old=3.0), record(group="tasks", name="names")))
    assert text.splitlines()[0] == "| cell | what | A | B | mean |"
    assert "| LSTM | forward, 1 thread | 2.00 |  | 2.00 |" in text
    assert "| GRU | forward, 1 thread |  | 3.00 | 3.00 |" in text


def test_closing_line_counts_losses():
    assert (
        report.closing(result(record(old=4.0), record(new=4.0)))
        == "fastrnn against torch.nn: 2 rows, geometric mean 1.41x, slower in 1"
    )


def test_fill_replaces_only_what_is_between_the_markers():
    page = f"before\n{report.BEGIN}\nold figures\n{report.END}\nafter\n"
    filled = report.fill(page, result(record()))
    assert filled.startswith(f"before\n{report.BEGIN}\n| cell |") and filled.endswith(f"{report.END}\nafter\n")
    assert "old figures" not in filled
    assert report.fill(filled, result(record())) == filled


@pytest.mark.parametrize("page", ["", report.BEGIN, f"{report.END}{report.BEGIN}", f"{report.BEGIN}{report.END}" * 2])
def test_fill_refuses_a_page_without_its_markers(page):
    with pytest.raises(ValueError, match="needs the line <!-- bench:start -->"):
        report.fill(page, result(record()))


# ---- the command


def test_command_writes_json_and_markdown(tmp_path, capsys):
    threads = torch.get_num_threads()
    chosen = ["--group", "step", "--cells", "rnn", "--threads", "1", "--mode", "forward", "--peers", "torch", "fastrnn"]
    assert run.main([*chosen, "--budget", "0.01", "--window", "0.001", "--out", str(tmp_path / "out")]) == 0
    written = json.loads((tmp_path / "out.json").read_text())
    assert [r["key"] for r in written["records"]] == ["step/128/rnn", "step/128/rnncell"]
    assert all(r["spreads"]["fastrnn"]["median"] > 0 for r in written["records"])
    assert written["commit"] is None or len(written["commit"]) >= 7
    assert (tmp_path / "out.md").read_text() == report.page(written)
    assert capsys.readouterr().out.splitlines()[-1].startswith("fastrnn against torch.nn: ")
    assert torch.get_num_threads() == threads

    assert report.main([str(tmp_path / "out.json")]) == 0
    assert capsys.readouterr().out == report.page(written)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shapes", "Z"], "no shape named Z"),
        (["--threads", "0"], "--threads must be at least 1"),
        (["--budget", "0"], "--budget and --window greater than 0"),
    ],
)
def test_command_refuses_what_it_cannot_run(arguments, message, capsys):
    with pytest.raises(SystemExit) as error:
        run.main(arguments)
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def test_command_names_a_missing_peer(monkeypatch, capsys):
    absent = dataclasses.replace(peers.PEERS["torch"], package="no_such_package")
    monkeypatch.setitem(peers.PEERS, "absent", absent)
    with pytest.raises(SystemExit):
        run.main(["--peers", "torch", "absent"])
    assert "cannot be timed here: absent: the package no_such_package is not installed" in capsys.readouterr().err

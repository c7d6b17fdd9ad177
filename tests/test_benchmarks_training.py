"""Whole training beside torch.nn: the steps are those of `fit`, wrong losses are refused, tables. No time decides."""

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("fastrnn.tasks", reason='needs pip install "fastrnn[tasks]"', exc_type=ImportError)

from benchmarks import machine, report, training, training_report, whole
from fastrnn.tasks.recipes import Learner
from fastrnn.tasks.run import Run
from fastrnn.tasks.training import fit

TINY = ("--threads", "1", "--budget", "0.02")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """One thread, little text, and no measurement of the machine's limits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr("fastrnn.tasks.lm.sources.BUILTIN_TOKENS", {"train": 4000, "valid": 400, "test": 400})
    monkeypatch.setattr(machine, "limits", lambda threads: {"mm fp32 GF/s": {"1": 1.0}, "barrier ns": {}})
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", ["names, bidirectional", "lm, course", "lm, modern"])
def test_the_steps_are_those_of_fit(name, tmp_path, monkeypatch):
    task = whole.Prepared(name, 1, None)
    passes = whole.Passes(task.make("lstm", "fastrnn"), task.recipe, task.options["seed"])
    passes.steps = 4
    passes.window(1)
    seen, step = [], Learner.step

    class Enough(Exception):
        pass

    def noted(self, loss, batch, lr, factor=1.0):
        if len(seen) == 1:  # a pass draws anew behind the first step, in which the optimizer makes its state
            torch.manual_seed(task.options["seed"])
        elif len(seen) == 5:
            raise Enough
        seen.append(step(self, loss, batch, lr, factor))
        return seen[-1]

    monkeypatch.setattr(Learner, "step", noted)
    again = task.make("lstm", "fastrnn")
    torch.manual_seed(task.options["seed"])
    with Run.create(tmp_path / "run", "x", {"options": {}}) as run, pytest.raises(Enough):
        fit(again, task.recipe, run)
    assert torch.equal(passes.losses, torch.stack(seen[1:]))


def test_every_pass_starts_from_the_same_state():
    task = whole.Prepared("lm, course", 1, None)
    passes = whole.Passes(task.make("gru", "fastrnn"), task.recipe, 0)
    passes.steps = 3
    passes.window(1)
    passes.expected = passes.losses
    passes.window(2)
    assert len(set(passes.losses.tolist())) == 3 and passes.apart == 0.0


@pytest.mark.parametrize("name", whole.TASKS)
def test_every_task_is_made_with_both_libraries(name):
    task = whole.Prepared(name, 1, None)
    made = [task.make("rnn", backend) for backend in whole.BACKENDS]
    for a, b in zip(*(one.model.parameters() for one in made), strict=True):
        assert torch.equal(a, b)
    layers = [type(layer).__module__.partition(".")[0] for one in made for layer in one.model.children()]
    assert {"torch", "fastrnn"} == set(layers)
    cases = list(whole.equal_cases(task, "rnn", batches=2))
    assert len(cases) == {"translate": 2, "translate, attention": 3}.get(name, 1)
    assert all(case.T >= 3 and task.options["batch_size"] == case.B for case in cases)


def test_command_on_shipped_data(tmp_path, capsys):
    chosen = ["--tasks", "names", "lm, modern", "--cells", "rnn", *TINY]
    assert training.main([*chosen, "--out", str(tmp_path / "out")]) == 0
    written = json.loads((tmp_path / "out.json").read_text())
    keys = ["training/names/rnn", "training/lm, modern/rnn", "equal/names: rnn/rnn", "equal/lm, modern: rnn/rnn"]
    assert [record["key"] for record in written["records"]] == keys and written["refused"] == {}
    for record in written["records"][:2]:
        assert list(record["spreads"]) == ["torch", "fastrnn", "torch layers", "fastrnn layers"]
        assert record["apart"] <= whole.AGREEMENT and record["units"] > 0 and record["steps"] >= 1
    assert (tmp_path / "out.md").read_text() == training_report.page([written])
    assert " rows undisturbed; slower with fastrnn: " in capsys.readouterr().out.splitlines()[-1]

    page = tmp_path / "tasks.md"
    page.write_text(f"before\n{training_report.BEGIN}\nold\n{training_report.END}\nafter\n")
    assert report.main([str(tmp_path / "out.json"), "--tasks", str(page)]) == 0
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "\nold\n" not in text
    assert "| names | RNN | 128, batches of 64 |" in text
    assert report.main([str(tmp_path / "out.json"), "--tasks", str(page)]) == 0 and page.read_text() == text


def test_a_row_whose_losses_differ_is_refused(tmp_path, monkeypatch, capsys):
    make = whole.Prepared.make

    def spoiled(self, cell, backend):
        task = make(self, cell, backend)
        if backend == "fastrnn":
            task.model.output.bias.data[0] += 0.01
        return task

    monkeypatch.setattr(whole.Prepared, "make", spoiled)
    assert training.main(["--tasks", "names", "--cells", "rnn", *TINY, "--out", str(tmp_path / "out")]) == 1
    written = json.loads((tmp_path / "out.json").read_text())
    assert [record["group"] for record in written["records"]] == ["equal"]
    assert "the losses of a step differ by" in written["refused"]["names, RNN"]
    assert "refused: names, RNN: the losses" in capsys.readouterr().out
    assert "- names, RNN: the losses" in (tmp_path / "out.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threads", "0"], "--threads must be at least 1"),
        (["--tasks", "chess"], "invalid choice: 'chess'"),
        (["--data", "nowhere", "--tasks", "news"], "nowhere/news"),
    ],
)
def test_what_cannot_be_run_is_refused_in_a_line(arguments, message, capsys, tmp_path):
    with pytest.raises(SystemExit) as error:
        training.main([*arguments, "--out", str(tmp_path / "out")])
    assert error.value.code == 2 and message in capsys.readouterr().err


def test_the_place_of_data_stays_out_of_the_record(tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr(training, "run", lambda a: commands.append(a.command) or {"records": [], "refused": {}})
    assert training.main(["--data", f"{tmp_path}/", "--budget", "1"]) == 0
    assert commands == ["python benchmarks/training.py --data DIR --budget 1"]


# ---- tables


def spread(ms):
    return {"median": ms, "low": ms * 0.99, "high": ms * 1.01, "best": ms}


def record(group="training", name="news", cell="gru", times=(8.0, 4.0, 6.0, 2.0), **changes):
    names = ["torch", "fastrnn", "torch layers", "fastrnn layers"]
    if group == "equal":
        names = ["torch dense", "torch packed", "fastrnn dense", "fastrnn packed"]
    fields = {"key": f"{group}/{name}/{cell}", "group": group, "name": name, "cell": cell, "text": "128"}
    fields |= {"mode": "train", "threads": 2, "spreads": {n: spread(ms) for n, ms in zip(names, times, strict=True)}}
    fields |= {"quiet": True, "unit": "headlines", "units": 32.0, "steps": 9, "apart": 2e-7}
    return fields | changes


def result(*records, **changes):
    about = {"command": "python benchmarks/training.py", "date": "2026-01-01", "commit": "abc1234", "isa": "avx2"}
    about |= {"machine": {"model": "A", "logical CPUs": 2, "vector extensions": [], "caches": {}}, "versions": {}}
    about |= {"limits": {"mm fp32 GF/s": {}, "barrier ns": {}}, "data": "shipped", "refused": {}}
    return about | {"records": list(records)} | changes


def test_the_table_shows_times_ratio_shares_and_what_is_possible():
    text = training_report.tables([result(record(), record(cell="lstm", times=(8.0, 10.0, 2.0, 4.0)))])
    assert "### Training steps, 2 threads" in text
    row = "| news | GRU | 128 | 8 ± 2% | 4 ± 2% | 2.00 | 0.75 | 0.50 | 4.00 | 250 | 8,000 headlines | 2e-07 |"
    assert row in text
    assert "| **0.80** | 0.25 | 0.40 | 1.33 |" in text
    for block in text.split("\n\n"):
        assert len({line.count("|") for line in block.splitlines() if line.startswith("|")}) <= 1


def test_the_price_of_packing_is_told_for_both():
    text = training_report.tables([result(record("equal", "news: rnn", times=(2.0, 3.0, 1.0, 1.1)))])
    assert "| news: rnn | GRU | 128 | 2 ± 2% | 3 ± 2% | 1.50 | 1 ± 2% | 1.1 ± 2% | 1.10 |" in text


def test_runs_are_joined_and_rows_that_were_disturbed_in_all_are_marked():
    runs = [result(record(times=(8.0, ours, 6.0, 2.0)), record(cell="rnn", quiet=False)) for ours in (4.0, 2.0, 5.0)]
    text = training_report.tables([*runs, result(record(name="lm", apart=0.0), record(cell="lstm"))])
    cells = [line.split(" | ")[:2] for line in text.splitlines() if line.startswith(("| news", "| lm"))]
    assert cells == [["| news", "LSTM"], ["| news", "GRU"], ["| news", "RNN"], ["| lm", "GRU"]], "in order of the tasks"
    assert "| 8,000 headlines | 0 |" in text
    assert "| news | GRU | 128 | 8 ± 2% | 4 ± 2% | 2.00 |" in text and "| lm | GRU |" in text
    assert "| 2.00! |" in text and text.count("- command: ") == 4
    assert training_report.closing(runs[0]) == "1 of 2 rows undisturbed; slower with fastrnn: none"
    slow = result(record(times=(4.0, 8.0, 1.0, 5.0)))
    assert training_report.closing(slow).endswith("slower with fastrnn: news GRU 0.50")


def test_the_page_of_the_tasks_has_a_place_for_the_tables():
    page = (Path(__file__).parents[1] / "docs" / "tasks.md").read_text("utf-8")
    assert "| news | GRU | 128 |" in training_report.fill(page, [result(record())])

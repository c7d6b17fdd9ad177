"""What must hold in every task alike, on shipped data: resumption after any end, several processes, mistakes."""

import os
import random
import signal
import subprocess
import sys

import pytest

pytest.importorskip("fastrnn.tasks", reason='needs pip install "fastrnn[tasks]"', exc_type=ImportError)

from every import TRAININGS, command, kill, result, start, wait_for
from exact import same

from fastrnn.tasks import processes
from fastrnn.tasks.options import stoppable
from fastrnn.tasks.run import Run

every_task = pytest.mark.parametrize("name", TRAININGS)


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """`whole(name)`: the folder of that training, left alone; made once."""
    from conftest import call

    made = {}

    def run(name):
        if name not in made:
            out = tmp_path_factory.mktemp(name) / "run"
            done = call(*command(name, out))
            assert done.exit_code == 0, done.output
            made[name] = out
        return made[name]

    return run


@pytest.mark.slow
@every_task
@pytest.mark.parametrize("moment", ["anywhere", "while-saving"])
def test_a_training_killed_again_and_again_comes_to_the_same_bits(invoke, whole, tmp_path, name, moment):
    """`kill -9` twice, then resumed to the end. Checkpoints are written all the time: many a kill falls into one."""
    out, draw = tmp_path / "run", random.Random(name)
    arguments = command(name, out)
    for _ in range(2):
        process, seen, saves = start(arguments, save_every=0.02), set(), draw.randint(1, 25)

        def come(process=process, seen=seen, saves=saves):
            if moment == "while-saving":
                return any(out.glob(".*.pt.tmp")) or process.poll() == 0
            seen.update((file.name, file.stat().st_mtime_ns) for file in out.glob("*.pt"))
            return len(seen) > saves or process.poll() == 0

        wait_for(process, come)
        kill(process)
        arguments = [*TRAININGS[name][:2], "--no-compare", "--resume", "--out", str(out)]
    done = invoke(*arguments)
    assert done.exit_code == 0, done.output
    assert same(result(out), result(whole(name)))
    assert not list(out.glob(".*.tmp"))


@pytest.mark.slow
@every_task
def test_two_processes_train_as_one_and_survive_a_kill(whole, tmp_path, name):
    """Without dropout and guesses, which each process draws for itself, the history is that of one process to rounding.
    Killed, one process takes the other with it; resumed, two come to the same bits as two that were left alone."""
    # at the course's rate of 20 rounding soon grows
    same_draws = ["--dropout", "0", *(["--lr", "2"] if name == "lm" else ["--lr", "0.001"])]
    same_draws += ["--scheduled-sampling", "0"] if name == "attention" else []
    ends = {}
    for count in (0, 2):
        process = start(command(name, tmp_path / str(count), *same_draws), torchrun=count)
        ends[count] = process.communicate(timeout=300)
        assert process.returncode == 0, ends[count]
    (_, _, one), (_, _, two) = (result(tmp_path / which) for which in ("0", "2"))
    for model, (history, test) in one.items():
        for a, b in zip(history, two[model][0], strict=True):
            assert b == pytest.approx(a, rel=1e-2, abs=5e-3)
        assert two[model][1] == pytest.approx(test, rel=1e-2, abs=5e-3)

    out = tmp_path / "killed"
    process = start(command(name, out, *same_draws), torchrun=2, save_every=0.02)
    wait_for(process, lambda: any(out.glob("*.pt")))
    ranks = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(ranks[-1]), signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0 and 'Traceback (most recent call last):\n  File "<string>"' not in said
    assert "SIGKILL" in said  # by torchrun; it may end the other before that has said its own line
    process = start([*TRAININGS[name][:2], "--no-compare", "--resume", "--out", str(out)], torchrun=2)
    said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert same(result(out), result(tmp_path / "2"))


@pytest.mark.parametrize("task", ["names", "translate", "lm", "news"])
@pytest.mark.parametrize("option", ["--lr", "--minutes", "--dropout"])
@pytest.mark.parametrize("value", ["nan", "inf", "-1", "x"])
def test_a_number_that_is_none_is_refused(invoke, tmp_path, task, option, value):
    done = invoke(task, "train", option, value, "--out", tmp_path / "run")
    assert done.exit_code == 2 and f"Invalid value for '{option}': " in done.stderr.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_standard_input_that_is_not_utf8():
    """Whatever the locale: in a POSIX one Python reads leniently, and fails when it prints what it read."""
    command = [sys.executable, "-m", "fastrnn", "news", "predict", "--untrained"]
    done = subprocess.run(command, input="彼".encode("cp932"), capture_output=True, env={**os.environ, "LC_ALL": "C"})
    assert done.returncode == 2 and done.stderr == b"Error: standard input is not UTF-8 (byte 0x94)\n"


def test_a_process_without_its_companion_says_how_to_go_on(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(processes, "world", lambda: 2)
    with pytest.raises(SystemExit) as end, stoppable("lm", Run.create(tmp_path / "run", "lm", {})):
        raise RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:9")
    command = f"torchrun --nproc-per-node=2 -m fastrnn lm train --resume --out {tmp_path / 'run'}"
    assert end.value.code == 2
    assert capsys.readouterr().err == f"Error: another process of the training has ended. Go on with: {command}\n"
    with pytest.raises(RuntimeError, match="a defect"), stoppable("lm", Run.create(tmp_path / "other", "lm", {})):
        raise RuntimeError("a defect")


def test_an_argument_that_is_not_utf8(capsys):
    from fastrnn.cli import main

    assert main(["names", "classify", "run", os.fsdecode(b"Jos\xe9")]) == 2
    assert capsys.readouterr().err == "Error: the argument 'Jos\\udce9' is not UTF-8\n"

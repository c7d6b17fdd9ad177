"""What must hold in every task alike, on shipped data: resumption after any end, several processes, mistakes."""

import json
import os
import random
import shutil
import signal
import sys

import pytest

pytest.importorskip("fastrnn.tasks", reason='needs pip install "fastrnn[tasks]"', exc_type=ImportError)

from every import TRAININGS, command, result, start, wait_for
from exact import same

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
    """`kill -9`, three times, then resumed to the end: checkpoints are written all the time, so that many a kill falls
    into one."""
    out, draw = tmp_path / "run", random.Random(name + moment)
    arguments = command(name, out)
    for _ in range(3):
        process = start(arguments, save_every=0.02)
        if moment == "anywhere":
            left = draw.randint(1, 40)  # looks at a folder that changes
            seen = set()

            def sign(seen=seen, left=left):
                seen.update((file.name, file.stat().st_mtime_ns) for file in out.glob("*.pt"))
                return len(seen) > left

            wait_for(process, lambda: sign() or process.poll() == 0)
        else:
            wait_for(process, lambda: any(out.glob(".*.pt.tmp")) or process.poll() == 0)
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
        process.communicate()
        arguments = [*TRAININGS[name][:2], "--no-compare", "--resume", "--out", str(out)]
    done = invoke(*arguments)
    assert done.exit_code == 0, done.output
    assert same(result(out), result(whole(name)))
    assert not list(out.glob(".*.tmp"))

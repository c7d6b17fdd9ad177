"""Small data, one thread, and the command line called in this process."""

import os
from pathlib import Path

import pytest
import torch
from small_names import TRAIN, write_classes


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def folder(tmp_path):
    return write_classes(tmp_path / "classes")


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory):
    """A run of three epochs, and its data: what interrupted ones must come to."""
    base = tmp_path_factory.mktemp("uninterrupted")
    data = write_classes(base / "classes")
    result = call("names", "train", "--data", data, "--out", base / "run", *TRAIN, "--epochs", "3")
    assert result.exit_code == 0, result.output
    return base / "run", data


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A run of both models, trained well enough to be right about the three classes, and what it printed."""
    base = tmp_path_factory.mktemp("trained")
    data = write_classes(base / "classes")
    result = call("names", "train", "--data", data, "--out", base / "run", *TRAIN[:-1], "--epochs", "12",
                  "--hidden", "16", "--lr", "0.02")  # fmt: skip
    assert result.exit_code == 0, result.output
    return base / "run", result.stdout


def call(*arguments):
    from click.testing import CliRunner

    from fastrnn.tasks.commands import cli

    before = torch.get_num_threads()
    try:
        return CliRunner().invoke(cli, [str(argument) for argument in arguments])
    finally:
        torch.set_num_threads(before)  # a training sets it


@pytest.fixture
def invoke():
    """Call the command line; a crash of the program fails the test with its traceback."""

    def checked(*arguments):
        result = call(*arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return checked


@pytest.fixture
def train(invoke):
    """Train small models into a folder, keyword arguments being options; no plots and no
    share of time, which take longest."""

    def run(out, *arguments, **options):
        pairs = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
        return invoke("names", "train", "--out", out, *TRAIN, *arguments, *pairs)

    with pytest.MonkeyPatch.context() as patch:
        for plot in ("confusion_plot", "curve_plot"):
            patch.setattr(f"fastrnn.tasks.names.train.{plot}", lambda *_: b"")
        patch.setattr("fastrnn.tasks.names.train.recurrent_share", lambda *_: 0.5)
        yield run


@pytest.fixture
def refused(invoke):
    """Call the command line, expect exit code 2 and one line on stderr, and return that line."""

    def line(*arguments):
        result = invoke(*arguments)
        assert result.exit_code == 2, result.output
        lines = result.stderr.splitlines()
        assert len(lines) == 1 and lines[0].startswith("Error: "), result.stderr
        return lines[0]

    return line


@pytest.fixture
def real_data():
    """The folder of a task's real data, which the project does not ship."""

    def folder(task):
        beside = Path(__file__).parents[3] / "shared" / "data"
        place = Path(os.environ.get("FASTRNN_DATA", beside)) / task
        if not place.is_dir():
            pytest.skip(f"no {task} data: set FASTRNN_DATA to a folder that holds {task}/*.txt (looked for {place})")
        return place

    return folder


@pytest.fixture
def real_names(real_data):
    return real_data("names")

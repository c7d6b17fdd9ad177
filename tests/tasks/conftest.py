"""Small data, one thread, and the command line called in this process."""

import os
import random
from pathlib import Path

import pytest
import torch

# Three classes that share no character, so that a model of any size learns them in a few epochs.
LETTERS = {"down": "aeiou", "mid": "kstn", "up": "かきくけ"}
TRAIN = ("--hidden", "8", "--embedding", "8", "--batch-size", "16", "--threads", "1", "--no-compare")


def write_classes(folder: Path, count: int = 40) -> Path:
    folder.mkdir()
    for name, letters in LETTERS.items():
        draw = random.Random(name)
        words = {"".join(draw.choices(letters, k=draw.randint(2, 7))) for _ in range(3 * count)}
        (folder / f"{name}.txt").write_text("\n".join(sorted(words)[:count]) + "\n", "utf-8")
    return folder


@pytest.fixture(autouse=True)
def threads():
    """A training sets torch's thread count; put it back."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def folder(tmp_path):
    return write_classes(tmp_path / "classes")


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A run of both models, trained well enough to be right about its three classes, and the output it printed."""
    base = tmp_path_factory.mktemp("trained")
    data = write_classes(base / "classes")
    before = torch.get_num_threads()
    result = call("names", "train", "--data", data, "--out", base / "run", *TRAIN[:-1], "--epochs", "12",
                  "--hidden", "16", "--lr", "0.02")  # fmt: skip
    torch.set_num_threads(before)
    assert result.exit_code == 0, result.output
    return base / "run", result.stdout


def call(*arguments):
    from click.testing import CliRunner

    from fastrnn.tasks.commands import cli

    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


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
    """Train small models into a folder; keyword arguments become options."""

    def run(out, *arguments, **options):
        pairs = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
        return invoke("names", "train", "--out", out, *TRAIN, *arguments, *pairs)

    return run


@pytest.fixture
def refused(invoke):
    """Call the command line, expect it to end with exit code 2 and one line on stderr, and return that line."""

    def line(*arguments):
        result = invoke(*arguments)
        assert result.exit_code == 2, result.output
        lines = result.stderr.splitlines()
        assert len(lines) == 1 and lines[0].startswith("Error: "), result.stderr
        return lines[0]

    return line


@pytest.fixture
def real_names():
    """The folder of the char-RNN tutorial's names, which the project does not ship."""
    beside = Path(__file__).parents[3] / "shared" / "data"
    place = Path(os.environ.get("FASTRNN_DATA", beside)) / "names"
    if not place.is_dir():
        pytest.skip(f"no names data: set FASTRNN_DATA to a folder that holds names/*.txt (looked for {place})")
    return place

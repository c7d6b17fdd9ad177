"""Each task as a small training of a second or two on shipped data, for what must hold in all of them alike."""

import json
import os
import signal
import subprocess
import sys
import time

import torch

CHARACTERS = ("translate", "train", "--filter", "course", "--tokens", "char", "--hidden", "16", "--embedding", "16")
COMMON = ("--threads", "1", "--no-compare", "--epochs", "3")
TRAININGS = {
    "names": ("names", "train", "--hidden", "16", "--batch-size", "256", "--bidirectional"),
    "translate": CHARACTERS,
    "attention": (*CHARACTERS, "--attention", "--scheduled-sampling", "0.5"),
    "lm": ("lm", "train", "--hidden", "16", "--batch-size", "400"),
    "lm-modern": ("lm", "train", "--hidden", "16", "--batch-size", "400", "--recipe", "modern"),
    "news": ("news", "train", "--hidden", "16", "--wide"),
}  # fmt: skip
"""Name to the command without what is `COMMON` and without --out."""


def command(name, out, *options):
    return [*TRAININGS[name], *COMMON, *options, "--out", str(out)]


def start(arguments, *, save_every=60.0, torchrun=0, **options):
    """The command line in a process of its own, or of several, that saves within epochs after so many seconds."""
    code = (f"import sys; from fastrnn.tasks import training; training.SAVE_EVERY = {save_every}; "
            f"from fastrnn.cli import main; sys.exit(main())")  # fmt: skip
    start = [sys.executable]
    if torchrun:
        start += ["-m", "torch.distributed.run", f"--nproc-per-node={torchrun}", "--no-python", sys.executable]
    return subprocess.Popen([*start, "-c", code, *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            start_new_session=True, **options)  # fmt: skip


def wait_for(process, sign, seconds=120):
    """Return as soon as `sign()` is true; an error if the process ends before or it takes too long."""
    deadline = time.monotonic() + seconds
    while not sign():
        if process.poll() is not None or time.monotonic() > deadline:
            said = kill(process)
            raise AssertionError(f"ended, or waited for in vain: {said}")
        time.sleep(0.0005)


def kill(process):
    """`kill -9` of the process and all that it started, if it still runs."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    return process.communicate()


def result(run):
    """All that two trainings must have in common: the checkpoints without their clock, the history, the quality."""
    states = {file.name: torch.load(file, weights_only=True) for file in sorted(run.glob("*.pt"))}
    for state in states.values():
        del state["clock"]
    metrics = json.loads((run / "metrics.json").read_text("utf-8"))
    models = [file.removesuffix(".pt") for file in states]
    return states, metrics["quality"], {name: (metrics[name]["epochs"], metrics[name]["test"]) for name in models}

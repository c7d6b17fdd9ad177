"""Training of names: what is reported, the backends' equal curves, and resumption bit for bit."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch.nn.utils.rnn import pad_packed_sequence

pytest.importorskip("fastrnn.tasks", reason='needs pip install "fastrnn[tasks]"', exc_type=ImportError)

from exact import Kill, same
from small_names import TRAIN

from fastrnn.tasks import recipes
from fastrnn.tasks.batches import buckets, rows
from fastrnn.tasks.names.data import Alphabet, Encoded, read_classes, split_names
from fastrnn.tasks.names.objectives import ClassifierTask, GeneratorTask
from fastrnn.tasks.names.train import build, describe

OPTIONS = {"cell": "gru", "embedding": 8, "hidden": 8, "layers": 1, "dropout": 0.0, "bidirectional": False,
           "backend": "torch", "batch_size": 16, "seed": 0, "device": "cpu"}  # fmt: skip


def prepared(folder, which):
    """A task on the folder's names, with its untrained model."""
    split = split_names(read_classes(str(folder)))
    description = describe(split)
    alphabet = Alphabet(description["characters"], description["rare"])
    parts = {name: Encoded.of(getattr(split, name), alphabet) for name in ("train", "valid", "test")}
    model = build(which, description | {"options": OPTIONS}).eval()
    return {"classifier": ClassifierTask, "generator": GeneratorTask}[which](model, parts, OPTIONS), split


def metrics(run):
    return json.loads((run / "metrics.json").read_text("utf-8"))


def numbers(run):
    """All that a run computed, clocks left out: each model's checkpoint and results."""
    found = {}
    for which in ("classifier", "generator"):
        state = torch.load(run / f"{which}.pt", weights_only=True)
        del state["clock"]
        report = metrics(run)[which]
        found[which] = state, {key: report[key] for key in ("test", "best_epoch", "epochs")}
    return found


def test_a_run_leaves_everything_it_promises(trained):
    run, printed = trained
    report = metrics(run)
    assert (report["task"], report["backend"], report["cell"]) == ("names", "fastrnn", "gru")
    # 40 names in each of three classes, whose letters tell them apart
    assert report["names"] == {"train": 96, "valid": 12, "test": 12}
    assert report["quality"]["accuracy"] == 1.0 and report["quality"]["macro_f1"] == 1.0
    assert set(report["versions"]) == {"fastrnn", "torch", "python"}
    for which in ("classifier", "generator"):
        part = report[which]
        losses = [epoch["loss"] for epoch in part["epochs"]]
        assert [epoch["epoch"] for epoch in part["epochs"]] == list(range(1, 13))
        assert losses[-1] < losses[0] / 1.5
        assert 0 < part["recurrent_share"] < 1 and part["optimizer"].startswith("AdamW, fused, lr 0.02")
        assert part["names_per_second"] == pytest.approx(12 * 96 / part["seconds"])
        assert set(torch.load(run / f"{which}.pt", weights_only=True)) > {"model", "optimizer", "best"}
    assert len(report["generator"]["test"]) == 1 and report["generator"]["test"]["bits_per_character"] < 3.2
    for plot in ("confusion.png", "curve.png"):
        assert (run / plot).read_bytes().startswith(b"\x89PNG")
    last = printed.splitlines()[-1]
    assert last.startswith("speed: fastrnn ") and "torch " in last and "reference " in last
    assert list(report["speed"]) == ["fastrnn", "torch", "reference"]


def test_the_best_epoch_is_the_one_kept(trained, folder):
    run, _ = trained
    part = metrics(run)["generator"]
    scores = [epoch["valid_bits_per_character"] for epoch in part["epochs"]]
    assert part["best_epoch"] == 1 + scores.index(min(scores))
    task, _ = prepared(folder, "generator")
    task.model = build("generator", json.loads((run / "config.json").read_text("utf-8"))).eval()
    task.model.load_state_dict(torch.load(run / "generator.pt", weights_only=True)["best"])
    assert task.validate()["bits_per_character"] == pytest.approx(min(scores), rel=1e-6)


def test_the_test_names_are_judged_by_the_best_epoch(train, folder, tmp_path, monkeypatch):
    bits = iter([3.0, 1.0, 2.0])
    monkeypatch.setattr(GeneratorTask, "validate", lambda self: {"bits_per_character": next(bits)})
    assert train(tmp_path / "run", data=folder, epochs=3, models="generator").exit_code == 0
    state = torch.load(tmp_path / "run" / "generator.pt", weights_only=True)
    task, _ = prepared(folder, "generator")
    task.model = build("generator", json.loads((tmp_path / "run" / "config.json").read_text("utf-8"))).eval()
    scores = {}
    for which in ("best", "model"):  # the second epoch's parameters, and the last one's
        task.model.load_state_dict(state[which])
        scores[which] = task.scores(task.parts["test"])["bits_per_character"]
    assert metrics(tmp_path / "run")["generator"]["best_epoch"] == 2
    assert metrics(tmp_path / "run")["quality"]["bits_per_character"] == scores["best"] != scores["model"]


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_the_classifier_reads_the_last_state_of_the_top_layer(folder, cell):
    options = {**OPTIONS, "cell": cell, "layers": 2, "bidirectional": True}
    task, split = prepared(folder, "classifier")
    model = build("classifier", describe(split) | {"options": options}).eval()
    names, _ = task.batch(task.parts["test"], buckets(task.parts["test"].lengths, 5)[0])
    with torch.no_grad():
        top, lengths = pad_packed_sequence(model.rnn(rows(names, model.embedding(names.data)))[0])
        ahead = top[lengths - 1, torch.arange(5), :8]  # where each name ends
        back = top[0, :, 8:]  # where reading backwards ends
        assert torch.equal(model(names), model.output(torch.cat([ahead, back], 1)))


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_the_backends_give_the_same_loss_curves(train, folder, tmp_path, cell):
    curves = {}
    for backend in ("torch", "fastrnn", "reference"):
        out = tmp_path / backend
        result = train(out, "--bidirectional", data=folder, cell=cell, backend=backend, epochs=3, layers=2)
        assert result.exit_code == 0, result.output
        report = metrics(out)
        epochs = report["classifier"]["epochs"] + report["generator"]["epochs"]
        curves[backend] = [epoch["loss"] for epoch in epochs]
    # fp32 rounding, grown over 18 steps; another seed moves these losses by parts in a hundred
    assert curves["fastrnn"] == pytest.approx(curves["torch"], rel=2e-6)
    assert curves["reference"] == pytest.approx(curves["torch"], rel=2e-6)


def test_the_seed_decides(train, folder, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert train(tmp_path / name, data=folder, epochs=1, seed=seed).exit_code == 0
    assert same(numbers(tmp_path / "a"), numbers(tmp_path / "b"))
    assert not same(numbers(tmp_path / "a"), numbers(tmp_path / "c"))


def test_one_model_alone_is_the_same_model(train, folder, tmp_path):
    assert train(tmp_path / "both", data=folder, epochs=1).exit_code == 0
    assert train(tmp_path / "one", data=folder, epochs=1, models="generator").exit_code == 0
    assert metrics(tmp_path / "one")["generator"]["test"] == metrics(tmp_path / "both")["generator"]["test"]
    assert not (tmp_path / "one" / "classifier.pt").exists()
    assert not (tmp_path / "one" / "confusion.png").exists()


@pytest.mark.parametrize("step", [3, 8, 20, 35], ids=lambda step: f"step{step}")
@pytest.mark.parametrize("how", ["killed", "ctrl-c"])
def test_a_stopped_run_resumes_to_the_same_bits(train, uninterrupted, tmp_path, monkeypatch, how, step):
    # 96 names, 16 a batch: 6 steps an epoch, 18 a model: they lie in both models, within and between epochs
    whole, folder = uninterrupted
    steps, update = [0], recipes.Recipe.update

    def interrupted(self, *arguments):
        update(self, *arguments)
        steps[0] += 1
        if steps[0] == step:
            if how == "killed":
                raise Kill
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(recipes.Recipe, "update", interrupted)
    if how == "killed":
        with pytest.raises(Kill):
            train(tmp_path / "cut", data=folder, epochs=3)
    else:
        result = train(tmp_path / "cut", data=folder, epochs=3)
        assert result.exit_code == 130
        assert f"fastrnn names train --resume --out {tmp_path / 'cut'}" in result.stderr
        file = "classifier.pt" if step <= 18 else "generator.pt"
        state = torch.load(tmp_path / "cut" / file, weights_only=True)
        assert 6 * state["epoch"] + state["step"] == (step - 1) % 18 + 1, "saved at that very step"
    monkeypatch.undo()
    assert not (tmp_path / "cut" / "metrics.json").exists()
    torch.manual_seed(999)  # nothing of this process may matter
    result = train(tmp_path / "cut", "--resume")  # options given again are allowed while they are the same
    assert result.exit_code == 0, result.output
    assert same(numbers(tmp_path / "cut"), numbers(whole))


def test_a_process_killed_by_the_system_resumes_to_the_same_bits(invoke, train, folder, tmp_path):
    out, options = tmp_path / "cut", {"data": folder, "epochs": 40}
    assert train(tmp_path / "whole", **options).exit_code == 0
    command = [sys.executable, "-m", "fastrnn", "names", "train", "--out", str(out), *TRAIN]
    command += ["--data", str(folder), "--epochs", "40"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (out / "classifier.pt").exists():
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert not (out / "metrics.json").exists(), "it was to be killed in the middle"
    result = invoke("names", "train", "--resume", "--out", out, "--no-compare")
    assert result.exit_code == 0, result.output
    assert same(numbers(out), numbers(tmp_path / "whole"))


def test_a_finished_run_can_be_resumed_and_stays_the_same(train, invoke, folder, tmp_path):
    assert train(tmp_path / "run", data=folder, epochs=2).exit_code == 0
    before = numbers(tmp_path / "run")
    assert invoke("names", "train", "--resume", "--out", tmp_path / "run", "--no-compare").exit_code == 0
    assert same(numbers(tmp_path / "run"), before)


def test_bits_per_character_of_a_model_that_knows_nothing(folder):
    task, split = prepared(folder, "generator")
    torch.nn.init.zeros_(task.model.output.weight)
    torch.nn.init.zeros_(task.model.output.bias)
    symbols = len({character for name, _ in split.train for character in name}) + 2
    assert task.scores(task.parts["test"])["bits_per_character"] == pytest.approx(math.log2(symbols), rel=1e-6)


def test_the_generator_learns_each_next_character_and_the_end(folder):
    task, split = prepared(folder, "generator")
    index = buckets(task.parts["test"].lengths, 5)[0]
    packed, targets = task.batch(task.parts["test"], index)
    longest = split.test[index[0]][0]
    first_rows = torch.cat([torch.zeros(1, dtype=torch.int64), packed.batch_sizes.cumsum(0)[:-1]])
    alphabet = Alphabet.of(split.train)
    # the edge, then the name's characters in; the name's characters, then the edge out
    assert packed.data[first_rows, 0].tolist() == [1, *alphabet.encode(longest)]
    assert targets[first_rows].tolist() == [*alphabet.encode(longest), 1]
    assert (packed.data[first_rows, 1] == split.test[index[0]][1]).all()


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_what_was_good(folder, tmp_path, monkeypatch, refused):
    losses = [0]

    def bad(self, batch, loss=ClassifierTask.loss):
        losses[0] += 1
        return loss(self, batch) * (1.0 if losses[0] < 8 else math.nan)

    monkeypatch.setattr(ClassifierTask, "loss", bad)
    line = refused("names", "train", "--out", tmp_path / "run", "--data", folder, *TRAIN)
    assert line == "Error: classifier: the loss of epoch 2 is nan: try a lower --lr"
    state = torch.load(tmp_path / "run" / "classifier.pt", weights_only=True)
    assert state["epoch"] == 1 and all(value.isfinite().all() for value in state["model"].values())


def test_the_builtin_names_are_learned(train, tmp_path):
    result = train(tmp_path / "run", models="classifier", epochs=4, hidden=48, embedding=32, lr=0.01)
    assert result.exit_code == 0, result.output
    assert metrics(tmp_path / "run")["quality"]["accuracy"] > 0.5  # the largest class of seven is a fifth


@pytest.mark.slow
def test_quality_on_the_real_names(train, tmp_path, real_names):
    result = train(tmp_path / "run", data=real_names, hidden=128, embedding=64, batch_size=64)
    assert result.exit_code == 0, result.output
    quality = metrics(tmp_path / "run")["quality"]
    assert quality["accuracy"] > 0.815 and quality["macro_f1"] > 0.45  # standard error about 0.009 and more
    assert quality["bits_per_character"] < 2.66

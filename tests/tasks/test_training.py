"""The training loop: when it stops, what it saves, and the same bits after any interruption."""

import errno
import os
import signal

import pytest
import torch

pytest.importorskip("fastrnn.tasks", reason='needs pip install "fastrnn[tasks]"', exc_type=ImportError)

from exact import Kill, same

from fastrnn.tasks import training
from fastrnn.tasks.errors import Interrupted, UserError
from fastrnn.tasks.recipes import SGD, AdamW
from fastrnn.tasks.run import Run
from fastrnn.tasks.training import Trainable, fit


class Sums(Trainable):
    """A regression whose input remembers the batches before: y = w x with x carried on from step to step."""

    name, unit, best_by, maximise = "sums", "numbers", "error", False

    def __init__(self, scores=(), dropout=0.1, fail_at=None):
        torch.manual_seed(0)
        self.model = torch.nn.Sequential(torch.nn.Linear(3, 1), torch.nn.Dropout(dropout))
        self.scores, self.steps, self.fail_at, self.seen = list(scores), 0, fail_at, []

    def batches(self, epoch):
        return torch.randn(7, 4, 3, generator=torch.Generator().manual_seed(epoch)).unbind()

    def count(self, batch):
        return len(batch)

    def loss(self, batch):
        self.steps += 1
        if self.steps == self.fail_at:
            raise Kill
        self.seen.append(self.carried)
        before = self.carried or (0, 0)
        self.carried = batch + before[0], torch.ones(1) + before[1]
        return (self.model(self.carried[0]) - 1).square().mean()

    def validate(self):
        return {"error": self.scores.pop(0) if self.scores else self.model[0].weight.abs().sum().item()}


@pytest.fixture
def run(tmp_path):
    with Run.create(tmp_path / "run", "sums", {"options": {}}) as made:
        yield made


def state_of(run):
    state = run.read_state("sums.pt")
    del state["clock"]
    return state


@pytest.mark.parametrize("recipe", [AdamW(epochs=3, lr=0.1), SGD(epochs=3, lr=0.5)], ids=["adamw", "sgd"])
@pytest.mark.parametrize("step", [3, 7, 8, 18])
@pytest.mark.parametrize("every", [0.0, 60.0], ids=["saved-each-step", "saved-each-epoch"])
def test_a_killed_run_resumes_to_the_same_bits(run, tmp_path, monkeypatch, recipe, step, every):
    whole = fit(Sums(), recipe, run)
    monkeypatch.setattr(training, "SAVE_EVERY", every)
    with Run.create(tmp_path / "cut", "sums", {"options": {}}) as cut:
        with pytest.raises(Kill):
            fit(Sums(fail_at=step), recipe, cut)
        if every == 0:
            # the step that failed was not saved, and the last of an epoch is saved with its end
            assert cut.read_state("sums.pt")["step"] == (step - 1) % 7
        torch.manual_seed(999)
        task = Sums()
        done = fit(task, recipe, cut)
        assert same(state_of(cut), state_of(run)) and done.history == whole.history
        assert done.units == whole.units == 3 * 7 * 4
        if every == 0:
            assert task.steps == 21 - (step - 1), "no step was run again"


def test_the_carried_state_begins_anew_with_each_epoch(run):
    task = Sums()
    fit(task, SGD(epochs=2, lr=0.1), run)
    assert [seen is None for seen in task.seen] == ([True] + [False] * 6) * 2
    assert task.seen[6][1].item() == 6


def test_early_stopping_keeps_the_best_and_stays_stopped(run):
    task = Sums(scores=[5.0, 3.0, 4.0, 3.0, 2.0])
    done = fit(task, SGD(epochs=9, lr=0.1, patience=2), run)
    assert (done.best_epoch, len(done.history), task.steps) == (2, 4, 28)
    again = Sums()
    assert fit(again, SGD(epochs=9, lr=0.1, patience=2), run).history == done.history
    assert again.steps == 0 and same(again.model.state_dict(), task.model.state_dict())


def test_the_rate_is_quartered_when_validation_stalls(run):
    done = fit(Sums(scores=[5.0, 6.0, 4.0, 4.5, 4.0]), SGD(epochs=5, lr=0.8), run)
    assert [entry["lr"] for entry in done.history] == [0.8, 0.8, 0.2, 0.2, 0.05]


def test_a_limit_of_time_ends_the_epoch_where_it_is(run, monkeypatch):
    clock = iter(range(10_000))
    monkeypatch.setattr(training.time, "perf_counter", lambda: next(clock))
    task = Sums()
    done = fit(task, SGD(epochs=50, lr=0.1, minutes=0.2), run)  # every look at the clock is a second
    assert 2 <= task.steps < 20 and done.units == 4 * task.steps
    assert done.seconds <= done.seconds_in_all and done.epoch_ends[-1] <= done.seconds_in_all
    assert fit(Sums(), SGD(epochs=50, lr=0.1, minutes=0.2), run).history == done.history


def test_the_mean_of_an_epoch_weighs_each_batch_by_its_terms(run, monkeypatch):
    monkeypatch.setattr(Sums, "batches", lambda self, epoch: [torch.zeros(1, 3), torch.ones(3, 3)])
    monkeypatch.setattr(Sums, "loss", lambda self, batch: self.model[0].bias.sum() * 0 + batch.mean())
    assert fit(Sums(), SGD(epochs=1, lr=0.1), run).history[0]["loss"] == 0.75


def test_a_full_disk_ends_the_training_and_loses_nothing(run, monkeypatch):
    fit(Sums(), SGD(epochs=1, lr=0.1), run)
    before = (run.path / "sums.pt").read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match=r"sums\.pt: No space left on device; what was saved before is intact"):
            fit(Sums(), SGD(epochs=2, lr=0.1), run)
    assert (run.path / "sums.pt").read_bytes() == before
    assert len(fit(Sums(), SGD(epochs=2, lr=0.1), run).history) == 2


def test_a_checkpoint_of_more_processes_is_refused(run):
    fit(Sums(), SGD(epochs=1, lr=0.1), run)
    state = run.read_state("sums.pt")
    run.write_state("sums.pt", {**state, "processes": state["processes"] * 2})
    with pytest.raises(UserError, match="was trained by 2 processes: resume with as many"):
        fit(Sums(), SGD(epochs=2, lr=0.1), run)


def test_autocast_and_the_recipe_in_words(run, monkeypatch):
    dtypes = []

    def loss(self, batch):
        out = self.model[0](batch)
        dtypes.append(out.dtype)
        return out.float().square().mean()

    monkeypatch.setattr(Sums, "loss", loss)
    recipe = AdamW(epochs=1, lr=0.1, amp="bf16", patience=3)
    fit(Sums(), recipe, run)
    assert set(dtypes) == {torch.bfloat16}
    for part in ("AdamW", "lr 0.1", "autocast bf16", "patience 3", "clip 1"):
        assert part in recipe.stated()
    assert not AdamW(epochs=1, lr=1.0).scaler(torch.device("cpu")).is_enabled()


def test_a_validation_that_is_no_number_ends_the_run(run):
    fit(Sums(), SGD(epochs=1, lr=0.1), run)
    with pytest.raises(UserError, match="sums: after epoch 2 the error is inf: try a lower --lr"):
        fit(Sums(scores=[float("inf")]), SGD(epochs=2, lr=0.1), run)
    assert len(state_of(run)["history"]) == 1


@pytest.mark.parametrize("epoch", [1, 3])
def test_ctrl_c_in_a_validation_ends_the_run_when_it_is_saved(run, tmp_path, monkeypatch, epoch):
    whole = fit(Sums(), SGD(epochs=3, lr=0.1), run)
    validate, calls = Sums.validate, []

    def pressed(self):
        calls.append(None)
        if len(calls) == epoch:
            os.kill(os.getpid(), signal.SIGINT)
        return validate(self)

    with Run.create(tmp_path / "cut", "sums", {"options": {}}) as cut:
        with monkeypatch.context() as patch, pytest.raises(Interrupted):
            patch.setattr(Sums, "validate", pressed)
            fit(Sums(), SGD(epochs=3, lr=0.1), cut)
        assert (state_of(cut)["epoch"], state_of(cut)["step"], len(calls)) == (epoch, 0, epoch)
        assert fit(Sums(), SGD(epochs=3, lr=0.1), cut).history == whole.history

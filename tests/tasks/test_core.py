"""The parts every task shares: batches, scores, speed, the recipe and the layers of the backends."""

import os
import platform
import subprocess
import sys

import pytest
import torch
from torch.nn.utils.rnn import pad_packed_sequence

pytest.importorskip("fastrnn.tasks", reason='needs pip install "fastrnn[tasks]"', exc_type=ImportError)

from fastrnn.tasks import speed
from fastrnn.tasks.batches import buckets, pack, rows
from fastrnn.tasks.drawing import draw
from fastrnn.tasks.errors import UserError
from fastrnn.tasks.layers import BACKENDS, CELLS, probe, recurrent
from fastrnn.tasks.recipes import AdamW
from fastrnn.tasks.scores import accuracy, confusion_matrix, macro_f1, perplexity
from fastrnn.tasks.training import Trainable

LENGTHS = torch.randint(1, 12, (203,), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_every_example_is_in_one_batch_sorted_by_length(seed):
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    batches = buckets(LENGTHS, 16, generator, pool=4)
    assert sorted(torch.cat(batches).tolist()) == list(range(203))
    for batch in batches:
        assert len(batch) <= 16 and (LENGTHS[batch].diff() <= 0).all()


def test_batches_follow_the_seed_and_hold_like_lengths():
    def make(seed):
        return [batch.tolist() for batch in buckets(LENGTHS, 16, torch.Generator().manual_seed(seed))]

    assert make(3) == make(3) != make(4)
    assert {frozenset(batch) for batch in make(3)} != {frozenset(batch) for batch in make(4)}
    spread = max(int(LENGTHS[batch].max() - LENGTHS[batch].min()) for batch in make(3))
    assert spread <= 2  # 203 names of 11 lengths in batches of 16; drawn at random the spread would be about 10


def test_pack_and_rows_keep_each_example():
    padded = torch.tensor([[1, 2, 3, 9], [4, 5, 9, 9], [6, 9, 9, 9]])
    packed = pack(padded, torch.tensor([3, 2, 1]))
    assert packed.data.tolist() == [1, 4, 6, 2, 5, 3] and packed.batch_sizes.tolist() == [3, 2, 1]
    doubled, lengths = pad_packed_sequence(rows(packed, 2 * packed.data), batch_first=True)
    assert doubled.tolist() == [[2, 4, 6], [8, 10, 0], [12, 0, 0]] and lengths.tolist() == [3, 2, 1]


def test_scores_by_hand():
    truth, guess = torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([0, 0, 1, 1, 0, 1])
    confusion = confusion_matrix(truth, guess, 4)
    assert confusion.tolist() == [[2, 1, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    assert accuracy(confusion) == 3 / 6
    # F1: 4/6, 2/5 and 0; class 3 has no example
    assert macro_f1(confusion) == pytest.approx((4 / 6 + 2 / 5 + 0) / 3, rel=1e-12)


def test_speeds_are_taken_by_turns_and_without_the_first_round(monkeypatch):
    clock, order = [0.0], []
    monkeypatch.setattr(speed.time, "perf_counter", lambda: clock[0])

    def passing(name, seconds):
        durations = iter([100.0, *seconds])

        def run():
            order.append(name)
            clock[0] += next(durations)
            return 10

        return run

    rates = speed.interleaved_rates({"a": passing("a", [1, 9, 2]), "b": passing("b", [5, 5, 4])}, rounds=3)
    assert order == ["a", "b"] * 4
    assert rates == {"a": 5.0, "b": 2.0}


def test_the_speed_line():
    rates = {"fastrnn": 41_180.0, "torch": 18_300.0, "reference": 6_100.0}
    assert speed.speed_line(rates, "names") == (
        "speed: fastrnn 41.2k names/s, torch 18.3k names/s (2.25x), reference 6.1k names/s (6.75x)"
    )


class OneLayer(Trainable):
    """A batch is put through a recurrent layer, or through none."""

    name, unit, best_by, maximise = "one", "rows", "loss", False

    def __init__(self, layer):
        self.model = torch.nn.ModuleDict({"layer": layer, "output": torch.nn.Linear(layer.hidden_size, 1)})

    def batches(self, epoch):
        return torch.ones(4, 6, 5, 3).unbind()

    def count(self, batch):
        return batch.shape[1]

    def loss(self, batch):
        return self.model["output"](self.model["layer"](batch)[0]).mean()

    def validate(self):
        return {}


def test_the_recurrent_share_is_that_of_the_layers_made_by_recurrent(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(speed.time, "perf_counter", lambda: clock[0])

    def seconds(module, spent):
        module.register_forward_hook(lambda *_: clock.__setitem__(0, clock[0] + spent))

    layer = recurrent("torch", "gru", 3, 4)
    task = OneLayer(layer)
    seconds(layer, 3.0)
    seconds(task.model["output"], 1.0)
    assert speed.recurrent_share(task, AdamW(epochs=1, lr=0.1)) == pytest.approx(3 / 4)
    assert layer.weight_hh_l0.grad.abs().sum() > 0, "backward is run too"
    other = OneLayer(torch.nn.GRU(3, 4))
    seconds(other.model["output"], 1.0)
    assert speed.recurrent_share(other, AdamW(epochs=1, lr=0.1)) == 0.0


FAULTS = """
import resource, torch
from fastrnn.tasks.memory import keep_freed_memory
if {keep}: keep_freed_memory()
for number in range(40):
    if number == 20: before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(14 << 20)
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's allocator is told to keep memory")
@pytest.mark.skipif("libasan" in os.environ.get("LD_PRELOAD", ""), reason="AddressSanitizer has its own allocator")
def test_freed_memory_is_used_again():
    def faults(keep):
        code = FAULTS.format(keep=keep)
        return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)

    assert faults(True) < 100
    if faults(False) < 100:
        pytest.skip("this system's allocator keeps memory by itself")


def test_the_learning_rate_warms_up_and_falls_to_zero():
    rates = [AdamW(epochs=1, lr=2.0, warmup=0.1).lr_at(step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.2 * k for k in range(1, 11)])
    assert max(rates) == 2.0 and rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(1.0) and 0 < rates[-1] < 0.001
    assert AdamW(epochs=1, lr=2.0).lr_at(0, 1) == 2.0, "one step only"


def test_the_update_clips_the_gradient():
    model = torch.nn.Linear(1, 1, bias=False)
    recipe = AdamW(epochs=1, lr=0.1, clip=0.5)
    optimizer = recipe.optimizer(model)
    recipe.update(model, optimizer, 1000 * model(torch.ones(1, 1)).sum())
    assert model.weight.grad.abs().item() == pytest.approx(0.5, rel=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_the_backends_begin_with_equal_parameters(cell):
    states = []
    for backend in BACKENDS:
        torch.manual_seed(7)
        states.append(recurrent(backend, cell, 5, 6, num_layers=2, bidirectional=True).state_dict())
    for other in states[1:]:
        assert list(other) == list(states[0])
        assert all(torch.equal(other[name], states[0][name]) for name in other)


def test_a_backend_that_is_not_there_is_a_users_error(monkeypatch):
    monkeypatch.setitem(BACKENDS, "fastrnn", "fastrnn.not_built")
    with pytest.raises(UserError, match="backend fastrnn cannot be loaded: No module named"):
        probe("fastrnn", "gru", "cpu")


def test_a_device_the_backend_cannot_use_is_a_users_error(monkeypatch):
    def refuse(self, *_):
        raise RuntimeError("no kernel for this device")

    monkeypatch.setattr(torch.nn.GRU, "forward", refuse)
    with pytest.raises(UserError, match="backend torch does not run on cpu: no kernel for this device"):
        probe("torch", "gru", "cpu")


def test_the_next_token_is_drawn_by_temperature():
    logits, random = torch.tensor([0.0, 3.0, -float("inf"), 2.0]), torch.Generator().manual_seed(0)
    assert {draw(logits, temperature, random) for temperature in (0, 1e-320, 1e-9) for _ in range(5)} == {1}
    drawn = [draw(logits, 2.0, random) for _ in range(3000)]
    weights = torch.tensor([0.0, 1.5, 1.0]).softmax(0)
    shares = [drawn.count(number) / 3000 for number in (0, 1, 3)]
    assert shares == pytest.approx(weights.tolist(), abs=0.04) and 2 not in drawn


def test_a_perplexity_too_large_for_a_float_is_infinite():
    assert perplexity(0.0) == 1.0 and perplexity(1e4) == float("inf")

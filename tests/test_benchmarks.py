"""The benchmark harness: what is timed, who is timed, how. Nothing here depends on how long it takes."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
import torch

from benchmarks import grid, measure, peers, timing
from benchmarks.peers import modules


def tiny(**changes) -> grid.Case:
    return dataclasses.replace(grid.Case("shapes", "tiny", "lstm", 3, 4, 5, 6), **changes)


# ---- timing, on a clock that only the timed functions move


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def takes(self, *durations: float):
        """A function that takes these times in turn, the last one for ever after."""
        queue = list(durations)

        def function() -> None:
            self.now += queue.pop(0) if len(queue) > 1 else queue[0]

        return function


def test_spread_gives_quartiles_in_milliseconds():
    spread = timing.Spread.of([0.005, 0.001, 0.003, 0.002, 0.004])
    assert (spread.median, spread.low, spread.high, spread.best) == pytest.approx((3.0, 2.0, 4.0, 1.0))


def test_interleave_reports_the_time_of_each_call():
    clock = Clock()
    runs = {"slow": clock.takes(1 / 256), "fast": clock.takes(1 / 1024)}
    result = timing.interleave(runs, 1.0, window=1 / 64, clock=clock, waiting=lambda: 0.0)
    assert result.spreads["slow"] == timing.Spread(*[1000 / 256] * 4)
    assert result.spreads["fast"] == timing.Spread(*[1000 / 1024] * 4)
    # A round of two peers takes two windows of 1/64 s.
    assert (result.rounds, result.dropped, result.quiet) == (32, 0, True)


def test_warm_up_calls_are_not_counted():
    clock = Clock()
    result = timing.interleave({"only": clock.takes(5.0, 0.002)}, 0.5, clock=clock, waiting=lambda: 0.0)
    assert result.spreads["only"].high == pytest.approx(2.0)


def test_interleave_turns_the_order_round_every_round():
    clock, seen = Clock(), []

    def note(name):
        def function():
            seen.append(name)
            clock.now += 0.05

        return function

    timing.interleave({"a": note("a"), "b": note("b")}, 0.4, clock=clock, waiting=lambda: 0.0)
    measured = "".join(seen[6:])  # three warm-up calls each
    assert measured.startswith("abbaabba")


def test_a_long_case_still_gets_its_least_rounds():
    clock = Clock()
    result = timing.interleave({"only": clock.takes(10.0)}, 0.1, clock=clock, waiting=lambda: 0.0)
    assert result.rounds == timing.LEAST_LONG_ROUNDS and result.quiet


def test_disturbed_rounds_are_dropped():
    clock = Clock()
    warm_up = [1 / 64] * 3
    durations = [*warm_up, *[1 / 64, 5 / 64] * 5, 1 / 64]  # the second, fourth ... tenth round are slow,
    # and waiting(), asked before and after every round, tells that four fifths of them were spent in a queue.
    waits = itertools.accumulate(4 / 64 if i % 4 == 3 and i < 20 else 0.0 for i in itertools.count())
    result = timing.interleave(
        {"only": clock.takes(*durations)}, 1.0, window=1 / 64, clock=clock, waiting=lambda: next(waits)
    )
    assert (result.dropped, result.quiet) == (5, True)
    assert result.spreads["only"] == timing.Spread(*[1000 / 64] * 4)


def test_waiting_below_the_tolerance_does_not_drop_a_round():
    clock = Clock()
    waits = itertools.count(0.0, 0.02 * timing.TOLERATED_WAIT * 0.9)
    result = timing.interleave({"only": clock.takes(0.02)}, 0.4, clock=clock, waiting=lambda: next(waits))
    assert result.dropped == 0


def test_a_busy_machine_is_told_and_ends():
    clock = Clock()
    waits = itertools.count()
    result = timing.interleave({"only": clock.takes(0.02)}, 0.2, clock=clock, waiting=lambda: next(waits))
    assert not result.quiet
    assert result.rounds >= timing.LEAST_ROUNDS and math.isclose(result.spreads["only"].median, 20.0)
    assert clock.now < 1.0


def test_a_peer_that_times_itself_is_asked_and_believed():
    class Turns:
        asked = []  # noqa: RUF012

        def window(self, calls):
            self.asked.append(calls)
            clock.now += calls / 128
            return 1 / 128, 0.0

    clock, turns = Clock(), Turns()
    runs = {"here": clock.takes(1 / 64), "there": turns}
    result = timing.interleave(runs, 0.5, window=1 / 16, clock=clock, waiting=lambda: 0.0)
    assert result.spreads["there"].median == pytest.approx(1000 / 128)
    assert turns.asked[-1] == 8  # a window's worth of calls


def test_rounds_in_which_a_worker_was_not_let_run_are_dropped():
    class Turns:
        def window(self, calls):
            clock.now += calls / 64
            return 1 / 64, 1.0

    clock = Clock()
    result = timing.interleave({"there": Turns()}, 0.2, window=1 / 64, clock=clock, waiting=lambda: 0.0)
    assert not result.quiet


def test_settle_waits_for_threads_that_spin_and_gives_up(monkeypatch):
    states = iter(["R"] * 3 + ["S"] * 10)
    monkeypatch.setattr(timing, "_tasks", lambda pids, file: [("7", f"7 (a) name) {next(states)} 1 2")])
    timing.settle([7])
    assert next(states) == "S"
    monkeypatch.setattr(timing, "_tasks", lambda pids, file: [("7", "7 (spins) R 1 2")])
    timing.settle([7], limit=0.01)


# ---- peers


CASES = [
    tiny(),
    tiny(cell="gru", ragged=(2, 4)),
    tiny(cell="rnn", layers=2, bidirectional=True, ragged=(1, 4)),
    tiny(bidirectional=True),
    tiny(cell="gru", T=1, unrolled=True),
    tiny(T=1, unrolled=True),
]


@pytest.mark.parametrize("mode", peers.MODES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.text)
def test_peers_compute_the_same_function(case, mode):
    weights = peers.initial_weights(case)
    here = {name: peer for name, peer in peers.PEERS.items() if peer.environment is None}
    prepared = {name: peer.prepare(case, mode, weights) for name, peer in here.items()}
    measure.check_agreement(case, prepared)
    directions = 2 if case.bidirectional else 1
    assert prepared["torch"].output.shape == (case.rows, directions * case.H)
    if mode == "train":
        expected, got = prepared["torch"].run(), prepared["fastrnn"].run()
        states = (2 if case.cell == "lstm" else 1) if case.unrolled else 0
        assert len(expected) == 1 + len(weights) + states
        for e, g in zip(expected, got, strict=True):
            torch.testing.assert_close(g, e, rtol=1e-4, atol=1e-5)


def test_a_training_run_leaves_no_gradient_behind():
    case = tiny()
    prepared = peers.PEERS["torch"].prepare(case, "train", peers.initial_weights(case))
    first, second = prepared.run(), prepared.run()
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)


def test_initial_weights_leave_the_random_state_alone():
    torch.manual_seed(7)
    expected = torch.randn(2)
    torch.manual_seed(7)
    peers.initial_weights(tiny())
    assert torch.equal(torch.randn(2), expected)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda y: y + 1e-3, "differ by 0.001"),
        (lambda y: y * math.nan, "differ by nan"),
        (lambda y: y[1:], "shape is"),
    ],
)
def test_a_wrong_peer_is_refused(spoil, message):
    right = peers.Prepared(lambda: None, torch.zeros(3, 2))
    wrong = peers.Prepared(lambda: None, spoil(right.output))
    with pytest.raises(RuntimeError, match=message):
        measure.check_agreement(tiny(), {"torch": right, "other": wrong})


def test_a_wrong_gradient_is_refused():
    right = peers.Prepared(lambda: None, torch.zeros(3, 2), torch.ones(3, 4))
    wrong = peers.Prepared(lambda: None, torch.zeros(3, 2), torch.ones(3, 4) * 1.01)
    with pytest.raises(RuntimeError, match=r"dx of other against torch: values differ by 0\.01"):
        measure.check_agreement(tiny(), {"torch": right, "other": wrong})


def test_bf16_peers_get_values_that_bf16_holds_and_are_measured_against_fp64():
    case = tiny(group="bf16", precision="bf16")
    weights = peers.initial_weights(case)
    assert all(torch.equal(w, w.bfloat16().float()) for w in weights.values())
    for mode in ("forward", "train"):
        prepared = {"bf16": modules.torch_nn(case, mode, weights)}
        prepared["fp32"] = modules.torch_nn(case.companion, mode, weights)
        errors = measure.errors(case, mode, weights, prepared)
        assert errors["fp32"] < 1e-5 < errors["bf16"] < 0.1
    assert prepared["bf16"].output.dtype == torch.bfloat16
    autocast = dataclasses.replace(case, precision="autocast")
    assert modules.torch_nn(autocast, "forward", weights).output.dtype == torch.bfloat16


@pytest.mark.parametrize("precision, dtype", [("kept", torch.float32), ("weights", torch.bfloat16), ("fp32", None)])
def test_kept_weights_are_kept(precision, dtype, monkeypatch):
    made = []
    build = modules.build
    monkeypatch.setattr(modules, "build", lambda *args: made.append(build(*args)) or made[-1])
    case = tiny(group="kept", precision=precision)
    for peer in (modules.torch_nn, modules.fastrnn):
        peer(case, "forward", peers.initial_weights(case))
    assert not hasattr(made[0], "weight_dtype") and made[1].weight_dtype is dtype


def test_only_plain_layers_are_asked_of_other_libraries():
    for name in ("onnxruntime", "onednn", "jax"):
        runs = peers.PEERS[name].runs
        assert runs(tiny(), "forward")
        assert not any(runs(case, "forward") for case in CASES[1:])
        assert not runs(tiny(precision="bf16"), "forward") and not runs(tiny(), "grad")
        assert runs(tiny(group="kept", precision="kept"), "forward")
    assert not peers.PEERS["onnxruntime"].runs(tiny(), "train")

"""The grid of benchmark cases: what is timed."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from benchmarks import grid


def tiny(**changes) -> grid.Case:
    return dataclasses.replace(grid.Case("shapes", "tiny", "lstm", 3, 4, 5, 6), **changes)


def test_grid_has_every_shape_for_every_cell():
    shapes = {(case.name, case.cell) for case in grid.GRID if case.group == "shapes"}
    assert shapes == set(itertools.product("ABCDEFGHIJ", ("lstm", "gru", "rnn")))


def test_grid_keys_are_unique():
    keys = [case.key for case in grid.GRID]
    assert len(set(keys)) == len(keys)


def test_grid_covers_what_the_tasks_need():
    tasks = [case for case in grid.GRID if case.group == "tasks"]
    assert {case.cell for case in tasks if case.ragged} == {"lstm", "gru", "rnn"}
    assert any(case.bidirectional and case.ragged for case in tasks)
    assert any(case.bidirectional and not case.ragged for case in tasks)
    assert any(case.layers == 2 for case in tasks)


@pytest.mark.parametrize(
    ("case", "flop"),
    [
        (tiny(), 2 * 3 * 4 * 4 * 6 * (5 + 6)),
        (tiny(cell="gru"), 2 * 3 * 4 * 3 * 6 * (5 + 6)),
        (tiny(cell="rnn", bidirectional=True), 2 * 2 * 3 * 4 * 6 * (5 + 6)),
        (tiny(layers=2, bidirectional=True), 2 * 2 * 3 * 4 * 4 * 6 * ((5 + 6) + (12 + 6))),
        (tiny(ragged=(2, 4)), 2 * (4 + 3 + 2) * 4 * 6 * (5 + 6)),
    ],
)
def test_flop_counts_gates_layers_directions_and_rows(case, flop):
    assert case.flop("forward") == flop
    assert case.flop("train") == 3 * flop


@pytest.mark.parametrize("case", [case for case in grid.GRID if case.ragged], ids=lambda case: case.key)
def test_ragged_lengths_are_sorted_and_span_their_range(case):
    assert len(case.lengths) == case.B
    assert case.lengths == sorted(case.lengths, reverse=True)
    low, high = case.ragged
    assert high == case.T
    if case.group == "ragged":  # drawn, but not anew
        assert low <= case.lengths[-1] < case.lengths[0] <= high
        assert case.lengths == dataclasses.replace(case).lengths
    else:
        assert (case.lengths[-1], case.lengths[0]) == (low, high)


def test_companions_differ_in_one_thing():
    ragged = tiny(group="ragged", ragged=(2, 4))
    assert ragged.companion == dataclasses.replace(ragged, ragged=None)
    assert ragged.companion.rows == 12 > ragged.rows
    autocast = tiny(group="bf16", precision="autocast")
    assert autocast.companion == dataclasses.replace(autocast, precision="fp32")
    kept = tiny(group="kept", precision="kept")
    assert kept.companion == dataclasses.replace(kept, precision="fp32") and kept.modes == ("forward",)
    assert tiny().companion is None and tiny(group="tasks", ragged=(2, 4)).companion is None


def test_bytes_of_weights_count_every_step():
    recurrent, once = 4 * 4 * 6 * 6, 4 * 4 * 6 * 5
    assert tiny().weight_bytes("forward") == 4 * recurrent + once
    assert tiny().weight_bytes("train") == 8 * recurrent + once


def test_a_step_is_also_timed_with_gradients_recorded():
    assert tiny(group="step").modes == ("forward", "grad", "train")
    assert tiny().modes == ("forward", "train")


def test_select_keeps_the_order_of_the_grid():
    chosen = grid.select(["shapes"], ["rnn", "lstm"], ["F", "A"])
    assert [case.key for case in chosen] == [
        "shapes/A/lstm",
        "shapes/F/lstm",
        "shapes/A/rnn",
        "shapes/F/rnn",
    ]
    assert grid.select() == list(grid.GRID)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["shape"],), "no group named shape; choose from shapes"),
        ((["shapes"], ["elman"]), "no cell named elman"),
        ((["shapes"], None, ["Z", "A"]), "no shape named Z;"),
        ((["shapes"], None, ["headlines"]), "no case in common"),
    ],
)
def test_select_names_what_it_does_not_know(arguments, message):
    with pytest.raises(ValueError, match=message):
        grid.select(*arguments)

"""What fastrnn is to reach on a CPU, as data: verdicts.py computes each from measured rows.

fp32, two threads unless said. A bound is a least value, or with `at_most` a greatest one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SHAPES = "ABCDEFGHIJ"

# Forward+backward, two threads, milliseconds on two Zen 4 cores: torch.nn, and oneDNN's primitive with no framework
# around it. Their ratio is what a shape has to offer.
TRAIN_MS: dict[str, tuple[tuple[float, float], ...]] = {
    "lstm": (
        *((1.42, 1.05), (28.6, 22.3), (320, 253), (8.8, 7.6), (80, 69)),
        *((3.6, 2.3), (28.5, 25.7), (37.3, 35.1), (471, 383), (5.8, 3.3)),
    ),
    "gru": (
        *((14.3, 1.27), (91, 22), (435, 239), (15.7, 6.8), (104, 55)),
        *((9.2, 2.3), (37, 23.6), (51, 27), (511, 291), (6.4, 2.6)),
    ),
    "rnn": (
        *((4.6, 0.53), (37, 6.7), (130, 68), (7.1, 2.2), (31, 18.5)),
        *((3.5, 1.15), (13.3, 10.5), (18.3, 12.1), (137, 104), (2.2, 1.4)),
    ),
}

Bounds = Mapping[str, Mapping[str, float]]
"""cell -> case name, or "*" for every other case -> bound. A cell or name that is not there has no bound."""


def everywhere(bound: float, cells: tuple[str, ...] = ("lstm", "gru", "rnn")) -> Bounds:
    return {cell: {"*": bound} for cell in cells}


FORWARD: Bounds = {
    "lstm": {"*": 1.0, **dict.fromkeys("ABFJ", 1.4)},
    "gru": {"*": 1.4, **dict.fromkeys("ABF", 3.0)},
    "rnn": {"*": 1.3, **dict.fromkeys("ABF", 4.0)},
}
TRAIN: Bounds = {
    cell: {name: round(max(1.0, torch / onednn), 2) for name, (torch, onednn) in zip(SHAPES, pairs, strict=True)}
    for cell, pairs in TRAIN_MS.items()
}


@dataclass(frozen=True)
class Target:
    """One line of the table: which rows it takes, what is computed from each, and the bounds.

    `value` names a function of verdicts.VALUES. `mean` bounds the geometric mean of each cell's rows in place of each
    row. `unit` stands behind the figures.
    """

    number: str
    text: str
    value: str
    bounds: Bounds
    groups: tuple[str, ...] = ("shapes",)
    mode: str = "forward"
    threads: int = 2
    at_most: bool = False
    mean: bool = False
    unit: str = "x"
    only: Mapping[str, object] = field(default_factory=dict)
    """Fields that a row's record must have, such as {"unrolled": True}."""


_TASKS: Bounds = {"lstm": {"*": 1.5}, "gru": {"*": 2.0}, "rnn": {"*": 1.5}}

TARGETS: tuple[Target, ...] = (
    Target("1", "Forward against torch.nn, shape by shape", "over torch", FORWARD),
    Target("1", "Forward against the best of all peers", "over best peer", everywhere(1.0)),
    Target(
        "2", "Forward+backward against torch.nn: torch/oneDNN ratio of each shape", "over torch", TRAIN, mode="train"
    ),
    Target(
        *("2", "Forward+backward against torch.nn, geometric mean", "over torch"),
        {"lstm": {"*": 1.25}, "gru": {"*": 2.5}, "rnn": {"*": 2.5}},
        mode="train",
        mean=True,
    ),
    Target("2", "Forward+backward against oneDNN's primitive", "over onednn", everywhere(1.0), mode="train"),
    Target("3", "One thread: forward against torch.nn", "over torch", FORWARD, threads=1),
    Target("3", "One thread: forward against the best of all peers", "over best peer", everywhere(1.0), threads=1),
    Target(
        *("3", "One thread: forward+backward against torch.nn, as in 2", "over torch", TRAIN), mode="train", threads=1
    ),
    Target(
        *("3", "One thread: forward+backward, geometric mean, as in 2", "over torch"),
        {"lstm": {"*": 1.25}, "gru": {"*": 2.5}, "rnn": {"*": 2.5}},
        mode="train",
        mean=True,
        threads=1,
    ),
    Target(
        *("4", "A layer's step without gradients, one thread", "microseconds", everywhere(12.0), ("step",)),
        threads=1,
        at_most=True,
        unit=" us",
        only={"unrolled": False},
    ),
    Target(
        *("4", "A layer's step recording gradients, one thread", "microseconds", everywhere(30.0), ("step",), "grad"),
        threads=1,
        at_most=True,
        unit=" us",
        only={"unrolled": False},
    ),
    Target(
        *("4", "A cell's step without gradients, one thread", "microseconds", everywhere(8.0), ("step",)),
        threads=1,
        at_most=True,
        unit=" us",
        only={"unrolled": True},
    ),
    Target("5", "bf16 and autocast, forward, against our fp32", "over companion", everywhere(1.6), ("bf16",)),
    Target(
        *("5", "bf16 and autocast, forward+backward, against our fp32", "over companion", everywhere(1.6)),
        ("bf16",),
        mode="train",
    ),
    Target(
        *("5", "bf16: error against fp64, as a multiple of torch's", "error ratio", everywhere(2.0), ("bf16",)),
        at_most=True,
    ),
    Target(
        *("5", "bf16: error of dx against fp64, as a multiple of torch's", "error ratio", everywhere(2.0), ("bf16",)),
        mode="train",
        at_most=True,
    ),
    Target(
        *("5", "bf16 weights packed for inference, B=1 and H≥512, against our fp32", "over companion"),
        everywhere(1.4),
        ("packed",),
    ),
    Target("6", "Forward: share of the limit, B≥16 and H≥256, and B=1", "percent of limit", everywhere(85), unit=" %"),
    Target(
        *("6", "Forward+backward: share of the multiply-add peak, B≥16 and H≥256", "percent of peak", everywhere(85)),
        mode="train",
        unit=" %",
    ),
    Target(
        *("7", "Ragged, forward: cost of a row, against dense", "row cost", everywhere(1.1), ("ragged",)), at_most=True
    ),
    Target(
        *("7", "Ragged, forward+backward: cost of a row, against dense", "row cost", everywhere(1.1), ("ragged",)),
        mode="train",
        at_most=True,
    ),
    Target(
        *("7", "The tasks' layers, forward+backward, dense", "over torch", _TASKS, ("tasks",), "train"),
        only={"ragged": False},
    ),
    Target(
        *("7", "The tasks' layers, forward+backward, ragged", "over torch", everywhere(2.0), ("tasks",), "train"),
        only={"ragged": True},
    ),
    Target(
        *("8", "Peak memory of a training step, as a multiple of torch.nn's", "memory ratio", everywhere(1.0)),
        ("memory",),
        mode="train",
        at_most=True,
    ),
    Target("9", "Stacked and bidirectional, forward, against torch.nn", "over torch", everywhere(1.0), ("stacked",)),
    Target(
        *("9", "Stacked and bidirectional, forward+backward, against torch.nn", "over torch", everywhere(1.0)),
        ("stacked",),
        mode="train",
    ),
    Target(
        *("9", "Second thread's worth, as a share of the multiply-adds' own scaling", "scaling", everywhere(80)),
        ("stacked",),
        mode="train",
        unit=" %",
    ),
    Target("10", "AVX2 only: forward against torch.nn held to AVX2", "over torch in AVX2", everywhere(1.0)),
    Target(
        *("10", "AVX2 only: forward+backward against torch.nn held to AVX2", "over torch in AVX2", everywhere(1.0)),
        mode="train",
    ),
)

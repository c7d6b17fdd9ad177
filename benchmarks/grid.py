"""What is timed: every case is one layer call of one shape.

Groups: `shapes` A..J, which span one sequence to large batches and small to large weights; `step`, a single time
step as in decoding and control; `cells`, a step of 1 to 128 rows as in a loop over a cell; `tasks`, the layers that
the course tasks run, small, ragged and bidirectional; `stacked`, two layers or two directions; `ragged`, packed
batches, and `bf16`, each beside a companion case that tells what it is worth; `packed`, one sequence on weights
kept as bf16, beside fp32; `kept`, A..J in inference on weights packed once, beside a call that packs them;
`memory`, whose cases are not timed but measured for their peak of memory.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

GATES = {"lstm": 4, "gru": 3, "rnn": 1}
GROUPS = ("shapes", "step", "cells", "tasks", "stacked", "ragged", "bf16", "packed", "kept", "memory")
PRECISIONS = {
    "fp32": "fp32",
    "fp64": "fp64",
    "bf16": "bf16 module",
    "autocast": "bf16 autocast",
    "weights": "bf16 weights, fp32 state",
    "kept": "weights packed once",
}


@dataclass(frozen=True)
class Case:
    """One recurrent layer on one input shape.

    `cell` is "lstm", "gru" or "rnn" (tanh). `T` is the longest length. `ragged` is (shortest, longest) length
    of the batch, which is then packed; None is a dense (T, B, I) batch. `unrolled` calls the module's Cell on
    a (B, I) input in place of the layer; T is then 1. `precision` is one of PRECISIONS: the dtype of module and
    input, or an fp32 module under autocast, or one with weight_dtype=torch.bfloat16 or torch.float32.
    """

    group: str
    name: str
    cell: str
    B: int
    T: int
    I: int
    H: int
    layers: int = 1
    bidirectional: bool = False
    ragged: tuple[int, int] | None = None
    unrolled: bool = False
    precision: str = "fp32"

    @property
    def key(self) -> str:
        """Unique within the grid, and stable, so that results of two runs can be joined."""
        precision = "" if self.precision == "fp32" else f"/{self.precision}"
        return f"{self.group}/{self.name}/{self.cell}{'cell' if self.unrolled else ''}{precision}"

    @property
    def modes(self) -> tuple[str, ...]:
        """What is timed of the case: a step is taken with gradients recorded, too."""
        if self.group in ("packed", "kept"):
            return ("forward",)
        return ("forward", "grad", "train") if self.group == "step" else ("forward", "train")

    @property
    def companion(self) -> Case | None:
        """The case that fastrnn also runs in the same rounds: dense for ragged, fp32 for bf16, weights packed in the
        call for those packed once.
        """
        if self.group == "ragged":
            return replace(self, ragged=None)
        return replace(self, precision="fp32") if self.group in ("bf16", "packed", "kept") else None

    @property
    def lengths(self) -> list[int]:
        """The B sequence lengths, longest first: in the group `ragged` drawn uniformly under a fixed seed, else evenly
        spread over the range.
        """
        if self.ragged is None:
            return [self.T] * self.B
        low, high = self.ragged
        if self.group == "ragged":
            draw = random.Random(1).randint
            return sorted((draw(low, high) for _ in range(self.B)), reverse=True)
        span = max(self.B - 1, 1)
        return [high - (high - low) * b // span for b in range(self.B)]

    @property
    def rows(self) -> int:
        """Rows that carry data: B*T, or the sum of the lengths."""
        return sum(self.lengths)

    @property
    def forward_flop(self) -> int:
        """2 * rows * G * H * (I + H), summed over layers and directions."""
        directions = 2 if self.bidirectional else 1
        inputs = [self.I] + [directions * self.H] * (self.layers - 1)
        return sum(2 * self.rows * directions * GATES[self.cell] * self.H * (i + self.H) for i in inputs)

    def weight_bytes(self, mode: str) -> int:
        """Bytes of fp32 weights that a call of one layer reads: W_hh in each step, once more in each backward step,
        and W_ih once.
        """
        recurrent = 4 * GATES[self.cell] * self.H * self.H
        return recurrent * self.T * (2 if mode == "train" else 1) + 4 * GATES[self.cell] * self.H * self.I

    def flop(self, mode: str) -> int:
        """Floating point operations of one call; a backward pass costs two forward passes."""
        return self.forward_flop * (3 if mode == "train" else 1)

    @property
    def text(self) -> str:
        """The shape in words for a table."""
        length = str(self.T) if self.ragged is None else f"{self.ragged[0]}–{self.ragged[1]}"
        parts = [f"B={self.B} T={length} {self.I}→{self.H}"]
        if self.layers > 1:
            parts.append(f"{self.layers} layers")
        if self.bidirectional:
            parts.append("bidirectional")
        if self.unrolled:
            parts.append("cell")
        if self.precision != "fp32":
            parts.append(PRECISIONS[self.precision])
        return ", ".join(parts)


_SHAPES = {  # name: (B, T, I, H)
    "A": (1, 100, 128, 128),
    "B": (1, 200, 512, 512),
    "C": (16, 64, 1024, 1024),
    "D": (20, 35, 200, 200),
    "E": (20, 35, 650, 650),
    "F": (32, 50, 64, 64),
    "G": (32, 50, 256, 256),
    "H": (32, 50, 300, 300),
    "I": (64, 100, 512, 512),
    "J": (128, 10, 300, 50),
}


def _shapes() -> Iterable[Case]:
    for cell in GATES:
        for name, (b, t, i, h) in _SHAPES.items():
            yield Case("shapes", name, cell, b, t, i, h)


def _steps() -> Iterable[Case]:
    for cell in GATES:
        for unrolled in (False, True):
            yield Case("step", "128", cell, 1, 1, 128, 128, unrolled=unrolled)


def _cells() -> Iterable[Case]:
    for cell in GATES:
        for size in (256, 1024):
            for batch in (1, 8, 32, 128):
                yield Case("cells", f"{batch}x{size}", cell, batch, 1, size, size, unrolled=True)


def _tasks() -> Iterable[Case]:
    def case(name: str, cell: str, b: int, t: int | tuple[int, int], i: int, h: int, **more: int) -> Case:
        ragged = t if isinstance(t, tuple) else None
        longest = t[1] if isinstance(t, tuple) else t
        return Case("tasks", name, cell, b, longest, i, h, ragged=ragged, **more)

    yield case("names", "rnn", 64, (6, 10), 64, 128)
    yield case("names", "gru", 64, (6, 10), 64, 128)
    yield case("names-bi", "lstm", 64, (6, 10), 64, 128, bidirectional=True)
    yield case("names-bi-dense", "lstm", 64, 8, 64, 128, bidirectional=True)
    yield case("names-single", "rnn", 1, 7, 86, 128)
    for cell in GATES:
        yield case("names-generate", cell, 64, (7, 10), 80, 256)
    yield case("headlines", "rnn", 64, (11, 17), 300, 50)
    yield case("headlines", "gru", 64, 12, 300, 300)
    yield case("headlines-bi", "lstm", 64, (11, 17), 200, 128, bidirectional=True)
    yield case("translate-encoder", "lstm", 64, (7, 10), 256, 256, bidirectional=True)
    yield case("translate-decoder", "lstm", 64, 9, 256, 256)
    yield case("translate-attention", "lstm", 64, 9, 768, 256)
    yield case("translate-plain", "gru", 128, (7, 13), 256, 256)
    yield case("language-model", "lstm", 20, 35, 200, 200, layers=2)


def _variants(group: str, names: str, **more: object) -> Iterable[Case]:
    """Cases of the shapes `names`, every cell, in another group."""
    for cell in GATES:
        for name in names:
            b, t, i, h = _SHAPES[name]
            yield replace(Case(group, name, cell, b, t, i, h), **more)


def _more() -> Iterable[Case]:
    for case in _variants("stacked", "DG"):
        yield replace(case, name=f"{case.name}-2", layers=2)
        yield replace(case, name=f"{case.name}-bi", bidirectional=True)
    for case in _variants("ragged", "DGI"):
        yield replace(case, ragged=(case.T // 2, case.T))
    for precision in ("bf16", "autocast"):
        yield from _variants("bf16", "EGI", precision=precision)
    for cell in GATES:
        for name, steps, size in (("B", 200, 512), ("1024", 100, 1024), ("step-512", 1, 512), ("step-1024", 1, 1024)):
            yield Case("packed", name, cell, 1, steps, size, size, precision="weights")
    yield from _variants("kept", "ABCDEFGHIJ", precision="kept")
    yield from _variants("memory", "BGIJ")


GRID: tuple[Case, ...] = (*_shapes(), *_steps(), *_cells(), *_tasks(), *_more())


def select(
    groups: Sequence[str] = GROUPS, cells: Sequence[str] | None = None, shapes: Sequence[str] | None = None
) -> list[Case]:
    """The cases of the named groups, cells and shapes (None: all), in the grid's order.

    Raises ValueError naming any group, cell or shape that the grid does not have.
    """
    known = {"group": GROUPS, "cell": tuple(GATES), "shape": tuple(dict.fromkeys(case.name for case in GRID))}
    for kind, asked in (("group", groups), ("cell", cells), ("shape", shapes)):
        unknown = [name for name in asked or () if name not in known[kind]]
        if unknown:
            raise ValueError(f"no {kind} named {', '.join(unknown)}; choose from {', '.join(known[kind])}")
    chosen = [
        case
        for case in GRID
        if case.group in groups and (cells is None or case.cell in cells) and (shapes is None or case.name in shapes)
    ]
    if not chosen:
        raise ValueError("these groups, cells and shapes have no case in common")
    return chosen

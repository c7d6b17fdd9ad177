"""The layers that `benchmarks/gpu.py` times: published grids, and ours."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

CLASSES = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}
GRIDS = ("flashrnn", "haste", "pytorch", "ours")


@dataclass(frozen=True)
class Case:
    """One layer on one shape; `ragged`: lengths from T down to 1, packed."""

    grid: str
    cell: str
    T: int
    B: int
    I: int
    H: int
    bidirectional: bool = False
    ragged: bool = False

    @property
    def text(self) -> str:
        marks = " bi" * self.bidirectional + " ragged" * self.ragged
        return f"{self.cell} T={self.T} B={self.B} I={self.I} H={self.H}{marks}"


def cases() -> Iterable[Case]:
    """FlashRNN's (arXiv 2412.07752), haste's and PyTorch's shapes, then ours."""
    for h in (64, 128, 256, 512, 768):
        yield Case("flashrnn", "lstm", 1024, 16, h, h)
    for b in (2, 4, 8, 32, 64, 128, 256):
        yield Case("flashrnn", "lstm", 1024, b, 768, 768)
    for t in (256, 512, 2048):
        yield Case("flashrnn", "lstm", t, 16, 768, 768)
    for cell in ("lstm", "gru"):
        for b in (1, 16, 32, 64, 128):
            for h in (128, 256, 512, 1024, 2048, 4096):
                yield Case("haste", cell, 50, b, h, h)
    for cell in CLASSES:
        yield Case("pytorch", cell, 100, 64, 512, 512)
    for cell in CLASSES:
        yield Case("ours", cell, 256, 16, 512, 512)
        yield Case("ours", cell, 256, 16, 1024, 1024)
    for cell in ("lstm", "gru"):
        for b in (1, 3, 12):
            yield Case("ours", cell, 200, b, 512, 512)
        for h in (200, 650, 1500):
            yield Case("ours", cell, 100, 16, h, h)
        yield Case("ours", cell, 100, 32, 256, 256, bidirectional=True)
        yield Case("ours", cell, 100, 64, 256, 256, ragged=True)
        yield Case("ours", cell, 4096, 8, 256, 256)


def dtypes(case: Case, asked: Iterable[str]) -> list[str]:
    """Those of `asked` that the case is timed in: fp32 in full, and TF32, where the published numbers are of them."""
    wide = case.grid != "flashrnn" and case.H <= 2048
    return [d for d in asked if wide or d not in ("fp32", "tf32")]


@dataclass(frozen=True)
class Target:
    """Microseconds a step that we want to reach at most, on an H100 or H200."""

    case: Case
    dtype: str
    mode: str
    us: float


def targets() -> list[Target]:
    h512, h1024 = (Case("ours", "lstm", 256, 16, h, h) for h in (512, 1024))
    h768 = Case("flashrnn", "lstm", 1024, 16, 768, 768)
    return [
        Target(h512, "bf16", "forward", 1.0),
        Target(h512, "bf16", "backward", 1.4),
        Target(h1024, "bf16", "forward", 1.5),
        Target(h1024, "bf16", "backward", 2.2),
        Target(h768, "fp16", "forward", 1.96),
        Target(h768, "fp16", "backward", 3.1),
    ]

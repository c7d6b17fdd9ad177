"""Use of a trained run: the classes of a name, and new names of a class."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor

from fastrnn.tasks.batches import pack
from fastrnn.tasks.drawing import draw
from fastrnn.tasks.names.data import EDGE, LONGEST, UNKNOWN, Alphabet, Encoded
from fastrnn.tasks.names.models import Classifier, Generator
from fastrnn.tasks.names.train import build
from fastrnn.tasks.run import Run

__all__ = ["alphabet_of", "classify", "generate", "load"]

M = TypeVar("M", Classifier, Generator)


def load(run: Run, kind: type[M]) -> M:
    """The model of `run` that is a `kind`, on the CPU, at its best epoch so far, ready to be used."""
    model = run.trained(
        f"{kind.name}.pt",
        lambda: build(kind.name, run.config),
        f"{kind.name}: train one with --models both or {kind.name}",
    )
    assert isinstance(model, kind)
    return model


def alphabet_of(run: Run) -> Alphabet:
    return Alphabet(run.config["characters"], run.config["rare"])


@torch.no_grad()
def classify(model: Classifier, alphabet: Alphabet, names: list[str]) -> Tensor:
    """Probabilities (len(names), classes). A name has at least one character."""
    encoded = Encoded.of([(name, 0) for name in names], alphabet)
    order = encoded.lengths.argsort(descending=True, stable=True)
    padded, lengths, _ = encoded.pick(order)
    probabilities = model(pack(padded[:, 1:], lengths)).softmax(1)
    return probabilities[order.argsort()]


@torch.no_grad()
def generate(
    model: Generator, alphabet: Alphabet, klass: int, *,
    start: str = "", temperature: float = 1.0, seed: int = 0,
) -> Iterator[str]:  # fmt: skip
    """Names of class number `klass` without end, each begun with `start`, drawn character by character.

    Each step puts in one character and the state of the step before, and draws what comes next from
    softmax(logits / temperature); temperature 0 takes the likeliest. The same seed draws the same names.
    """
    random = torch.Generator().manual_seed(seed)
    while True:
        name = start
        state = None
        for character in [EDGE, *alphabet.encode(start)]:
            logits, state = model.step(character, klass, state)
        while len(name) < LONGEST:
            logits[UNKNOWN] = -torch.inf  # no character to write
            if not name:
                logits[EDGE] = -torch.inf  # a name has at least one
            character = draw(logits, temperature, random)
            if character == EDGE:
                break
            name += alphabet.character(character)
            logits, state = model.step(character, klass, state)
        yield name

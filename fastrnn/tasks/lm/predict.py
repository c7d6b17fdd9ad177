"""Use of a trained language model: text that goes on from a start."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from fastrnn.tasks.drawing import draw
from fastrnn.tasks.lm.corpus import END, UNKNOWN, Dictionary
from fastrnn.tasks.lm.models import LanguageModel
from fastrnn.tasks.lm.train import build
from fastrnn.tasks.run import Run

__all__ = ["generate", "load"]


def load(run: Run) -> LanguageModel:
    """The model of `run`, on the CPU, at its best epoch so far, ready to be used."""
    return run.trained("lm.pt", lambda: build(run.config), "model yet: let its first epoch end")


@torch.no_grad()
def generate(
    model: LanguageModel, dictionary: Dictionary, start: list[str], *, temperature: float = 1.0, seed: int = 0
) -> Iterator[str]:
    """Tokens without end that go on from `start`, at the beginning of a line, END being a line's end.

    Each is drawn from softmax(log p / temperature); temperature 0 takes the likeliest. UNKNOWN is never drawn.
    """
    random = torch.Generator().manual_seed(seed)
    unknown, state = dictionary.numbers[UNKNOWN], None
    tokens = [dictionary.numbers[END], *(dictionary.numbers.get(token, unknown) for token in start)]
    while True:
        hidden, state = model(torch.tensor(tokens).unsqueeze(1), state)
        scores = model.output.log_prob(hidden[-1:])[0]
        scores[unknown] = -torch.inf
        token = draw(scores, temperature, random)
        yield dictionary.words[token]
        tokens = [token]

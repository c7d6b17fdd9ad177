"""What is learned from a text, as `fastrnn.tasks.training.fit` wants it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from fastrnn.tasks.lm.corpus import batchify, get_batch, repackage
from fastrnn.tasks.lm.models import LanguageModel
from fastrnn.tasks.scores import perplexity
from fastrnn.tasks.training import Trainable

__all__ = ["LanguageModelTask", "nats_per_token"]

EVALUATION_COLUMNS, EVALUATION_STEPS = 10, 70


class LanguageModelTask(Trainable):
    """The next token, given all before it in its column of the text.

    A batch is (start, column, stride): a window of `bptt` rows from `start` on, of every `stride`-th column from
    `column` on. The state goes from window to window, down the columns.
    """

    name, unit, best_by, maximise = LanguageModel.name, "tokens", "perplexity", False
    model: LanguageModel

    def __init__(self, model: LanguageModel, train: Tensor, valid: Tensor, options: dict[str, Any]) -> None:
        self.model, self.valid, self.options = model, valid, options
        self.numbers, self.bptt, self.columns = train, options["bptt"], options["batch_size"]
        self.source = batchify(train, self.columns).to(options["device"])

    def batches(self, epoch: int) -> list[tuple[int, int, int]]:
        if self.options["shift"]:  # columns that begin elsewhere: other neighbours in a window, other windows
            generator = torch.Generator().manual_seed(self.options["seed"] * 1_000_003 + epoch)
            by = int(torch.randint(len(self.source), (), generator=generator))
            self.source = batchify(self.numbers.roll(by), self.columns).to(self.source.device)
        return [(start, 0, 1) for start in range(0, len(self.source) - 1, self.bptt)]

    def share(self, batch: tuple[int, int, int], rank: int, world: int) -> tuple[int, int, int] | None:
        return (batch[0], rank, world) if rank < self.columns else None

    def count(self, batch: tuple[int, int, int]) -> int:
        start, column, stride = batch
        return min(self.bptt, len(self.source) - 1 - start) * len(range(column, self.columns, stride))

    def loss(self, batch: tuple[int, int, int]) -> Tensor:
        start, column, stride = batch
        tokens, target = get_batch(self.source[:, column::stride], start, self.bptt)
        hidden, state = self.model(tokens, self.carried)
        self.carried = repackage(state)
        return self.model.output(hidden, target.flatten())

    def validate(self) -> dict[str, float]:
        return {"perplexity": perplexity(nats_per_token(self.model, self.valid))}


@torch.no_grad()
def nats_per_token(model: LanguageModel, numbers: Tensor) -> float:
    """The mean negative log-likelihood of each token of the text `numbers` (tokens,) after the first of its
    column, the text being read in up to ten columns."""
    columns = min(EVALUATION_COLUMNS, len(numbers) // 2)
    source = batchify(numbers, columns).to(next(model.parameters()).device)
    state, total = None, 0.0
    starts = range(0, len(source) - 1, EVALUATION_STEPS)
    for start in tqdm(starts, "reading", unit=" steps", leave=False, disable=None, delay=1, dynamic_ncols=True):
        tokens, target = get_batch(source, start, EVALUATION_STEPS)
        hidden, state = model(tokens, state)
        total += model.output(hidden, target.flatten()).item() * target.numel()
    return total / ((len(source) - 1) * columns)

"""What tasks on separate examples of differing length share: the order of an epoch, the batches of an evaluation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fastrnn.tasks.batches import buckets
from fastrnn.tasks.scores import accuracy, confusion_matrix, macro_f1
from fastrnn.tasks.training import Trainable

__all__ = ["Classification", "Examples", "Part"]

EVALUATION_BATCH = 512


class Part(Protocol):
    """One part of a split as tensors. `lengths` (N,) and `labels` (N,) are int64 on the CPU."""

    @property
    def lengths(self) -> Tensor: ...

    @property
    def labels(self) -> Tensor: ...


class Examples(Trainable):
    """Examples in batches of like length. A batch of training is the numbers (B,) of its examples, longest first.

    `parts` holds train, valid and test.
    """

    def __init__(self, model: nn.Module, parts: Mapping[str, Any], options: dict[str, Any]) -> None:
        self.model, self.parts = model, parts
        self.size, self.seed, self.device = options["batch_size"], options["seed"], options["device"]

    def batches(self, epoch: int) -> list[Tensor]:
        self.epoch = epoch
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        return buckets(self.parts["train"].lengths, self.size, generator)

    @abstractmethod
    def batch(self, part: Any, index: Tensor, epoch: int | None = None) -> tuple[Any, Tensor]:
        """The model's input and its targets for the examples in `index`, longest first; an epoch in training."""

    def evaluation(self, part: Part) -> list[tuple[Any, Tensor]]:
        return [self.batch(part, index) for index in buckets(part.lengths, EVALUATION_BATCH)]

    def count(self, batch: Tensor) -> int:
        return len(batch)

    def loss(self, batch: Tensor) -> Tensor:
        inputs, targets = self.batch(self.parts["train"], batch, self.epoch)
        return F.cross_entropy(self.model(inputs), targets)

    def validate(self) -> dict[str, float]:
        return self.scores(self.parts["valid"])

    @abstractmethod
    def scores(self, part: Any) -> dict[str, float]:
        """The scores of one part of the split."""


class Classification(Examples):
    """Which class an example is of: accuracy, and macro-F1, in which a rare class counts as much as a common."""

    best_by, maximise = "accuracy", True

    @torch.no_grad()
    def confusion(self, part: Part) -> Tensor:
        """Counts (classes, classes), true class by row."""
        logits, labels = zip(*((self.model(x), y) for x, y in self.evaluation(part)), strict=True)
        guess = torch.cat(logits)
        return confusion_matrix(torch.cat(labels), guess.argmax(1), guess.shape[1]).cpu()

    def scores(self, part: Part) -> dict[str, float]:
        confusion = self.confusion(part)
        return {"accuracy": accuracy(confusion), "macro_f1": macro_f1(confusion)}

"""The two things learned from names, as `fastrnn.tasks.training.fit` wants them: batches, loss and scores."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from fastrnn.tasks.batches import buckets, pack
from fastrnn.tasks.names.data import Encoded
from fastrnn.tasks.names.models import Classifier, Generator
from fastrnn.tasks.scores import accuracy, confusion_matrix, macro_f1
from fastrnn.tasks.training import Trainable

__all__ = ["TASKS", "ClassifierTask", "GeneratorTask"]

EVALUATION_BATCH = 512


class _NamesTask(Trainable):
    """What the two share: the parts encoded once, the order of an epoch, the batches of an evaluation.

    A batch of training is the numbers (B,) of its names, longest first.
    """

    name: str
    unit = "names"

    def __init__(self, model: nn.Module, parts: dict[str, Encoded], options: dict[str, Any]) -> None:
        self.model, self.parts = model, parts
        self.size, self.seed, self.device = options["batch_size"], options["seed"], options["device"]

    def batches(self, epoch: int) -> list[Tensor]:
        self.epoch = epoch
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        return buckets(self.parts["train"].lengths, self.size, generator)

    def batch(self, part: Encoded, index: Tensor, epoch: int | None = None) -> tuple[PackedSequence, Tensor]:
        """Packed input and its targets for the names in `index`, longest first."""
        raise NotImplementedError

    def evaluation(self, part: Encoded) -> list[tuple[PackedSequence, Tensor]]:
        return [self.batch(part, index) for index in buckets(part.lengths, EVALUATION_BATCH)]

    def count(self, batch: Tensor) -> int:
        return len(batch)

    def loss(self, batch: Tensor) -> Tensor:
        names, targets = self.batch(self.parts["train"], batch, self.epoch)
        return F.cross_entropy(self.model(names), targets)

    def validate(self) -> dict[str, float]:
        return self.scores(self.parts["valid"])

    def scores(self, part: Encoded) -> dict[str, float]:
        raise NotImplementedError


class ClassifierTask(_NamesTask):
    """Which class a name is of: accuracy, and macro-F1, in which a rare class counts as much as a common."""

    name, best_by, maximise = Classifier.name, "accuracy", True

    def batch(self, part: Encoded, index: Tensor, epoch: int | None = None) -> tuple[PackedSequence, Tensor]:
        padded, lengths, labels = part.pick(index, epoch)
        return pack(padded[:, 1:], lengths, self.device), labels.to(self.device)

    @torch.no_grad()
    def confusion(self, part: Encoded) -> Tensor:
        """Counts (classes, classes), true class by row."""
        logits, labels = zip(*((self.model(x), y) for x, y in self.evaluation(part)), strict=True)
        guess = torch.cat(logits)
        return confusion_matrix(torch.cat(labels), guess.argmax(1), guess.shape[1]).cpu()

    def scores(self, part: Encoded) -> dict[str, float]:
        confusion = self.confusion(part)
        return {"accuracy": accuracy(confusion), "macro_f1": macro_f1(confusion)}


class GeneratorTask(_NamesTask):
    """What character follows, given those before and the class: bits per character, the end being one."""

    name, best_by, maximise = Generator.name, "bits_per_character", False

    def batch(self, part: Encoded, index: Tensor, epoch: int | None = None) -> tuple[PackedSequence, Tensor]:
        padded, lengths, labels = part.pick(index, epoch)
        before, after = padded[:, :-1], padded[:, 1:]
        columns = torch.stack([before, labels.unsqueeze(1).expand_as(before), after], 2)
        packed = pack(columns, lengths + 1, self.device)
        return packed, packed.data[:, 2]

    def weight(self, batch: Tensor) -> int:
        return int((self.parts["train"].lengths[batch] + 1).sum())  # characters, and the end

    @torch.no_grad()
    def scores(self, part: Encoded) -> dict[str, float]:
        nats = sum(F.cross_entropy(self.model(x), y, reduction="sum").item() for x, y in self.evaluation(part))
        return {"bits_per_character": nats / math.log(2) / int((part.lengths + 1).sum())}


TASKS: dict[str, type[ClassifierTask] | type[GeneratorTask]] = {
    ClassifierTask.name: ClassifierTask,
    GeneratorTask.name: GeneratorTask,
}

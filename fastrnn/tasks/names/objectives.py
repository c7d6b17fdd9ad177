"""The two things learned from names, as `fastrnn.tasks.training.fit` wants them: batches, loss and scores."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from fastrnn.tasks.batches import pack
from fastrnn.tasks.examples import Classification, Examples
from fastrnn.tasks.names.data import Encoded
from fastrnn.tasks.names.models import Classifier, Generator

__all__ = ["TASKS", "ClassifierTask", "GeneratorTask"]


class ClassifierTask(Classification):
    """Which class a name is of."""

    name, unit = Classifier.name, "names"

    def batch(self, part: Encoded, index: Tensor, epoch: int | None = None) -> tuple[PackedSequence, Tensor]:
        padded, lengths, labels = part.pick(index, epoch)
        return pack(padded[:, 1:], lengths, self.device), labels.to(self.device)


class GeneratorTask(Examples):
    """What character follows, given those before and the class: bits per character, the end being one."""

    name, unit, best_by, maximise = Generator.name, "names", "bits_per_character", False

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

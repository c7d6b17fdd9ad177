"""Scores: of a classifier, from its confusion matrix; of a language model, from its loss."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["accuracy", "confusion_matrix", "macro_f1", "perplexity"]


def confusion_matrix(truth: Tensor, guess: Tensor, classes: int) -> Tensor:
    """Counts (classes, classes), int64: row the true class, column the predicted one.

    `truth` and `guess` are (N,) int64 class numbers.
    """
    return torch.bincount(truth * classes + guess, minlength=classes * classes).view(classes, classes)


def accuracy(confusion: Tensor) -> float:
    """The share of the examples on the diagonal."""
    return int(confusion.diagonal().sum()) / int(confusion.sum())


def macro_f1(confusion: Tensor) -> float:
    """The mean over classes of F1 = 2 TP / (2 TP + FP + FN), each class counting the same however rare.

    A class without a single true example has no F1 and is left out of the mean.
    """
    hits = confusion.diagonal().double()
    f1 = 2 * hits / (confusion.sum(0) + confusion.sum(1)).clamp(min=1)
    return f1[confusion.sum(1) > 0].mean().item()


def perplexity(nats: float) -> float:
    """e to the nats a token; infinite where a float cannot hold it."""
    try:
        return math.exp(nats)
    except OverflowError:
        return math.inf

"""The next token, drawn from a model's logits."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["draw"]


def draw(logits: Tensor, temperature: float, random: torch.Generator) -> int:
    """A number from softmax(logits / temperature), `logits` (N,); temperature 0 takes the likeliest."""
    if temperature == 0:
        return int(logits.argmax())
    logits = logits.double()
    weights = ((logits - logits.max()) / temperature).softmax(0)  # the largest is 0, so that no temperature overflows
    return int(torch.multinomial(weights, 1, generator=random))

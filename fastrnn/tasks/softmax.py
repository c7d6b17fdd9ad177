"""The output layer of a large vocabulary: the full softmax without its logits ever held whole, or an adaptive one.

With a vocabulary V of 18,000 words the output layer takes four fifths of a small language model's step, most of it
moving logits (N, V) in and out of memory: written, normalised, copied as probabilities, copied as gradients. Here a
chunk of rows is taken from logits to gradients while it is in the cache.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["AdaptiveSoftmax", "FullSoftmax", "linear_cross_entropy"]

CHUNK_ELEMENTS = 1 << 23
"""Logits of a chunk, 32 MiB in fp32: smaller ones cost more passes over the weight's gradient."""


class _LinearCrossEntropy(torch.autograd.Function):
    """Loss and gradients in one pass over chunks of rows: softmax minus one-hot is known as soon as the logits are."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, target: Tensor, dtype: torch.dtype,
                smoothing: float, learn: bool) -> Tensor:  # fmt: skip
        rows, vocabulary = len(hidden), len(weight)
        chunks = math.ceil(rows / max(1, CHUNK_ELEMENTS // vocabulary))
        size = math.ceil(rows / chunks)
        w, loss = weight.to(dtype), hidden.new_zeros((), dtype=torch.float32)
        d_hidden, d_weight, d_bias = (torch.empty_like(tensor) for tensor in (hidden, weight, bias))
        for start in range(0, rows, size):
            span = slice(start, start + size)
            x, index = hidden[span].to(dtype), target[span].unsqueeze(1)
            logits = torch.addmm(bias.to(dtype), x, w.t())  # (n, V)
            probability = logits.softmax(1)
            # log Z from the greatest term, the one that cannot have been rounded to nothing
            normaliser = logits.amax(1).float() - probability.amax(1).float().log()
            loss += (normaliser - (1 - smoothing) * logits.gather(1, index).squeeze(1)).sum()
            if not learn:
                continue
            gradient = probability.scatter_add_(1, index, probability.new_full(index.shape, smoothing - 1.0))
            ones = torch.full((1, len(x)), 1 / rows, dtype=dtype, device=x.device)
            d_hidden[span] = gradient @ w
            if start == 0:
                d_weight.copy_(gradient.t() @ (x / rows))
                d_bias.copy_((ones @ gradient).squeeze(0))
            elif dtype == d_weight.dtype:
                d_weight.addmm_(gradient.t(), x, alpha=1 / rows)
                d_bias += (ones @ gradient).squeeze(0)
            else:
                d_weight += gradient.t() @ (x / rows)
                d_bias += (ones @ gradient).squeeze(0)
        if smoothing:  # a term that is linear in the logits: their mean over the vocabulary, needed only in sum
            share, mean = smoothing / vocabulary, weight.mean(0)
            loss -= smoothing * ((hidden @ mean).sum() + rows * bias.mean())
            if learn:
                d_hidden -= smoothing * mean
                d_weight -= share * hidden.mean(0)
                d_bias -= share
        if learn:
            ctx.gradients = d_hidden.div_(rows), d_weight, d_bias
        return loss / rows

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError("linear_cross_entropy: backward a second time; its gradients were given away")
        if grad.device.type != "cpu" or grad.item() != 1:
            gradients = tuple(gradient.mul_(grad) for gradient in gradients)
        return (*gradients, None, None, None, None)


def linear_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor, target: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """`F.cross_entropy(F.linear(hidden, weight, bias), target)` without holding the logits (N, V) at once.

    `hidden` (N, H), `weight` (V, H), `bias` (V,) in fp32, `target` (N,) int64; a scalar. Under autocast the products
    are made in its dtype and everything else in fp32. Differentiable once: the gradients are computed beside the loss.
    """
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
    with torch.autocast(kind, enabled=False):
        learn = torch.is_grad_enabled()
        return _LinearCrossEntropy.apply(hidden.float(), weight, bias, target, dtype, label_smoothing, learn)


class FullSoftmax(nn.Module):
    """A score for every word: `weight` (V, H), which may be the embedding's, and `bias` (V,)."""

    def __init__(self, input_size: int, vocabulary: int, weight: Tensor | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocabulary, input_size)) if weight is None else weight
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        if weight is None:
            nn.init.uniform_(self.weight, -0.1, 0.1)

    def forward(self, hidden: Tensor, target: Tensor) -> Tensor:
        """Mean negative log-likelihood of `target` (N,) given `hidden` (N, H)."""
        return linear_cross_entropy(hidden, self.weight, self.bias, target)

    def log_prob(self, hidden: Tensor) -> Tensor:
        """Log-probabilities (N, V)."""
        return nn.functional.linear(hidden, self.weight, self.bias).log_softmax(1)


class AdaptiveSoftmax(nn.Module):
    """The adaptive softmax (Grave et al. 2017): frequent words at once, rare ones in clusters of ever fewer
    dimensions. Words are to be numbered by frequency."""

    def __init__(self, input_size: int, vocabulary: int) -> None:
        super().__init__()
        cutoffs = [cut for cut in (vocabulary // 16, vocabulary // 4) if cut > 0] or [1]
        self.softmax = nn.AdaptiveLogSoftmaxWithLoss(input_size, vocabulary, cutoffs, div_value=4.0)

    def forward(self, hidden: Tensor, target: Tensor) -> Tensor:
        """Mean negative log-likelihood of `target` (N,) given `hidden` (N, H)."""
        return self.softmax(hidden, target).loss

    def log_prob(self, hidden: Tensor) -> Tensor:
        """Log-probabilities (N, V)."""
        return self.softmax.log_prob(hidden)

"""Decoding: the likeliest target a model can find for each source, one word a step, many sentences at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from fastrnn.tasks.translate.models import Translator
from fastrnn.tasks.translate.vocabulary import END, START, UNKNOWN

__all__ = ["Hypothesis", "beam_search"]


@dataclass(frozen=True)
class Hypothesis:
    """A target: its word numbers without END, its log-probability with END, and, with attention, the weights
    (words + 1, source tokens) that each word and END gave to the source."""

    numbers: list[int]
    score: float
    weights: Tensor | None


@torch.no_grad()
def beam_search(
    model: Translator, sources: PackedSequence, *, width: int, penalty: float = 1.0, longest: int = 100,
    forbidden: tuple[int, ...] = (UNKNOWN, START),
) -> list[Hypothesis]:  # fmt: skip
    """The best hypothesis for each of the B sources (longest first), among `width` followed at once; 1 is greedy.

    Hypotheses are compared by log-probability / length^penalty, with END in the length (Wu et al. 2016, simplified);
    one that has ended stays among the `width` and waits. The search ends when all have ended, or after `longest`
    words. Words in `forbidden` are not written: one never learned has no spelling.
    """
    device = sources.data.device
    count = int(sources.batch_sizes[0])
    memory, states = model.encode(sources)
    beams = torch.arange(count, device=device).repeat_interleave(width)
    if memory is not None:
        memory = memory.pick(beams)
    states = _pick(states, beams)
    first = torch.arange(count, device=device).unsqueeze(1) * width  # each source's first row
    score = torch.full((count, width), -torch.inf, device=device)
    score[:, 0] = 0.0  # the rows of a source are the same before the first word: one counts
    token = torch.full((count * width,), START, device=device)
    ended, length = torch.zeros_like(token, dtype=torch.bool), torch.zeros_like(token)
    words: list[Tensor] = []
    looks: list[Tensor] = []
    parents: list[Tensor] = []
    for _ in range(longest + 1):
        last = len(words) == longest
        logits, states, weights = model.step(memory, states, token)
        logits = logits.float().log_softmax(1)
        logits[:, list(forbidden)] = -torch.inf
        if last:  # no more room: END it is
            logits[:, :END] = logits[:, END + 1 :] = -torch.inf
        logits[ended] = -torch.inf
        logits[ended, END] = 0.0  # an ended one goes on as it is
        length = length + ~ended
        total = score.view(-1, 1) + logits
        ranked = (total / length.unsqueeze(1).to(total.dtype) ** penalty).view(count, -1)
        chosen = ranked.topk(width, 1).indices
        vocabulary = logits.shape[1]
        parent = (first + chosen // vocabulary).flatten()
        score = total.view(count, -1).gather(1, chosen)
        token = (chosen % vocabulary).flatten()
        states, length, ended = _pick(states, parent), length[parent], ended[parent] | (token == END)
        words.append(token)
        parents.append(parent)
        if weights is not None:
            looks.append(weights)
        if bool(ended.all()):
            break
    best = ((score / length.view(count, width) ** penalty).argmax(1) + first[:, 0]).tolist()
    return [_traced(row, float(score.view(-1)[row]), words, parents, looks) for row in best]


def _pick(states: Any, index: Tensor) -> Any:
    """The states of the rows in `index`: of tensors (1, B, H), in tuples, or None."""
    if isinstance(states, tuple):
        return tuple(_pick(part, index) for part in states)
    return None if states is None else states.index_select(1, index)


def _traced(row: int, score: float, words: list[Tensor], parents: list[Tensor], looks: list[Tensor]) -> Hypothesis:
    """The hypothesis that ends in `row`, followed back to its start."""
    numbers, weights = [], []
    for step in reversed(range(len(words))):
        numbers.append(int(words[step][row]))
        row = int(parents[step][row])
        if looks:
            weights.append(looks[step][row])
    numbers.reverse()
    weights.reverse()
    end = numbers.index(END) if END in numbers else len(numbers)
    return Hypothesis(numbers[:end], score, torch.stack(weights[: end + 1]).cpu() if weights else None)

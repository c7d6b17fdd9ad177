"""The nets and sentences that are looked into: small ones trained on the spot, or a RUN's."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from fastrnn.tasks.batches import buckets, pack, rows
from fastrnn.tasks.errors import UserError
from fastrnn.tasks.layers import recurrent
from fastrnn.tasks.lm.corpus import END, UNKNOWN, Dictionary
from fastrnn.tasks.lm.predict import load as load_lm
from fastrnn.tasks.lm.sources import cut
from fastrnn.tasks.names import predict
from fastrnn.tasks.names.data import EDGE, Alphabet, Encoded
from fastrnn.tasks.names.models import Classifier, Generator
from fastrnn.tasks.news.commands import load
from fastrnn.tasks.news.data import read_split, words_of
from fastrnn.tasks.recipes import AdamW
from fastrnn.tasks.run import Run

__all__ = ["Reader", "from_run", "train_small"]

BATCH = 16


@dataclass(frozen=True)
class Reader:
    """A trained recurrent layer and what it reads: `x` (T, 1, I) are the vectors of `symbols`, T texts. `number`
    is the layer of the stack to look into, from 0."""

    cell: str
    layer: nn.RNNBase
    x: Tensor
    symbols: list[str]
    number: int = 0

    @property
    def rotation(self) -> int:
        """Degrees by which the symbols are turned under a picture: words need it, characters do not."""
        return 90 if max(map(len, self.symbols)) > 1 else 0


class _Small(nn.Module):
    def __init__(self, cell: str, characters: int, hidden: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, 16)
        self.rnn = recurrent("fastrnn", cell, 16, hidden)
        self.output = nn.Linear(hidden, characters)


def train_small(
    sentence: str, *, hidden: int, epochs: int, seed: int, lines: list[str] | None = None
) -> tuple[list[Reader], dict[str, float]]:
    """An Elman, a GRU and an LSTM language model of the characters of `lines`, reading `sentence`.

    The lines are the built-in headlines unless given. Also gives each net's bits per character over its last
    epoch: how well it knows these lines, not new ones. A character they lack is read as the unknown one.
    """
    if not sentence:
        raise UserError("the sentence is empty")
    lines = lines or [headline.title for headline in read_split("builtin")["train"]]
    alphabet = Alphabet.of([(line, 0) for line in lines])
    text = Encoded.of([(line, 0) for line in lines], alphabet)
    recipe = AdamW(epochs, lr=1e-2)
    readers, bits = [], {}
    for cell in ("rnn", "gru", "lstm"):
        torch.manual_seed(seed)
        model, generator = _Small(cell, len(alphabet), hidden), torch.Generator().manual_seed(seed)
        optimizer = recipe.optimizer(model)
        steps, total, count = -(-len(lines) // BATCH), 0.0, 0
        batches = [batch for _ in range(epochs) for batch in buckets(text.lengths, BATCH, generator)]
        with tqdm(batches, desc=f"learning: {cell}", unit=" steps", leave=False, disable=None) as bar:
            for step, index in enumerate(bar):
                for group in optimizer.param_groups:
                    group["lr"] = recipe.lr_at(step, len(batches))
                padded, lengths, _ = text.pick(index)
                x, y = pack(padded[:, :-1], lengths + 1), pack(padded[:, 1:], lengths + 1)
                hidden_states, _ = model.rnn(rows(x, model.embedding(x.data)))
                loss = F.cross_entropy(model.output(hidden_states.data), y.data)
                recipe.update(model, optimizer, loss)
                total, count = (total + loss.item(), count + 1) if len(batches) - step <= steps else (0.0, 0)
        bits[cell] = total / count / math.log(2)
        with torch.no_grad():
            x = model.embedding(torch.tensor([EDGE, *alphabet.encode(sentence)])).unsqueeze(1)
        readers.append(Reader(cell, model.rnn, x, ["^", *sentence]))
    return readers, bits


def from_run(path: Path, sentence: str, klass: str | None, layer: int) -> Reader:
    """The net of a names, news or lm run reading `sentence`; `layer` counts from 1.

    A names run's classifier is looked into, or, with `klass`, its generator of that class. A news run's net reads
    words, an lm run's its tokens.
    """
    if not sentence:
        raise UserError("the sentence is empty")
    run = Run.open(path, None)
    options, number = run.config["options"], layer - 1
    if layer > options["layers"]:
        raise UserError(f"{path} has {options['layers']} layers: --layer {layer} is not there")
    with torch.no_grad():
        model, x, symbols = _SOURCES.get(run.config["task"], _no_source)(run, sentence, klass)
    return Reader(options["cell"], model.rnn, x.unsqueeze(1), symbols, number)


def _no_source(run: Run, sentence: str, klass: str | None) -> Any:
    known = ", ".join(_SOURCES)
    raise UserError(f"{run.path} is a run of the task {run.config['task']}; probe looks into those of {known}")


def _names(run: Run, sentence: str, klass: str | None) -> tuple[Any, Tensor, list[str]]:
    alphabet = predict.alphabet_of(run)
    if klass is None:
        model: Any = predict.load(run, Classifier)
        return model, model.embedding(torch.tensor(alphabet.encode(sentence))), list(sentence)
    classes = run.config["classes"]
    if klass not in classes:
        raise UserError(f"unknown class {klass}: {run.path} knows {', '.join(classes)}")
    model = predict.load(run, Generator)
    characters = torch.tensor([EDGE, *alphabet.encode(sentence)])
    return model, model.inputs(characters, torch.full_like(characters, classes.index(klass))), ["^", *sentence]


def _news(run: Run, sentence: str, klass: str | None) -> tuple[Any, Tensor, list[str]]:
    model, dictionary = load(run)
    words = words_of(sentence)
    if not words:
        raise UserError(f"{sentence!r:.60} has no word of the letters a to z")
    return model, model.embedding(torch.tensor(dictionary.ids(words))), words


def _lm(run: Run, sentence: str, klass: str | None) -> tuple[Any, Tensor, list[str]]:
    tokens = cut(sentence, run.config["options"]["level"], run.config["language"])
    dictionary, model = Dictionary(run.config["words"]), load_lm(run)
    numbers = [dictionary.numbers.get(token, dictionary.numbers[UNKNOWN]) for token in tokens]
    return model, model.embedding(torch.tensor([dictionary.numbers[END], *numbers])), ["^", *tokens]


_SOURCES: dict[str, Callable[[Run, str, str | None], tuple[Any, Tensor, list[str]]]] = {
    "names": _names,
    "news": _news,
    "lm": _lm,
}

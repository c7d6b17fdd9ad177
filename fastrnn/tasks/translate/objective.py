"""What the translator learns from, as `fastrnn.tasks.training.fit` wants it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from fastrnn.tasks.batches import buckets, rows
from fastrnn.tasks.scores import perplexity
from fastrnn.tasks.training import Trainable
from fastrnn.tasks.translate.batches import Encoded, Sentences, pack_sources
from fastrnn.tasks.translate.data import Example, Split, examples
from fastrnn.tasks.translate.decode import Hypothesis, beam_search
from fastrnn.tasks.translate.models import Target, Translator
from fastrnn.tasks.translate.quality import quality
from fastrnn.tasks.translate.vocabulary import side_of

__all__ = ["Languages", "TranslationTask", "translate"]

DECODED_AT_ONCE = 64
VALIDATED = 500
"""Validation sentences that are translated after each epoch, evenly spread over them; the loss is that of all."""


class Languages:
    """The two sides of a run: its direction and vocabularies, as its configuration holds them."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.direction: str = config["options"]["direction"]
        self.source, self.target = map(side_of, config["vocabularies"])

    @property
    def written(self) -> str:
        """The target's language."""
        return self.direction.partition("-")[2]

    def encode(self, pairs: Sequence[tuple[str, str]], limit: int | None = None) -> Encoded:
        """(English, Japanese) pairs as numbers; with a limit, those alone whose sides both have no more words."""
        if self.direction == "ja-en":
            pairs = [(japanese, english) for english, japanese in pairs]
        both = [(self.source.tokens(a), self.target.tokens(b)) for a, b in pairs]
        kept = [pair for pair in both if limit is None or max(map(len, pair)) <= limit]
        return Encoded(
            Sentences.of([self.source.encode(a) for a, _ in kept]),
            Sentences.of([self.target.encode(b) for _, b in kept]),
        )


def translate(
    model: Translator, languages: Languages, sentences: Sequence[str], *, width: int, penalty: float,
) -> list[Hypothesis]:  # fmt: skip
    """A hypothesis for each sentence, in their order."""
    sources = Sentences.of([languages.source.encode(languages.source.tokens(text)) for text in sentences])
    found: list[Hypothesis] = [Hypothesis([], 0.0, None)] * len(sentences)
    device = model.bias.device
    for index in buckets(sources.lengths, DECODED_AT_ONCE):
        packed = pack_sources(sources, index, device, backwards=not model.attention)
        longest = 10 + 3 * int(sources.lengths[index[0]])
        for number, hypothesis in zip(
            index.tolist(), beam_search(model, packed, width=width, penalty=penalty, longest=longest), strict=True
        ):
            found[number] = hypothesis
    return found


class TranslationTask(Trainable):
    """Which word follows, given the source and the target's words before it. A batch is the numbers (B,) of its
    pairs, longest source first."""

    name, unit, best_by, maximise = "translator", "tokens", "bleu", True

    def __init__(
        self, model: Translator, languages: Languages, parts: dict[str, Encoded], split: Split, options: dict[str, Any]
    ) -> None:
        self.model: Translator = model
        self.languages, self.parts, self.split = languages, parts, split
        self.options, self.device = options, options["device"]
        self.epoch = 0

    def batches(self, epoch: int) -> list[Tensor]:
        self.epoch = epoch
        generator = torch.Generator().manual_seed(self.options["seed"] * 1_000_003 + epoch)
        return buckets(self.parts["train"].order, self.options["batch_size"], generator)

    def count(self, batch: Tensor) -> int:
        return int(self.parts["train"].targets.lengths[batch].sum())

    def loss(self, batch: Tensor) -> Tensor:
        source, target, words = self._tensors("train", batch)
        share = self.options["scheduled_sampling"] * self.epoch / max(1, self.options["epochs"] - 1)
        if share:
            target = self._sampled(source, target, share)
        return self.model.loss(self.model(source, target), words, self.options["label_smoothing"])

    def _tensors(self, part: str, index: Tensor) -> tuple[PackedSequence, Target, Tensor]:
        return self.parts[part].batch(index, self.device, backwards=not self.model.attention)

    @torch.no_grad()
    def _sampled(self, source: PackedSequence, target: Target, share: float) -> Target:
        """`target` with a `share` of the words put in replaced by the model's own guess at them (Bengio et al. 2015).

        The guesses of all steps come from one pass over the true target (Mihaylova & Martins 2019), so that the
        recurrent layers still run over the whole target in one call, twice.
        """
        guesses = self.model.score(self.model(source, target)).argmax(1)
        packed = target.read
        first, sizes = int(packed.batch_sizes[0]), packed.batch_sizes
        before = torch.arange(first, len(guesses)) - torch.repeat_interleave(sizes[:-1], sizes[1:])
        own = guesses[before.to(guesses.device)]
        drawn = torch.rand(len(own)).to(own.device) < share
        read = torch.cat([packed.data[:first], torch.where(drawn, own, packed.data[first:])])
        return target._replace(read=rows(packed, read))

    # ---- how good it is ------------------------------------------------------------------------------------------
    def validate(self) -> dict[str, float]:
        valid = examples(self.split.valid, self.languages.direction)
        some = valid[:: max(1, len(valid) // VALIDATED)]
        bleu = self.scores(some, width=1)["bleu"]
        return {"loss": self.mean_loss("valid"), "bleu": bleu}

    @torch.no_grad()
    def mean_loss(self, part: str) -> float:
        """Nats a word, END included, without smoothing."""
        encoded, nats = self.parts[part], 0.0
        for index in buckets(encoded.order, self.options["batch_size"]):
            source, target, words = self._tensors(part, index)
            nats += self.model.loss(self.model(source, target), words).item() * len(words)
        return nats / int(encoded.targets.lengths.sum())

    def scores(self, asked: Sequence[Example], width: int) -> dict[str, float]:
        found = translate(
            self.model, self.languages, [e.source for e in asked], width=width, penalty=self.options["length_penalty"]
        )
        written = [self.languages.target.decode(hypothesis.numbers) for hypothesis in found]
        return quality(written, [example.references for example in asked], self.languages.written)

    def test(self, width: int) -> dict[str, float]:
        """Perplexity a word, BLEU and chrF of the test part."""
        asked = examples(self.split.test, self.languages.direction)
        return {"perplexity": perplexity(self.mean_loss("test")), **self.scores(asked, width)}

"""Sentences to numbers and back, for one side of a translation: by words or characters, or by pieces of words."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from fastrnn.tasks.errors import UserError
from fastrnn.tasks.tokenise import detokenise, tokenise

__all__ = ["END", "START", "UNKNOWN", "Pieces", "Side", "Vocabulary", "side_of"]

UNKNOWN, START, END = 0, 1, 2
"""Numbers that are no words: one never learned, a target's start, and the end of either side. There is none for
padding: sentences are packed, and what stands behind an end in a padded tensor is read by no one."""

_SPECIAL = ("<unk>", "<s>", "</s>")


class Vocabulary:
    """Words to numbers. Made of the training sentences only, for what others hold must stay unknown."""

    def __init__(self, words: Sequence[str], language: str) -> None:
        """`words` are numbered from 3 in order; `language` is one of `tokenise.LANGUAGES`."""
        self.words, self.language = list(words), language
        self._numbers = {word: number for number, word in enumerate(self.words, len(_SPECIAL))}

    @classmethod
    def of(cls, sentences: Iterable[str], language: str, least: int = 2) -> Vocabulary:
        """Of the words seen `least` times, the most frequent first, those alike by their spelling."""
        counts = Counter(token for sentence in sentences for token in tokenise(sentence, language))
        kept = [word for word, count in counts.items() if count >= least]
        return cls(sorted(kept, key=lambda word: (-counts[word], word)), language)

    def __len__(self) -> int:
        return len(self.words) + len(_SPECIAL)

    def config(self) -> dict[str, Any]:
        """What `side_of` makes the vocabulary of."""
        return {"tokens": self.language, "words": self.words}

    def tokens(self, sentence: str) -> list[str]:
        return tokenise(sentence, self.language)

    def encode(self, tokens: Sequence[str]) -> list[int]:
        """The tokens' numbers and END."""
        return [*(self._numbers.get(token, UNKNOWN) for token in tokens), END]

    def unknown(self, tokens: Sequence[str]) -> list[str]:
        """Those never learned, each once."""
        return [token for token in dict.fromkeys(tokens) if token not in self._numbers]

    def word(self, number: int) -> str:
        return (*_SPECIAL, "")[number] if number < len(_SPECIAL) else self.words[number - len(_SPECIAL)]

    def decode(self, numbers: Iterable[int]) -> str:
        """The sentence; END and START are left out."""
        return detokenise([self.word(n) for n in numbers if n not in (START, END)], self.language)


class Pieces:
    """Pieces of words to numbers (Kudo 2018, a unigram model by sentencepiece): frequent words are one piece, rare ones
    several, and a sentence needs no dictionary to be split. To be used as `Vocabulary` is."""

    def __init__(self, model: str) -> None:
        """`model` is sentencepiece's own, in base64."""
        self.model = model
        self._pieces = _sentencepiece().SentencePieceProcessor(model_proto=base64.b64decode(model))

    @classmethod
    def of(cls, sentences: Iterable[str], size: int, coverage: float = 1.0) -> Pieces:
        """`size` pieces, or as many as the sentences give; `coverage` is the share of characters that are kept.

        Raises `UserError` where `size` is too small for them.
        """
        model = io.BytesIO()
        try:
            _sentencepiece().SentencePieceTrainer.train(
                sentence_iterator=iter(sentences), model_writer=model, vocab_size=size, hard_vocab_limit=False,
                unk_id=UNKNOWN, bos_id=START, eos_id=END, character_coverage=coverage, num_threads=1,
                normalization_rule_name="identity", minloglevel=2,
            )  # fmt: skip
        except RuntimeError as error:
            reason = str(error).rpartition("] ")[2].partition(". ")[0]
            raise UserError(f"--pieces {size} do not fit these sentences: {reason}") from error
        return cls(base64.b64encode(model.getvalue()).decode())

    def __len__(self) -> int:
        return len(self._pieces)

    def config(self) -> dict[str, Any]:
        return {"tokens": "piece", "model": self.model}

    def tokens(self, sentence: str) -> list[str]:
        return self._pieces.encode(sentence, out_type=str)

    def encode(self, tokens: Sequence[str]) -> list[int]:
        return [*self._pieces.piece_to_id(list(tokens)), END]

    def unknown(self, tokens: Sequence[str]) -> list[str]:
        return [token for token in dict.fromkeys(tokens) if self._pieces.piece_to_id(token) == UNKNOWN]

    def word(self, number: int) -> str:
        return self._pieces.id_to_piece(number)

    def decode(self, numbers: Iterable[int]) -> str:
        return self._pieces.decode([number for number in numbers if number not in (START, END)])


Side = Vocabulary | Pieces


def side_of(config: dict[str, Any]) -> Side:
    """The vocabulary that a configuration describes."""
    return Pieces(config["model"]) if config["tokens"] == "piece" else Vocabulary(config["words"], config["tokens"])


def _sentencepiece() -> Any:
    try:
        import sentencepiece
    except ImportError as error:
        raise UserError('pieces of words need sentencepiece: pip install "fastrnn[pieces]"') from error
    return sentencepiece

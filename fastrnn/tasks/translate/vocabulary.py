"""Sentences to numbers and back, for one side of a translation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from fastrnn.tasks.tokenise import detokenise, tokenise

__all__ = ["END", "START", "UNKNOWN", "Vocabulary"]

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

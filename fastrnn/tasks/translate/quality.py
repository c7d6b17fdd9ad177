"""BLEU (Papineni et al. 2002) and chrF (Popović 2015), by sacrebleu, with every reference there is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sacrebleu.metrics import BLEU, CHRF

from fastrnn.tasks.tokenise import has_dictionary, tokenise

__all__ = ["quality"]


def quality(written: Sequence[str], references: Sequence[Sequence[str]], language: str) -> dict[str, float]:
    """Scores of the sentences `written`, each beside its `references` (at least one), in `language` en or ja.

    `bleu` is on sacrebleu's 13a tokens for English and on characters for Japanese, where `bleu_words` is on UniDic's
    words if the dictionary is installed; `chrf` is chrF2 on characters. All from 0 to 100, as cased as the text is.
    """
    most = max(map(len, references))
    columns: list[Any] = [[refs[n] if n < len(refs) else None for refs in references] for n in range(most)]
    if language == "en":
        scores = {"bleu": BLEU().corpus_score(written, columns).score}
    else:
        scores = {"bleu": BLEU(tokenize="char").corpus_score(written, columns).score}
        if has_dictionary():
            words = [[_words(text) for text in column] for column in columns]
            scores["bleu_words"] = BLEU(tokenize="none").corpus_score([_words(text) for text in written], words).score
    scores["chrf"] = CHRF().corpus_score(written, columns).score
    return scores


def _words(text: Any) -> Any:
    return text and " ".join(tokenise(text, "ja"))

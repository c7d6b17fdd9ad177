"""Text to tokens and back: Japanese words by a dictionary (MeCab, Kudo et al. 2004, with UniDic), English words and
marks, or characters."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from typing import Any

from fastrnn.tasks.errors import UserError

__all__ = ["LANGUAGES", "detokenise", "has_dictionary", "resolve", "tokenise"]

LANGUAGES = ("ja", "en", "char")

_ENGLISH = re.compile(r"[^\W_]+(?:['’.-][^\W_]+)*|\S")  # don't, U.S, well-known, 3.14 are one token; a mark is one
_NO_SPACE_BEFORE = re.compile(r" (?=[.,;:!?%)\]}’”…])")
_NO_SPACE_AFTER = re.compile(r"(?<=[(\[{$£¥“‘]) ")
_QUOTED = re.compile(r'" ([^"]*) "')
_LATIN = re.compile(r"[A-Za-z0-9]")


def has_dictionary() -> bool:
    """Whether Japanese can be split into words: fugashi and unidic-lite are installed."""
    return find_spec("fugashi") is not None and find_spec("unidic_lite") is not None


def resolve(language: str) -> str:
    """`language`, or `char` for Japanese where no dictionary is installed. What a run keeps in its configuration,
    so that it is used with the tokens it was trained on."""
    return "char" if language == "ja" and not has_dictionary() else language


@cache
def _tagger() -> Any:
    if not has_dictionary():
        raise UserError('splitting Japanese into words needs fugashi and unidic-lite: pip install "fastrnn[japanese]"')
    import fugashi
    import unidic_lite

    return fugashi.Tagger(f'-Owakati -d "{unidic_lite.DICDIR}" -r "{unidic_lite.DICDIR}/dicrc"')


def tokenise(text: str, language: str) -> list[str]:
    """The tokens of one sentence: `ja` words, `en` words and marks, `char` characters. White space is dropped."""
    if language == "ja":
        return _tagger().parse(text).split() if text.strip() else []
    if language == "en":
        return _ENGLISH.findall(text)
    return [character for character in text if not character.isspace()]


def detokenise(tokens: list[str], language: str) -> str:
    """The sentence of the tokens. The spaces of English are put where they are usual; in Japanese and between
    characters there are none, save between two Latin words of Japanese text."""
    if language == "en":
        text = _QUOTED.sub(r'"\1"', " ".join(tokens))
        return _NO_SPACE_AFTER.sub("", _NO_SPACE_BEFORE.sub("", text))
    if language == "char":
        return "".join(tokens)
    text = ""
    for token in tokens:
        text += " " * bool(text and _LATIN.match(text[-1]) and _LATIN.match(token)) + token
    return text

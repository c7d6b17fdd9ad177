"""Where a language model's text comes from: files, or the built-in grammar; and how it is cut into tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fastrnn.tasks.errors import UserError
from fastrnn.tasks.lm.corpus import END, UNKNOWN, Dictionary
from fastrnn.tasks.lm.grammar import japanese
from fastrnn.tasks.text import read_lines
from fastrnn.tasks.tokenise import detokenise, resolve, tokenise

__all__ = ["BUILTIN_TOKENS", "Corpus", "Part", "cut", "join", "load", "read_part"]

BUILTIN_TOKENS = {"train": 150_000, "valid": 15_000, "test": 30_000}
"""Tokens of the built-in text, drawn from the grammar with seeds 1, 2 and 3."""

KANA = (0x3041, 0x30FF)


@dataclass(frozen=True)
class Part:
    """A part of the text: numbers (tokens,) int64, its characters (a line's end is one), and −ln of its true
    probability where that is known."""

    numbers: Tensor
    characters: int
    nats: float | None = None


@dataclass(frozen=True)
class Corpus:
    """The text of a run. `test` is None where there is none but what validates."""

    dictionary: Dictionary
    train: Part
    valid: Part
    test: Part | None


def cut(line: str, level: str, language: str) -> list[str]:
    """The tokens of a line without its end: words of the language, characters, or bytes in hexadecimal."""
    if level == "byte":
        return [f"{byte:02x}" for byte in line.strip().encode()]
    if level == "char":
        return list(line.strip())
    return line.split() if language == "spaces" else tokenise(line, language)


def join(tokens: Sequence[str], level: str, language: str) -> str:
    """The text of tokens, END being a new line."""
    if level == "byte":
        return bytes(10 if token == END else int(token, 16) for token in tokens).decode(errors="replace")
    lines: list[list[str]] = [[]]
    for token in tokens:
        if token == END:
            lines.append([])
        else:
            lines[-1].append(token)
    if level == "char":
        return "\n".join(map("".join, lines))
    return "\n".join(" ".join(line) if language == "spaces" else detokenise(line, language) for line in lines)


def _language(lines: list[str]) -> str:
    """Japanese where one character in ten is kana, and words between spaces otherwise."""
    text = "".join(lines[:2000])
    kana = sum(KANA[0] <= ord(character) <= KANA[1] for character in text)
    return resolve("ja") if kana > len(text) / 10 else "spaces"


def _characters(lines: list[str], level: str, spaced: bool) -> int:
    """Characters of the lines as a model of words sees them: single spaces, or none in Japanese."""
    if level == "word" and not spaced:
        return sum(len("".join(line.split())) + 1 for line in lines)
    return sum(len(" ".join(line.split()) if level == "word" else line.strip()) + 1 for line in lines)


def _split(lines: list[str], file: str) -> dict[str, list[str]]:
    """One file: its last tenth for the test, the twentieth before for validation, the rest to train on."""
    test, valid = len(lines) - len(lines) // 10, len(lines) - len(lines) // 10 - len(lines) // 20
    if valid == test:
        raise UserError(f"{file} has {len(lines)} lines, too few to hold some out: give --valid")
    return {"train": lines[:valid], "valid": lines[valid:test], "test": lines[test:]}


def _texts(options: dict[str, Any]) -> tuple[dict[str, list[str]], dict[str, float]]:
    """The lines of each part, and the true −ln probabilities of those that have one."""
    if options["train"] is None:
        samples = {part: japanese().sample(seed, BUILTIN_TOKENS[part]) for seed, part in
                   enumerate(("train", "valid", "test"), 1)}  # fmt: skip
        space = " " if options["level"] == "word" else ""
        lines = {part: [space.join(line) for line in sample.lines] for part, sample in samples.items()}
        return lines, {part: sample.nats for part, sample in samples.items()}
    if options["valid"] is None:
        if options["test"] is not None:
            raise UserError("--test without --valid: give both, or neither to hold out a part of --train")
        return _split(read_lines(options["train"]), options["train"]), {}
    return {part: read_lines(options[part]) for part in ("train", "valid", "test") if options[part]}, {}


def load(options: dict[str, Any]) -> tuple[Corpus, dict[str, Any]]:
    """The text that the options name, and what a configuration holds of it. The dictionary is that of all parts, as
    in the course: the words are known, what follows what is not."""
    texts, nats = _texts(options)
    language = options["language"]
    if language == "auto":
        language = "spaces" if options["train"] is None else _language(texts["train"])
    tokens = {part: [cut(line, options["level"], language) for line in lines] for part, lines in texts.items()}
    dictionary = Dictionary.of(line for lines in tokens.values() for line in lines)
    spaced = options["train"] is not None and language in ("en", "spaces")
    digest, parts = hashlib.sha256(repr(dictionary.words).encode()), {}
    for part, lines in tokens.items():
        numbers = dictionary.encode(lines)
        digest.update(numbers.numpy().tobytes())
        parts[part] = Part(numbers, _characters(texts[part], options["level"], spaced), nats.get(part))
    if len(parts["train"].numbers) < 2 * options["batch_size"]:
        raise UserError(
            f"{len(parts['train'].numbers)} tokens to train on are too few for --batch-size {options['batch_size']}"
        )
    description = {"language": language, "spaced": spaced, "words": dictionary.words, "fingerprint": digest.hexdigest()}
    return Corpus(dictionary, parts["train"], parts["valid"], parts.get("test")), description


def read_part(file: str, config: dict[str, Any]) -> tuple[Part, int]:
    """A file as the run with this configuration reads it, and how many of its tokens are unknown to it."""
    level, language, dictionary = config["options"]["level"], config["language"], Dictionary(config["words"])
    lines = read_lines(file)
    numbers = dictionary.encode(cut(line, level, language) for line in lines)
    unknown = int((numbers == dictionary.numbers[UNKNOWN]).sum())
    return Part(numbers, _characters(lines, level, config["spaced"])), unknown

"""A data set small enough to train on in a test."""

import random
from pathlib import Path

# Three classes that share no character, so that a model of any size learns them in a few epochs.
LETTERS = {"down": "aeiou", "mid": "kstn", "up": "かきくけ"}
TRAIN = ("--hidden", "8", "--embedding", "8", "--batch-size", "16", "--threads", "1", "--no-compare")


def write_classes(folder: Path, count: int = 40) -> Path:
    folder.mkdir()
    for name, letters in LETTERS.items():
        draw = random.Random(name)
        words = {"".join(draw.choices(letters, k=draw.randint(2, 7))) for _ in range(3 * count)}
        (folder / f"{name}.txt").write_text("\n".join(sorted(words)[:count]) + "\n", "utf-8")
    return folder

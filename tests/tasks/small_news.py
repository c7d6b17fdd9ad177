"""Headlines few and plain enough to train on in a test."""

import random
from pathlib import Path

TRAIN = ("--hidden", "8", "--embedding", "8", "--batch-size", "16", "--threads", "1", "--no-compare")
WORDS = {
    "b": "bank stocks oil profit",
    "t": "phone robot chip app",
    "e": "film song star show",
    "m": "flu virus drug diet",
}


def line(number: int, title: str, category: str) -> str:
    return f"{number}\t{title}\thttps://x\tPress\t{category}\ts{number}\tx\t1\n"


def write_news(folder: Path) -> Path:
    folder.mkdir()
    for part, count in (("train", 24), ("valid", 6), ("test", 6)):
        draw, lines = random.Random(part), []
        for number in range(count):
            for category, words in WORDS.items():
                title = " ".join(draw.choices([*words.split(), "the", "and", "new"], k=draw.randint(2, 7)))
                lines.append(line(number, f"{words.split()[number % 4].title()} {title}", category))
        (folder / f"{part}.txt").write_text("".join(lines), "utf-8")
    return folder

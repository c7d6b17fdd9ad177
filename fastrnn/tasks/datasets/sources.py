"""The public sources: where each is, under which licence, and how its archive becomes what a task reads."""

from __future__ import annotations

import random
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fastrnn.tasks.errors import UserError
from fastrnn.tasks.run import Run

__all__ = ["SOURCES", "Source"]


@dataclass(frozen=True)
class Source:
    """A public archive. `checksum` is `algorithm:hex`, or None where none is known ahead: it is then recorded when
    fetched. `size` is in bytes, None likewise. `prepare(archive, folder)` writes what the task reads and gives the
    command to go on with."""

    title: str
    url: str
    licence: str
    checksum: str | None
    size: int | None
    prepare: Callable[[zipfile.ZipFile, Run], str]


def _member(archive: zipfile.ZipFile, end: str) -> str:
    """The one file of the archive whose path ends so, as text. UTF-8."""
    names = [name for name in archive.namelist() if name.endswith(end)]
    if not names:
        raise UserError(f"{archive.filename} holds no {end}: is it another archive?")
    return archive.read(names[0]).decode("utf-8")


def _names(archive: zipfile.ZipFile, folder: Run) -> str:
    files = [name for name in archive.namelist() if re.search(r"(^|/)names/[^/.]+\.txt$", name)]
    if not files:
        raise UserError(f"{archive.filename} holds no names/*.txt: is it another archive?")
    for name in files:
        folder.write_bytes(Path(name).name, archive.read(name))
    return "fastrnn names train --data {folder}"


def _jpn(archive: zipfile.ZipFile, folder: Run) -> str:
    folder.write_bytes("jpn.txt", _member(archive, "jpn.txt").encode())
    return "fastrnn translate train --data {folder}/jpn.txt"


PUBLISHERS = ("Reuters", "Huffington Post", "Businessweek", "Contactmusic.com", "Daily Mail")


def _news(archive: zipfile.ZipFile, folder: Run) -> str:
    """The lines of five publishers, shuffled by `random.Random(0)`, 80/10/10 (exercise 50)."""
    lines = _member(archive, "newsCorpora.csv").splitlines()
    chosen = [line for line in lines if (columns := line.split("\t"))[3:4] and columns[3] in PUBLISHERS]
    random.Random(0).shuffle(chosen)
    a, b = int(0.8 * len(chosen)), int(0.9 * len(chosen))
    for part, rows in (("train", chosen[:a]), ("valid", chosen[a:b]), ("test", chosen[b:])):
        folder.write_bytes(f"{part}.txt", "".join(line + "\n" for line in rows).encode())
    return "fastrnn news train --data {folder}"


def _wikitext(archive: zipfile.ZipFile, folder: Run) -> str:
    for part in ("train", "valid", "test"):
        folder.write_bytes(f"{part}.txt", _member(archive, f"wiki.{part}.tokens").encode())
    return "fastrnn lm train --train {folder}/train.txt --valid {folder}/valid.txt --test {folder}/test.txt"


def plain(aozora: str) -> list[str]:
    """The sentences of a text in Aozora Bunko's notation: without readings, notes, head and colophon."""
    body = re.split(r"-{20,}\n", aozora.replace("\r\n", "\n"))[-1].split("\n底本：")[0]
    body = re.sub(r"《[^》]*》|［＃[^］]*］|｜", "", body)
    return [
        sentence
        for sentence in re.sub(r"(。[」』]?)(?!」)", r"\1\n", body.replace("\u3000", "")).split("\n")
        if sentence
    ]


def _neko(archive: zipfile.ZipFile, folder: Run) -> str:
    """A sentence a line; the last tenth is for validation."""
    texts = [name for name in archive.namelist() if name.endswith(".txt")]
    if not texts:
        raise UserError(f"{archive.filename} holds no text: is it another archive?")
    sentences = plain(archive.read(texts[0]).decode("cp932"))
    cut = len(sentences) * 9 // 10
    for part, rows in (("train", sentences[:cut]), ("valid", sentences[cut:])):
        folder.write_bytes(f"{part}.txt", "".join(line + "\n" for line in rows).encode())
    return "fastrnn lm train --train {folder}/train.txt --valid {folder}/valid.txt"


SOURCES = {
    "names": Source(
        "surnames of 18 languages, of PyTorch's character RNN tutorial",
        "https://download.pytorch.org/tutorial/data.zip", "none stated", None, None, _names,
    ),
    "jpn": Source(
        "Japanese and English sentences of Tatoeba, by manythings.org",
        "https://www.manythings.org/anki/jpn-eng.zip", "CC BY 2.0 FR", None, None, _jpn,
    ),
    "news": Source(
        "UCI News Aggregator: headlines of four kinds",
        "https://archive.ics.uci.edu/ml/machine-learning-databases/00359/NewsAggregatorDataset.zip",
        "CC BY 4.0", None, None, _news,
    ),
    "wikitext2": Source(
        "WikiText-2: good articles of Wikipedia (Merity et al. 2016)",
        "https://wikitext.smerity.com/wikitext-2-v1.zip", "CC BY-SA 3.0",
        "md5:542ccefacc6c27f945fb54453812b3cd", None, _wikitext,
    ),
    "neko": Source(
        "夏目漱石「吾輩は猫である」, Aozora Bunko",
        "https://www.aozora.gr.jp/cards/000148/files/789_ruby_5639.zip", "public domain", None, 350_404, _neko,
    ),
}  # fmt: skip

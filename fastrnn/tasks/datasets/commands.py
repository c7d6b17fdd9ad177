"""`fastrnn data list`, `fetch` and `check`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from fastrnn.tasks.datasets.fetch import fetch
from fastrnn.tasks.datasets.sources import SOURCES
from fastrnn.tasks.names.data import read_classes
from fastrnn.tasks.news.data import read_file, read_split
from fastrnn.tasks.options import Command, RunPath
from fastrnn.tasks.text import read_lines
from fastrnn.tasks.translate.data import read_pairs

__all__ = ["data"]


@click.group()
def data() -> None:
    """Public data for the tasks: listed, fetched, and files checked."""


data.command_class = Command


@data.command("list")
def list_() -> None:
    """The public sources with address, licence, size and checksum."""
    for name, source in SOURCES.items():
        size = f"{source.size:,} bytes" if source.size else "size not pinned"
        click.echo(f"{name}: {source.title}")
        click.echo(f"    {source.url}")
        click.echo(f"    licence: {source.licence};  {size};  checksum {source.checksum or 'not pinned'}")
    click.echo("not pinned: fetch records what came and holds to it from then on")


@data.command("fetch")
@click.argument("name", type=click.Choice(list(SOURCES)))
@click.option("--out", type=RunPath, metavar="DIR", help="Folder to put it in  [default: data/NAME]")
def fetch_(name: str, out: Path | None) -> None:
    """Download a public source and make it ready for its task. A broken download is continued by the next try."""
    command, record = fetch(SOURCES[name], out or Path("data") / name)
    click.echo(f"{record['bytes']:,} bytes, sha256 {record['sha256']}")
    click.echo(f"Go on with: {command}")


def _names(path: Path) -> str:
    classes = read_classes(str(path))
    return f"{sum(map(len, classes.values())):,} distinct names of {len(classes)} classes"


def _jpn(path: Path) -> str:
    return f"{len(read_pairs(str(path))):,} distinct sentence pairs"


def _news(path: Path) -> str:
    if not path.is_dir():
        return f"{len(read_file(path)):,} headlines"
    return ", ".join(f"{part} {len(headlines):,}" for part, headlines in read_split(str(path)).items()) + " headlines"


def _lm(path: Path) -> str:
    lines = read_lines(path)
    return f"{len(lines):,} lines, {sum(len(line.split()) for line in lines):,} words between spaces"


CHECKS: dict[str, Callable[[Path], str]] = {"names": _names, "jpn": _jpn, "news": _news, "lm": _lm}


@data.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--as", "kind", type=click.Choice(list(CHECKS)), required=True, help="What it should be.")
def check(path: Path, kind: str) -> None:
    """Read PATH as its task does: what is wrong is named with its line."""
    click.echo(f"{path}: {CHECKS[kind](path)}")

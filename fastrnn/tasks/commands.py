"""The root of the command line: `info`, and one group a task."""

from __future__ import annotations

import click

from fastrnn import info as info_
from fastrnn.tasks.datasets.commands import data
from fastrnn.tasks.lm.commands import lm
from fastrnn.tasks.names.commands import names
from fastrnn.tasks.news.commands import news
from fastrnn.tasks.probe.commands import probe
from fastrnn.tasks.translate.commands import translate_group

__all__ = ["cli"]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(info_.version(), prog_name="fastrnn")
def cli() -> None:
    """Recurrent networks on fused kernels: tasks to train, use and learn from."""


@cli.command()
def info() -> None:
    """Version, CPU instruction sets, threads, OpenMP, CUDA, torch."""
    info_.main()


cli.add_command(names)
cli.add_command(lm)
cli.add_command(news)
cli.add_command(probe)
cli.add_command(data)
cli.add_command(translate_group)

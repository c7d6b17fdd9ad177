"""What the commands of all tasks share: options of `train`, a run begun or resumed, and how errors end."""

from __future__ import annotations

import io
import math
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
import torch
from click.core import ParameterSource

from fastrnn.tasks import processes
from fastrnn.tasks.errors import Interrupted, UserError
from fastrnn.tasks.layers import BACKENDS, CELLS, probe
from fastrnn.tasks.memory import keep_freed_memory
from fastrnn.tasks.run import Run

__all__ = ["Command", "Real", "RunPath", "Seed", "begin", "lines_given", "note", "recipe_options", "stoppable",
           "train_options"]  # fmt: skip

F = TypeVar("F", bound=Callable[..., Any])
D = TypeVar("D")

Seed = click.IntRange(0, 2**31 - 1)
RunPath = click.Path(file_okay=False, path_type=Path)


class Real(click.FloatRange):
    """A number in a range; nan and inf, which Python reads as numbers too, are none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class _Failure(click.ClickException):
    exit_code = 2


class Command(click.Command):
    """A command whose `UserError` is one line on stderr and exit code 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            if not processes.main():  # process 0 has said it
                sys.exit(2)
            raise _Failure(str(error)) from error
        except KeyboardInterrupt:
            click.echo("Stopped.", err=True)
            sys.exit(130)


def train_options(
    *, epochs: int | None, batch_size: int, lr: float | None, hidden: int, layers: int = 1,
    patience: int | None = 0, cell: str = "gru", lr_help: str = "Peak rate of AdamW.",
) -> Callable[[F], F]:  # fmt: skip
    """The options of every `train`, with a task's defaults, None where the task fills them in itself.
    `recipe_options` takes a recipe's from them."""
    options = [
        click.option("--cell", type=click.Choice(list(CELLS)), default=cell, help="The recurrent cell."),
        click.option("--backend", type=click.Choice(list(BACKENDS)), default="fastrnn",
                     help="Recurrent layers: our kernels, torch.nn's, or fastrnn.reference's plain loop."),
        click.option("--hidden", type=click.IntRange(1), default=hidden, help="Size of the state."),
        click.option("--layers", type=click.IntRange(1), default=layers, help="Recurrent layers."),
        click.option("--epochs", type=click.IntRange(1), default=epochs),
        click.option("--batch-size", type=click.IntRange(1), default=batch_size),
        click.option("--lr", type=Real(0, min_open=True), default=lr, help=lr_help),
        click.option("--patience", type=click.IntRange(0), default=patience,
                     help="Stop after so many epochs without a better one; 0 never."),
        click.option("--minutes", type=Real(0), default=0.0, help="Stop training after these; 0 never."),
        click.option("--seed", type=Seed, default=0, help="Of parameters and batch order."),
        click.option("--device", default=lambda: "cuda" if torch.cuda.is_available() else "cpu",
                     show_default="a GPU where there is one", callback=_check_device, help="cpu, cuda or cuda:N."),
        click.option("--amp", type=click.Choice(["off", "bf16", "fp16"]), default="off",
                     help="Autocast of training steps; fp16 on a GPU only."),
        click.option("--threads", type=click.IntRange(1), help="CPU threads  [default: torch's choice]"),
        click.option("--no-compare", is_flag=True, help="Do not time the other backends at the end."),
        click.option("--out", type=RunPath, required=True, metavar="RUN", help="Folder for all a run makes."),
        click.option("--resume", is_flag=True, help="Continue the run in RUN with its own options."),
    ]  # fmt: skip

    def add(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return add


def recipe_options(options: dict[str, Any]) -> dict[str, Any]:
    """The arguments that any recipe takes from the options of `train`."""
    return {name: options[name] for name in ("epochs", "lr", "patience", "minutes", "amp")}


def _check_device(_: click.Context, __: click.Parameter, value: str) -> str:
    try:
        device = torch.device(value)
    except RuntimeError as error:
        raise click.BadParameter(f"{value} is not a device; cpu, cuda or cuda:N is") from error
    if device.type not in ("cpu", "cuda"):
        raise click.BadParameter(f"{value}: only cpu and cuda devices are supported")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise click.BadParameter(f"{value} is not there: torch sees {torch.cuda.device_count()} CUDA devices")
    return value


def begin(
    task: str,
    options: dict[str, Any],
    out: Path,
    resume: bool,
    load: Callable[[dict[str, Any]], tuple[D, dict[str, Any]]],
) -> tuple[Run, D]:
    """The run to train, new or resumed, and its data.

    `load(options)` reads the data that the options name and gives it with what the configuration shall hold of
    it, a `fingerprint` among that. A resumed run keeps its own options: one given again and different is an
    error, as are data that changed since. Under torchrun, process 0 does this and the others follow.
    """
    if not resume and options["amp"] == "fp16" and torch.device(options["device"]).type == "cpu":
        raise UserError("--amp fp16 needs a GPU: on a CPU use bf16")
    keep_freed_memory()
    processes.start(options["device"])
    if not resume and options["batch_size"] < processes.world():
        raise UserError(f"--batch-size {options['batch_size']} cannot be shared by {processes.world()} processes")
    begun = processes.first(lambda: _resume(task, options, out, load) if resume else _create(task, options, out, load))
    if begun is None:
        run = Run.follow(out, task)
        begun = run, load(run.config["options"])[0]
    torch.set_num_threads(begun[0].config["options"]["threads"])
    return begun


def _create(task: str, options: dict[str, Any], out: Path, load: Callable[..., Any]) -> tuple[Run, Any]:
    probe(options["backend"], options["cell"], options["device"])  # before a folder is made
    data, description = load(options)
    options["threads"] = options["threads"] or torch.get_num_threads()
    return Run.create(out, task, {"options": options, **description}), data


def _resume(task: str, options: dict[str, Any], out: Path, load: Callable[..., Any]) -> tuple[Run, Any]:
    run = Run.resume(out, task)
    try:
        own, context = run.config["options"], click.get_current_context()
        for name, value in options.items():
            given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
            if given and value != own[name]:
                flag = f"--{name.replace('_', '-')}"
                raise UserError(f"{out} was begun with {flag} {own[name]}: leave {flag} out, or use a new folder")
        data, description = load(own)
        if description["fingerprint"] != run.config["fingerprint"]:
            raise UserError(f"the data changed since {out} was begun: train into a new folder")
    except BaseException:
        run.close()
        raise
    return run, data


@contextmanager
def stoppable(task: str, run: Run) -> Iterator[None]:
    """A training that Ctrl-C may stop: says how to go on, exits with 130, and closes the run in any case. Exits with 2
    where another process of it was killed."""
    command = f"-m fastrnn {task} train --resume --out {shlex.quote(str(run.path))}"
    start = f"torchrun --nproc-per-node={processes.world()}"
    command = f"{start} {command}" if processes.world() > 1 else command.replace("-m ", "", 1)
    try:
        with run:
            yield
    except (Interrupted, KeyboardInterrupt):
        if processes.main():
            click.echo(f"Stopped and saved. Go on with: {command}", err=True)
        sys.exit(130)
    except RuntimeError as error:
        if not processes.lost(error):
            raise
        click.echo(f"Error: another process of the training has ended. Go on with: {command}", err=True)
        sys.exit(2)
    finally:
        processes.finish()


def lines_given(what: str) -> Iterator[str]:
    """The lines of standard input, UTF-8 whatever the locale. Raises `UserError` at one that is not, and where that is
    a terminal, for `what` should then have been given as arguments."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="strict")
    if sys.stdin.isatty():
        raise UserError(f"which {what}? Give one in quotes, or lines on standard input")
    try:
        yield from (line.rstrip("\r\n") for line in sys.stdin)
    except UnicodeDecodeError as error:
        raise UserError(f"standard input is not UTF-8 (byte 0x{error.object[error.start]:02x})") from error


def note(text: str) -> None:
    """A remark beside the output, on stderr."""
    click.echo(f"note: {text}", err=True)

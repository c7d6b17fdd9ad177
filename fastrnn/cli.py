"""The command line, `fastrnn` and `python -m fastrnn`.

Only `info` works on the base package. Every other command needs the extra `tasks`; its absence is one line
and exit code 2, not a traceback.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

from fastrnn import info
from fastrnn._extras import MissingExtra

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in `argv` (default `sys.argv[1:]`) and return its exit code.

    0 is success, 2 something the user can put right (one line on stderr), 130 a training stopped by Ctrl-C.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    interrupt = signal.getsignal(signal.SIGINT)
    if interrupt is signal.default_int_handler:  # Ctrl-C while libraries load is an end without their tracebacks
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        from fastrnn.tasks.commands import cli
    except MissingExtra as error:
        if arguments == ["info"]:
            info.main()
            return 0
        print(f"Error: {error} (only `fastrnn info` works without it)", file=sys.stderr)
        return 2
    finally:
        if interrupt is signal.default_int_handler:
            signal.signal(signal.SIGINT, interrupt)
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:  # Python gives a byte that is none as half of a surrogate pair
            print(f"Error: the argument {argument!r} is not UTF-8", file=sys.stderr)
            return 2
    try:
        cli.main(args=arguments, prog_name="fastrnn")
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    return 0

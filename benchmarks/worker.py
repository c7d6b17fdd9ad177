"""A peer in a process of its own, which takes its turns over a socket and sleeps on it between them.

The parent sends what to prepare and how many calls to make; the worker times its calls itself, so that the message's
way is not counted.
"""

from __future__ import annotations

import gc
import os
import pickle
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


class WorkerError(RuntimeError):
    """The worker's own traceback, or that it ended."""


class Turns:
    """The prepared call on the parent's side: what `timing.turn` takes for a function that times itself."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def window(self, calls: int) -> tuple[float, float]:
        """Seconds a call, and seconds lost to other processes, both taken in the worker."""
        return self._worker.ask("window", calls)

    def __call__(self) -> None:
        self.window(1)


class Worker:
    """A Python process with `environment` on top of ours and `threads` torch threads."""

    def __init__(self, threads: int, environment: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair()
        changed = {name: value.format(threads=threads) for name, value in environment.items()}
        command = [sys.executable, str(Path(__file__).resolve()), str(theirs.fileno()), str(threads)]
        environ = {**os.environ, "OMP_NUM_THREADS": str(threads), **changed}
        self._process = subprocess.Popen(command, env=environ, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        self._connection = Connection(ours.detach())
        self.pid = self._process.pid

    def ask(self, *message: Any) -> Any:
        """Raises WorkerError with the worker's traceback where it failed, or where it is no more."""
        try:
            self._connection.send(message)
            kind, value = self._connection.recv()
        except (EOFError, ConnectionError, BrokenPipeError):
            raise WorkerError(f"the worker process ended with status {self._process.wait()}") from None
        if kind == "error":
            raise WorkerError(f"in the worker process:\n{value}")
        return value

    def prepare(self, function: Any, case: Any, mode: str, weights: Any) -> Any:
        """`function(case, mode, weights)` run there; its Prepared here, whose `run` takes turns."""
        from benchmarks.peers.common import Prepared

        # arrays, because a tensor would go through shared memory
        output, dx = self.ask("prepare", function, case, mode, {name: w.numpy() for name, w in weights.items()})
        import torch

        return Prepared(Turns(self), torch.from_numpy(output), None if dx is None else torch.from_numpy(dx))

    def close(self) -> None:
        self._connection.close()  # the worker reads the end of the stream and goes
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Workers:
    """The workers of a run, made when first asked for; those of another thread count are closed first."""

    def __init__(self) -> None:
        self._threads = 0
        self._by_name: dict[str, Worker] = {}

    def get(self, name: str, threads: int, environment: Mapping[str, str]) -> Worker:
        if threads != self._threads:
            self.close()
            self._threads = threads
        if name not in self._by_name:
            self._by_name[name] = Worker(threads, environment)
        return self._by_name[name]

    def close(self) -> None:
        for worker in self._by_name.values():
            worker.close()
        self._by_name.clear()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve(connection: Connection, threads: int) -> None:
    """Answers ("prepare", ...), ("window", calls) and ("call", function, *arguments) until the stream ends."""
    import torch

    from benchmarks.timing import turn

    torch.set_num_threads(threads)
    prepared: Any = None

    def array(t: torch.Tensor | None) -> Any:
        return None if t is None else t.detach().float().numpy()

    while True:
        try:
            message = connection.recv_bytes()
        except EOFError:
            return
        try:
            command, *arguments = pickle.loads(message)
            if command == "window":
                gc.disable()
                value: Any = turn(prepared.run, *arguments)
                gc.enable()
            elif command == "prepare":
                prepared = None  # its memory goes before the next case takes some
                function, case, mode, weights = arguments
                prepared = function(case, mode, {name: torch.from_numpy(w) for name, w in weights.items()})
                value = array(prepared.output), array(prepared.dx)
            else:
                function, *rest = arguments
                value = function(*rest)
            answer = ("ok", value)
        except Exception:
            answer = ("error", traceback.format_exc())
        connection.send(answer)


if __name__ == "__main__":
    # Appended, not put first: see run.py. The folder of this file must not shadow a package's name.
    sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != Path(__file__).resolve().parent]
    sys.path.append(str(ROOT))
    serve(Connection(int(sys.argv[1])), int(sys.argv[2]))

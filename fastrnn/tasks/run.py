"""The folder RUN: what a training leaves behind, written so that a kill at any moment loses nothing saved
before.

    config.json      format, task, package version, the options, and what the task must know to use its models
    <model>.pt       checkpoint: parameters, optimizer, position, history (loads with weights_only=True)
    metrics.json     the results
    *.png            the plots

Every file is written beside its name, flushed to the disk and then renamed over it, so a reader sees the old
file or the new one and never half of either.
"""

from __future__ import annotations

import io
import json
import os
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from fastrnn.info import version
from fastrnn.tasks.errors import UserError

try:
    import fcntl
except ImportError:  # not on Windows, where two trainings in one RUN are then not noticed
    fcntl = None  # type: ignore[assignment]

__all__ = ["FORMAT", "Run"]

M = TypeVar("M", bound=torch.nn.Module)

FORMAT = 1
"""Raised when a RUN written before can no longer be read."""


class _Entries(dict[str, Any]):
    """A configuration, or a part of one, as read from `file`: an entry that is not there is the file's fault."""

    def __init__(self, file: Path, entries: dict[str, Any]) -> None:
        super().__init__(entries)
        self.file = file

    def __missing__(self, key: str) -> Any:
        raise UserError(f"{self.file} is damaged, or of another version: it has no {key}; train into a new folder")


class Run:
    """A run's folder: made with `create`, `resume`, `follow` or `open`, closed by hand or as a context manager."""

    def __init__(self, path: Path, config: dict[str, Any], lock: int | None = None, writes: bool = True) -> None:
        self.path, self.config, self._lock, self._writes = path, config, lock, writes

    @classmethod
    def create(cls, path: Path, task: str, config: dict[str, Any]) -> Run:
        """A new run in `path`, absent or empty so far, with `config` saved. Holds the folder's lock."""
        config = {"format": FORMAT, "task": task, "fastrnn": version(), **config}
        _make(path)
        files = {file.name for file in path.iterdir() if not file.name.startswith(".")}
        if files and "config.json" not in files:  # before a lock is left in it
            raise UserError(f"{path} holds other files: choose a new or empty folder for --out")
        run = cls(path, config, _lock(path))
        try:
            if (path / "config.json").exists():
                raise UserError(f"{path} holds a run already: add --resume, or choose another --out")
            run.write_json("config.json", config)
        except BaseException:
            run.close()
            raise
        return run

    @classmethod
    def resume(cls, path: Path, task: str) -> Run:
        """The run in `path`, to be continued. Holds the folder's lock."""
        config = cls.open(path, task).config
        run = cls(path, config, _lock(path))
        for left in path.glob(".*.tmp"):  # of a process killed while it wrote
            left.unlink(missing_ok=True)
        return run

    @classmethod
    def beside(cls, path: Path) -> Run:
        """A folder for results that are no run, made where it is absent; what is in it may be written over."""
        _make(path)
        return cls(path, {})

    @classmethod
    def follow(cls, path: Path, task: str) -> Run:
        """The run in `path` as seen by a process that helps another to train it: what it writes goes nowhere."""
        return cls(path, cls.open(path, task).config, writes=False)

    @classmethod
    def open(cls, path: Path, task: str | None) -> Run:
        """The run in `path`, to be read; task None is any. Raises `UserError` if it is none, or of another task or
        format."""
        file = path / "config.json"
        if not file.is_file():
            raise UserError(f"{path} is not a run: it has no config.json")
        try:
            config = json.loads(file.read_bytes(), object_hook=partial(_Entries, file))
            found, written_by = (config["task"], config["format"]), config["fastrnn"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file} is damaged ({error}): train again into a new folder") from error
        if found[1] != FORMAT:
            raise UserError(
                f"{path} was written by fastrnn {written_by} in format {found[1]}; this is {version()}, "
                f"which reads format {FORMAT}"
            )
        if task is not None and found[0] != task:
            raise UserError(f"{path} is a run of the task {found[0]}, not of {task}: use fastrnn {found[0]}")
        return cls(path, config)

    def write_bytes(self, name: str, data: bytes) -> Path:
        """`data` as the file `name`, all of it or none. Raises `UserError` when it cannot be written."""
        file, beside = self.path / name, self.path / f".{name}.tmp"
        if not self._writes:
            return file
        try:
            with beside.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(beside, file)
        except OSError as error:
            beside.unlink(missing_ok=True)
            reason = f"{error.strerror}; what was saved before is intact"
            raise UserError(f"cannot write {file}: {reason}") from error
        return file

    def write_json(self, name: str, value: Any) -> Path:
        """`value` as JSON, for people to read too."""
        return self.write_bytes(name, (json.dumps(value, ensure_ascii=False, indent=2) + "\n").encode())

    def write_state(self, name: str, state: dict[str, Any]) -> Path:
        """A checkpoint. `state` holds tensors, numbers, strings, lists and dicts of them, nothing else."""
        buffer = io.BytesIO()  # a full disk is then an OSError, not whatever the archive writer makes of it
        torch.save({"format": FORMAT, **state}, buffer)
        return self.write_bytes(name, buffer.getvalue())

    def read_state(self, name: str, device: torch.device | str = "cpu") -> dict[str, Any] | None:
        """The checkpoint `name`, or None if none was saved yet. No code in the file is run."""
        file = self.path / name
        if not file.exists():
            return None
        try:
            state = torch.load(file, map_location=device, weights_only=True)
            if not isinstance(state, dict) or state.pop("format", None) != FORMAT:
                raise ValueError("not a checkpoint of this format")
            return state
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
            raise UserError(f"{file} is damaged and cannot be loaded: train into a new folder") from error

    def trained(self, name: str, build: Callable[[], M], what: str) -> M:
        """The model that `build` makes, on the CPU, with the parameters of the best epoch in the checkpoint `name`,
        ready to be used. Raises `UserError` if no epoch has ended yet (`what` says what is missing) or if they do not
        fit."""
        state = self.read_state(name)
        if state is None or state["best"] is None:
            raise UserError(f"{self.path} holds no trained {what}")
        model = build()
        try:
            model.load_state_dict(state["best"])
        except RuntimeError as error:
            raise self.misfit(name) from error
        return model.eval()

    def misfit(self, name: str) -> UserError:
        """The error to raise when the checkpoint `name`, though whole, is not of the model it should be."""
        return UserError(f"{self.path / name} does not fit its config.json: train into a new folder")

    def close(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _make(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {path}: {error.strerror}") from error


def _lock(path: Path) -> int | None:
    """Take the folder's lock, which the system drops with the process however it ends."""
    try:
        handle = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UserError(f"cannot write into {path}: {error.strerror}") from error
    try:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise UserError(f"another process trains into {path}: wait, or choose another --out") from error
    return handle

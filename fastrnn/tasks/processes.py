"""Several processes on one training, started by `torchrun`: who one is, and the few things they tell each other.

    torchrun --nproc-per-node=2 -m fastrnn names train --out RUN

Every process runs the same program. Process 0 alone writes, prints and validates; a batch is shared out among
all (`Trainable.share`), so the global batch and its gradient are those of one process. Without torchrun all of
this is a group of one and costs nothing. Messages between the processes go through gloo, gradients on GPUs
through NCCL.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from fastrnn.tasks.errors import UserError

__all__ = ["broadcast", "finish", "first", "gather", "greatest", "lost", "main", "rank", "start", "total", "world"]

T = TypeVar("T")


def start(device: str) -> None:
    """Join the group that torchrun made, if it did. On GPUs the process takes the one of its local rank."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        return
    if not dist.is_available():
        raise UserError("this torch has no torch.distributed: start without torchrun")
    backend = "gloo"
    if torch.device(device).type == "cuda":
        local, count = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if torch.device(device).index is not None:
            raise UserError(f"--device {device}: under torchrun give cuda, and each process takes a GPU of its own")
        if local >= count:
            raise UserError(f"{local + 1} processes or more on this machine, but {count} GPUs: lower --nproc-per-node")
        torch.cuda.set_device(local)
        backend = "cpu:gloo,cuda:nccl"
    try:
        dist.init_process_group(backend)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the processes cannot reach each other: {str(error).splitlines()[0]}") from error
    if not main():
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  process 0 speaks for all


def finish() -> None:
    """Leave the group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def main() -> bool:
    return rank() == 0


def lost(error: RuntimeError) -> bool:
    """Whether `error` is that of a message to or from a process that is no more."""
    said = str(error)
    return world() > 1 and any(sign in said for sign in ("gloo", "Connection closed by peer", "NCCL", "reset by peer"))


def broadcast(value: T) -> T:
    """Process 0's `value`, in every process."""
    if world() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return box[0]


def gather(value: T) -> list[T]:
    """Each process's `value`, by rank, in every process."""
    values: list[Any] = [value]
    if world() > 1:
        values = [None] * world()
        dist.all_gather_object(values, value)
    return values


def greatest(values: list[bool]) -> list[bool]:
    """Place by place, whether it is true in any process."""
    if world() == 1:
        return values
    flags = torch.tensor(values, dtype=torch.int32)
    dist.all_reduce(flags, dist.ReduceOp.MAX)
    return [bool(flag) for flag in flags.tolist()]


def total(value: float) -> float:
    """The sum of all processes' values."""
    if world() == 1:
        return value
    tensor = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(tensor)
    return tensor.item()


def first(work: Callable[[], T]) -> T | None:
    """`work` done by process 0 alone, its result there, None elsewhere. Its `UserError` is raised in all."""
    result, message = None, None
    if main():
        try:
            result = work()
        except UserError as error:
            if world() == 1:
                raise
            message = str(error)
    message = broadcast(message)
    if message is not None:
        raise UserError(message)
    return result

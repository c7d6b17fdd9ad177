"""The compiled CUDA kernels: whether they are there, what they can be asked, and what torch has been told of them."""

import importlib
import os
import warnings
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastrnn import _native
from fastrnn._native import address


def _load() -> tuple[ModuleType | None, str]:
    """The compiled module, or why there is none."""
    try:
        return importlib.import_module("fastrnn._kernels_cuda"), ""
    except ModuleNotFoundError:
        return None, "not built (build it with nvcc in the PATH, or FASTRNN_CUDA=1 to see why it fails)"
    except ImportError as error:
        return None, f"built, but it cannot be loaded: {error}"


kernels, _missing = _load()


def info() -> str:
    """What there is of CUDA kernels, for `fastrnn info`."""
    if kernels is None:
        return _missing
    if not torch.backends.cuda.is_built():
        device = "this torch is built without CUDA"
    elif not torch.cuda.is_available():
        device = "no device"
    else:
        device = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return f"built for {kernels.ARCHS}; {device}"


def refusal(device: torch.device) -> str:
    """Why a tensor of this device cannot be computed on; empty if it can."""
    if device.type != "cuda":
        return f"fastrnn has kernels for CPU and CUDA tensors only, got a tensor on {device}"
    return "" if kernels is not None else f"fastrnn's CUDA kernels are missing: {_missing}; got a tensor on {device}"


def tf32() -> bool:
    """Whether fp32 products of the recurrence may use TF32: what torch lets cuDNN's recurrent layers do."""
    rnn = getattr(torch.backends.cudnn, "rnn", None)
    if rnn is not None:
        return bool(rnn.fp32_precision == "tf32")
    return bool(torch.backends.cudnn.allow_tf32)


def module() -> ModuleType:
    if kernels is None:
        raise RuntimeError(f"fastrnn's CUDA kernels are missing: {_missing}")
    return kernels


TIERS = {
    "a": "cluster-persistent",
    "b": "grid-persistent",
    "d": "one launch, weights from the caches",
    "e": "torch's product and a cell's kernel a step",
    "c": "a kernel a step",
}
_TIMEOUT_NS = 2_000_000_000  # after which a kernel gives up its wait for other blocks
_status: dict[torch.device, Tensor] = {}  # where such a kernel says so, memory of the host


def tier() -> str:
    """FASTRNN_CUDA_TIER: a, b, d, e or c runs that tier wherever it can run the call; empty: the plan's choice."""
    forced = os.environ.get("FASTRNN_CUDA_TIER", "")
    if forced and forced not in TIERS:
        raise RuntimeError(f"FASTRNN_CUDA_TIER={forced!r} is not one of {', '.join(TIERS)}")
    return forced


def _status_of(device: torch.device) -> Tensor | None:
    """The device's word to the host, None where it cannot be had now. A wait that was too long shows in the next call,
    and from then on every call goes step by step."""
    status = _status.get(device)
    if status is None:
        if torch.cuda.is_current_stream_capturing():
            return None
        with torch.inference_mode(False):  # it is written later, wherever that is
            status = _status[device] = torch.zeros(1, dtype=torch.int32, device="cpu", pin_memory=True)
    if status.item() == 1:
        status.fill_(2)
        warnings.warn(
            "fastrnn: a persistent CUDA kernel waited too long for its own blocks, and the call was done again slowly. "
            "From now on calls on this device run a kernel a step. FASTRNN_CUDA_TIER=c avoids the attempt",
            RuntimeWarning,
            stacklevel=2,
        )
    return status


class Told(NamedTuple):
    """What a pass is told of the device and of the user's wishes, at the time of the call."""

    tf32: bool
    products: bool  # whether tier e may be
    tier: str
    timeout_ns: int
    status: int  # address, 0: none
    stream: int


def told(device: torch.device, dtype: torch.dtype, stream: int, dense: bool) -> Told:
    """For a call in this stream now. dense: neither ragged nor projected."""
    status, fast = _status_of(device), dtype is torch.float32 and tf32()
    products, wish = dense and _products(dtype, fast), tier()
    if status is None:
        return Told(fast, products, wish, _TIMEOUT_NS, 0, stream)
    if status.item() and wish != "e":
        wish = "c"
    return Told(fast, products, wish, _TIMEOUT_NS, status.data_ptr(), stream)


# torch 2.8 and later multiply 16-bit matrices into float32 on CUDA
wide: Any = torch.ops.aten.mm.dtype if "dtype" in torch.ops.aten.mm.overloads() else None


def _products(dtype: torch.dtype, fast: bool) -> bool:
    """Whether torch's products are as good as ours: sums in the arithmetic type, TF32 in both or in neither."""
    if dtype in (torch.bfloat16, torch.float16):
        return wide is not None
    matmul = torch.backends.cuda.matmul
    precision = getattr(matmul, "fp32_precision", None)
    rounds = matmul.allow_tf32 if precision is None else precision == "tf32"
    return dtype is torch.float64 or bool(rounds) == fast


def call(
    sizes: tuple[int, int, int, int],
    dtype: torch.dtype,
    told: Told,
    batch_sizes: Tensor | None = None,
    reverse: bool = False,
) -> Any:
    """The binding's call of sizes (T, B, H, P). batch_sizes must live as long as the result."""
    return module().Call(
        sizes, batch_sizes=address(batch_sizes), reverse=reverse, dtype=_native.DTYPES[dtype], **told._asdict()
    )


def plan(
    cell: str,
    steps: int,
    batch: int,
    units: int,
    dtype: torch.dtype,
    projected: int = 0,
    batch_sizes: Tensor | None = None,
    backward: bool = False,
) -> tuple[str, str, int]:
    """The tier in which the current device would run a layer, why, and the rows of a team of blocks (0 in tier c)."""
    fast, dense = tf32(), batch_sizes is None and not projected
    told = Told(fast, dense and _products(dtype, fast), tier(), _TIMEOUT_NS, 0, 0)
    asked = call((steps, batch, units, projected), dtype, told, batch_sizes)
    return module().plan(_native.CELLS[cell], asked, backward)


def reserve_size(cell: str, rows: int, units: int) -> int:
    """Number of values that forward leaves for backward."""
    _, saved, has_state, *_ = module().CELLS[cell]
    return rows * units * (saved + has_state)

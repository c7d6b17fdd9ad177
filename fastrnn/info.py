"""What this installation of fastrnn is and runs on: the text of `fastrnn info`.

Needs no optional dependency, so that a user with a broken environment can still run it.
"""

from __future__ import annotations

import platform
from importlib import metadata

import torch

__all__ = ["describe", "main", "version"]


def version() -> str:
    """The installed package's version, or the source tree's where it runs without being installed."""
    try:
        return metadata.version("fastrnn")
    except metadata.PackageNotFoundError:
        import fastrnn

        return getattr(fastrnn, "__version__", "not installed")


def describe() -> dict[str, str]:
    """The facts in the order shown, label to value. A build that cannot be loaded is told, not raised."""
    facts = {
        "fastrnn": version(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "processor": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }
    try:
        from fastrnn import _cuda, _native

        built, available = _native.built_isas(), _native.available_isas()
        facts["CPU ISA in use"] = _native.isa_in_use()
        facts["CPU ISA available"] = ", ".join(available)
        # What was compiled and cannot run here explains a missing tier, e.g. AVX-512 on an AVX2 machine.
        facts["CPU ISA built"] = ", ".join(built)
        facts["bf16 products"] = _native.bf16_in_use()
        facts["new tensors by"] = _native.tensors_in_use()
        facts["OpenMP runtime"] = _native.openmp_runtime()
        facts["CUDA"] = _cuda.info()
    except ImportError as error:
        facts["kernels"] = f"not loaded: {error}"
    return facts


def main() -> None:
    """Print `describe()`, one fact a line."""
    facts = describe()
    width = max(map(len, facts))
    for label, value in facts.items():
        print(f"{label:<{width}}  {value}")

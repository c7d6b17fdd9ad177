"""Optional dependencies: one check, and one error that names the extra to install."""

from __future__ import annotations

from importlib.util import find_spec

__all__ = ["MissingExtra", "require"]

EXTRAS = {"tasks": ("click", "tqdm", "matplotlib", "pooch", "sacrebleu")}
"""The modules that each extra installs, by the names they are imported under."""


class MissingExtra(ImportError):
    """A command or module was used whose optional dependencies are not installed."""


def require(extra: str) -> None:
    """Raise `MissingExtra`, naming `extra` and what is absent, unless all its modules can be imported."""
    missing = [module for module in EXTRAS[extra] if find_spec(module) is None]
    if missing:
        raise MissingExtra(f'{", ".join(missing)} not installed: run pip install "fastrnn[{extra}]"')

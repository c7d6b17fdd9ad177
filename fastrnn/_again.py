"""A module's call like its last one: it keeps that call, and asks it first, in C (csrc/cpu/again.h)."""

from typing import Any

import torch

from fastrnn._packed import PackedOnce

_compiling = torch.compiler.is_compiling


class Forgotten:
    """What copies and pickles of a module begin without."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()


class Kept(Forgotten):
    """A `_quick._Call`, and what stood for the settings before it looked at them."""

    def __init__(self, call: Any, settings: Any) -> None:
        self.call, self.settings = call, settings


class Again(torch.nn.Module):
    """A module of one layer, or a cell, that keeps the call which it made last, most often the next one too."""

    _kept_call: Kept | None = None
    _kept_settings: Forgotten | None = None  # another one after each change of an attribute
    _packed: PackedOnce | None = None

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        self._changed()

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self._changed()

    def _changed(self) -> None:
        if "_kept_settings" in self.__dict__:  # a new module has torch's attributes alone
            self.__dict__["_kept_settings"] = Forgotten()

    def _settings(self) -> Any:
        """To be asked before a call looks at any of them."""
        return self._kept_settings or self.__dict__.setdefault("_kept_settings", Forgotten())

    def _again(self, input: Any, hx: Any) -> Any:
        """What the module returns, where all is as it was in that call; else None."""
        if _compiling() or (kept := self._kept_call) is None or kept.settings is not self._kept_settings:
            return None
        call = kept.call
        return call.again(call, self._parameters, input, hx, self._packed)

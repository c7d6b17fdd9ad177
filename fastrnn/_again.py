"""A module's call like its last one: it keeps that call, and asks it first, in C (csrc/cpu/again.h)."""

from typing import Any, NamedTuple

import torch
from torch.nn.modules import module as torch_module

from fastrnn import _native
from fastrnn._packed import PackedOnce

_compiling = torch.compiler.is_dynamo_compiling

_repeated = _native.load("_cpu").repeated(torch.nn.Module, vars(torch_module))


class Forgotten:
    """What copies and pickles of a module begin without."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()


class Kept(NamedTuple):
    """A `_quick._Call` with its `again`, what stood for the settings before it looked at them, and the `forward` that
    found it."""

    call: Any
    again: Any
    settings: Any
    forward: Any

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()  # as Forgotten


class Again(torch.nn.Module):
    """A module of one layer, or a cell, that keeps the call which it made last, most often the next one too."""

    _kept_call: Kept | None = None
    _kept_settings: Forgotten | None = None  # another one after each change of an attribute
    _packed: PackedOnce | None = None
    _plain_forward: Any = None  # the class's own `forward`, which a subclass or a user may put another in the place of

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
        """What stands for the module's settings, to be asked for before a call looks at one of them; None where no call
        is kept: in a graph of torch.compile, or of torch.export, which wants no attribute more than there was."""
        if _compiling():
            return None
        if self._kept_settings is None:  # a new module, or a copy
            if torch._C._len_torch_dispatch_stack():
                return None
            self.__dict__["_kept_settings"] = Forgotten()
        return self._kept_settings

    def _keep(self, call: Any, settings: Any) -> None:
        self.__dict__["_kept_call"] = Kept(call, call.again, settings, type(self)._plain_forward)

    def _call_impl(self, *args: Any, **kwargs: Any) -> Any:
        """What torch runs of a module's call: hooks and `forward`, or at once what they would give."""
        if not (kwargs or _compiling()):
            results = _repeated(self, args)
            if results is not None:
                return results
        return super()._call_impl(*args, **kwargs)

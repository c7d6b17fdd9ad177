"""Swap torch.nn's recurrent layers and cells in a model for this package's, and back."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch.nn.modules import module as torch_module

from fastrnn import cells, modules

__all__ = ["convert", "to_torch"]

M = TypeVar("M", bound=torch.nn.Module)

_OURS: dict[type, type] = {
    torch.nn.RNN: modules.RNN,
    torch.nn.GRU: modules.GRU,
    torch.nn.LSTM: modules.LSTM,
    torch.nn.RNNCell: cells.RNNCell,
    torch.nn.GRUCell: cells.GRUCell,
    torch.nn.LSTMCell: cells.LSTMCell,
}
_TORCHS = {ours: torchs for torchs, ours in _OURS.items()}


def convert(model: M) -> M:
    """Replace every torch.nn.RNN, GRU, LSTM, RNNCell, GRUCell and LSTMCell in a model by this package's.

    Args:
        model: any module. Containers are changed in place; a recurrent layer that is the model itself is replaced.

    Returns:
        The model, or, if it is itself a recurrent layer, the new one: write ``model = fastrnn.convert(model)``.

    The new layers hold the very Parameters of the old ones, so optimizers, tied weights and state_dicts go on working.
    Training mode, hooks and their handles, parametrizations and plain attributes come along. A layer that stands in
    several places stays one layer. Where the old layer is still referred to from outside, it shares hooks with the new
    one.

    Left alone: subclasses of torch.nn's layers (they may have a forward of their own), and modules kept in plain
    Python lists or dicts, which torch does not know either. Converting twice does nothing.

    Raises:
        TypeError: model is not a torch.nn.Module.
    """
    return _swap(model, _OURS)


def to_torch(model: M) -> M:
    """Replace every layer and cell of this package in a model by torch.nn's: `convert` backwards, on the same terms."""
    return _swap(model, _TORCHS)


def _swap(model: Any, table: dict[type, type]) -> Any:
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"expected a torch.nn.Module, got {type(model).__name__}")
    replaced = {module: new for module in model.modules() if (new := _replacement(module, table)) is not None}
    for parent in (*model.modules(), *replaced.values()):
        for name, child in parent._modules.items():
            if child in replaced:
                parent._modules[name] = replaced[child]
    return replaced.get(model, model)


def _replacement(old: torch.nn.Module, table: dict[type, type]) -> torch.nn.Module | None:
    """The new module in place of an old one, or None if it is not of a type to swap."""
    cls: type | None = table.get(type(old))
    if cls is None and torch.nn.utils.parametrize.is_parametrized(old):
        # A parametrization gives the module a class of its own, with a property for each weight, on top of the
        # layer's class. The new class has the same body on top of the new layer's.
        base = table.get(type(old).__bases__[0])
        if base is not None:
            body = {
                key: value for key, value in vars(type(old)).items() if key not in ("__dict__", "__weakref__")
            }
            cls = type(type(old).__name__, (base,), body)
    if cls is None:
        return None
    new: torch.nn.Module = cls.__new__(cls)
    # Both sides are the same torch base class with the same attributes, so the new module is the old one's __dict__.
    # Its own containers are copied. Hooks are not: a handle's remove() finds its hook through the dict it was put in.
    new.__dict__.update({key: value.copy() if key in _OWN else value for key, value in vars(old).items()})
    for key, hook in new._load_state_dict_pre_hooks.items():
        if isinstance(hook, torch_module._WrappedHook) and hook.with_module:
            new._load_state_dict_pre_hooks[key] = torch_module._WrappedHook(
                hook.hook, new
            )  # it holds its module
    return new


_OWN = frozenset(
    {
        "_parameters",
        "_buffers",
        "_modules",
        "_non_persistent_buffers_set",
        "_flat_weights",
        "_flat_weights_names",
        "_all_weights",
        "_flat_weight_refs",
    }
)

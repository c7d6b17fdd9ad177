"""Swap torch.nn's recurrent layers and cells in a model for this package's, and back."""

from typing import Any, TypeVar

import torch
from torch.nn.modules import module as torch_module
from torch.nn.utils import parametrize

from fastrnn import cells, modules

__all__ = ["convert", "to_torch"]

Model = TypeVar("Model", bound=torch.nn.Module)

_OURS: dict[type, type] = {
    torch.nn.RNN: modules.RNN,
    torch.nn.GRU: modules.GRU,
    torch.nn.LSTM: modules.LSTM,
    torch.nn.RNNCell: cells.RNNCell,
    torch.nn.GRUCell: cells.GRUCell,
    torch.nn.LSTMCell: cells.LSTMCell,
}
_TORCHS = {ours: torchs for torchs, ours in _OURS.items()}

# What a module holds for itself. Its hooks are not here: a handle's remove() finds the hook through the very
# dict it was put in, so the new module takes that dict.
_OWN = frozenset(
    {
        "_parameters",
        "_buffers",
        "_modules",
        "_non_persistent_buffers_set",
        "_flat_weights",
        "_flat_weights_names",
        "_flat_weight_refs",
        "_all_weights",
    }
)


def convert(model: Model) -> Model:
    """Replace every torch.nn.RNN, GRU, LSTM, RNNCell, GRUCell and LSTMCell in a model by this package's.

    Args:
        model: any module. What contains others is changed in place; a model that is itself a recurrent layer
            is replaced.

    Returns:
        The model or, if it is itself a recurrent layer, the new one, so write
        ``model = fastrnn.convert(model)``.

    The new layers hold the very Parameters of the old ones, so optimizers, tied weights and state_dicts go on
    working. Training mode, hooks with their handles, parametrizations and other attributes come along. A
    layer that stands in several places stays one layer. An old layer that is still referred to from outside
    goes on working too; it and the new one share their hooks.

    Left alone: subclasses of torch.nn's layers, because they may compute something else, and modules in plain
    Python lists or dicts, of which torch does not know either. Converting twice does nothing.

    Raises:
        TypeError: model is not a torch.nn.Module.
    """
    return _swap(model, _OURS)


def to_torch(model: Model) -> Model:
    """Replace every layer and cell of this package in a model by torch.nn's: `convert` the other way."""
    return _swap(model, _TORCHS)


def _swap(model: Any, table: dict[type, type]) -> Any:
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"expected a torch.nn.Module, got {type(model).__name__}")
    swapped = {old: new for old in model.modules() if (new := _replacement(old, table)) is not None}
    for parent in (*model.modules(), *swapped.values()):
        for name, child in parent._modules.items():
            if child in swapped:
                parent._modules[name] = swapped[child]
    return swapped.get(model, model)


def _replacement(old: torch.nn.Module, table: dict[type, type]) -> torch.nn.Module | None:
    """The new module in place of an old one; None if it is not of a type to swap."""
    cls = table.get(type(old))
    if cls is None and parametrize.is_parametrized(old):
        # A parametrized module has a class of its own, a subclass of the layer's with a property for each
        # weight. The new one gets a class with the same body.
        base = table.get(type(old).__bases__[0])
        body = {key: value for key, value in vars(type(old)).items() if key not in ("__dict__", "__weakref__")}
        cls = base and type(type(old).__name__, (base,), body)
    if cls is None:
        return None
    new: torch.nn.Module = object.__new__(cls)
    # Both are the same torch base class with the same attributes.
    new.__dict__.update({key: value.copy() if key in _OWN else value for key, value in vars(old).items()})
    hooks: dict[int, Any] = new._load_state_dict_pre_hooks
    for key, hook in hooks.items():
        if isinstance(hook, torch_module._WrappedHook) and hook.with_module:
            hooks[key] = torch_module._WrappedHook(hook.hook, new)  # such a hook refers to its module, weakly
    return new

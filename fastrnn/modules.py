"""RNN, GRU and LSTM layers: drop-in replacements for those of torch.nn, on this package's kernels.

They are `torch.nn.RNNBase` modules, so parameters and their names, the initial draws for a seed, repr,
state_dict, pickling and copying are torch's own. They are not torch.nn.RNN, GRU or LSTM themselves:
torch.compile refuses those.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from fastrnn import _checks, autograd
from fastrnn._again import Again
from fastrnn._packed import PackedOnce
from fastrnn._quick import quick
from fastrnn._run import outside_of_graph, run_layers, run_packed

__all__ = ["GRU", "LSTM", "RNN"]

_CELL_OF_MODE = {"LSTM": "lstm", "GRU": "gru", "RNN_TANH": "rnn_tanh", "RNN_RELU": "rnn_relu"}


def current_weights(module: torch.nn.Module, names: Sequence[str]) -> list[Any]:
    """The module's weights as they are now: Parameters, or what a parametrization, a weight norm or
    `torch.func.functional_call` has put in their place."""
    held = module._parameters  # looked up first: attribute access of nn.Module costs a microsecond a weight
    try:
        return [*map(held.__getitem__, names)]
    except KeyError:
        return [held[name] if name in held else getattr(module, name) for name in names]


class _Recurrent(Again, torch.nn.RNNBase):
    """What the three layers share."""

    recurrent_layer = staticmethod(autograd.recurrent_layer)  # one layer in one direction; `reference` has its own

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        proj_size: int,
        device: Any,
        dtype: torch.dtype | None,
    ) -> None:
        _checks.check_layer_arguments(input_size, hidden_size, num_layers, bias, batch_first, dropout, proj_size)
        if dropout > 0 and num_layers == 1:
            warnings.warn(
                "dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects "
                f"num_layers greater than 1, but got dropout={dropout} and num_layers={num_layers}",
                stacklevel=3,
            )
        # dropout is set afterwards, so that the base class does not warn again and from a line of ours
        sizes = (input_size, hidden_size, num_layers)
        super().__init__(mode, *sizes, bias, batch_first, 0.0, bidirectional, proj_size, device=device, dtype=dtype)
        self.dropout = float(dropout)

    @property
    def weight_dtype(self) -> torch.dtype | None:
        """How a float32 layer keeps weight_ih and weight_hh for calls on the CPU that record no gradients: None, as
        they are; torch.float32, beside them in the order in which the kernels read them, which a call otherwise makes
        for itself; torch.bfloat16, so and rounded: half the memory to read, for batches of few rows and large layers.
        Activations and states stay float32. The packing is made at the first call and kept until the weights change;
        set this anew after a change through `.data`, which cannot be noticed."""
        return None if self._packed is None else self._packed.dtype

    @weight_dtype.setter
    def weight_dtype(self, dtype: torch.dtype | None) -> None:
        if dtype not in (None, torch.float32, torch.bfloat16):
            raise ValueError(f"weight_dtype should be torch.float32, torch.bfloat16 or None, got {dtype}")
        self.__dict__.pop("_packed", None)
        if dtype is not None:
            self._packed = PackedOnce(dtype)

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        """What `to`, `bfloat16`, `share_memory` and their like come to. They put other memory behind the same
        parameters, perhaps memory that these had before, when their values were others."""
        try:
            return super()._apply(*args, **kwargs)
        finally:  # also where it came to some of them only
            if self._packed is not None:
                self._packed.forget()

    def extra_repr(self) -> str:
        kept = "" if self._packed is None else f", weight_dtype={self.weight_dtype}"
        return super().extra_repr() + kept

    def flatten_parameters(self) -> None:
        """Do nothing: the kernels never need the weights in one piece of memory. For torch.nn's callers."""

    def forward(self, input: Tensor | PackedSequence, hx: Any = None) -> tuple[Any, Any]:
        """Run the layers. Shapes, dtypes and errors: `fastrnn.functional`.

        Args:
            input: (T, B, I), (B, T, I) with batch_first, (T, I) for one sequence, or a PackedSequence.
            hx: (L*D, B, P), or (L*D, P) for one sequence; an LSTM takes a pair (h_0, c_0). None means zeros.

        Returns:
            output, with D*P features, and h_n, or output and (h_n, c_n) for an LSTM.
        """
        settings, weights = self._settings(), current_weights(self, self._flat_weights_names)
        cell = _CELL_OF_MODE[self.mode]
        if (
            self.num_layers == 1
            and not (self.bidirectional or self.batch_first or self.proj_size)
            and self.recurrent_layer is autograd.recurrent_layer
        ):
            results = (
                run_packed(cell, input, hx, weights, self.hidden_size)
                if self._packed is None and isinstance(input, PackedSequence)
                else quick(cell, input, hx, weights, self.hidden_size, packed=self._packed, owner=(self, settings))
            )
            if results is not None:
                return results
        stack = _checks.Stack(
            cell,
            self.input_size,
            self.hidden_size,
            self.proj_size,
            self.num_layers,
            self.bias,
            self.batch_first,
            self.dropout,
            self.training,
            self.bidirectional,
        )
        if self._packed is None:
            return run_layers(stack, input, hx, weights, self.recurrent_layer)
        layer = self._packed.recurrent_layer
        if torch.compiler.is_dynamo_compiling():
            return outside_of_graph(run_layers, stack, input, hx, weights, layer)
        return run_layers(stack, input, hx, weights, layer)

    _plain_forward = forward


class RNN(_Recurrent):
    """Elman network (J. L. Elman, Cognitive Science 14, 1990), as `torch.nn.RNN`.

    h_t = act(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), with act tanh or ReLU: `fastrnn.reference.elman_step`.

    Args:
        input_size, hidden_size, num_layers: I, H and L, each at least 1.
        nonlinearity: 'tanh' or 'relu'.
        bias: whether there are bias vectors b_ih and b_hh.
        batch_first: whether input and output are (B, T, features) in place of (T, B, features).
        dropout: probability of dropping a value between two layers while training.
        bidirectional: whether a second set of weights runs from the last step to the first (D = 2).
        proj_size: not for this layer; there to say so.
        device, dtype: of the parameters.

    Attribute weight_dtype, not in torch.nn: packs the weights once for inference on the CPU, as they are
    (torch.float32) or rounded (torch.bfloat16).

    Parameters, for layer k, and with the suffix _reverse for the second direction: weight_ih_l{k} (G*H, I),
    or (G*H, D*P) for k > 0, weight_hh_l{k} (G*H, P), bias_ih_l{k} and bias_hh_l{k} (G*H); G = 1 and P = H.

    Raises:
        TypeError, ValueError: an argument is of a wrong type or out of range (torch.nn's texts).
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        _refuse_projection(proj_size)
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        mode, sizes = f"RNN_{nonlinearity.upper()}", (input_size, hidden_size, num_layers)
        super().__init__(mode, *sizes, bias, batch_first, dropout, bidirectional, 0, device, dtype)
        self.nonlinearity = nonlinearity


class GRU(_Recurrent):
    """Gated recurrent unit (Cho et al., EMNLP 2014), as `torch.nn.GRU`: gates r, z, n; reset gate after the
    product.

    Equations 5 to 8 of `fastrnn.reference.gru_step`. Arguments, parameters (with G = 3) and errors are those
    of `fastrnn.RNN`, without nonlinearity.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        _refuse_projection(proj_size)
        sizes = (input_size, hidden_size, num_layers)
        super().__init__("GRU", *sizes, bias, batch_first, dropout, bidirectional, 0, device, dtype)


class LSTM(_Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber, Neural Computation 9, 1997, with the forget gate of
    Gers et al., Neural Computation 12, 2000), as `torch.nn.LSTM`: gates i, f, g, o.

    Equations 7 to 12 of `fastrnn.reference.lstm_step`. Arguments, parameters (with G = 4) and errors are
    those of `fastrnn.RNN`, without nonlinearity, and

    Args:
        proj_size: P, the size of h under a recurrent projection weight_hr_l{k} (P, H) (Sak et al.,
            Interspeech 2014), below hidden_size; 0 for no projection.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        sizes = (input_size, hidden_size, num_layers)
        super().__init__("LSTM", *sizes, bias, batch_first, dropout, bidirectional, proj_size, device, dtype)


def _refuse_projection(proj_size: Any) -> None:
    if proj_size is not None:
        raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")

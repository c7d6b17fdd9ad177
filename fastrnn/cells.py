"""RNNCell, GRUCell and LSTMCell: one step as a module, drop-in replacements for those of torch.nn."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastrnn import _checks, functional
from fastrnn.modules import current_weights

__all__ = ["GRUCell", "LSTMCell", "RNNCell"]

_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class _Cell(torch.nn.RNNCellBase):
    """What the three cells share."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool,
        num_chunks: int,
        device: Any,
        dtype: torch.dtype | None,
    ) -> None:
        _checks.check_cell_sizes(input_size, hidden_size)
        super().__init__(input_size, hidden_size, bias, num_chunks, device=device, dtype=dtype)


class RNNCell(_Cell):
    """One Elman step (J. L. Elman, 1990), as `torch.nn.RNNCell`.

    Args:
        input_size, hidden_size: I and H, each at least 1.
        bias: whether there are bias vectors bias_ih and bias_hh (H).
        nonlinearity: 'tanh' or 'relu'.
        device, dtype: of the parameters weight_ih (H, I), weight_hh (H, H) and the biases.

    Raises:
        ValueError: a size is below one.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """input (B, I) or (I), hx (B, H) or (H) or None for zeros; returns h' like hx. Errors: `functional.rnn_cell`."""
        return functional.rnn_cell(input, hx, *current_weights(self, _WEIGHTS), self.nonlinearity)


class GRUCell(_Cell):
    """One GRU step (Cho et al. 2014), as `torch.nn.GRUCell`: weight_ih (3*H, I), weight_hh (3*H, H), gates r, z, n.

    Arguments and errors as for `fastrnn.RNNCell`, without nonlinearity.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """input (B, I) or (I), hx (B, H) or (H) or None for zeros; returns h' like hx. Errors: `functional.gru_cell`."""
        return functional.gru_cell(input, hx, *current_weights(self, _WEIGHTS))


class LSTMCell(_Cell):
    """One LSTM step (Gers et al. 2000), as `torch.nn.LSTMCell`: weight_ih (4*H, I), weight_hh (4*H, H), gates i, f, g, o.

    Arguments and errors as for `fastrnn.RNNCell`, without nonlinearity.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """input (B, I) or (I), hx a pair (B, H) or (H) or None for zeros; returns (h', c') like hx.
        Errors: `functional.lstm_cell`."""
        return functional.lstm_cell(input, hx, *current_weights(self, _WEIGHTS))

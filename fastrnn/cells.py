"""RNNCell, GRUCell and LSTMCell: one step as a module, drop-in replacements for those of torch.nn."""

from numbers import Integral
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
        gates: int,
        device: Any,
        dtype: torch.dtype | None,
    ) -> None:
        _checks.check_sizes(input_size, hidden_size, Integral)
        super().__init__(input_size, hidden_size, bias, gates, device=device, dtype=dtype)


class RNNCell(_Cell):
    """One Elman step (J. L. Elman, 1990), as `torch.nn.RNNCell`.

    Args:
        input_size, hidden_size: I and H, each at least 1.
        bias: whether there are bias vectors bias_ih and bias_hh (H).
        nonlinearity: 'tanh' or 'relu'; another is refused when the cell is called.
        device, dtype: of the parameters weight_ih (H, I), weight_hh (H, H) and the biases.

    Raises:
        TypeError: a size is not an integer.
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
        """input (B, I) or (I), hx (B, H) or (H), or None for zeros; returns h' like hx.

        Errors: `fastrnn.functional.rnn_cell`.
        """
        w_ih, w_hh, b_ih, b_hh = current_weights(self, _WEIGHTS)
        return functional.rnn_cell(input, hx, w_ih, w_hh, b_ih, b_hh, self.nonlinearity)


class GRUCell(_Cell):
    """One GRU step (Cho et al. 2014), as `torch.nn.GRUCell`: gates r, z, n.

    Arguments and errors are those of `fastrnn.RNNCell`, without nonlinearity; parameters have 3*H rows.
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
        """input (B, I) or (I), hx (B, H) or (H), or None for zeros; returns h' like hx.

        Errors: `fastrnn.functional.gru_cell`.
        """
        w_ih, w_hh, b_ih, b_hh = current_weights(self, _WEIGHTS)
        return functional.gru_cell(input, hx, w_ih, w_hh, b_ih, b_hh)


class LSTMCell(_Cell):
    """One LSTM step (Gers et al. 2000), as `torch.nn.LSTMCell`: gates i, f, g, o.

    Arguments and errors are those of `fastrnn.RNNCell`, without nonlinearity; parameters have 4*H rows.
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
        """input (B, I) or (I), hx a pair of (B, H) or (H), or None for zeros; returns (h', c') like hx.

        Errors: `fastrnn.functional.lstm_cell`.
        """
        w_ih, w_hh, b_ih, b_hh = current_weights(self, _WEIGHTS)
        return functional.lstm_cell(input, hx, w_ih, w_hh, b_ih, b_hh)

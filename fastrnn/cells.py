"""RNNCell, GRUCell and LSTMCell: one step as a module, drop-in replacements for those of torch.nn."""

from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from fastrnn import _checks
from fastrnn._quick import quick
from fastrnn._run import run_step
from fastrnn.modules import current_weights

__all__ = ["GRUCell", "LSTMCell", "RNNCell"]

_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class _Cell(torch.nn.RNNCellBase):
    """What the three cells share."""

    _last: Any = None  # what `quick` keeps here

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

    def _step(self, cell: str, input: Any, hx: Any) -> Any:
        """One step: h', or the pair of h' and c' for an LSTM, in a tuple or list."""
        weights = current_weights(self, _WEIGHTS)
        results = quick(cell, input, hx, weights, self.hidden_size, True, owner=self)
        return run_step(cell, input, hx, weights) if results is None else results


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
        return self._step(_checks.elman(self.nonlinearity), input, hx)[0]


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
        return self._step("gru", input, hx)[0]


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
        h_n, c_n = self._step("lstm", input, hx)
        return h_n, c_n

"""RNNCell, GRUCell and LSTMCell: one step as a module, drop-in replacements for those of torch.nn."""

from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from fastrnn import _checks
from fastrnn._again import Again
from fastrnn._quick import CELL_WEIGHTS, quick
from fastrnn._run import run_step
from fastrnn.modules import current_weights

__all__ = ["GRUCell", "LSTMCell", "RNNCell"]


class _Cell(Again, torch.nn.RNNCellBase):
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

    def _cell_name(self) -> str:
        """The kernels' name of the cell, which each class gives."""
        raise NotImplementedError

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """One step.

        Args:
            input: (B, I) or (I).
            hx: h (B, H) or (H), of an LSTM the pair of h and c; None means zeros.

        Returns: h', or of an LSTM the pair of h' and c', like hx.

        Errors: `fastrnn.functional.rnn_cell`, `gru_cell` and `lstm_cell`.
        """
        settings = self._settings()
        cell, weights = self._cell_name(), current_weights(self, CELL_WEIGHTS)
        results = quick(cell, input, hx, weights, self.hidden_size, True, owner=(self, settings))
        if results is None:
            results = run_step(cell, input, hx, weights)
        return tuple(results) if cell == "lstm" else results[0]

    _plain_forward = forward


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

    def _cell_name(self) -> str:
        return _checks.elman(self.nonlinearity)


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

    def _cell_name(self) -> str:
        return "gru"


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

    def _cell_name(self) -> str:
        return "lstm"

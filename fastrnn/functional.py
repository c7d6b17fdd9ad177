"""Recurrent layers and cells as functions of their weights.

`rnn_tanh`, `rnn_relu`, `gru` and `lstm` run a stack of layers, `rnn_cell`, `gru_cell` and `lstm_cell` one
step. The modules of this package hold the weights of these. The mathematics is in `fastrnn.reference`.

Shapes of a stack of L layers in D directions, with input size I, hidden size H, and P for the size of h,
which is H or the projection's::

    input    (T, B, I), (B, T, I) with batch_first, (T, I) for one sequence, or a PackedSequence
    hx       (L*D, B, P), or (L*D, P) for one sequence; an LSTM takes a pair (h_0, c_0), c_0 with H in place
             of P; None means zeros
    weights  a flat sequence, by layer and then direction: weight_ih (G*H, I), from the second layer on
             (G*H, D*P), weight_hh (G*H, P), with bias also bias_ih (G*H) and bias_hh (G*H), with a projection
             also weight_hr (P, H). Gates in the order r z n (GRU, G = 3) or i f g o (LSTM, G = 4)
    output   like input, with D*P features
    h_n, c_n like hx

Dropout with probability `dropout` falls on the outputs of all layers but the last, if `training`.

Dtypes: float32, float64, bfloat16 and float16; input, states and weights share one. Under autocast all of
them are cast to the autocast dtype, except float64, which autocast leaves alone everywhere, and results have
that dtype: the same for every cell on every device.

Errors have torch.nn's texts where it has one. ValueError: the input's rank, dtypes that do not match, a
PackedSequence that contradicts itself. RuntimeError: sizes or devices that do not match, T = 0. TypeError: an
unsupported dtype or object. B = 0 is allowed, and gives the weights gradients of zero.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from fastrnn._checks import NAMES, Stack, elman
from fastrnn._quick import quick
from fastrnn._run import run_layers, run_step, sizes_of

__all__ = ["gru", "gru_cell", "lstm", "lstm_cell", "rnn_cell", "rnn_relu", "rnn_tanh"]


def rnn_tanh(
    input: Tensor | PackedSequence,
    hx: Tensor | None,
    weights: Sequence[Tensor],
    num_layers: int = 1,
    bias: bool = True,
    batch_first: bool = False,
    dropout: float = 0.0,
    training: bool = False,
    bidirectional: bool = False,
) -> tuple[Any, Tensor]:
    """Elman layers with tanh (Elman 1990). Returns output, h_n. Shapes, dtypes, errors: module's head."""
    return _run("rnn_tanh", input, hx, weights, num_layers, bias, batch_first, dropout, training, bidirectional)


def rnn_relu(
    input: Tensor | PackedSequence,
    hx: Tensor | None,
    weights: Sequence[Tensor],
    num_layers: int = 1,
    bias: bool = True,
    batch_first: bool = False,
    dropout: float = 0.0,
    training: bool = False,
    bidirectional: bool = False,
) -> tuple[Any, Tensor]:
    """Elman layers with ReLU (Elman 1990). Returns output, h_n. Shapes, dtypes, errors: module's head."""
    return _run("rnn_relu", input, hx, weights, num_layers, bias, batch_first, dropout, training, bidirectional)


def gru(
    input: Tensor | PackedSequence,
    hx: Tensor | None,
    weights: Sequence[Tensor],
    num_layers: int = 1,
    bias: bool = True,
    batch_first: bool = False,
    dropout: float = 0.0,
    training: bool = False,
    bidirectional: bool = False,
) -> tuple[Any, Tensor]:
    """GRU layers (Cho et al. 2014, reset gate after the product). Returns output, h_n. Shapes, dtypes,
    errors: module's head."""
    return _run("gru", input, hx, weights, num_layers, bias, batch_first, dropout, training, bidirectional)


def lstm(
    input: Tensor | PackedSequence,
    hx: tuple[Tensor, Tensor] | None,
    weights: Sequence[Tensor],
    num_layers: int = 1,
    bias: bool = True,
    batch_first: bool = False,
    dropout: float = 0.0,
    training: bool = False,
    bidirectional: bool = False,
) -> tuple[Any, tuple[Tensor, Tensor]]:
    """LSTM layers (Hochreiter & Schmidhuber 1997, Gers et al. 2000), projected (Sak et al. 2014) if the
    weights hold weight_hr. Returns output, (h_n, c_n). Shapes, dtypes, errors: module's head."""
    return _run("lstm", input, hx, weights, num_layers, bias, batch_first, dropout, training, bidirectional)


def _run(
    cell: str,
    input: Any,
    hx: Any,
    weights: Sequence[Tensor],
    num_layers: int,
    bias: bool,
    batch_first: bool,
    dropout: float,
    training: bool,
    bidirectional: bool,
) -> tuple[Any, Any]:
    """A stack whose sizes are read off its first layer's weights."""
    input_size, hidden_size = sizes_of(NAMES[cell], cell, weights)
    blocks = num_layers * (2 if bidirectional else 1)
    if (
        blocks == 1
        and bias
        and not batch_first
        and (results := quick(cell, input, hx, weights, hidden_size)) is not None
    ):
        return results
    projected = cell == "lstm" and len(weights) == blocks * (5 if bias else 3)
    proj_size = weights[1].shape[1] if projected else 0
    stack = Stack(
        cell,
        input_size,
        hidden_size,
        proj_size,
        num_layers,
        bias,
        batch_first,
        dropout,
        training,
        bidirectional,
    )
    return run_layers(stack, input, hx, weights)


def rnn_cell(
    input: Tensor,
    hx: Tensor | None,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
    nonlinearity: str = "tanh",
) -> Tensor:
    """One Elman step (Elman 1990): input (B, I) or (I), hx (B, H) or (H) or None (zeros); returns h' like hx.

    Weights of one layer of a stack, both biases or neither. Dtypes and errors as at the head of this module;
    RuntimeError also for a nonlinearity other than 'tanh' and 'relu'.
    """
    return _step(elman(nonlinearity), input, hx, (w_ih, w_hh, b_ih, b_hh))[0]


def gru_cell(
    input: Tensor,
    hx: Tensor | None,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> Tensor:
    """One GRU step (Cho et al. 2014): input (B, I) or (I), hx (B, H) or (H) or None (zeros); returns h' like
    hx.

    Weights of one layer of a stack, both biases or neither. Dtypes and errors as at the head of this module.
    """
    return _step("gru", input, hx, (w_ih, w_hh, b_ih, b_hh))[0]


def lstm_cell(
    input: Tensor,
    hx: tuple[Tensor, Tensor] | None,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One LSTM step (Gers et al. 2000): input (B, I) or (I), hx a pair of (B, H) or (H), or None (zeros);
    returns (h', c') like hx.

    Weights of one layer of a stack, both biases or neither. Dtypes and errors as at the head of this module.
    """
    h_n, c_n = _step("lstm", input, hx, (w_ih, w_hh, b_ih, b_hh))
    return h_n, c_n


def _step(cell: str, input: Any, hx: Any, weights: Sequence[Any]) -> Sequence[Tensor]:
    """One step, whose size is read off its weights."""
    w_hh = weights[1]
    if isinstance(w_hh, Tensor) and w_hh.dim() == 2:
        results: Sequence[Tensor] | None = quick(cell, input, hx, weights, w_hh.shape[1], True)
        if results is not None:
            return results
    return run_step(cell, input, hx, weights)

"""Recurrent layers and cells as functions of their weights: layers, directions, dropout, packing, autocast.

`rnn_tanh`, `rnn_relu`, `gru` and `lstm` run a stack of layers, `rnn_cell`, `gru_cell` and `lstm_cell` one step. The
modules of this package hold the weights and call these. The mathematics is in `fastrnn.reference`.

Shapes of a stack, with L layers, D directions, input size I, hidden size H, output size P (H, or the projection's)::

    input    (T, B, I), (B, T, I) with batch_first, (T, I) for one sequence, or a PackedSequence
    hx       (L*D, B, P), or (L*D, P) for one sequence; an LSTM takes a pair (h_0, c_0), c_0 with H for P; None: zeros
    weights  flat, by layer and then direction: weight_ih (G*H, I or D*P), weight_hh (G*H, P), with bias also
             bias_ih (G*H) and bias_hh (G*H), with a projection also weight_hr (P, H).
             Gate order: GRU r, z, n; LSTM i, f, g, o
    output   like input, with D*P features;  h_n, c_n like hx

Dtypes: float32, float64, bfloat16, float16; input, states and weights share one. Under autocast all of them are cast to
the autocast dtype, float64 excepted (autocast leaves it alone everywhere), and results have that dtype: the same for
every cell, on every device.

Errors, with torch.nn's texts where it has one: ValueError for the input's rank and for dtypes that do not match,
RuntimeError for sizes and devices that do not match and for T = 0, TypeError for an unsupported dtype or object.
B = 0 is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import dropout as _dropout
from torch.nn.utils.rnn import PackedSequence

from fastrnn import _checks as checks
from fastrnn.autograd import recurrent_layer

__all__ = ["gru", "gru_cell", "lstm", "lstm_cell", "rnn_cell", "rnn_relu", "rnn_tanh", "run_layers"]

Layer = Callable[..., tuple[Tensor, Tensor, "Tensor | None"]]

# One private call instead of two public ones, for it is on the path of every step; torch.nn.RNNBase asks it as well.
_any_autocast: Callable[[], bool] = getattr(torch._C, "_is_any_autocast_enabled", lambda: True)


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
    """Elman layers with tanh (Elman 1990). Returns output, h_n; shapes, dtypes and errors at the head of this file."""
    return _stack(
        "rnn_tanh", input, hx, weights, num_layers, bias, batch_first, dropout, training, bidirectional
    )


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
    """Elman layers with ReLU (Elman 1990). Returns output, h_n; shapes, dtypes and errors at the head of this file."""
    return _stack(
        "rnn_relu", input, hx, weights, num_layers, bias, batch_first, dropout, training, bidirectional
    )


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
    """Gated recurrent unit layers (Cho et al. 2014, reset after the product). Returns output, h_n; shapes, dtypes and
    errors at the head of this file."""
    return _stack("gru", input, hx, weights, num_layers, bias, batch_first, dropout, training, bidirectional)


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
    """Long short-term memory layers (Hochreiter & Schmidhuber 1997, Gers et al. 2000; projection Sak et al. 2014 if
    the weights hold weight_hr). Returns output, (h_n, c_n); shapes, dtypes and errors at the head of this file."""
    return _stack("lstm", input, hx, weights, num_layers, bias, batch_first, dropout, training, bidirectional)


def _stack(
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
    """`run_layers` with the sizes read off the first layer's weights."""
    input_size, hidden_size = _sizes(checks.NAMES[cell], cell, weights)
    projected = cell == "lstm" and len(weights) == num_layers * (2 if bidirectional else 1) * (
        5 if bias else 3
    )
    return run_layers(
        cell,
        input,
        hx,
        weights,
        input_size,
        hidden_size,
        weights[1].shape[1] if projected else 0,
        num_layers,
        bias,
        batch_first,
        dropout,
        training,
        bidirectional,
    )


def _sizes(name: str, cell: str, weights: Sequence[Any]) -> tuple[int, int]:
    """input_size and hidden_size, read off weight_ih and weight_hh."""
    if len(weights) < 2 or not all(isinstance(w, Tensor) and w.dim() == 2 for w in weights[:2]):
        raise TypeError(
            f"{name}: weights should begin with the matrices weight_ih (G*H, I) and weight_hh (G*H, H), "
            f"where G = {checks.GATES[cell]}"
        )
    return weights[0].shape[1], weights[1].shape[0] // checks.GATES[cell]


def run_layers(
    cell: str,
    input: Any,
    hx: Any,
    weights: Sequence[Tensor],
    input_size: int,
    hidden_size: int,
    proj_size: int,
    num_layers: int,
    bias: bool,
    batch_first: bool,
    dropout: float,
    training: bool,
    bidirectional: bool,
    layer: Layer = recurrent_layer,
) -> tuple[Any, Any]:
    """Check a call and run its layers; what the functions above and the modules share.

    `layer` computes one layer in one direction (signature of `fastrnn.autograd.recurrent_layer`). Returns output and
    h_n, or output and (h_n, c_n) for 'lstm'.
    """
    name = checks.NAMES[cell]
    packed = isinstance(input, PackedSequence)
    x, batch_sizes, sorted_indices, unsorted_indices = input if packed else (input, None, None, None)
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: input should be a Tensor or a PackedSequence, got {type(x).__name__}")
    states = checks.states_of(name, hx, cell == "lstm")
    if _any_autocast() and (dtype := _autocast_dtype(x)) is not None:
        with torch.autocast(x.device.type, enabled=False):
            return run_layers(
                cell,
                _cast(dtype, input),
                _cast(dtype, hx),
                _cast(dtype, weights),
                input_size,
                hidden_size,
                proj_size,
                num_layers,
                bias,
                batch_first,
                dropout,
                training,
                bidirectional,
                layer,
            )

    directions = 2 if bidirectional else 1
    checks.check_input(name, x, states, packed)
    checks.check_weights(
        name,
        weights,
        checks.weight_shapes(cell, input_size, hidden_size, proj_size, num_layers, directions, bias),
        lambda: checks.weight_names(num_layers, directions, bias, proj_size),
    )
    checks.check_tensor(name, x, weights[0])
    if x.shape[-1] != input_size:
        raise RuntimeError(
            f"input.size(-1) must be equal to input_size. Expected {input_size}, got {x.shape[-1]}"
        )
    single = False
    if packed:
        batch = checks.check_batch_sizes(x.shape[0], batch_sizes, sorted_indices, unsorted_indices)
    else:
        single = x.dim() == 2
        if single:
            x = x.unsqueeze(1)
            states = tuple(state.unsqueeze(1) for state in states)
        elif batch_first:
            x = x.transpose(0, 1)
        batch = x.shape[1]
    blocks, out_size = num_layers * directions, proj_size or hidden_size
    shapes = (blocks, batch, out_size), (blocks, batch, hidden_size)
    if states:
        checks.check_states(states, x, shapes)
        if sorted_indices is not None:
            states = tuple(state.index_select(1, sorted_indices) for state in states)
    if not packed and x.shape[0] == 0:
        raise RuntimeError("Expected sequence length to be larger than 0 in RNN")

    if batch == 0:
        y, *finals = _empty_results((x, *states, *weights), (x.shape[0], 0, directions * out_size), *shapes)
    else:
        y, finals = _run(
            cell,
            x,
            states,
            weights,
            num_layers,
            directions,
            bias,
            proj_size > 0,
            dropout if training else 0.0,
            batch_sizes,
            layer,
        )
    if packed:
        y = PackedSequence(y, batch_sizes, sorted_indices, unsorted_indices)
        if unsorted_indices is not None:
            finals = [state.index_select(1, unsorted_indices) for state in finals]
    elif single:
        y = y.squeeze(1)
        finals = [state.squeeze(1) for state in finals]
    elif batch_first:
        y = y.transpose(0, 1)
    return y, (finals[0], finals[1]) if cell == "lstm" else finals[0]


def _autocast_dtype(x: Tensor) -> torch.dtype | None:
    """The dtype autocast asks for on x's device, or None where it is off or unknown (the meta device)."""
    kind = x.device.type
    on = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if on else None


def _cast(dtype: torch.dtype, value: Any) -> Any:
    """Cast every Tensor in value that autocast may cast."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() and value.dtype is not torch.float64 else value
    if isinstance(value, PackedSequence):
        return PackedSequence(_cast(dtype, value.data), *value[1:])
    return None if value is None else [_cast(dtype, part) for part in value]


def _empty_results(tensors: Sequence[Tensor], *shapes: tuple[int, ...]) -> list[Tensor]:
    """Results of a batch of no sequences. They hang on every tensor, so that each gets a gradient, and it is zero."""
    anchor = sum(tensor.sum() for tensor in tensors)
    return [tensors[0].new_zeros(shape) + anchor for shape in shapes]


def _run(
    cell: str,
    x: Tensor,
    states: Sequence[Tensor],
    weights: Sequence[Tensor],
    num_layers: int,
    directions: int,
    bias: bool,
    projected: bool,
    dropout: float,
    batch_sizes: Tensor | None,
    layer: Layer,
) -> tuple[Tensor, list[Tensor]]:
    """The layers one after another, on checked arguments. Returns the last layer's y and the stacked final states."""
    blocks = num_layers * directions
    # A lone state is squeezed rather than unbound: its backward is a view, that of unbind a copy.
    initial = [[state.squeeze(0)] if blocks == 1 else state.unbind(0) for state in states]
    finals: tuple[list[Tensor], list[Tensor]] = [], []
    per_block = len(weights) // blocks
    for index in range(num_layers):
        outputs = []
        for direction in range(directions):
            block = index * directions + direction
            w_ih, w_hh, *rest = weights[block * per_block : (block + 1) * per_block]
            b_ih, b_hh = rest[:2] if bias else (None, None)
            y, h_n, c_n = layer(
                cell,
                x,
                initial[0][block] if states else None,
                initial[1][block] if len(states) == 2 else None,
                w_ih,
                w_hh,
                b_ih,
                b_hh,
                rest[-1] if projected else None,
                batch_sizes,
                direction == 1,
            )
            outputs.append(y)
            finals[0].append(h_n)
            if c_n is not None:
                finals[1].append(c_n)
        x = outputs[0] if directions == 1 else torch.cat(outputs, -1)
        if dropout and index + 1 < num_layers:
            x = _dropout(x, dropout, True)
    return x, [one[0].unsqueeze(0) if blocks == 1 else torch.stack(one) for one in finals if one]


def rnn_cell(
    input: Tensor,
    hx: Tensor | None,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
    nonlinearity: str = "tanh",
) -> Tensor:
    """One Elman step. input (B, I) or (I), hx (B, H) or (H) or None for zeros; returns h' like hx.

    Dtypes and errors as at the head of this file; RuntimeError for a nonlinearity other than 'tanh' or 'relu'.
    Source: Elman 1990, eq. E1 of `fastrnn.reference`.
    """
    if nonlinearity not in ("tanh", "relu"):
        raise RuntimeError(f"Unknown nonlinearity: {nonlinearity}")
    return _cell("rnn_" + nonlinearity, input, hx, (w_ih, w_hh, b_ih, b_hh))[0]


def gru_cell(
    input: Tensor,
    hx: Tensor | None,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> Tensor:
    """One GRU step (Cho et al. 2014). input (B, I) or (I), hx (B, H) or (H) or None for zeros; returns h' like hx.

    Dtypes and errors as at the head of this file.
    """
    return _cell("gru", input, hx, (w_ih, w_hh, b_ih, b_hh))[0]


def lstm_cell(
    input: Tensor,
    hx: tuple[Tensor, Tensor] | None,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One LSTM step (Gers et al. 2000). input (B, I) or (I), hx a pair (B, H) or (H) or None for zeros; returns
    (h', c') like hx.

    Dtypes and errors as at the head of this file.
    """
    h_n, c_n = _cell("lstm", input, hx, (w_ih, w_hh, b_ih, b_hh))
    return h_n, c_n


def _cell(cell: str, x: Tensor, hx: Any, weights: Sequence[Any]) -> list[Tensor]:
    """One step of a cell, run as a sequence of length one. Returns [h'] or [h', c']."""
    name = checks.NAMES[cell] + "Cell"
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: input should be a Tensor, got {type(x).__name__}")
    states = checks.states_of(name, hx, cell == "lstm")
    if _any_autocast() and (dtype := _autocast_dtype(x)) is not None:
        with torch.autocast(x.device.type, enabled=False):
            return _cell(cell, _cast(dtype, x), _cast(dtype, hx), _cast(dtype, weights))

    w_ih, w_hh, b_ih, b_hh = weights
    input_size, hidden_size = _sizes(name, cell, weights)
    bias = b_ih is not None or b_hh is not None
    given = weights if bias else weights[:2]
    checks.check_weights(
        name,
        given,
        checks.weight_shapes(cell, input_size, hidden_size, 0, 1, 1, bias),
        lambda: ("weight_ih", "weight_hh", "bias_ih", "bias_hh"),
    )
    checks.check_tensor(name, x, w_ih)
    checks.check_cell_call(name, x, states, input_size, hidden_size)
    single = x.dim() == 1
    if single:
        x = x.unsqueeze(0)
        states = tuple(state.unsqueeze(0) for state in states)
    hx, cx = (*states, None, None)[:2]
    if x.shape[0] == 0:
        finals = _empty_results((x, *states, *given), (0, hidden_size), (0, hidden_size))
    else:
        _, *finals = recurrent_layer(cell, x.unsqueeze(0), hx, cx, w_ih, w_hh, b_ih, b_hh)
    return [state.squeeze(0) if single else state for state in finals if state is not None]

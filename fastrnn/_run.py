"""Runs a stack of layers, or one step of a cell: checks, autocast, packing, layers and directions, dropout.

`fastrnn.functional` and the modules call these two functions, and nothing else calls a layer.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import dropout as drop
from torch.nn.utils.rnn import PackedSequence

from fastrnn import _checks as checks
from fastrnn._checks import Stack
from fastrnn._guards import any_autocast
from fastrnn._quick import quick
from fastrnn.autograd import recurrent_layer, transformed

# Whether torch.compile reads this code; unlike `is_compiling`, not while it works elsewhere in the process.
_compiling = torch.compiler.is_dynamo_compiling

# What fullgraph=True is told, where torch takes a reason.
_WHY_BREAK = (
    {"msg": "fastrnn runs a PackedSequence, weight_dtype and torch.func outside of graphs"}
    if torch.__version__ >= "2.7"  # compared as versions are
    else {}
)

Layer = Callable[..., tuple[Tensor, Tensor, Tensor | None]]


def outside_of_graph(run: Callable[..., Any], *args: Any) -> Any:
    """run(*args) as without torch.compile, whose graph breaks here."""
    torch._dynamo.graph_break(**_WHY_BREAK)
    return torch.compiler.disable(run)(*args)


def run_packed(cell: str, input: Any, hx: Any, weights: Sequence[Tensor], units: int) -> tuple[Any, Any] | None:
    """One layer in one direction on a PackedSequence, by the short way; None where `run_layers` should see to it."""
    x, batch_sizes, sorted_indices, unsorted_indices = input
    if _compiling() or not isinstance(x, Tensor) or x.dim() != 2 or (hx is not None and sorted_indices is not None):
        return None
    sizes = checks.check_packed(x.shape[0], batch_sizes, sorted_indices, unsorted_indices)
    results = quick(cell, x, hx, weights, units, batch_sizes=sizes)
    if results is None:
        return None
    y, final = results
    finals = _selected(final if cell == "lstm" else (final,), unsorted_indices)
    return PackedSequence(y, batch_sizes, sorted_indices, unsorted_indices), finals if cell == "lstm" else finals[0]


def _selected(states: Sequence[Tensor], order: Tensor | None) -> tuple[Tensor, ...]:
    """States (L*D, B, H) with their sequences in another order; None: as they are."""
    return tuple(states if order is None else (state.index_select(1, order) for state in states))


def run_layers(
    stack: Stack, input: Any, hx: Any, weights: Sequence[Tensor], layer: Layer = recurrent_layer
) -> tuple[Any, Any]:
    """Run a stack of layers. Shapes, dtypes and errors: `fastrnn.functional`.

    `layer` computes one layer in one direction, with the signature of `fastrnn.autograd.recurrent_layer`.
    Returns output and h_n, or output and (h_n, c_n) for an LSTM.
    """
    if _compiling() and (isinstance(input, PackedSequence) or (layer is recurrent_layer and transformed())):
        return outside_of_graph(run_layers, stack, input, hx, weights, layer)
    name, lstm = checks.NAMES[stack.cell], stack.cell == "lstm"
    packed = isinstance(input, PackedSequence)
    parts: tuple[Any, ...] = input if packed else (input, None, None, None)
    x, batch_sizes, sorted_indices, unsorted_indices = parts
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: input should be a Tensor or a PackedSequence, got {type(x).__name__}")
    states = checks.states_of(name, hx, lstm)
    if any_autocast() and (dtype := _autocast_dtype(x)) is not None:
        with torch.autocast(x.device.type, enabled=False):
            cast = _cast(dtype, input), _cast(dtype, hx), _cast(dtype, weights)
            one = stack.num_layers == 1 and not (stack.bidirectional or stack.batch_first or stack.proj_size)
            results = quick(stack.cell, *cast, stack.hidden_size) if one and layer is recurrent_layer else None
            return run_layers(stack, *cast, layer) if results is None else results

    checks.check_rank(name, x, states, packed)
    checks.check_weights(name, weights, checks.weight_shapes(stack), lambda: checks.weight_names(stack))
    checks.check_input(name, x, weights[0])
    shape = x.shape
    if shape[-1] != stack.input_size:
        raise RuntimeError(f"input.size(-1) must be equal to input_size. Expected {stack.input_size}, got {shape[-1]}")
    steps = shape[0]  # or rows
    single = not packed and len(shape) == 2
    sizes = None
    if packed:
        sizes = checks.check_packed(steps, batch_sizes, sorted_indices, unsorted_indices)
        batch = sizes[0]
    elif single:
        x, batch = x.unsqueeze(1), 1
        states = tuple(state.unsqueeze(1) for state in states)
    elif stack.batch_first:
        x, steps, batch = x.transpose(0, 1), shape[1], shape[0]
    else:
        batch = shape[1]
    directions, out_size = checks.directions_of(stack), stack.proj_size or stack.hidden_size
    blocks = stack.num_layers * directions
    shapes = (blocks, batch, out_size), (blocks, batch, stack.hidden_size)
    if states:
        checks.check_states(x, states, shapes)
        states = _selected(states, sorted_indices)
    if steps == 0:
        raise RuntimeError(checks.EMPTY_SEQUENCE)

    if batch == 0:
        y, *finals = _empty_results((x, *states, *weights), (steps, 0, out_size * directions), *shapes)
    else:
        y, finals = _layers(stack, x, states, weights, batch_sizes, sizes, layer)
    output: Tensor | PackedSequence = y
    if packed:
        output = PackedSequence(y, batch_sizes, sorted_indices, unsorted_indices)
        finals = list(_selected(finals, unsorted_indices))
    elif single:
        output = y.squeeze(1)
        finals = [state.squeeze(1) for state in finals]
    elif stack.batch_first:
        output = y.transpose(0, 1)
    return output, (finals[0], finals[1]) if lstm else finals[0]


def _layers(
    stack: Stack,
    x: Tensor,
    states: Sequence[Tensor],
    weights: Sequence[Tensor],
    batch_sizes: Tensor | None,
    sizes: list[int] | None,
    layer: Layer,
) -> tuple[Tensor, list[Tensor]]:
    """The layers one after another, on checked arguments: the last one's y, and the final states."""
    directions = checks.directions_of(stack)
    blocks = stack.num_layers * directions
    initial = [[state] if blocks == 1 else state.split(1) for state in states]
    finals: list[list[Tensor]] = []
    a_layer = len(weights) // blocks  # weights of one
    short = layer is recurrent_layer and stack.bias and not stack.proj_size
    for index in range(stack.num_layers):
        outputs = []
        for direction in range(directions):
            block = index * directions + direction
            own = weights[block * a_layer : (block + 1) * a_layer]
            hx = tuple(state[block] for state in initial)
            results = _short_layer(stack, x, hx, own, sizes, direction == 1) if short else None
            y, *ends = results or _long_layer(stack, x, hx, own, batch_sizes, direction == 1, layer)
            outputs.append(y)
            finals.append(ends)
        x = outputs[0] if directions == 1 else torch.cat(outputs, -1)
        if stack.training and stack.dropout and index + 1 < stack.num_layers:
            x = drop(x, stack.dropout, True)
    return x, finals[0] if blocks == 1 else [torch.cat(ends) for ends in zip(*finals, strict=True)]


def _short_layer(
    stack: Stack, x: Tensor, hx: Sequence[Tensor], weights: Sequence[Tensor], sizes: list[int] | None, reverse: bool
) -> Sequence[Tensor] | None:
    """y, h_n and, of an LSTM, c_n by the short way, if it takes them; states (1, B, H)."""
    pair = stack.cell == "lstm"
    given = None if not hx else hx if pair else hx[0]
    results = quick(stack.cell, x, given, weights, stack.hidden_size, reverse=reverse, batch_sizes=sizes)
    return results if results is None else (results[0], *results[1]) if pair else results


def _long_layer(
    stack: Stack,
    x: Tensor,
    hx: Sequence[Tensor],
    weights: Sequence[Tensor],
    batch_sizes: Tensor | None,
    reverse: bool,
    layer: Layer,
) -> Sequence[Tensor]:
    """The same by `layer`."""
    h_0, c_0, *_ = (*(state.squeeze(0) for state in hx), None, None)
    biases = weights[2:4] if stack.bias else (None, None)
    w_hr = weights[-1] if stack.proj_size else None
    results = layer(stack.cell, x, h_0, c_0, *weights[:2], *biases, w_hr, batch_sizes, reverse)
    return (results[0], *(state.unsqueeze(0) for state in results[1:] if state is not None))


def run_step(cell: str, x: Any, hx: Any, weights: Sequence[Any]) -> list[Tensor]:
    """Run one step of a cell, as a sequence of length one.

    weights: weight_ih, weight_hh, bias_ih, bias_hh, the last two of them None without bias. Returns [h'] or,
    for an LSTM, [h', c'].
    """
    if _compiling() and transformed():
        return outside_of_graph(run_step, cell, x, hx, weights)
    name = checks.NAMES[cell] + "Cell"
    if not isinstance(x, Tensor):
        raise TypeError(f"{name}: input should be a Tensor, got {type(x).__name__}")
    states = checks.states_of(name, hx, cell == "lstm")
    if any_autocast() and (dtype := _autocast_dtype(x)) is not None:
        with torch.autocast(x.device.type, enabled=False):
            x, hx, weights = _cast(dtype, x), _cast(dtype, hx), _cast(dtype, weights)
            results = quick(cell, x, hx, weights, sizes_of(name, cell, weights)[1], True)
            return run_step(cell, x, hx, weights) if results is None else results

    input_size, hidden_size = sizes_of(name, cell, weights)
    w_ih, w_hh, b_ih, b_hh = weights
    bias = b_ih is not None or b_hh is not None
    given = weights if bias else weights[:2]
    shapes = checks.weight_shapes(Stack(cell, input_size, hidden_size, 0, 1, bias, False, 0.0, False, False))
    checks.check_weights(name, given, shapes, lambda: ("weight_ih", "weight_hh", "bias_ih", "bias_hh")[: len(given)])
    checks.check_input(name, x, w_ih)
    checks.check_step(name, x, states, input_size, hidden_size)
    single = x.dim() == 1
    if single:
        x = x.unsqueeze(0)
        states = tuple(state.unsqueeze(0) for state in states)
    if x.shape[0] == 0:
        shape = (0, hidden_size)
        return _empty_results((x, *states, *given), *((shape, shape) if cell == "lstm" else (shape,)))
    h, c, *_ = (*states, None, None)
    _, h_n, c_n = recurrent_layer(cell, x.unsqueeze(0), h, c, w_ih, w_hh, b_ih, b_hh)
    return [state.squeeze(0) if single else state for state in (h_n, c_n) if state is not None]


def sizes_of(name: str, cell: str, weights: Sequence[Any]) -> tuple[int, int]:
    """input_size and hidden_size, read off weight_ih and weight_hh."""
    if len(weights) < 2 or not all(isinstance(weight, Tensor) and weight.dim() == 2 for weight in weights[:2]):
        raise TypeError(
            f"{name}: weights should begin with the matrices weight_ih (G*H, I) and weight_hh (G*H, H), "
            f"G = {checks.GATES[cell]}"
        )
    return weights[0].shape[1], weights[1].shape[0] // checks.GATES[cell]


def _autocast_dtype(x: Tensor) -> torch.dtype | None:
    """The dtype autocast asks for on x's device; None where it is off or unknown (other devices)."""
    kind = x.device.type
    on = kind in ("cpu", "cuda") and torch.is_autocast_enabled(kind)
    return torch.get_autocast_dtype(kind) if on else None


def _cast(dtype: torch.dtype, value: Any) -> Any:
    """Cast every Tensor in value that autocast may cast."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() and value.dtype is not torch.float64 else value
    if isinstance(value, PackedSequence):
        return PackedSequence(_cast(dtype, value.data), *value[1:])
    return None if value is None else [_cast(dtype, part) for part in value]


def _empty_results(tensors: Sequence[Tensor], *shapes: tuple[int, ...]) -> list[Tensor]:
    """Results for no sequences. They hang on every tensor, so that each gets a gradient, and it is zero."""
    anchor = torch.stack([tensor.sum() for tensor in tensors]).sum()
    return [tensors[0].new_zeros(shape) + anchor for shape in shapes]

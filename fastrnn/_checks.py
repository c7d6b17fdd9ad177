"""What is checked before anything runs: constructor arguments, weights, inputs, states, and operations' arguments.

The kernels take sizes on trust, so nothing may pass here that does not fit. Texts and exception types are
those of torch.nn where torch.nn has them. Text is only built when a check fails: a call of one time step
lasts microseconds.
"""

from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
NAMES = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN", "rnn_relu": "RNN"}
DTYPES = frozenset({torch.float32, torch.float64, torch.bfloat16, torch.float16})

_ELMAN = {"tanh": "rnn_tanh", "relu": "rnn_relu"}

EMPTY_SEQUENCE = "Expected sequence length to be larger than 0 in RNN"


class Stack(NamedTuple):
    """A stack of layers: everything about a call but its tensors."""

    cell: str  # a key of GATES
    input_size: int
    hidden_size: int
    proj_size: int  # 0: no projection
    num_layers: int
    bias: bool
    batch_first: bool
    dropout: float
    training: bool
    bidirectional: bool


def directions_of(stack: Stack) -> int:
    """1 or 2. No property of Stack: torch.compile of torch 2.6 does not find it where sizes vary."""
    return 2 if stack.bidirectional else 1


def elman(nonlinearity: Any) -> str:
    """The cell of an RNNCell. Raise torch.nn's RuntimeError for a nonlinearity that there is not."""
    try:
        return _ELMAN[nonlinearity]
    except (KeyError, TypeError):
        raise RuntimeError(f"Unknown nonlinearity: {nonlinearity}") from None


def check_layer_arguments(
    input_size: Any,
    hidden_size: Any,
    num_layers: Any,
    bias: Any,
    batch_first: Any,
    dropout: Any,
    proj_size: Any,
) -> None:
    """Raise torch.nn's TypeError or ValueError for a layer's arguments of a wrong type or out of range."""
    if not isinstance(dropout, Real) or isinstance(dropout, bool) or not 0 <= float(dropout) <= 1:
        raise ValueError(
            "dropout should be a number in range [0, 1] representing the probability of an element being zeroed"
        )
    for name, flag in (("bias", bias), ("batch_first", batch_first)):
        if not isinstance(flag, bool):
            raise TypeError(f"{name} should be of type bool, got: {type(flag).__name__}")
    check_sizes(input_size, hidden_size, int)
    for name, count in (("num_layers", num_layers), ("proj_size", proj_size)):
        if not isinstance(count, Integral):
            raise TypeError(f"{name} should be of type int, got: {type(count).__name__}")
    if num_layers <= 0:
        raise ValueError("num_layers must be greater than zero")
    if proj_size < 0:
        raise ValueError("proj_size should be a positive integer or zero to disable projections")
    if proj_size >= hidden_size:
        raise ValueError("proj_size has to be smaller than hidden_size")


def check_sizes(input_size: Any, hidden_size: Any, kind: Any) -> None:
    """Check that both sizes are of the type (torch.nn's layers want int, its cells take any integer) and at
    least one."""
    for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
        if not isinstance(size, kind):
            raise TypeError(f"{name} should be of type int, got: {type(size).__name__}")
        if size <= 0:
            raise ValueError(f"{name} must be greater than zero")


def weight_names(stack: Stack) -> list[str]:
    """Names of a stack's parameters in torch's order: by layer, then direction."""
    kinds = ["weight_ih", "weight_hh"]
    if stack.bias:
        kinds += ["bias_ih", "bias_hh"]
    if stack.proj_size:
        kinds.append("weight_hr")
    directions = ("", "_reverse")[: directions_of(stack)]
    return [f"{kind}_l{k}{d}" for k in range(stack.num_layers) for d in directions for kind in kinds]


def weight_shapes(stack: Stack) -> list[tuple[int, ...]]:
    """Shapes of the weights that `weight_names` lists."""
    rows, out_size = GATES[stack.cell] * stack.hidden_size, stack.proj_size or stack.hidden_size
    shapes: list[tuple[int, ...]] = []
    in_size, directions = stack.input_size, directions_of(stack)
    for _ in range(stack.num_layers):
        block: list[tuple[int, ...]] = [(rows, in_size), (rows, out_size)]
        if stack.bias:
            block += [(rows,), (rows,)]
        if stack.proj_size:
            block.append((out_size, stack.hidden_size))
        shapes += block * directions
        in_size = out_size * directions
    return shapes


def check_weights(
    name: str, weights: Sequence[Tensor], shapes: list[tuple[int, ...]], names: Callable[[], Sequence[str]]
) -> None:
    """Check that every weight is there, of the shape its layer needs, and of one dtype and device."""
    try:
        sound = [weight.shape for weight in weights] == shapes and 0 not in shapes[0]
        dtype, device = weights[0].dtype, weights[0].device
        for weight in weights:
            if weight.dtype is not dtype or weight.device != device:
                sound = False
    except (AttributeError, IndexError):  # a weight that is None, or no weights at all
        sound = False
    if not sound:
        _refuse_weights(name, weights, shapes, names())


def _refuse_weights(
    name: str, weights: Sequence[Tensor], shapes: list[tuple[int, ...]], names: Sequence[str]
) -> NoReturn:
    if len(weights) != len(shapes):
        raise RuntimeError(f"{name}: expected {len(shapes)} weights ({', '.join(names)}), got {len(weights)}")
    for label, weight, shape in zip(names, weights, shapes, strict=True):
        if not isinstance(weight, Tensor):
            found = type(weight).__name__
            raise TypeError(f"{name}: {label} should be a Tensor of shape {shape}, got {found}")
        if weight.shape != shape:
            raise RuntimeError(f"{name}: {label} should have shape {shape}, got {tuple(weight.shape)}")
        first = weights[0]
        if weight.dtype is not first.dtype:
            raise ValueError(
                f"{name}: all weights should have one dtype, but {names[0]} has {first.dtype} "
                f"and {label} has {weight.dtype}. Convert model: model.to({first.dtype})"
            )
        if weight.device != first.device:
            raise RuntimeError(
                f"{name}: all weights should be on one device, but {names[0]} is on {first.device} "
                f"and {label} on {weight.device}. Convert model: model.to('{first.device}')"
            )
    raise ValueError(f"{name}: input_size and hidden_size must be greater than zero")


def check_input(name: str, x: Tensor, weight: Tensor) -> None:
    """Check the input's dtype and device against the weights'."""
    dtype = x.dtype
    if dtype is not weight.dtype:
        raise ValueError(
            f"RNN input dtype ({dtype}) does not match weight dtype ({weight.dtype}). "
            f"Convert input: input.to({weight.dtype}), or convert model: model.to({dtype})"
        )
    if dtype not in DTYPES:
        raise TypeError(
            f"{name}: dtype {dtype} is not supported. "
            "Convert model and input to torch.float32, torch.float64, torch.bfloat16 or torch.float16"
        )
    if x.layout is not torch.strided or weight.layout is not torch.strided:
        raise TypeError(
            f"{name}: input and weights should be dense, got {x.layout} and {weight.layout}: use .to_dense()"
        )
    if x.device != weight.device:
        raise RuntimeError(
            f"Input and parameter tensors are not at the same device, found input tensor at {x.device} and "
            f"parameter tensor at {weight.device}. Convert input: input.to('{weight.device}'), or convert "
            f"model: model.to('{x.device}')"
        )


def states_of(name: str, hx: Any, pair: bool) -> tuple[Tensor, ...]:
    """The initial states as a tuple: () for None, (h,) for one Tensor, (h, c) for an LSTM's pair."""
    if hx is None:
        return ()
    if not pair:
        if isinstance(hx, Tensor):
            return (hx,)
        raise TypeError(f"{name}: hx should be a Tensor, got {type(hx).__name__}")
    if isinstance(hx, (tuple, list)):
        if len(hx) == 2 and isinstance(hx[0], Tensor) and isinstance(hx[1], Tensor):
            return (hx[0], hx[1])
        found = f"({', '.join(type(part).__name__ for part in hx)})"
    else:
        found = type(hx).__name__
    raise TypeError(f"{name}: hx should be a pair of Tensors (h_0, c_0), got {found}")


def check_rank(name: str, x: Tensor, states: tuple[Tensor, ...], packed: bool) -> None:
    """Check the number of dimensions of a stack's input, and of the states beside it."""
    ndim = x.dim()
    if packed:
        if ndim != 2:
            raise RuntimeError(f"input must have 2 dimensions, got {ndim}")
        return
    if ndim != 3 and ndim != 2:
        tail = "D tensor instead" if name == "RNN" else "D instead"
        raise ValueError(f"{name}: Expected input to be 2D or 3D, got {ndim}{tail}")
    for state in states:
        if state.dim() != ndim:
            form = "batched 3-D" if ndim == 3 else "unbatched 2-D"
            if len(states) == 1:
                raise RuntimeError(f"For {form} input, hx should also be {ndim}-D but got {state.dim()}-D tensor")
            raise RuntimeError(
                f"For {form} input, hx and cx should also be {ndim}-D but got "
                f"({states[0].dim()}-D, {states[1].dim()}-D) tensors"
            )


def check_states(x: Tensor, states: tuple[Tensor, ...], shapes: tuple[tuple[int, ...], ...]) -> None:
    """Check a stack's states, batched: shapes, and the input's dtype and device."""
    dtype, device = x.dtype, x.device
    for i, (state, shape) in enumerate(zip(states, shapes[: len(states)], strict=True)):
        if state.shape != shape:
            label = f"hidden[{i}]" if len(states) == 2 else "hidden"
            raise RuntimeError(f"Expected {label} size {shape}, got {list(state.shape)}")
        if state.dtype is not dtype or state.device != device:
            _refuse_state(f"hx[{i}]" if len(states) == 2 else "hx", state, x)


def _refuse_state(label: str, state: Tensor, x: Tensor) -> NoReturn:
    if state.dtype is not x.dtype:
        raise ValueError(
            f"RNN {label} dtype ({state.dtype}) does not match input dtype ({x.dtype}). "
            f"Convert it: {label}.to({x.dtype})"
        )
    raise RuntimeError(
        f"Input and hidden tensors are not at the same device, found input tensor at {x.device} "
        f"and {label} at {state.device}. Convert it: {label}.to('{x.device}')"
    )


def check_packed(
    rows: int, batch_sizes: Tensor, sorted_indices: Tensor | None, unsorted_indices: Tensor | None
) -> list[int]:
    """Check that a PackedSequence's parts fit one another; return its batch sizes."""
    if batch_sizes.dtype is not torch.int64 or batch_sizes.device.type != "cpu" or batch_sizes.dim() != 1:
        raise ValueError(
            "PackedSequence.batch_sizes should be a one-dimensional int64 tensor on the CPU, got "
            f"{batch_sizes.dim()}-D {batch_sizes.dtype} on {batch_sizes.device}"
        )
    sizes: list[int] = batch_sizes.tolist()
    if not sizes:
        raise RuntimeError(EMPTY_SEQUENCE)
    if sizes[-1] < 1 or sum(sizes) != rows or sizes != sorted(sizes, reverse=True):
        raise ValueError(
            "PackedSequence.batch_sizes should be positive, non-increasing and add up to the rows of data, "
            f"but {len(sizes)} sizes from {sizes[0]} to {sizes[-1]} add up to {sum(sizes)} for {rows} rows. "
            "Build it with torch.nn.utils.rnn.pack_padded_sequence"
        )
    batch = sizes[0]
    for indices in (sorted_indices, unsorted_indices):
        if indices is not None and indices.shape != (batch,):
            raise ValueError(
                f"PackedSequence.sorted_indices and unsorted_indices should have shape ({batch},), got "
                f"{tuple(indices.shape)}"
            )
    return sizes


def check_step(name: str, x: Tensor, states: tuple[Tensor, ...], input_size: int, hidden_size: int) -> None:
    """Check input and states of one step (the cell modules): (I) or (B, I), and (H) or (B, H)."""
    ndim = x.dim()
    if ndim != 2 and ndim != 1:
        raise ValueError(f"{name}: Expected input to be 1D or 2D, got {ndim}D instead")
    for i, state in enumerate(states):
        if state.dim() not in (1, 2):
            label = f"hx[{i}]" if len(states) == 2 else "hidden"
            raise ValueError(f"{name}: Expected {label} to be 1D or 2D, got {state.dim()}D instead")
    if x.shape[-1] != input_size:
        raise RuntimeError(f"input has inconsistent input_size: got {x.shape[-1]} expected {input_size}")
    for i, state in enumerate(states):
        if state.dim() != ndim:
            raise RuntimeError(f"For {ndim}-D input, hidden{i} should also be {ndim}-D but got {state.dim()}-D tensor")
        if ndim == 2 and state.shape[0] != x.shape[0]:
            raise RuntimeError(f"Input batch size {x.shape[0]} doesn't match hidden{i} batch size {state.shape[0]}")
        if state.shape[-1] != hidden_size:
            raise RuntimeError(f"hidden{i} has inconsistent hidden_size: got {state.shape[-1]}, expected {hidden_size}")
        if state.dtype is not x.dtype or state.device != x.device:
            _refuse_state(f"hidden{i}", state, x)


def check_fit(
    cell: str,
    tensors: Sequence[Tensor | None],
    batch_sizes: Tensor | None,
    batch: int,
    above: Sequence[Tensor | None] = (None, None, None),
    y: Tensor | None = None,
) -> None:
    """Check the arguments of an operation of `fastrnn.ops`, which may come past all other checks: a graph that was
    traced with fixed sizes may be run on other tensors, and a hook may give back another gradient.

    tensors: x, hx, cx, w_ih, w_hh, b_ih, b_hh, w_hr. above: dy, dh_n, dc_n. States, and what belongs to them, may also
    be (1, B, H). Raise RuntimeError where one is not of the shape that follows from the others, or not of x's dtype and
    device, and for batch_sizes `check_packed`'s errors.
    """
    x, hx, cx, w_ih, w_hh, b_ih, b_hh, w_hr = tensors
    assert x is not None and w_ih is not None and w_hh is not None  # the operations' schemas say so
    if batch_sizes is not None:
        sizes = check_packed(x.size(0), batch_sizes, None, None)
        lead: tuple[int, ...] = (x.size(0) if sizes[0] == batch else -1,)
    else:
        lead = (x.size(0), batch) if x.dim() == 3 else (batch,)
    units = w_hh.size(0) // GATES[cell]
    rows, inputs, width = GATES[cell] * units, w_ih.size(-1), units if w_hr is None else w_hr.size(0)
    of_y, of_h, of_c, of_bias = (*lead, width), (batch, width), (batch, units), (rows,)
    dy, dh_n, dc_n = above
    shapes = {"x": (*lead, inputs), "hx": of_h, "cx": of_c, "w_ih": (rows, inputs), "w_hh": (rows, width)}
    shapes |= {"b_ih": of_bias, "b_hh": of_bias, "w_hr": (width, units)}
    shapes |= {"dy": of_y, "dh_n": of_h, "dc_n": of_c, "y": of_y}
    given = (x, hx, cx, w_ih, w_hh, b_ih, b_hh, w_hr, dy, dh_n, dc_n, y)
    for t, (name, shape) in zip(given, shapes.items(), strict=True):
        if t is None:
            continue
        found: tuple[int, ...] = tuple(t.shape)
        if name in ("hx", "cx", "dh_n", "dc_n") and len(found) == 3 and found[0] == 1:
            found = found[1:]
        if found != shape or t.dtype is not x.dtype or t.device != x.device or 0 in shape:
            raise RuntimeError(
                f"fastrnn: {name} should be {x.dtype} of shape {shape} on {x.device}, got {t.dtype} "
                f"{tuple(t.shape)} on {t.device}: a traced graph takes the sizes that it was traced with. Trace with "
                "sizes that vary (torch.export's dynamic_shapes, torch.compile's dynamic=True), or call it with those"
            )


def check_reserve(x: Tensor, reserve: Tensor, size: int, dtype: torch.dtype) -> None:
    """Check that it is what forward left for backward: so many values of this dtype, beside x."""
    if reserve.shape != (size,) or (size and (reserve.dtype is not dtype or reserve.device != x.device)):
        raise RuntimeError(
            f"fastrnn: the reserve should be {dtype} of shape ({size},), got {reserve.dtype} "
            f"{tuple(reserve.shape)}: it is what layer_forward gives with training=True for the same tensors"
        )

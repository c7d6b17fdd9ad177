"""One recurrent layer in one direction, differentiable any number of times in either mode.

First derivatives run in the kernels. Where a derivative of a derivative is asked for (double backward, forward mode,
torch.func), it is taken of the same formulas in `fastrnn.reference`, which cost more and serve every order.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad

from fastrnn import _guards, ops

_DIFFERENTIABLE = len(ops.GRADIENTS)  # x, hx, cx and five parameters


def recurrent_layer(
    cell: str,
    x: Tensor,
    hx: Tensor | None,
    cx: Tensor | None,
    w_ih: Tensor,
    w_hh: Tensor,
    b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
    w_hr: Tensor | None = None,
    batch_sizes: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Runs `cell` ('rnn_tanh', 'rnn_relu', 'gru', 'lstm') over a sequence.

    Args:
        x: (T, B, I), or packed rows (N, I) with batch_sizes. Any strides; float32, float64, bfloat16 or float16.
        hx: initial h, (B, R), R = P with a projection and H without; None: zeros.
        cx: initial c of an LSTM, (B, H); None: zeros.
        w_ih, w_hh, b_ih, b_hh: (G*H, I), (G*H, R), (G*H), (G*H), gates in torch's order; biases may be None.
        w_hr: LSTM projection (P, H), or None.
        batch_sizes: rows of each step, a CPU int64 tensor (T,) that never grows; None: x is dense.
        reverse: from the last step to the first; a packed row starts from hx at its own last step.

    Returns:
        y (T, B, R) or (N, R), h_n (B, R), and c_n (B, H) for an LSTM, None otherwise.

    Shapes, dtypes and devices must agree: `fastrnn._checks` sees to it.
    """
    tensors = (x, hx, cx, w_ih, w_hh, b_ih, b_hh, w_hr)
    batch = x.size(1) if batch_sizes is None else hx.size(0) if hx is not None else int(batch_sizes[0])
    arguments = (cell, *tensors, batch_sizes, batch, reverse)
    if torch.compiler.is_dynamo_compiling():  # one operation, whose derivative torch knows
        y, h_n, c_n, _ = torch.ops.fastrnn.layer_forward(*arguments, _requires(tensors))
    elif recording(tensors):
        # forward mode alone leaves nothing for a backward
        training = _requires(tensors) or torch._C._are_functorch_transforms_active()
        y, h_n, c_n, _ = apply(RecurrentLayer, *arguments, training)
    else:
        y, h_n, c_n, _ = ops.layer_forward(*arguments, False)
    return y, h_n, c_n if cell == "lstm" else None


def _requires(tensors: Sequence[Tensor | None]) -> bool:
    return torch.is_grad_enabled() and True in [t.requires_grad for t in tensors if t is not None]


def recording(tensors: Sequence[Tensor | None]) -> bool:
    """Whether a layer of these tensors is to be differentiated, in any mode."""
    return _requires(tensors) or transformed()


def transformed() -> bool:
    """Whether a transform of functorch's or forward mode stands around the call."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


# torch.compile asks once and compiles anew where the answer is another: torch.compiler.assume_constant_result without
# its import, which takes longer than ours.
transformed._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _reference(cell: str, batch_sizes: Tensor | None, reverse: bool, present: Sequence[bool]) -> Callable:
    """The layer as a function of its present tensors alone: what functorch's transforms want."""
    from fastrnn import reference  # here, because its modules are built on ours

    run: Callable = reference.recurrent_layer
    # read here and not inside a transform: torch 2.6 cannot read a tensor's values there
    sizes = None if batch_sizes is None else batch_sizes.tolist()

    def layer(*tensors: Tensor) -> tuple[Tensor, ...]:
        rest = iter(tensors)
        arguments = [next(rest) if p else None for p in present]
        out = run(cell, *arguments, batch_sizes=sizes, reverse=reverse)
        return tuple(o for o in out if o is not None)

    return layer


def _vjp(function: Callable, *primals: Tensor) -> tuple[tuple[Tensor, ...], Callable]:
    """The outputs of `function`, and its pullback."""
    outputs, pull_back = torch.func.vjp(function, *primals)  # type: ignore[misc]
    return outputs, pull_back


def _zeros_for_none(tangents: Sequence[Tensor | None], primals: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(torch.zeros_like(p) if t is None else t for t, p in zip(tangents, primals, strict=True))


def _push_forward(function: Callable, primals: tuple[Tensor, ...], tangents: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The derivative of `function` along `tangents`, by two reverse passes: v -> J^T v is linear, and its own pullback
    is J. Unlike forward mode, this nests inside every other transform."""
    outputs, pull_back = _vjp(function, *primals)
    _, push = _vjp(lambda *v: pull_back(v), *map(torch.zeros_like, outputs))
    return push(tangents)


def _one_by_one(function: Any, info: Any, in_dims: Sequence[Any], args: Sequence[Any]) -> tuple[Any, Any]:
    """A vmap rule: the function on each example in turn, results stacked."""
    results = []
    for i in range(info.batch_size):
        example = [a.select(d, i) if isinstance(d, int) else a for a, d in zip(args, in_dims, strict=True)]
        results.append(function.apply(*example))
    outputs = tuple(torch.stack(column) for column in zip(*results, strict=True))
    return outputs, (0,) * len(outputs)


class Direct(Function):
    """A Function whose `recorded` is `apply` without the signature that this reads anew at each call (some 50 us) to
    fill in defaults that ours do not have. Bound once: a call with `super(...)` makes torch.compile of torch 2.14 fail.
    """

    recorded: Callable[..., Any]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.recorded = super(Function, cls).apply  # type: ignore[misc]


def apply(function: type[Direct], *args: Any) -> Any:
    """function.apply(*args), which functorch's transforms need, or the same sooner."""
    if torch._C._are_functorch_transforms_active():
        return function.apply(*args)
    return function.recorded(*args)


def check_saved(expected: Sequence[Any], saved: Sequence[Tensor | None]) -> None:
    """`_guards.check_saved`, where the tensors are what they seem: not within a transform, a mode or a trace."""
    if not torch._C._are_functorch_transforms_active() and ops._nothing_between():
        _guards.check_saved(expected, saved)


def layer_gradients(
    cell: str,
    dy: Tensor | None,
    dh_n: Tensor | None,
    dc_n: Tensor | None,
    x: Tensor,
    *rest: Any,
) -> list[Tensor | None]:
    """The gradients of ops.GRADIENTS, None for those not needed, with a graph of their own where one is asked for.

    Arguments: those of `ops.layer_backward`. States, and what belongs to them, may also be (1, B, H).
    """
    *_, needed = rest
    if not (torch.is_grad_enabled() or torch._C._are_functorch_transforms_active()):
        grads = ops.layer_backward(cell, dy, dh_n, dc_n, x, *rest)
        return [g if n else None for g, n in zip(grads, needed, strict=True)]
    hx, cx, *weights, y, reserve, batch_sizes, batch, reverse, _ = rest
    like = (x, hx, cx, *weights)
    if x.dim() == 2 and batch_sizes is None:
        x, y = x.unsqueeze(0), y.unsqueeze(0)
    dh_n, dc_n, hx, cx = (s.squeeze(0) if s is not None and s.dim() == 3 else s for s in (dh_n, dc_n, hx, cx))
    made = iter(
        apply(
            RecurrentLayerGrad,
            dy,
            dh_n,
            dc_n,
            x,
            hx,
            cx,
            *weights,
            y,
            reserve,
            batch_sizes,
            cell,
            batch,
            reverse,
            needed,
        )
    )
    return [next(made).view(t.shape) if n else None for t, n in zip(like, needed, strict=True)]


class RecurrentLayer(Direct):
    """forward: the arguments and results of `ops.layer_forward`, c_n and the reserve always of its own."""

    @staticmethod
    def forward(*args):
        y, h_n, c_n, reserve = ops.layer_forward(*args)
        cell, *_, training = args
        if not training:  # outputs of a Function must be its own
            c_n, reserve = c_n if cell == "lstm" else y.new_empty(0), y.new_empty(0)
        return y, h_n, c_n, reserve

    @staticmethod
    def setup_context(ctx, inputs, output):
        cell, *tensors, batch_sizes, batch, reverse, training = inputs
        y, _, c_n, reserve = output
        saved = (*tensors, batch_sizes, y, reserve)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*((reserve,) if cell == "lstm" else (reserve, c_n)))
        ctx.save_for_backward(*saved)
        ctx.kinds = _guards.kinds(saved)
        ctx.save_for_forward(*tensors, batch_sizes)
        ctx.cell, ctx.batch, ctx.reverse, ctx.training = cell, batch, reverse, training

    @staticmethod
    def backward(ctx, dy, dh_n, dc_n, _):
        none = (None,) * 4  # batch_sizes, batch, reverse, training
        saved = ctx.saved_tensors
        check_saved(ctx.kinds, saved)
        *tensors, batch_sizes, y, reserve = saved
        if ctx.cell != "lstm":
            dc_n = None
        if dy is None and dh_n is None and dc_n is None:
            return (None, *(None,) * _DIFFERENTIABLE, *none)
        if not ctx.training:  # a graph that was traced where nothing was to be differentiated
            y, _, _, reserve = ops.layer_forward(ctx.cell, *tensors, batch_sizes, ctx.batch, ctx.reverse, True)
        needed = [bool(n) for n in ctx.needs_input_grad[1 : 1 + _DIFFERENTIABLE]]  # behind the cell
        arguments = (*tensors, y, reserve, batch_sizes, ctx.batch, ctx.reverse, needed)
        return (None, *layer_gradients(ctx.cell, dy, dh_n, dc_n, *arguments), *none)

    @staticmethod
    def jvp(ctx, _, *tangents):
        *tensors, batch_sizes = ctx.saved_tensors
        present = [t is not None for t in tensors]
        primals = tuple(t for t in tensors if t is not None)
        along = _zeros_for_none([t for t, p in zip(tangents[:_DIFFERENTIABLE], present, strict=True) if p], primals)
        out = _push_forward(_reference(ctx.cell, batch_sizes, ctx.reverse, present), primals, along)
        return (*out, *(None,) * (4 - len(out)))

    @staticmethod
    def vmap(info, in_dims, *args):
        return _one_by_one(RecurrentLayer, info, in_dims, args)


# for torch.compile and torch.export, whose graphs hold the operation and not the Function around it
torch.library.register_autograd(
    "fastrnn::layer_forward", RecurrentLayer.backward, setup_context=RecurrentLayer.setup_context
)


class RecurrentLayerGrad(Direct):
    """The backward pass as a differentiable function of the output gradients and the layer's inputs.

    forward: (dy, dh_n, dc_n, x, hx, cx, w_ih, w_hh, b_ih, b_hh, w_hr, y, reserve, batch_sizes, cell, batch, reverse,
    needed) -> the needed gradients. y and the reserve follow from the inputs, so no derivative is taken of them.
    """

    @staticmethod
    def forward(*args):
        *tensors, batch_sizes, cell, batch, reverse, needed = args
        grads = ops.layer_backward(cell, *tensors, batch_sizes, batch, reverse, needed)
        return tuple(g for g, n in zip(grads, needed, strict=True) if n)

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, batch_sizes, cell, _, reverse, needed = inputs
        saved = (*tensors[:-2], batch_sizes)  # without y and reserve
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*saved)
        ctx.save_for_forward(*saved)
        ctx.cell, ctx.reverse, ctx.needed = cell, reverse, needed

    @staticmethod
    def backward(ctx, *grads):
        function, primals, present = RecurrentLayerGrad._as_function(ctx)
        outputs, pull_back = _vjp(function, *primals)
        results = iter(pull_back(_zeros_for_none(grads, outputs)))
        return (*(next(results) if p else None for p in present), *(None,) * 7)

    @staticmethod
    def jvp(ctx, *tangents):
        function, primals, present = RecurrentLayerGrad._as_function(ctx)
        along = [t for t, p in zip(tangents[: len(present)], present, strict=True) if p]
        return _push_forward(function, primals, _zeros_for_none(along, primals))

    @staticmethod
    def vmap(info, in_dims, *args):
        return _one_by_one(RecurrentLayerGrad, info, in_dims, args)

    @staticmethod
    def _as_function(ctx: Any) -> tuple[Callable, tuple[Tensor, ...], list[bool]]:
        """The first derivative, by the reference formulas, as a function of the present tensors."""
        *tensors, batch_sizes = ctx.saved_tensors
        present = [t is not None for t in tensors]
        given, inputs = present[:3], present[3:]
        layer = _reference(ctx.cell, batch_sizes, ctx.reverse, inputs)
        wanted = [n for n, p in zip(ctx.needed, inputs, strict=True) if p]

        def gradient(*primals: Tensor) -> tuple[Tensor, ...]:
            outputs, pull_back = _vjp(layer, *primals[sum(given) :])
            upstream = iter(primals)
            grads = pull_back(
                tuple(next(upstream) if g else torch.zeros_like(o) for g, o in zip(given, outputs, strict=False))
            )
            return tuple(g for g, w in zip(grads, wanted, strict=True) if w)

        return gradient, tuple(t for t in tensors if t is not None), present

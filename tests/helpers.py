"""What the contract tests share: torch.nn's layer and ours with one state_dict, and their full comparison."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_sequence

import fastrnn

LAYERS = ("RNN", "GRU", "LSTM")
CELLS = ("RNNCell", "GRUCell", "LSTMCell")
# Every cell there is, as (class, arguments that choose it)
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("RNN", {}),
    ("RNN", {"nonlinearity": "relu"}),
    ("GRU", {}),
    ("LSTM", {}),
    ("LSTM", {"proj_size": 2}),
]
variants = pytest.mark.parametrize(
    ("kind", "options"), VARIANTS, ids=["rnn_tanh", "rnn_relu", "gru", "lstm", "lstm_projected"]
)


def both(kind: str, *args: Any, dtype: torch.dtype = torch.float64, ours: Any = fastrnn, **options: Any) -> tuple:
    """torch.nn's module and ours with the same parameters. Seeds torch, so what follows in a test is
    repeatable."""
    torch.manual_seed(0)
    theirs = getattr(torch.nn, kind)(*args, dtype=dtype, **options)
    mine = getattr(ours, kind)(*args, dtype=dtype, **options)
    mine.load_state_dict(theirs.state_dict())
    return theirs, mine


def drawn(generator: torch.Generator, *shape: int) -> Tensor:
    """Normal numbers in float64, drawn on the CPU, so that they are the same on every device."""
    t = torch.randn(*shape, generator=generator, dtype=torch.float64, device="cpu")
    return t.to(torch.get_default_device())


def rand(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers in float64, the same in every run."""
    return drawn(torch.Generator().manual_seed(seed), *shape)


def packed(sequences: Sequence[Tensor], **options: Any) -> PackedSequence:
    """torch's pack_sequence, which puts lengths where they may not be if the default device is a GPU."""
    return pack_padded_sequence(pad_sequence(sequences), [len(s) for s in sequences], **options)


def initial(module: torch.nn.Module, batch: int | None, dtype: torch.dtype = torch.float64) -> Any:
    """A random hx for a layer: (L*D, B, P), without the batch dimension for None."""
    blocks = module.num_layers * (2 if module.bidirectional else 1)
    lead = (blocks,) if batch is None else (blocks, batch)
    h = torch.randn(*lead, module.proj_size or module.hidden_size, dtype=dtype)
    return (h, torch.randn(*lead, module.hidden_size, dtype=dtype)) if module.mode == "LSTM" else h


def leaves(value: Any) -> list[Tensor]:
    """All tensors with data in a result or an hx, in order."""
    if value is None:
        return []
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, PackedSequence):
        return [value.data]
    return [leaf for part in value for leaf in leaves(part)]


def fresh(value: Any, requires_grad: bool = True) -> Any:
    """The same value in leaf tensors of its own, strides kept."""
    if isinstance(value, Tensor):
        return value.detach().clone(memory_format=torch.preserve_format).requires_grad_(requires_grad)
    if isinstance(value, PackedSequence):
        return PackedSequence(fresh(value.data, requires_grad), *value[1:])
    return None if value is None else tuple(fresh(part, requires_grad) for part in value)


def evaluate(module: torch.nn.Module, input: Any, hx: Any = None) -> dict[str, Any]:
    """Outputs, and the gradients of input, hx and every parameter for random gradients into all outputs at
    once."""
    input, hx = fresh(input), fresh(hx)
    module.zero_grad(set_to_none=True)
    outputs = leaves(module(input) if hx is None else module(input, hx))
    generator = torch.Generator().manual_seed(1)
    upstream = [drawn(generator, *out.shape).to(out) for out in outputs]
    torch.autograd.backward(outputs, upstream)
    found = {f"output {i}": out.detach() for i, out in enumerate(outputs)}
    found |= {f"grad input {i}": leaf.grad for i, leaf in enumerate(leaves(input))}
    found |= {f"grad hx {i}": leaf.grad for i, leaf in enumerate(leaves(hx))}
    return found | {f"grad {name}": parameter.grad for name, parameter in module.named_parameters()}


def assert_same(found: dict[str, Any], expected: dict[str, Any], tolerance: float = 1e-12) -> None:
    """Equal keys, shapes and dtypes, and values to `tolerance` times the largest of them, or 1 if that is less."""
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if value is None:
            assert found[key] is None, key
            continue
        finite = value[value.isfinite()].abs()
        scale = max(1.0, float(finite.max())) if finite.numel() else 1.0
        torch.testing.assert_close(
            found[key],
            value,
            rtol=0,
            atol=tolerance * scale,
            equal_nan=True,
            msg=lambda text, key=key: f"{key}: {text}",
        )


def assert_alike(
    kind: str, *args: Any, input: Any, with_hx: bool = True, batch: int | None = 1, **options: Any
) -> None:
    """Ours and torch.nn's give the same outputs and the same gradients of everything, in float64."""
    theirs, mine = both(kind, *args, **options)
    hx = initial(theirs, batch) if with_hx else None
    assert_same(evaluate(mine, input, hx), evaluate(theirs, input, hx))


def error_of(call: Callable[[], Any]) -> tuple[type, str]:
    """Type and text of what a call raises."""
    with pytest.raises(Exception) as caught:
        call()
    return caught.type, str(caught.value)


def assert_same_error(mine: Callable[[], Any], theirs: Callable[[], Any], kind: type, text: str) -> None:
    """Ours raises `kind` with `text`, and so does torch.nn of the version that the texts were taken from."""
    assert error_of(mine) == (kind, text)
    if torch.__version__ >= "2.13":
        assert error_of(theirs) == (kind, text)


def to_float64(module: torch.nn.Module) -> torch.nn.Module:
    return copy.deepcopy(module).double()

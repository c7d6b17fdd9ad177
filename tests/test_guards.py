"""Guards: what the short way was not made for is seen after an ordinary call, whatever stands around the first one."""

import pytest
import torch
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import fastrnn
from fastrnn import _guards, functional

CELLS = {"rnn": fastrnn.RNNCell, "gru": fastrnn.GRUCell, "lstm": fastrnn.LSTMCell}
pytestmark = pytest.mark.cpu


def test_this_torch_has_guards_that_can_be_trusted():
    assert _guards._whole()


@pytest.mark.parametrize("change", ["batch", "dtype", "strides", "units", "subclass", "missing bias", "negative view"])
def test_other_tensors_after_the_first_are_seen(change):
    """The kept call must not be used for tensors that it was not made for."""
    module = fastrnn.GRUCell(4, 5)
    x, h = torch.randn(2, 4), torch.randn(2, 5)
    module(x, h)
    expected = torch.nn.GRUCell(4, 5)
    expected.load_state_dict(module.state_dict())
    if change == "batch":
        x, h = torch.randn(3, 4), torch.randn(3, 5)
    elif change == "dtype":
        x, h = x.double(), h.double()
        module, expected = module.double(), expected.double()
    elif change == "strides":
        x, h = torch.randn(4, 2).t(), torch.randn(2, 10)[:, ::2]
    elif change == "units":
        with pytest.raises(RuntimeError):
            module(x, torch.randn(2, 6))
        return
    elif change == "subclass":
        x = torch.nn.Buffer(x)
    elif change == "missing bias":
        weights = [p.detach() for p in module.parameters()]
        y = functional.gru_cell(x, h, *weights[:2])
        with torch.no_grad():
            expected.bias_ih.zero_()
            expected.bias_hh.zero_()
        torch.testing.assert_close(y, expected(x, h).detach())
        return
    else:
        x = torch._neg_view(x)
    torch.testing.assert_close(module(x, h), expected(x, h))


def test_weight_of_another_shape_in_the_same_parameter_is_seen():
    module, x = fastrnn.LSTM(4, 5), torch.randn(3, 2, 4)
    module(x)
    module.weight_hh_l0.data = torch.randn(20, 4)
    with pytest.raises(RuntimeError, match="weight_hh_l0 should have shape"):
        module(x)


def _identity(t):
    return t


AROUND = {
    "saved tensor hooks": lambda: torch.autograd.graph.saved_tensors_hooks(_identity, _identity),
    "disabled hooks": lambda: torch.autograd.graph.disable_saved_tensors_hooks("not here"),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "another device": lambda: torch.device("meta"),
}


@pytest.mark.parametrize("around", AROUND)
def test_the_first_call_may_stand_anywhere(around):
    """Guards are tried at the first call, which must neither fail because of that nor make them distrusted."""
    module, x = fastrnn.GRU(4, 5), torch.randn(3, 2, 4)
    expected = module(x)[0]
    _guards._whole.cache_clear()
    with AROUND[around]():
        torch.testing.assert_close(module(x)[0], expected, rtol=0, atol=0)
        assert _guards._whole()


def test_the_first_call_may_come_under_another_default_dtype():
    _guards._whole.cache_clear()
    torch.set_default_dtype(torch.float64)
    try:
        assert _guards._whole()
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_first_call_may_be_checkpointed():
    module, x = fastrnn.GRU(4, 5), torch.randn(3, 2, 4, requires_grad=True)
    (expected,) = torch.autograd.grad(module(x)[0].sum(), x)
    _guards._whole.cache_clear()
    y = checkpoint(lambda t: module(t)[0], x, use_reentrant=False)
    torch.testing.assert_close(torch.autograd.grad(y.sum(), x)[0], expected)


class _Asked(TorchDispatchMode):
    """Notes the operations that pass."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("cell", CELLS)
def test_modes_after_an_ordinary_call_are_seen(cell):
    module, x = CELLS[cell](4, 5), torch.randn(2, 4)
    first = [h.detach() for h in _listed(module(x))]
    with torch.autocast("cpu", torch.bfloat16):
        assert _listed(module(x))[0].dtype == torch.bfloat16
    with _Asked() as asked, torch.no_grad():
        module(x)
    assert any("fastrnn" in name for name in asked.names)
    for mine, single in zip(_listed(torch.vmap(module)(x.unsqueeze(1))), first, strict=True):
        torch.testing.assert_close(mine.squeeze(1), single)
    with torch.no_grad(), forward_ad.dual_level():
        out = _listed(module(forward_ad.make_dual(x, torch.ones_like(x))))[0]
        assert forward_ad.unpack_dual(out).tangent is not None
    for again, h in zip(_listed(module(x)), first, strict=True):
        torch.testing.assert_close(again, h, rtol=0, atol=0)


def _listed(out):
    return [out] if isinstance(out, torch.Tensor) else list(out)

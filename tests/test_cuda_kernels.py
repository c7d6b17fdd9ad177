"""The CUDA kernels against the reference: on a GPU where there is one, and emulated on this processor everywhere.

The emulation (tests/cpp/emulated.h) runs every GPU thread as a fiber. It shows faults of index arithmetic, tails,
ragged rows, missing barriers, and of all that Python does around the kernels. It cannot show memory ordering between
real threads, nor whether the device's own instructions do what the emulation says they do.
"""

import pytest
import torch
from layers import (
    CELLS,
    FORMS,
    Case,
    arguments,
    assert_as_reference,
    assert_each_gradient_comes_alone,
    gradients,
    in_form,
    outputs,
    ragged,
)

from fastrnn import _cuda, reference
from fastrnn.autograd import recurrent_layer


@pytest.fixture(params=["0", "1", "7"], ids=["ascending", "descending", "shuffled"])
def order(request, monkeypatch):
    """The order in which emulated threads take their turns."""
    monkeypatch.setenv("FASTRNN_EMULATED_ORDER", request.param)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("T, B, I, H", [(1, 1, 1, 1), (2, 3, 5, 7), (5, 17, 3, 7), (3, 3, 9, 40)])
def test_values_and_gradients(device, cell, T, B, I, H):
    assert_as_reference(Case(cell, T, B, I, H))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_forms(device, order, cell, reverse, form):
    assert_as_reference(in_form(Case(cell, 6, 7, 5, 18, reverse=reverse), form))


@pytest.mark.parametrize("P", [1, 7, 20])
@pytest.mark.parametrize("reverse", [False, True])
def test_projection(device, P, reverse):
    assert_as_reference(ragged(Case("lstm", 6, 9, 5, 25, P, reverse=reverse)))
    assert_as_reference(Case("lstm", 3, 2, 5, 25, P, reverse=reverse, state=False))


def rounded(case: Case) -> float:
    """Largest error of ours against the reference in float64, relative to the largest true value of each result."""
    args = arguments(case)
    exact = [None if a is None else a.detach().double().requires_grad_() for a in args[:-1]] + [args[-1]]
    outs, true = outputs(recurrent_layer, case, args), outputs(reference.recurrent_layer, case, exact)
    pairs = list(zip(outs, true, strict=True))
    if case.cell != "rnn_relu":  # whose derivative jumps where rounding changes a sign
        pairs += zip(gradients(outs, args), gradients(true, exact), strict=True)
    return max(((v.double() - t).abs().max() / t.abs().max()).item() for v, t in pairs)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    "dtype, fast, cap",
    [
        (torch.float32, False, 5e-6),
        (torch.float32, True, 5e-3),
        (torch.bfloat16, False, 0.05),
        (torch.float16, False, 0.007),
    ],
    ids=["fp32", "tf32", "bf16", "fp16"],
)
def test_rounded_arithmetic(device, monkeypatch, cell, reverse, dtype, fast, cap):
    monkeypatch.setattr(_cuda, "tf32", lambda: fast)
    error = rounded(ragged(Case(cell, 5, 20, 7, 40, dtype=dtype, reverse=reverse)))
    assert error < cap
    if fast:
        assert error > 1e-5  # it did round


def test_rounded_projection(device):
    assert rounded(ragged(Case("lstm", 5, 9, 7, 40, 18, dtype=torch.bfloat16))) < 0.05


def planned_rows(case: Case, tier: str) -> list[int]:
    """The rows of a team in either pass, which both run in that tier."""
    sizes = arguments(case)[-1]
    plans = [
        _cuda.plan(case.cell, case.T, case.B, case.H, case.dtype, case.P, sizes, backward) for backward in (False, True)
    ]
    assert all(plan[:2] == (tier, "forced") for plan in plans), plans
    return [rows for *_, rows in plans]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("form", ["dense", "dense reversed", "ragged", "ragged reversed"])
@pytest.mark.parametrize(
    "dtype, H, cap",
    [(torch.float32, 36, 5e-3), (torch.bfloat16, 40, 0.05), (torch.float16, 72, 0.007)],
    ids=["tf32", "bf16", "fp16"],
)
def test_persistent(device, persistent, monkeypatch, cell, form, dtype, H, cap):
    B = 20 if H == 40 else 5  # two teams of batch groups, and one that is not full
    monkeypatch.setenv("FASTRNN_EMULATED_ORDER", {36: "0", 40: "1", 72: "7"}[H])
    case = Case(cell, 5, B, 7, H, dtype=dtype, reverse="reversed" in form, state="ragged" in form)
    case = ragged(case) if "ragged" in form else case
    planned_rows(case, persistent)
    assert rounded(case) < cap


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    "tier, at_once, wide", [("a", 7, 1), ("a", 2, 2), ("b", 24, 1), ("b", 10, 2), ("d", 132, 1), ("d", 1, 4)]
)
def test_batch_groups_of_a_team(emulated, poisoned, monkeypatch, cell, tier, at_once, wide):
    """Where fewer blocks run at once, each takes more groups of 8 rows."""
    monkeypatch.setenv("FASTRNN_CUDA_TIER", tier)
    monkeypatch.setenv("FASTRNN_EMULATED_AT_ONCE", str(at_once))
    case = ragged(Case(cell, 5, 28, 7, 40, dtype=torch.bfloat16))
    assert planned_rows(case, tier) == [8 * wide, 8 * wide]
    assert rounded(case) < 0.05


@pytest.mark.parametrize("cell", CELLS)
def test_four_batch_groups_of_a_team(emulated, poisoned, monkeypatch, cell):
    """Forward in tier b, where backward has no room for so many."""
    monkeypatch.setenv("FASTRNN_CUDA_TIER", "b")
    monkeypatch.setenv("FASTRNN_EMULATED_AT_ONCE", "5")
    case = ragged(Case(cell, 5, 28, 7, 40, dtype=torch.bfloat16))
    args = arguments(case)
    tier, _, rows = _cuda.plan(cell, 5, 28, 40, case.dtype, batch_sizes=args[-1])
    assert (tier, rows) == ("b", 32)
    with torch.no_grad():
        found = outputs(recurrent_layer, case, args)
        true = outputs(
            reference.recurrent_layer, case, [None if a is None else a.double() for a in args[:-1]] + args[-1:]
        )
    assert all(((v.double() - t).abs().max() / t.abs().max()).item() < 0.05 for v, t in zip(found, true, strict=True))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("at_once", ["132", "2"])
def test_one_launch_for_exact_arithmetic(device, monkeypatch, cell, dtype, at_once):
    monkeypatch.setenv("FASTRNN_CUDA_TIER", "d")
    monkeypatch.setenv("FASTRNN_EMULATED_AT_ONCE", at_once)
    case = ragged(Case(cell, 5, 20, 7, 37, dtype=dtype))
    rows = planned_rows(case, "d")
    assert device == "gpu" or rows == ([8, 8] if at_once == "132" else [16, 16])
    assert rounded(case) < {torch.float32: 5e-6, torch.float64: 1e-12}[dtype]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize(
    "dtype, cap",
    [(torch.float64, 1e-12), (torch.float32, 5e-6), (torch.bfloat16, 0.05), (torch.float16, 0.007)],
)
def test_products_of_torchs(device, monkeypatch, cell, reverse, state, dtype, cap):
    monkeypatch.setenv("FASTRNN_CUDA_TIER", "e")
    case = Case(cell, 5, 6, 7, 9, dtype=dtype, reverse=reverse, state=state)
    if dtype.itemsize == 2 and _cuda.wide is None:
        pytest.skip("this torch does not multiply 16-bit matrices into float32")
    assert planned_rows(case, "e") == [0, 0]
    assert rounded(case) < cap


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_persistent_with_several_k_blocks_a_warp(device, persistent, cell):
    case = Case(cell, 4, 3, 5, 144, dtype=torch.float32)
    planned_rows(case, persistent)
    assert rounded(case) < 5e-3


@pytest.mark.parametrize("cell", CELLS)
def test_persistent_equals_per_step(device, persistent, monkeypatch, cell):
    """The same products in another order of k: nothing but rounding may differ, and little of that."""
    case = ragged(Case(cell, 6, 9, 5, 48, dtype=torch.float32))
    args = arguments(case)
    found = outputs(recurrent_layer, case, args)
    found += gradients(found, args)
    monkeypatch.setenv("FASTRNN_CUDA_TIER", "c")
    true = outputs(recurrent_layer, case, args)
    true += gradients(true, args)
    for a, b in zip(found, true, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * b.abs().max().item())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_is_not_a_number_does_not_look_empty(device, monkeypatch, dtype):
    """Blocks of tier b take a word of ones as one that is not there yet. NaN of any bits must arrive as NaN."""
    monkeypatch.setenv("FASTRNN_CUDA_TIER", "b")
    monkeypatch.setattr(_cuda, "tf32", lambda: True)
    case = Case("rnn_relu", 5, 3, 4, 48, dtype=dtype)
    args = arguments(case)
    integer = torch.int32 if dtype == torch.float32 else torch.int16
    with torch.no_grad():
        args[0][1].view(integer).fill_(-1)  # x of a step, all bits set
    args = [a.detach() if isinstance(a, torch.Tensor) else a for a in args]
    monkeypatch.setattr(_cuda, "_TIMEOUT_NS", 10_000_000_000)
    y = outputs(recurrent_layer, case, args)[0]
    assert y[0].isfinite().all() and y[1:].isnan().all()
    status = [int(s) for s in _cuda._status.values()]
    assert not any(status)


@pytest.mark.parametrize("cell", CELLS)
def test_many_rows(device, cell):
    assert_as_reference(ragged(Case(cell, 2, 40, 3, 9)))
    assert rounded(ragged(Case(cell, 2, 40, 3, 9, dtype=torch.float16))) < 0.007


@pytest.mark.parametrize("cell", CELLS)
def test_only_what_is_needed(device, cell):
    assert_each_gradient_comes_alone(ragged(Case(cell, 4, 5, 4, 20)))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_inference_equals_training_and_orders_agree(device, monkeypatch, cell, dtype):
    case = ragged(Case(cell, 4, 9, 4, 20, dtype=dtype))
    args = arguments(case)
    first = outputs(recurrent_layer, case, args)
    first += gradients(first, args)
    monkeypatch.setenv("FASTRNN_EMULATED_ORDER", "5")
    again = outputs(recurrent_layer, case, args)
    again += gradients(again, args)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    with torch.no_grad():
        without = outputs(recurrent_layer, case, args)
    assert all(torch.equal(a, b) for a, b in zip(first, without, strict=False))


@pytest.mark.parametrize("cell", CELLS)
def test_double_backward(device, cell):
    case = Case(cell, 3, 2, 3, 5)
    args = [a for a in arguments(case)[:-1] if a is not None]

    def run(*tensors):
        rest = iter(tensors)
        return outputs(
            recurrent_layer, case, [next(rest) if a is not None else None for a in arguments(case)[:-1]] + [None]
        )

    assert torch.autograd.gradgradcheck(lambda *t: tuple(run(*t)), args)

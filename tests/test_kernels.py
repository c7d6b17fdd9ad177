"""The kernels against the reference: values and first gradients, all sizes, dtypes and layouts."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
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

from fastrnn import ops, reference
from fastrnn.autograd import recurrent_layer


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("T, B, I, H", [(1, 1, 1, 1), (2, 3, 5, 7), (63, 17, 3, 7), (2, 17, 70, 64), (3, 3, 9, 129)])
def test_values_and_gradients(poisoned, cell, T, B, I, H):
    assert_as_reference(Case(cell, T, B, I, H))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("rows", range(1, 10))
def test_few_rows(poisoned, cell, state, rows):
    """Up to eight in all are multiplied where they lie; weights, too, near ones and those beyond a cache."""
    assert_as_reference(Case(cell, 1, rows, 70, 129, state=state))
    assert_as_reference(Case(cell, rows, 1, 40, 96, state=state, reverse=True))
    assert_as_reference(ragged(Case(cell, 3, (rows + 2) // 3, 33, 65, state=state)))
    if state and rows in (1, 4, 9):
        assert_as_reference(Case(cell, 2, rows, 333, 380))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("T, B", [(1, 70), (2, 40), (90, 1), (5, 38)])
def test_weights_that_are_wanted_once(poisoned, cell, state, T, B):
    """Packed when they are: W_ih for all rows of a short call, W_hh for a single step. A team splits them by units."""
    assert_as_reference(Case(cell, T, B, 19, 200, state=state))
    assert_as_reference(ragged(Case(cell, T, B, 19, 200, state=state, reverse=True)))
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 0.03), (torch.float16, 4e-3)):
        case = Case(cell, T, B, 19, 200, state=state, dtype=dtype)
        args = arguments(case, requires_grad=False)
        y = outputs(recurrent_layer, case, args)[0]
        wide = [a.double() if a is not None and a.is_floating_point() else a for a in args]
        true = outputs(reference.recurrent_layer, case.with_(dtype=torch.float64), wide)[0]
        torch.testing.assert_close(y.double(), true, rtol=0, atol=tolerance)


@pytest.mark.parametrize("cell", CELLS)
def test_a_broken_recurrent_weight_shows_without_a_state(cell):
    case = Case(cell, 1, 70, 9, 40, state=False, dtype=torch.float32)
    args = arguments(case, requires_grad=False)
    args[4][7] = float("inf")
    y = outputs(recurrent_layer, case, args)[0]
    assert y.isnan().any()
    true = outputs(reference.recurrent_layer, case, args)[0]
    torch.testing.assert_close(y, true, equal_nan=True, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_forms(poisoned, cell, reverse, form):
    assert_as_reference(in_form(Case(cell, 9, 7, 5, 18, reverse=reverse), form))


@pytest.mark.parametrize("P", [1, 7, 20, 40])
@pytest.mark.parametrize("reverse", [False, True])
def test_projection(poisoned, P, reverse):
    assert_as_reference(ragged(Case("lstm", 6, 9, 5, 41, P, reverse=reverse)))
    assert_as_reference(Case("lstm", 3, 2, 5, 41, P, reverse=reverse, state=False))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("B", [1, 40, 300])
def test_time_in_chunks(poisoned, cell, B):
    """Long enough for several chunks of time, where state and gradients cross from one to the next."""
    T = 1200 // B
    assert_as_reference(Case(cell, T, B, 3, 10))
    assert_as_reference(ragged(Case(cell, T, B, 3, 10, reverse=True)))


@pytest.mark.parametrize("cell, I, H", [("lstm", 900, 100), ("rnn_tanh", 1000, 200)])
def test_larger_chunks_where_sums_are_large(poisoned, cell, I, H):
    """Backward's chunks, where the weight gradients take more than 3 MiB or less."""
    assert_as_reference(Case(cell, 40, 20, I, H))
    assert_as_reference(ragged(Case(cell, 40, 30, I, H, reverse=True)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("form", ["dense", "ragged"])
@pytest.mark.parametrize("T, B", [(1, 1), (1, 9), (5, 3), (6, 40), (300, 1)])
@pytest.mark.parametrize("cell, P", [*((cell, 0) for cell in CELLS), ("lstm", 7)])
def test_no_state_is_a_state_of_zeros(poisoned, cell, P, T, B, form, reverse, dtype):
    """The kernels leave out what no state would be multiplied by."""
    case = Case(cell, T, B, 5, 18, P, reverse=reverse, state=False, dtype=dtype)
    if form == "ragged":
        case = ragged(case)
    args = arguments(case)
    results = []
    for zeros in (False, True):
        if zeros:
            args[1] = args[0].new_zeros(B, P or 18)
            args[2] = args[0].new_zeros(B, 18) if cell == "lstm" else None
        outs = outputs(recurrent_layer, case, args)
        results.append([*outs, *gradients(outs, args)])
    tolerance = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 2e-2}[dtype]
    for without, zeros in zip(*results, strict=True):
        torch.testing.assert_close(without, zeros, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("state", [False, True])
@pytest.mark.parametrize("T, B", [(40, 1), (90, 3), (12, 20)])
@pytest.mark.parametrize("cell", CELLS)
def test_one_chunk_and_two_over_a_team(poisoned, cell, T, B, state):
    """Without dh_0, W_ih takes the place of W_hh before dx is made, where all rows are one chunk."""
    assert_as_reference(Case(cell, T, B, 70, 100, state=state))


@pytest.mark.parametrize("cell", CELLS)
def test_wide_enough_for_several_threads(poisoned, cell):
    """Sizes at which the planner splits units (few rows) and rows (many) over a team."""
    assert_as_reference(Case(cell, 3, 2, 40, 200))
    assert_as_reference(Case(cell, 6, 64, 40, 48))
    assert_as_reference(ragged(Case(cell, 6, 64, 40, 48)))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("reverse", [False, True])
def test_ragged_rows_in_chunks_over_a_team(poisoned, cell, reverse):
    """A chunk's rows lie elsewhere than the last chunk's, so one thread must not write where another still reads."""
    case = Case(cell, 24, 64, 10, 40, reverse=reverse)
    for _ in range(5):
        assert_as_reference(case.with_(lengths=tuple(24 - 9 * b // 63 for b in range(64))))


@pytest.mark.cpu
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("reverse", [False, True])
def test_steps_of_which_a_part_has_no_rows(poisoned, cell, reverse):
    """Enough rows a step for a chunk each, the last of which has a row of the first part alone: the others' sums of
    weight gradients must not begin with what an earlier call has left in their memory."""
    torch.set_num_threads(2)  # the configuration sets it back
    case = Case(cell, 4, 1100, 4, 16, reverse=reverse)
    args = arguments(case.with_(state=False))
    args[0] = torch.full_like(args[0], torch.nan).requires_grad_()
    gradients(outputs(recurrent_layer, case, args), args)
    assert_as_reference(case.with_(lengths=(4, *[3] * 1099)))


@pytest.mark.cpu
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("ahead, back", [(3, 1), (1, 3), (2, 3), (3, 2)])
def test_backward_by_a_team_of_another_size(poisoned, cell, reverse, ahead, back):
    """The reserve lies as forward's team split the batch, which is not how backward's own would."""
    for case in (Case(cell, 9, 50, 20, 26, reverse=reverse), ragged(Case(cell, 9, 50, 20, 26, reverse=reverse))):
        results = []
        for run in (recurrent_layer, reference.recurrent_layer):
            args = arguments(case)
            torch.set_num_threads(ahead)  # the configuration sets it back
            outs = outputs(run, case, args)
            torch.set_num_threads(back)
            results.append(gradients(outs, args))
        for mine, ref in zip(*results, strict=True):
            torch.testing.assert_close(mine, ref, rtol=1e-9, atol=1e-11)


@pytest.mark.cpu
@pytest.mark.parametrize("cell", CELLS)
def test_parts_of_the_batch_of_unequal_size(poisoned, cell):
    """A batch that the team does not divide, in several chunks, and steps with fewer rows than threads."""
    case = Case(cell, 41, 23, 10, 26)
    torch.set_num_threads(3)  # the configuration sets it back
    assert_as_reference(case)
    assert_as_reference(ragged(case.with_(reverse=True, state=False)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("cell", CELLS)
def test_what_a_call_leaves_in_the_workspace_is_not_read(cell, dtype):
    """Odd sizes after a larger call that filled the scratch memory with NaN."""
    large = Case(cell, 6, 40, 70, 70, dtype=dtype)
    nan = [None if a is None else torch.full_like(a, torch.nan).requires_grad_() for a in arguments(large)[:-1]] + [
        None
    ]
    for T, H in ((1, 5), (3, 7), (6, 13), (1, 21)):
        gradients(outputs(recurrent_layer, large, nan), nan)
        case = Case(cell, T, 3, 9, H, dtype=dtype)
        args = arguments(case)
        outs = outputs(recurrent_layer, case, args)
        assert all(torch.isfinite(t).all() for t in (*outs, *gradients(outs, args)))


@pytest.mark.parametrize("cell", CELLS)
def test_rows_that_share_cache_sets(poisoned, cell):
    """Rows 2 KiB apart (256 doubles): input and state are copied to better strides."""
    assert_as_reference(Case(cell, 3, 9, 256, 256))
    assert_as_reference(ragged(Case(cell, 3, 9, 256, 256, reverse=True)))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_size(poisoned, data):
    cell = data.draw(st.sampled_from(CELLS))
    lengths = sorted(data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=20)), reverse=True)
    H = data.draw(st.integers(1, 40))
    P = data.draw(st.integers(0, H - 1)) if cell == "lstm" else 0
    flags = {name: data.draw(st.booleans()) for name in ("reverse", "state", "bias")}
    packed = tuple(lengths) if data.draw(st.booleans()) else ()
    assert_as_reference(Case(cell, lengths[0], len(lengths), data.draw(st.integers(1, 40)), H, P, packed, **flags))


def errors(case: Case) -> tuple[float, float]:
    """Largest error of ours and of torch.nn's own layer over outputs and gradients, against the reference in
    float64 and relative to the largest true value."""
    names = {"rnn_tanh": torch.nn.RNN, "rnn_relu": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}
    options = {"nonlinearity": case.cell[4:]} if case.cell.startswith("rnn") else {}
    args = arguments(case)
    exact = [None if a is None else a.detach().double().requires_grad_() for a in args[:-1]] + [None]
    x, hx, cx, *weights = args[:-1]

    def torchs(*_, **__):
        module = names[case.cell](case.I, case.H, dtype=case.dtype, **options)
        flat = [w for w in weights if w is not None]
        state = (hx[None], cx[None]) if cx is not None else hx[None]
        y, h = torch.func.functional_call(module, dict(zip(module._flat_weights_names, flat, strict=True)), (x, state))
        return (y, h[0][0], h[1][0]) if cx is not None else (y, h[0])

    true = outputs(reference.recurrent_layer, case, exact)
    true = true + gradients(true, exact)
    found = []
    for run in (recurrent_layer, torchs):
        outs = outputs(run, case, args)
        values = outs + gradients(outs, args)
        found.append(
            max(((v.double() - t).abs().max() / t.abs().max()).item() for v, t in zip(values, true, strict=True))
        )
    return found[0], found[1]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("T, H", [(200, 64), (35, 650)])
def test_float32_error_is_at_most_twice_torchs(cell, T, H):
    ours, torchs = errors(Case(cell, T, 4, 32, H, dtype=torch.float32))
    assert ours <= 2 * torchs
    assert ours < 2e-5


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype, cap", [(torch.bfloat16, 0.02), (torch.float16, 0.003)])
def test_16_bit_error_is_at_most_twice_torchs(cell, dtype, cap):
    ours, torchs = errors(Case(cell, 20, 5, 24, 40, dtype=dtype))
    assert ours <= 2 * torchs
    assert ours < cap or cell == "rnn_relu"  # an h rounded to the other side of ReLU's kink has another gradient


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("reverse", [False, True])
def test_16_bit_ragged_and_projected(poisoned, dtype, reverse):
    """Against the same in float32: only the rounding of what is stored may differ."""
    case = ragged(Case("lstm", 7, 6, 10, 33, 9, reverse=reverse, dtype=dtype))
    args = arguments(case)
    wide = [a.detach().float().requires_grad_() if a is not None else None for a in args[:-1]] + args[-1:]
    outs, true = outputs(recurrent_layer, case, args), outputs(recurrent_layer, case, wide)
    for mine, exact in zip(outs + gradients(outs, args), true + gradients(true, wide), strict=True):
        assert mine.dtype == dtype
        unit = torch.finfo(dtype).eps
        torch.testing.assert_close(mine.float(), exact, rtol=unit, atol=4 * unit * exact.abs().max().item())


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("reverse", [False, True])
def test_only_what_is_needed(poisoned, cell, reverse):
    assert_each_gradient_comes_alone(ragged(Case(cell, 6, 5, 4, 20, reverse=reverse)))
    assert_each_gradient_comes_alone(ragged(Case(cell, 6, 5, 64, 64, reverse=reverse)))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("used", [(0,), (1,), (2,), (0, 1)])
def test_missing_gradients_are_zeros(poisoned, cell, used):
    case = Case(cell, 6, 5, 4, 20)
    used = tuple(u for u in used if u < 2 or cell == "lstm") or (0,)
    args = arguments(case)
    leaves = [a for a in args if a is not None]
    outs = outputs(recurrent_layer, case, args)
    some = torch.autograd.grad(
        [outs[u] for u in used], leaves, [torch.ones_like(outs[u]) for u in used], retain_graph=True
    )
    full = torch.autograd.grad(outs, leaves, [torch.full_like(o, float(i in used)) for i, o in enumerate(outs)])
    for a, b in zip(some, full, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-15)


@pytest.mark.parametrize("cell", CELLS)
def test_nothing_given_or_saved_is_written(cell):
    case = ragged(Case(cell, 6, 5, 4, 20, dtype=torch.float32))
    args = arguments(case)
    given = [None if a is None else a.detach().clone() for a in args]
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (saved.append((t, t.clone())), t)[1], lambda t: t):
        outs = outputs(recurrent_layer, case, args)
    first = torch.autograd.grad(
        outs, [a for a in args[:-1] if a is not None], list(map(torch.ones_like, outs)), retain_graph=True
    )
    again = torch.autograd.grad(outs, [a for a in args[:-1] if a is not None], list(map(torch.ones_like, outs)))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert len(saved) >= 6
    assert all(torch.equal(t.nan_to_num(), copy.nan_to_num()) for t, copy in saved)
    assert all(a is None or torch.equal(a, b) for a, b in zip(args, given, strict=True))


@pytest.mark.parametrize("cell", CELLS)
def test_runs_are_bit_equal(cell):
    case = ragged(Case(cell, 30, 33, 20, 70, dtype=torch.float32))
    runs = []
    for _ in range(3):
        args = arguments(case)
        outs = outputs(recurrent_layer, case, args)
        runs.append(outs + gradients(outs, args))
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], run, strict=True))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_inference_equals_training(poisoned, cell, dtype):
    case = ragged(Case(cell, 6, 9, 4, 20, dtype=dtype))
    args = arguments(case)
    with torch.no_grad():
        without = outputs(recurrent_layer, case, args)
    assert all(torch.equal(a, b) for a, b in zip(outputs(recurrent_layer, case, args), without, strict=True))


@pytest.mark.parametrize(
    "layout", ["batch first", "every other column", "expanded rows", "expanded columns", "reversed storage"]
)
@pytest.mark.parametrize("B", [1, 5])
def test_any_strides(poisoned, layout, B):
    case = Case("gru", 6, B, 4, 20)
    x, *rest = arguments(case)
    x = x.detach()
    views = {
        "batch first": lambda: x.transpose(0, 1).contiguous().transpose(0, 1),
        "every other column": lambda: torch.stack([x, x], -1).flatten(-2)[..., ::2],
        "expanded rows": lambda: x[:, :1].expand(-1, B, -1),
        "expanded columns": lambda: x[..., :1].expand(-1, -1, 4),
        "reversed storage": lambda: x.permute(2, 1, 0).contiguous().permute(2, 1, 0),
    }
    view = views[layout]().requires_grad_()
    plain = view.detach().contiguous().requires_grad_()
    outs, true = outputs(recurrent_layer, case, [view, *rest]), outputs(recurrent_layer, case, [plain, *rest])
    for a, b in zip(outs + gradients(outs, [view, *rest]), true + gradients(true, [plain, *rest]), strict=True):
        assert torch.equal(a, b)


def test_strided_gradient_and_weights(poisoned):
    case = Case("lstm", 6, 5, 4, 20)
    args = arguments(case)
    strided = [
        a if a is None or a.dim() < 2 or i == 0 else a.detach().t().contiguous().t().requires_grad_()
        for i, a in enumerate(args)
    ]
    y, true = outputs(recurrent_layer, case, strided)[0], outputs(recurrent_layer, case, args)[0]
    assert torch.equal(y, true)
    leaves = [a for a in strided if a is not None]
    summed = torch.autograd.grad(y.sum(), leaves)  # its gradient is an expanded scalar
    dense = torch.autograd.grad(true, [a for a in args if a is not None], torch.ones_like(true))
    assert all(torch.equal(a, b) for a, b in zip(summed, dense, strict=True))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_inf_stay_in_their_row(cell, bad):
    case = Case(cell, 6, 5, 4, 20, dtype=torch.float32)
    args = arguments(case)
    clean = outputs(recurrent_layer, case, args)[0]
    args[0] = args[0].detach().clone()
    args[0][2, 3, 1] = bad
    y = outputs(recurrent_layer, case, args)[0]
    true = outputs(reference.recurrent_layer, case, args)[0]
    torch.testing.assert_close(y, true, equal_nan=True, rtol=1e-4, atol=1e-5)
    others = [0, 1, 2, 4]
    torch.testing.assert_close(y[:, others], clean[:, others], rtol=1e-6, atol=1e-6)
    if bad != bad:
        assert y[2:, 3].isnan().all()


@pytest.mark.slow
def test_more_than_2_to_the_31_values():
    """Index arithmetic is 64-bit: an output of 2^31 values and more."""
    case = Case("rnn_tanh", 4100, 65536, 1, 8, state=False, dtype=torch.bfloat16)
    _, _, _, w_ih, w_hh, b_ih, b_hh, _, _ = arguments(case.with_(T=1, B=1), requires_grad=False)
    x = torch.randn(case.T, 1, 1, dtype=torch.bfloat16).expand(case.T, case.B, 1)
    y, h_n, _ = recurrent_layer("rnn_tanh", x, None, None, w_ih, w_hh, b_ih, b_hh)
    assert y.numel() > 2**31
    few, _, _ = recurrent_layer("rnn_tanh", x[:, :4], None, None, w_ih, w_hh, b_ih, b_hh)
    torch.testing.assert_close(y[:, -4:], few, rtol=0.02, atol=0.02)
    assert torch.equal(y[-1], h_n)


def test_reserve_is_private_and_sized_by_rows():
    case = Case("lstm", 6, 5, 4, 20, dtype=torch.bfloat16)
    *tensors, sizes = arguments(case, requires_grad=False)
    *_, reserve = ops.layer_forward("lstm", *tensors, sizes, case.B, False, True)
    assert reserve.dtype == torch.float32 and reserve.numel() >= case.T * case.B * 5 * case.H

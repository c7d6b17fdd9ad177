"""What users do with gradients: frozen parts, one result only, repeated backward, hooks, checkpoints, no
gradients."""

import pytest
import torch
from helpers import LAYERS, VARIANTS, assert_same, both, evaluate, initial, leaves, variants
from torch.utils.checkpoint import checkpoint

FROZEN = [
    ("weight_hh_l0", "bias_ih_l0_reverse"),
    ("weight_ih_l0", "bias_hh_l1"),
    ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"),
]
RESULTS = [(*variant, index) for variant in VARIANTS for index in range(3 if variant[0] == "LSTM" else 2)]


def gradients_of(module, total, x):
    total.backward()
    return {"x": x.grad, **{name: p.grad for name, p in module.named_parameters()}}


@variants
@pytest.mark.parametrize("names", FROZEN, ids=str)
@pytest.mark.parametrize("needs_input", [True, False])
def test_frozen_subsets(kind, options, names, needs_input):
    theirs, mine = both(kind, 3, 4, 2, bidirectional=True, **options)
    x, results = torch.randn(5, 2, 3).double(), []
    for module in (theirs, mine):
        for name in names:
            getattr(module, name).requires_grad_(False)
        leaf = x.clone().requires_grad_(needs_input)
        results.append(gradients_of(module, module(leaf)[0].pow(2).sum(), leaf))
    assert_same(results[1], results[0])
    assert all(results[1][name] is None for name in names)


@variants
def test_all_parameters_frozen(kind, options):
    theirs, mine = (module.requires_grad_(False) for module in both(kind, 3, 4, 2, bidirectional=True, **options))
    x = torch.randn(5, 2, 3).double()
    assert not any(leaf.requires_grad for leaf in leaves(mine(x)))
    for i in range(2 if kind == "LSTM" else 1):  # only h_0, or only c_0, wants a gradient
        hx, found = initial(theirs, 2), []
        wanted = leaves(hx)[i].requires_grad_()
        for module in (theirs, mine):
            total = sum(leaf.pow(2).sum() for leaf in leaves(module(x, hx)))
            found += torch.autograd.grad(total, wanted)
        torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)
    x.requires_grad_()
    assert_same(*({"x": torch.autograd.grad(module(x)[0].sum(), x)[0]} for module in (mine, theirs)))


@pytest.mark.parametrize(("kind", "options", "used"), RESULTS)
def test_one_result_only(kind, options, used):
    """Only the output, only h_n or only c_n goes into the loss."""
    theirs, mine = both(kind, 3, 4, 2, bidirectional=True, **options)
    x, hx, results = torch.randn(5, 2, 3).double(), initial(theirs, 2), []
    for module in (theirs, mine):
        leaf = x.clone().requires_grad_()
        results.append(gradients_of(module, leaves(module(leaf, hx))[used].pow(2).sum(), leaf))
    assert_same(results[1], results[0])


@variants
def test_repeated_backward(kind, options):
    """What was saved is never written, so each pass over the same graph gives the same gradients."""
    _, mine = both(kind, 3, 4, 2, bidirectional=True, **options)
    x = torch.randn(5, 2, 3).double().requires_grad_()
    total = sum(leaf.pow(2).sum() for leaf in leaves(mine(x)))
    inputs = [x, *mine.parameters()]
    first = torch.autograd.grad(total, inputs, retain_graph=True)
    for _ in range(2):
        for a, b in zip(torch.autograd.grad(total, inputs, retain_graph=True), first, strict=True):
            assert torch.equal(a, b)
    torch.autograd.grad(total, inputs)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        torch.autograd.grad(total, inputs)


@variants
def test_gradients_accumulate(kind, options):
    _, mine = both(kind, 3, 4, **options)
    x = torch.randn(5, 2, 3).double()
    for _ in range(2):
        mine(x)[0].sum().backward()
    twice = [p.grad for p in mine.parameters()]
    mine.zero_grad()
    mine(x)[0].sum().backward()
    for a, p in zip(twice, mine.parameters(), strict=True):
        assert torch.equal(a, 2 * p.grad)


@variants
@pytest.mark.parametrize("changed", ["input", "weight", "state"])
def test_in_place_change_is_noticed(kind, options, changed):
    theirs, mine = both(kind, 3, 4, **options)
    for module in (theirs, mine):
        x, hx = torch.randn(5, 2, 3).double(), initial(module, 2)
        (module(x, hx)[0].sum() + 0).backward()  # without the change it works
        total = module(x, hx)[0].sum()
        with torch.no_grad():
            {"input": x, "weight": module.weight_hh_l0, "state": leaves(hx)[0]}[changed].add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            total.backward()


@variants
def test_saved_tensors_hooks(kind, options):
    """All that backward reads passes through the hooks: gradients follow what they return."""
    _, mine = both(kind, 3, 4, **options)
    x = torch.randn(5, 2, 3).double()
    plain = evaluate(mine, x)
    seen = []

    def pack(tensor):
        seen.append(tensor.shape)
        return tensor.detach().clone()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        hooked = evaluate(mine, x)
    assert_same(hooked, plain, 0.0)
    assert x.shape in seen and mine.weight_hh_l0.shape in seen
    with torch.autograd.graph.save_on_cpu():
        assert_same(evaluate(mine, x), plain, 0.0)


@variants
@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpoint(kind, options, use_reentrant):
    _, mine = both(kind, 3, 4, 2, dropout=0.5, **options)
    x, results = torch.randn(5, 2, 3).double(), []
    for run in (mine, lambda leaf: checkpoint(mine, leaf, use_reentrant=use_reentrant)):
        torch.manual_seed(9)
        leaf = x.clone().requires_grad_()
        mine.zero_grad()
        run(leaf)[0].pow(2).sum().backward()
        results.append([leaf.grad, *(p.grad for p in mine.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@variants
def test_without_gradients(kind, options):
    _, mine = both(kind, 3, 4, 2, bidirectional=True, **options)
    x = torch.randn(5, 2, 3).double()
    expected = leaves(mine(x))
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            found = leaves(mine(x))
        assert all(torch.equal(a, b) and not a.requires_grad for a, b in zip(found, expected, strict=True))
        assert all(a.is_inference() == (context is torch.inference_mode) for a in found)
    with torch.inference_mode():
        frozen = torch.randn(5, 2, 3).double()
    assert mine.requires_grad_(False)(frozen)[0].shape == (5, 2, expected[0].shape[-1])


@variants
def test_deterministic(kind, options):
    """Bit-equal from run to run, also under torch's flag, which refuses operations that are not."""
    _, mine = both(kind, 9, 33, 2, bidirectional=True, **options)
    x = torch.randn(20, 8, 9).double()
    first = evaluate(mine, x)
    torch.use_deterministic_algorithms(True)
    try:
        for _ in range(3):
            assert_same(evaluate(mine, x), first, 0.0)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
@variants
def test_anomaly_mode(kind, options):
    _, mine = both(kind, 3, 4, **options)
    x = torch.randn(5, 2, 3).double()
    expected = evaluate(mine, x)
    with torch.autograd.detect_anomaly(check_nan=True):
        assert_same(evaluate(mine, x), expected, 0.0)


@pytest.mark.parametrize("kind", LAYERS)
def test_truncated_bptt(kind):
    """States carried over with detach, the way long texts are trained."""
    theirs, mine = both(kind, 3, 4, 2)
    x, results = torch.randn(12, 2, 3).double(), []
    for module in (theirs, mine):
        hx, module_grads = None, []
        for piece in x.split(4):
            output, hx = module(piece, hx)
            module.zero_grad()
            output.pow(2).sum().backward()
            module_grads += [p.grad for p in module.parameters()]
            hx = tuple(h.detach() for h in hx) if kind == "LSTM" else hx.detach()
        results.append(module_grads)
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", LAYERS)
def test_results_may_be_changed_in_place(kind):
    """h_n and y are the caller's: masking states in place between calls is usual."""
    theirs, mine = both(kind, 3, 4)
    x, results = torch.randn(5, 2, 3).double(), []
    for module in (theirs, mine):
        hx = module(x)[1]
        for state in leaves(hx):
            state.mul_(0.5)
        output, _ = module(x, hx)
        results.append([output, *torch.autograd.grad(output.sum(), module.parameters())])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)

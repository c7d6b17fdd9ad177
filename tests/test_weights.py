"""Weights are read by name when the layer is called: whatever users put in their place works as in
torch.nn."""

import warnings

import pytest
import torch
from helpers import LAYERS, assert_same, both, evaluate, leaves
from torch.nn.utils import parametrizations, parametrize, prune


def compare(theirs, mine, training_steps=2):
    """Same outputs and gradients, before and after steps of SGD on both."""
    torch.manual_seed(3)
    x = torch.randn(5, 2, 3).double()
    for _ in range(training_steps):
        expected = evaluate(theirs, x)
        assert_same(evaluate(mine, x), expected)
        for module in (theirs, mine):
            torch.optim.SGD([p for p in module.parameters() if p.requires_grad], lr=0.1).step()


def old_weight_norm(module):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch deprecates it; models that use it are still around
        torch.nn.utils.weight_norm(module, "weight_hh_l0")
        torch.nn.utils.weight_norm(module, "weight_ih_l1_reverse", dim=None)


def old_spectral_norm(module):
    torch.nn.utils.spectral_norm(module, "weight_hh_l0")


def new_weight_norm(module):
    parametrizations.weight_norm(module, "weight_hh_l0")
    parametrizations.weight_norm(module, "weight_ih_l1_reverse")


def new_spectral_norm(module):
    parametrizations.spectral_norm(module, "weight_hh_l0")
    # In training each reading of the weight is one more power iteration, and torch.nn reads it more than once.
    module.eval()


class Doubled(torch.nn.Module):
    def forward(self, weight):
        return 2 * weight


def own_parametrization(module):
    for name in list(module._flat_weights_names):
        parametrize.register_parametrization(module, name, Doubled())


def pruning(module):
    prune.l1_unstructured(module, "weight_hh_l0", amount=0.5)
    prune.random_structured(module, "weight_ih_l1", amount=2, dim=0)


CHANGES = [
    old_weight_norm,
    old_spectral_norm,
    new_weight_norm,
    new_spectral_norm,
    own_parametrization,
    pruning,
]


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_normalised_parametrized_and_pruned(kind, change):
    theirs, mine = both(kind, 3, 4, 2, bidirectional=True)
    for module in (theirs, mine):
        torch.manual_seed(5)
        change(module)
    compare(theirs, mine)


@pytest.mark.parametrize("kind", LAYERS)
def test_undone_changes(kind):
    theirs, mine = both(kind, 3, 4, 2, bidirectional=True)
    for module in (theirs, mine):
        torch.manual_seed(5)
        old_weight_norm(module)
        torch.nn.utils.remove_weight_norm(module, "weight_hh_l0")
        parametrizations.weight_norm(module, "weight_hh_l1")
        parametrize.remove_parametrizations(module, "weight_hh_l1")
        pruning(module)
        prune.remove(module, "weight_hh_l0")
    compare(theirs, mine)


@pytest.mark.parametrize("kind", LAYERS)
def test_parametrizations_may_be_cached(kind):
    theirs, mine = both(kind, 3, 4)
    x = torch.randn(5, 2, 3).double()
    for module in (theirs, mine):
        torch.manual_seed(5)
        parametrizations.orthogonal(module, "weight_hh_l0")
    with parametrize.cached():
        assert_same(evaluate(mine, x), evaluate(theirs, x))


@pytest.mark.parametrize("kind", LAYERS)
def test_assigned_parameters(kind):
    theirs, mine = both(kind, 3, 4)
    for module in (theirs, mine):
        weight = torch.nn.Parameter(torch.linspace(-1, 1, module.weight_hh_l0.numel()).double().view(4, -1).t())
        assert not weight.is_contiguous()
        module.weight_hh_l0 = weight
        assert module._flat_weights[1] is weight
    compare(theirs, mine)


@pytest.mark.parametrize("kind", LAYERS)
def test_data_replaced_in_place(kind):
    theirs, mine = both(kind, 3, 4)
    for module in (theirs, mine):
        module.weight_ih_l0.data = torch.full_like(module.weight_ih_l0, 0.25)
        with torch.no_grad():
            module.weight_hh_l0.mul_(2)
    compare(theirs, mine)


@pytest.mark.parametrize("kind", LAYERS)
def test_tied_weights(kind):
    """One Parameter in two places of a layer, and in two layers: its gradient is the sum."""
    theirs, mine = both(kind, 4, 4, 2)
    for module in (theirs, mine):
        module.weight_hh_l1 = module.weight_hh_l0
        module.weight_ih_l0 = module.weight_hh_l0
    x = torch.randn(5, 2, 4).double()
    assert_same(evaluate(mine, x), evaluate(theirs, x))
    gradients = []
    for first, second in zip(both(kind, 3, 4), both(kind, 4, 4), strict=True):
        second.weight_hh_l0 = first.weight_hh_l0
        second(first(torch.ones(5, 2, 3).double())[0])[0].sum().backward()
        gradients.append(first.weight_hh_l0.grad)
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_weight_that_is_computed(kind):
    """A non-leaf Tensor in a weight's place, as weight dropping and hypernetworks do; gradients reach its
    source."""
    theirs, mine = both(kind, 3, 4)
    x = torch.randn(5, 2, 3).double()
    gradients = []
    for module in (theirs, mine):
        raw = module.weight_hh_l0.detach().clone().requires_grad_()
        del module.weight_hh_l0
        module.weight_hh_l0 = raw * 0.5
        module(x)[0].sum().backward()
        gradients.append(raw.grad)
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)
    assert gradients[0].any()


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("tie_weights", [True, False])
def test_functional_call(kind, tie_weights):
    theirs, mine = both(kind, 3, 4, 2)
    x = torch.randn(5, 2, 3).double()
    other = {name: torch.randn_like(value).requires_grad_() for name, value in mine.named_parameters()}
    before = mine(x)[0]
    results = [torch.func.functional_call(module, other, (x,), tie_weights=tie_weights) for module in (mine, theirs)]
    gradients = [torch.autograd.grad(result[0].sum(), list(other.values())) for result in results]
    for a, b in zip([*leaves(results[0]), *gradients[0]], [*leaves(results[1]), *gradients[1]], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    assert torch.equal(mine(x)[0], before)


@pytest.mark.parametrize("kind", LAYERS)
def test_torch_func_grad(kind):
    theirs, mine = both(kind, 3, 4)
    x = torch.randn(5, 2, 3).double()

    def gradients(module):
        parameters = {name: value.detach() for name, value in module.named_parameters()}
        return torch.func.grad(lambda p: torch.func.functional_call(module, p, (x,))[0].pow(2).sum())(parameters)

    assert_same(gradients(mine), gradients(theirs))


@pytest.mark.parametrize("kind", LAYERS)
def test_optimizers_and_clipping(kind):
    theirs, mine = both(kind, 3, 4, 2)
    x = torch.randn(5, 2, 3).double()
    losses = []
    for module in (theirs, mine):
        optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
        curve = []
        for _ in range(5):
            optimizer.zero_grad()
            loss = (module(x)[0] - 0.3).pow(2).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 0.1)
            optimizer.step()
            curve.append(loss.item())
        losses.append(curve)
    assert losses[1] == pytest.approx(losses[0], rel=1e-10)
    assert losses[0][-1] < losses[0][0]


@pytest.mark.parametrize("kind", LAYERS)
def test_vector_of_parameters(kind):
    theirs, mine = both(kind, 3, 4)
    vector = torch.nn.utils.parameters_to_vector(mine.parameters())
    assert torch.equal(vector, torch.nn.utils.parameters_to_vector(theirs.parameters()))
    for module in (theirs, mine):
        torch.nn.utils.vector_to_parameters(vector * 0.5, module.parameters())
    compare(theirs, mine)

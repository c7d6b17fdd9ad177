"""The layers as modules: construction, names, initial draws, repr, attributes, state_dicts, copies and
pickles."""

import copy
import inspect
import io
import pickle

import pytest
import torch
from helpers import LAYERS, assert_same, both, evaluate, leaves, variants

import fastrnn

OPTIONS = [
    {},
    {"num_layers": 2, "bias": False, "batch_first": True, "dropout": 0.1, "bidirectional": True},
    {"num_layers": 3, "bidirectional": True},
    {"bias": False},
]


@variants
@pytest.mark.parametrize("more", OPTIONS)
def test_parameters_repr_and_attributes(kind, options, more):
    """Everything that can be read off a new layer is torch.nn's, and a seed draws the same numbers."""
    made = []
    for package in (fastrnn, torch.nn):
        torch.manual_seed(7)
        made.append(getattr(package, kind)(3, 4, **options, **more))
    mine, theirs = made
    assert repr(mine) == repr(theirs)
    assert [name for name, _ in mine.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b) and a.dtype == b.dtype and a.shape == b.shape
    for name in ("_flat_weights_names", "_all_weights", "mode", "dropout", *theirs.__constants__):
        assert getattr(mine, name) == getattr(theirs, name), name
    assert [len(weights) for weights in mine.all_weights] == [len(weights) for weights in theirs.all_weights]
    assert all(flat is p for flat, p in zip(mine._flat_weights, mine.parameters(), strict=True))
    assert mine.all_weights[-1][-1] is list(mine.parameters())[-1]
    assert mine.flatten_parameters() is None
    assert set(vars(mine)) == set(vars(theirs))


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        ("RNN", (3, 4, 2, "relu", False, True, 0.5, True)),
        ("GRU", (3, 4, 2, False, True, 0.5, True)),
        ("LSTM", (3, 4, 2, False, True, 0.5, True, 2, "cpu", torch.float64)),
    ],
)
def test_positional_arguments(kind, arguments):
    mine, theirs = getattr(fastrnn, kind)(*arguments), getattr(torch.nn, kind)(*arguments)
    assert repr(mine) == repr(theirs) and mine.mode == theirs.mode
    assert mine.weight_hh_l1_reverse.dtype == theirs.weight_hh_l1_reverse.dtype


@pytest.mark.parametrize("kind", LAYERS)
def test_signature_is_explicit(kind):
    names = list(inspect.signature(getattr(fastrnn, kind)).parameters)
    common = ["bias", "batch_first", "dropout", "bidirectional", "proj_size", "device", "dtype"]
    assert names == [
        "input_size",
        "hidden_size",
        "num_layers",
        *(["nonlinearity"] if kind == "RNN" else []),
        *common,
    ]


@variants
def test_state_dict_loads_both_ways(kind, options):
    theirs, mine = both(kind, 3, 4, 2, bidirectional=True, **options)
    x = torch.randn(5, 2, 3).double()
    expected = evaluate(theirs, x)
    assert_same(evaluate(mine, x), expected)
    other = getattr(torch.nn, kind)(3, 4, 2, bidirectional=True, dtype=torch.float64, **options)
    other.load_state_dict(mine.state_dict(), strict=True)
    assert_same(evaluate(other, x), expected, 0.0)
    assert list(mine.state_dict()) == list(theirs.state_dict())


@pytest.mark.parametrize("kind", LAYERS)
def test_load_state_dict_by_assignment(kind):
    _, mine = both(kind, 3, 4)
    state = {name: torch.full_like(value, 0.1) for name, value in mine.state_dict().items()}
    mine.load_state_dict(state, assign=True)
    assert mine.weight_ih_l0.data_ptr() == state["weight_ih_l0"].data_ptr()
    theirs, _ = both(kind, 3, 4)
    theirs.load_state_dict(state)
    x = torch.randn(5, 2, 3).double()
    assert_same(evaluate(mine, x), evaluate(theirs, x))


def through_pickle(module):
    return pickle.loads(pickle.dumps(module))


def through_save(module):
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


@variants
@pytest.mark.parametrize("copied", [copy.deepcopy, through_pickle, through_save])
def test_copies(kind, options, copied):
    _, mine = both(kind, 3, 4, 2, dropout=0.25, bidirectional=True, **options)
    mine.eval()
    other = copied(mine)
    assert type(other) is type(mine) and repr(other) == repr(mine) and not other.training
    assert all(flat is p for flat, p in zip(other._flat_weights, other.parameters(), strict=True))
    assert all(a is not b for a, b in zip(mine.parameters(), other.parameters(), strict=True))
    x = torch.randn(5, 2, 3).double()
    assert_same(evaluate(other, x), evaluate(mine, x), 0.0)


@pytest.mark.parametrize("kind", LAYERS)
def test_setstate_takes_old_dicts(kind):
    """Before proj_size, and before weights were kept by name, pickles looked like this."""
    _, mine = both(kind, 3, 4, 2, bidirectional=True)
    state = mine.__getstate__()
    del state["proj_size"]
    state["all_weights"] = [[getattr(mine, name) for name in names] for names in state.pop("_all_weights")]
    del state["_flat_weights_names"], state["_flat_weights"]
    old = getattr(fastrnn, kind).__new__(getattr(fastrnn, kind))
    old.__setstate__(state)
    assert old.proj_size == 0 and old._flat_weights_names == mine._flat_weights_names
    x = torch.randn(5, 2, 3).double()
    assert_same(evaluate(old, x), evaluate(mine, x), 0.0)


@pytest.mark.parametrize("kind", LAYERS)
def test_share_memory(kind):
    _, mine = both(kind, 3, 4)
    x = torch.randn(5, 2, 3).double()
    expected = mine(x)[0]
    mine.share_memory()
    assert all(p.is_shared() for p in mine.parameters())
    assert torch.equal(mine(x)[0], expected)


@pytest.mark.parametrize("kind", LAYERS)
def test_moving_between_dtypes(kind):
    _, mine = both(kind, 3, 4)
    x = torch.randn(5, 2, 3)
    assert mine.float()(x)[0].dtype == torch.float32
    assert mine.to(torch.bfloat16)(x.bfloat16())[0].dtype == torch.bfloat16
    assert all(flat is p for flat, p in zip(mine._flat_weights, mine.parameters(), strict=True))


@pytest.mark.parametrize("kind", LAYERS)
def test_reset_parameters_draws_as_torch(kind):
    theirs, mine = both(kind, 3, 4)
    for module in (theirs, mine):
        torch.manual_seed(11)
        module.reset_parameters()
    assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), theirs.parameters(), strict=True))


@pytest.mark.parametrize("kind", LAYERS)
def test_subclasses(kind):
    """A subclass with a forward of its own, and one that adds to the constructor."""

    class Doubled(getattr(fastrnn, kind)):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.factor = 2

        def forward(self, input, hx=None):
            output, hx = super().forward(input, hx)
            return self.factor * output, hx

    _, mine = both(kind, 3, 4)
    doubled = Doubled(3, 4, dtype=torch.float64)
    doubled.load_state_dict(mine.state_dict())
    x = torch.randn(5, 2, 3).double()
    assert torch.equal(doubled(x)[0], 2 * mine(x)[0])


@pytest.mark.parametrize("kind", LAYERS)
def test_hooks_and_keyword_arguments(kind):
    _, mine = both(kind, 3, 4)
    seen = []
    mine.register_forward_hook(lambda module, args, kwargs, result: seen.append((args, kwargs)), with_kwargs=True)
    x = torch.randn(5, 2, 3).double()
    hx = mine(x)[1]
    assert torch.equal(mine(input=x, hx=hx)[0], mine(x, hx)[0])
    assert seen[1][1]["input"] is x and len(leaves(seen[1][1]["hx"])) == (2 if kind == "LSTM" else 1)


def test_modules_of_the_package():
    assert fastrnn.__version__ == "0.1.0"
    assert all(hasattr(fastrnn, name) for name in fastrnn.__all__)
    for kind in LAYERS:
        layer = getattr(fastrnn, kind)(3, 4)
        assert isinstance(layer, torch.nn.RNNBase) and not isinstance(layer, getattr(torch.nn, kind))

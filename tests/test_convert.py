"""convert and to_torch: every layer and cell swapped, with its very Parameters and all that hangs on it."""

import copy
import gc
import pickle

import pytest
import torch
from helpers import CELLS, LAYERS, assert_same, evaluate, leaves
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import fastrnn


class Model(nn.Module):
    """A deep bidirectional LSTM with projection, a GRU, an RNN and the three cells."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 6, num_layers=2, bidirectional=True, proj_size=2, batch_first=True)
        self.nested = nn.ModuleDict({"layers": nn.ModuleList([nn.GRU(4, 5, batch_first=True), nn.ReLU()])})
        self.rnn = nn.RNN(5, 4, nonlinearity="relu", batch_first=True)
        self.cells = nn.ModuleList([nn.RNNCell(4, 3), nn.GRUCell(3, 4, bias=False), nn.LSTMCell(4, 2)])

    def forward(self, x):
        x, states = self.lstm(x)
        x, _ = self.nested["layers"][0](x)
        x, _ = self.rnn(self.nested["layers"][1](x))
        h = self.cells[1](self.cells[0](x[:, -1]))
        return x, states, self.cells[2](h)


def model():
    torch.manual_seed(0)
    return Model().double()


def kinds(module, package):
    names = (*LAYERS, *CELLS)
    return [type(m).__name__ for m in module.modules() if type(m) in {getattr(package, name) for name in names}]


def test_a_whole_model():
    theirs = model()
    state, x = copy.deepcopy(theirs.state_dict()), torch.randn(2, 5, 3).double()
    expected, before, text = evaluate(theirs, x), dict(theirs.named_parameters()), repr(theirs)
    mine = fastrnn.convert(theirs)
    assert mine is theirs and repr(mine) == text
    assert kinds(mine, fastrnn) == ["LSTM", "GRU", "RNN", "RNNCell", "GRUCell", "LSTMCell"] and not kinds(mine, nn)
    assert all(before[name] is p for name, p in mine.named_parameters())
    assert list(mine.state_dict()) == list(state)
    assert_same(evaluate(mine, x), expected)
    mine.load_state_dict(state)

    back = fastrnn.to_torch(mine)
    assert kinds(back, nn) == ["LSTM", "GRU", "RNN", "RNNCell", "GRUCell", "LSTMCell"] and not kinds(back, fastrnn)
    assert all(before[name] is p for name, p in back.named_parameters())
    assert_same(evaluate(back, x), expected, 0.0)


@pytest.mark.parametrize("kind", [*LAYERS, *CELLS])
def test_a_model_that_is_one_layer(kind):
    theirs = getattr(nn, kind)(3, 4).double()
    theirs.note = "kept"
    x = torch.randn(2, 3).double()
    expected = evaluate(theirs, x)
    mine = fastrnn.convert(theirs)
    assert type(mine) is getattr(fastrnn, kind) and mine.note == "kept"
    assert_same(evaluate(mine, x), expected)
    assert_same(evaluate(theirs, x), expected, 0.0)  # the old layer goes on working
    assert fastrnn.convert(mine) is mine
    back = fastrnn.to_torch(mine)
    assert type(back) is getattr(nn, kind) and fastrnn.to_torch(back) is back
    assert all(a is b for a, b in zip(back.parameters(), theirs.parameters(), strict=True))


@pytest.mark.parametrize("kind", LAYERS)
def test_old_and_new_layer_are_apart(kind):
    """Replacing a weight of one leaves the other alone; only the Parameters themselves are shared."""
    theirs = getattr(nn, kind)(3, 4)
    mine = fastrnn.convert(theirs)
    weight = theirs.weight_ih_l0
    mine.weight_ih_l0 = nn.Parameter(torch.zeros_like(weight))
    assert theirs.weight_ih_l0 is weight and theirs._flat_weights[0] is weight
    assert mine._flat_weights[0] is mine.weight_ih_l0
    mine.half()
    assert theirs.weight_ih_l0.dtype == torch.float32


def test_training_mode_and_frozen_parameters():
    theirs = model().eval()
    theirs.rnn.train()
    theirs.lstm.weight_hh_l0.requires_grad_(False)
    mine = fastrnn.convert(theirs)
    assert not mine.lstm.training and mine.rnn.training and not mine.training
    assert not mine.lstm.weight_hh_l0.requires_grad and mine.lstm.weight_hh_l1.requires_grad


def test_shared_layers_stay_shared():
    gru = nn.GRU(3, 3)
    first, second = nn.Sequential(gru), nn.Sequential(gru, nn.GRU(3, 3))
    second[1].weight_hh_l0 = gru.weight_hh_l0
    mine = fastrnn.convert(nn.ModuleList([first, second]))
    assert mine[0][0] is mine[1][0] and type(mine[0][0]) is fastrnn.GRU
    assert mine[1][1].weight_hh_l0 is mine[0][0].weight_hh_l0


def test_optimizer_goes_on():
    torch.manual_seed(0)
    theirs = nn.Sequential(nn.GRU(3, 4))
    optimizer = torch.optim.Adam(theirs.parameters(), lr=0.1)
    mine = fastrnn.convert(theirs)
    before = mine[0].weight_hh_l0.detach().clone()
    mine(torch.randn(5, 2, 3))[0].sum().backward()
    optimizer.step()
    assert not torch.equal(mine[0].weight_hh_l0, before)


def test_hooks_come_along_and_their_handles_work():
    layer, calls = nn.GRU(3, 4), []
    handles = [
        layer.register_forward_pre_hook(lambda module, args: calls.append(("pre", type(module)))),
        layer.register_forward_hook(lambda module, args, result: calls.append(("forward", type(module)))),
        layer.register_full_backward_hook(lambda module, given, taken: calls.append(("backward", type(module)))),
        layer.register_state_dict_pre_hook(lambda module, *rest: calls.append(("state", type(module)))),
        layer.register_load_state_dict_pre_hook(lambda module, *rest: calls.append(("load", type(module)))),
        layer.register_load_state_dict_post_hook(lambda module, keys: calls.append(("loaded", type(module)))),
    ]
    mine = fastrnn.convert(nn.Sequential(layer))
    del layer
    gc.collect()

    def use():
        calls.clear()
        mine(torch.randn(5, 2, 3, requires_grad=True))[0].sum().backward()
        mine.load_state_dict(mine.state_dict())
        return calls

    names = ["pre", "forward", "backward", "state", "load", "loaded"]
    assert use() == [(name, fastrnn.GRU) for name in names]
    handles[1].remove()
    handles[4].remove()
    assert [name for name, _ in use()] == ["pre", "backward", "state", "loaded"]


@pytest.mark.parametrize("kind", LAYERS)
def test_parametrizations_come_along(kind):
    def parametrized():
        torch.manual_seed(0)
        layer = getattr(nn, kind)(3, 4).double()
        parametrizations.weight_norm(layer, "weight_hh_l0")
        parametrizations.orthogonal(layer, "weight_ih_l0")
        return nn.Sequential(layer)

    theirs, model = parametrized(), parametrized()
    x = torch.randn(5, 2, 3).double()
    expected, names = evaluate(theirs, x), [name for name, _ in model.named_parameters()]
    mine = fastrnn.convert(model)
    assert isinstance(mine[0], getattr(fastrnn, kind))
    assert parametrize.is_parametrized(mine[0], "weight_hh_l0")
    assert [name for name, _ in mine.named_parameters()] == names
    assert_same(evaluate(mine, x), expected)
    assert_same(evaluate(copy.deepcopy(mine), x), expected)
    back = fastrnn.to_torch(mine)
    assert isinstance(back[0], getattr(nn, kind))
    assert_same(evaluate(back, x), expected, 0.0)
    again = fastrnn.convert(back)
    parametrize.remove_parametrizations(again[0], "weight_hh_l0")
    parametrize.remove_parametrizations(again[0], "weight_ih_l0")
    assert type(again[0]) is getattr(fastrnn, kind)
    torch.testing.assert_close(again(x)[0], expected["output 0"], rtol=1e-12, atol=1e-12)


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
def test_old_weight_and_spectral_norm_come_along():
    torch.manual_seed(0)
    theirs = nn.Sequential(nn.LSTM(3, 4).double())
    nn.utils.weight_norm(theirs[0], "weight_hh_l0")
    nn.utils.spectral_norm(theirs[0], "weight_ih_l0")
    theirs.eval()
    x = torch.randn(5, 2, 3).double()
    expected, state = evaluate(theirs, x), copy.deepcopy(theirs.state_dict())
    mine = fastrnn.convert(theirs)
    assert_same(evaluate(mine, x), expected)
    mine.load_state_dict(state)
    assert_same(evaluate(mine, x), expected)


def test_subclasses_are_left_alone():
    class Special(nn.LSTM):
        def forward(self, x, hx=None):
            return super().forward(x + 1, hx)

    special = Special(3, 4)
    assert fastrnn.convert(special) is special
    parametrizations.weight_norm(special, "weight_hh_l0")
    assert fastrnn.convert(nn.Sequential(special))[0] is special


def test_models_without_recurrence_and_wrong_arguments():
    plain = nn.Sequential(nn.Linear(3, 4), nn.Dropout())
    assert fastrnn.convert(plain) is plain and fastrnn.to_torch(plain) is plain
    for wrong in (nn.LSTM, None, "model"):
        with pytest.raises(TypeError, match=r"expected a torch.nn.Module, got"):
            fastrnn.convert(wrong)


def test_a_converted_model_is_copied_and_pickled():
    mine = fastrnn.convert(model())
    x = torch.randn(2, 5, 3).double()
    expected = evaluate(mine, x)
    copies = [copy.deepcopy(mine), pickle.loads(pickle.dumps(mine.lstm))]
    assert_same(evaluate(copies[0], x), expected, 0.0)
    assert torch.equal(leaves(copies[1](x))[0], leaves(mine.lstm(x))[0])
    assert all(flat is p for flat, p in zip(copies[1]._flat_weights, copies[1].parameters(), strict=True))


def test_a_layer_on_the_meta_device():
    mine = fastrnn.convert(nn.GRU(3, 4, device="meta"))
    assert type(mine) is fastrnn.GRU and mine.weight_ih_l0.is_meta
    assert mine.to_empty(device="cpu").weight_ih_l0.device.type == "cpu"

"""torch.compile without a break in the graph, and torch.export: a layer is one operation whose sizes may vary."""

import io
import logging

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import fastrnn
from fastrnn import functional, ops

pytestmark = [
    pytest.mark.cpu,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # torch's own, of its own parts
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

I, H = 4, 5


@pytest.fixture(autouse=True)
def nothing_compiled():
    torch.manual_seed(0)
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def sequence(steps=3, batch=2):
    return torch.randn(steps, batch, I)


def state(batch=2, width=H):
    return torch.randn(1, batch, width)


# name: module, arguments
CASES = {
    "lstm": lambda: (fastrnn.LSTM(I, H), (sequence(),)),
    "lstm from states": lambda: (fastrnn.LSTM(I, H), (sequence(), (state(), state()))),
    "gru from a state": lambda: (fastrnn.GRU(I, H), (sequence(), state())),
    "relu": lambda: (fastrnn.RNN(I, H, nonlinearity="relu", bias=False), (sequence(),)),
    "stack": lambda: (fastrnn.GRU(I, H, 2, bidirectional=True, batch_first=True), (sequence(),)),
    "projection": lambda: (fastrnn.LSTM(I, H, 2, proj_size=3), (sequence(),)),
    "dropout": lambda: (fastrnn.RNN(I, H, 2, dropout=1.0), (sequence(),)),
    "one sequence": lambda: (fastrnn.GRU(I, H), (sequence()[:, 0],)),
    "fp64": lambda: (fastrnn.LSTM(I, H).double(), (sequence().double(),)),
    "LSTMCell": lambda: (fastrnn.LSTMCell(I, H), (sequence()[0], (state()[0], state()[0]))),
    "GRUCell": lambda: (fastrnn.GRUCell(I, H), (sequence()[0],)),
    "RNNCell": lambda: (fastrnn.RNNCell(I, H, nonlinearity="relu"), (sequence()[0, 0],)),
}


def flat(results):
    return [results] if isinstance(results, torch.Tensor) else [t for r in results for t in flat(r)]


def gradients(module, results):
    """Of the parameters, with some left out of the sum."""
    results = [r for r in flat(results) if r.requires_grad]
    return torch.autograd.grad(sum(r.double().square().sum() for r in results), tuple(module.parameters()))


def assert_alike(found, expected):
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype and a.requires_grad == b.requires_grad
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backend", ["eager", "aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CASES)
def test_a_whole_graph(name, backend):
    module, args = CASES[name]()
    module(*args), module(*args)  # what the module then keeps changes nothing
    compiled = torch.compile(module, backend=backend, fullgraph=True)
    found, expected = compiled(*args), module(*args)
    assert_alike(flat(found), flat(expected))
    assert_alike(gradients(module, found), gradients(module, expected))
    with torch.no_grad():
        assert_alike(flat(compiled(*args)), flat(module(*args)))


def test_functions_and_a_model():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.layer = torch.nn.Embedding(9, I), fastrnn.GRU(I, H)
            self.decoder = torch.nn.Linear(H, 9)

        def forward(self, words):
            weights = [self.layer.get_parameter(name) for name in self.layer._flat_weights_names]
            y, h = self.layer(self.embedding(words))
            again, _ = functional.gru(self.embedding(words), h, weights)
            return self.decoder(y + again)

    model, words = Model(), torch.randint(9, (3, 2))
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    assert_alike([compiled(words)], [model(words)])
    assert_alike(gradients(model, compiled(words)), gradients(model, model(words)))


def test_only_what_is_needed_gets_a_gradient():
    layer, x = fastrnn.LSTM(I, H), sequence().requires_grad_()
    layer.weight_hh_l0.requires_grad_(False)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    wanted = [x, layer.weight_ih_l0, layer.bias_hh_l0]
    for use in (lambda out: out[0], lambda out: out[1][0], lambda out: out[1][1]):
        found, expected = (torch.autograd.grad(use(run(x)).sum(), wanted) for run in (compiled, layer))
        assert_alike(found, expected)
    compiled(x)[0].sum().backward()
    assert layer.weight_hh_l0.grad is None


def test_autocast():
    layer, x = fastrnn.GRU(I, H), sequence()
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = compiled(x), layer(x)
    assert found[0].dtype == torch.bfloat16
    for a, b in zip(flat(found), flat(expected), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_other_lengths_and_batches_compile_nothing_anew(kind, grad):
    layer, counter = getattr(fastrnn, kind)(I, H), CompileCounter()
    compiled = torch.compile(layer, backend=counter, fullgraph=True, dynamic=True)
    with torch.set_grad_enabled(grad):
        for steps, batch in ((3, 2), (7, 3), (5, 9), (40, 4)):
            x = sequence(steps, batch)
            found = compiled(x)
            assert_alike(flat(found), flat(layer(x)))
            if grad:
                flat(found)[0].sum().backward()
    assert counter.frame_count == 1


def padder():
    """pad_packed_sequence, kept out of the graph where torch.compile (of torch 2.6 and 2.7) cannot trace it."""
    packed = pack_padded_sequence(sequence(), torch.tensor([3, 2]))
    try:
        torch.compile(lambda packed: pad_packed_sequence(packed)[0], backend="eager")(packed)
    except torch._dynamo.exc.TorchRuntimeError:
        return torch.compiler.disable(pad_packed_sequence)
    return pad_packed_sequence


class Tagger(torch.nn.Module):
    """As models for sentences of several lengths are written."""

    def __init__(self):
        super().__init__()
        self.layer, self.decoder = fastrnn.LSTM(I, H, batch_first=True), torch.nn.Linear(H, 3)
        self.pad = padder()

    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.decoder(self.pad(self.layer(packed)[0], batch_first=True)[0])


def test_ragged_batches_run_outside_of_the_graph(caplog):
    model, x = Tagger(), torch.randn(3, 6, I)
    compiled = torch.compile(model, backend="aot_eager")
    for lengths in (torch.tensor([2, 6, 3]), torch.tensor([1, 1, 5])):
        found, expected = compiled(x, lengths), model(x, lengths)
        assert_alike([found], [expected])
        assert_alike(gradients(model, found), gradients(model, expected))
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    alone = torch.compile(model.layer, backend="aot_eager")(packed)
    assert torch.equal(alone[0].data, model.layer(packed)[0].data)
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]  # nothing to tell a user
    torch._dynamo.reset()
    with pytest.raises(Exception, match="outside of graphs" if torch.__version__ >= "2.7" else "graph_break"):
        torch.compile(model.layer, backend="aot_eager", fullgraph=True)(packed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_weights_packed_once_are_used_outside_of_the_graph(dtype):
    layer, x = fastrnn.GRU(I, H), sequence()
    layer.weight_dtype = dtype
    compiled = torch.compile(layer, backend="aot_eager")
    with torch.no_grad():
        assert torch.equal(compiled(x)[0], layer(x)[0])
    assert_alike(gradients(layer, compiled(x)), gradients(layer, layer(x)))


def test_mistakes_are_told_in_a_graph_too():
    compiled = torch.compile(fastrnn.LSTM(I, H), backend="eager")
    for wrong in (torch.randn(3, 2, I + 1), torch.randn(3, 2, 1, I), sequence().double()):
        with pytest.raises((RuntimeError, ValueError), match=r"input|dtype"):
            compiled(wrong)
    assert compiled(sequence())[0].shape == (3, 2, H)


@pytest.mark.parametrize("module", [lambda: fastrnn.LSTM(I, H), lambda: fastrnn.GRUCell(I, H)], ids=["LSTM", "GRUCell"])
@pytest.mark.parametrize("trace", ["export", "strict export", "jit.trace", "make_fx", "operation"])
def test_a_graph_made_without_gradients_has_them(module, trace):
    """It saved nothing for backward, which then computes forward again."""
    module = module().requires_grad_(False)
    x = sequence() if isinstance(module, fastrnn.LSTM) else sequence()[0]
    if trace == "operation":
        cell, weights = "lstm" if isinstance(module, fastrnn.LSTM) else "gru", list(module.parameters())
        steps = x if x.dim() == 3 else x[None]
        arguments = (*weights, None, None, steps.size(1), False, False)

        def run(x):
            return torch.ops.fastrnn.layer_forward(cell, x.view_as(steps), None, None, *arguments)[0]
    elif trace == "make_fx":
        run = make_fx(lambda x: flat(module(x))[0])(x)
    elif trace == "jit.trace":
        run = torch.jit.trace(module, (x,), check_trace=False)
    else:
        run = torch.export.export(module, (x,), strict=trace == "strict export").module()
    x.requires_grad_()
    found, expected = (torch.autograd.grad(flat(f(x))[0].square().sum(), x)[0] for f in (run, module))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


TRANSFORMS = {
    "grad": lambda f: torch.func.grad(lambda x: f(x).square().sum()),
    "vjp": lambda f: lambda x: torch.func.vjp(f, x)[1](torch.ones_like(f(x)))[0],
    "jvp": lambda f: lambda x: torch.func.jvp(f, (x,), (torch.ones_like(x),))[1],
    "jacfwd": torch.func.jacfwd,
    "jacrev": torch.func.jacrev,
    "vmap": lambda f: lambda x: torch.func.vmap(f)(torch.stack([x, 2 * x])),
}


@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "with parameters"])
@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_within_a_compiled_function(name, frozen):
    x = sequence()
    torchs_layer = torch.nn.GRU(I, H).requires_grad_(False)
    torchs = TRANSFORMS[name](lambda x: torchs_layer(x)[0])
    if name != "vmap" and not torch.allclose(torch.compile(torchs, backend="aot_eager")(x), torchs(x)):
        pytest.skip("this torch's torch.compile loses the derivative where a graph breaks: torch.nn.GRU's, too")
    layer, cell = fastrnn.GRU(I, H).requires_grad_(not frozen), fastrnn.LSTMCell(H, H).requires_grad_(not frozen)
    function = TRANSFORMS[name](lambda x: cell(layer(x)[0][-1])[0])
    assert_alike([torch.compile(function, backend="aot_eager")(x)], [function(x)])


def test_forward_mode_of_a_compiled_layer():
    layer, x = fastrnn.LSTM(I, H), sequence()
    compiled = torch.compile(layer, backend="aot_eager")
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, torch.ones_like(x))
        found, expected = (forward_ad.unpack_dual(run(dual)[0]).tangent for run in (compiled, layer))
    torch.testing.assert_close(found, expected)
    assert_alike(flat(compiled(x)), flat(layer(x)))


def test_eager_calls_while_another_thread_compiles(monkeypatch):
    """torch then says that it compiles, to every thread."""
    layer, x = fastrnn.GRU(I, H, 2), sequence()
    packed = pack_padded_sequence(x, torch.tensor([3, 2]))
    rounded = fastrnn.LSTM(I, H)
    rounded.weight_dtype = torch.bfloat16

    def results():
        with torch.no_grad():
            low = rounded(x)[0]
        return layer(packed)[0].data, torch.func.grad(lambda x: layer(x)[0].sum())(x), low

    expected = results()
    monkeypatch.setattr(torch.compiler, "_is_compiling_flag", True)
    assert torch.compiler.is_compiling()
    assert all(map(torch.equal, results(), expected))


def test_hooks_that_give_back_another_shape_are_refused():
    program = torch.export.export(fastrnn.GRU(I, H), (sequence(),)).module()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t[:1]):
        y = program(sequence())[0]
    with pytest.raises(RuntimeError, match="a tensor that forward saved as"):
        y.sum().backward()


def test_make_fx_with_sizes_that_vary():
    weights = [p.detach() for p in fastrnn.GRU(I, H).parameters()]

    def run(x, *weights):
        return functional.gru(x, None, weights)[0]

    traced = make_fx(run, tracing_mode="symbolic")(sequence(), *weights)
    for steps, batch in ((3, 2), (6, 3)):
        x = sequence(steps, batch)
        assert torch.equal(traced(x, *weights), run(x, *weights))


T, B = torch.export.Dim("T", min=1, max=512), torch.export.Dim("B", min=1, max=512)
EXPORTS = {
    "lstm": (lambda: fastrnn.LSTM(I, H, 2, bidirectional=True), lambda t, b: (sequence(t, b),), ({0: T, 1: B},), 4),
    "gru": (lambda: fastrnn.GRU(I, H), lambda t, b: (sequence(t, b), state(b)), ({0: T, 1: B}, {1: B}), 1),
    "cell": (lambda: fastrnn.LSTMCell(I, H), lambda t, b: (sequence(1, b)[0],), ({0: B},), 1),
}


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "not strict"])
@pytest.mark.parametrize("name", EXPORTS)
def test_export_with_sizes_that_vary(name, strict):
    make, arguments, dynamic, layers = EXPORTS[name]
    module = make()
    program = torch.export.export(module, arguments(3, 2), dynamic_shapes=dynamic, strict=strict)
    operation = torch.ops.fastrnn.layer_forward.default
    assert sum(node.target is operation for node in program.graph.nodes) == layers
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file)
    for steps, batch in ((3, 2), (8, 1), (1, 7)):
        args = arguments(steps, batch)
        with torch.no_grad():
            for run in (program.module(), loaded.module(), program.run_decompositions().module()):
                assert_alike(flat(run(*args)), flat(module(*args)))


@pytest.mark.parametrize("packed", [False, True], ids=["dense", "ragged"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn_tanh"])
def test_the_operations_keep_torchs_rules(cell, packed):
    """Of its schema, of what autograd and tracing ask of it, and of sizes that are symbols."""
    gates, lstm = ops.GATES[cell], cell == "lstm"
    x = torch.randn(5, I) if packed else sequence()
    sizes = torch.tensor([2, 2, 1]) if packed else None
    weights = [torch.randn(gates * H, n) / 3 for n in (I, H)] + [torch.randn(gates * H) for _ in range(2)]
    hx, cx = torch.randn(2, H), torch.randn(2, H) if lstm else None
    inputs = [t if t is None else t.requires_grad_() for t in (x, hx, cx, *weights)]
    args = (cell, *inputs, None, sizes, 2, False)
    torch.library.opcheck(torch.ops.fastrnn.layer_forward.default, (*args, True))
    with torch.no_grad():
        y, h_n, c_n, reserve = torch.ops.fastrnn.layer_forward(*args, True)
        given = (torch.ones_like(y), torch.ones_like(h_n), torch.ones_like(c_n) if lstm else None)
        needed = [t is not None for t in (*inputs, None)]
        own = [t if t is None else t.detach() for t in (*inputs, None)]
        torch.library.opcheck(
            torch.ops.fastrnn.layer_backward.default,
            (cell, *given, *own, y, reserve, sizes, 2, False, needed),
            test_utils=("test_schema", "test_faketensor"),
        )


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_a_graph_of_fixed_sizes_refuses_others(kind):
    layer, x = getattr(fastrnn, kind)(I, 64).requires_grad_(False), sequence(3, 8)
    run = torch.jit.trace(layer, (x,), check_trace=False)
    assert_alike(flat(run(x)), flat(layer(x)))
    for wrong in (sequence(3, 2), sequence(3, 9), torch.randn(3, 8, I - 1), sequence(3, 8).double(), sequence(0, 8)):
        with pytest.raises(RuntimeError, match="traced graph takes the sizes"):
            run(wrong)


@pytest.mark.parametrize("way", ["too little", "a dimension more"])
@pytest.mark.parametrize("which", ["dy", "dh_n", "y", "hx", "0", "2", "reserve", "batch"])
def test_the_backward_operation_refuses_what_does_not_fit(which, way):
    x, hx, weights = sequence(), state()[0], [p.detach() for p in fastrnn.GRU(I, H).parameters()]
    y, h_n, _, reserve = torch.ops.fastrnn.layer_forward("gru", x, hx, None, *weights, None, None, 2, False, True)
    args = {"dy": y, "dh_n": h_n, "dc_n": None, "x": x, "hx": hx, "cx": None}
    args |= {str(i): w for i, w in enumerate(weights)} | {"w_hr": None, "y": y, "reserve": reserve}
    args |= {"batch_sizes": None, "batch": 2, "reverse": False, "needed": [True, True, False, *[True] * 4, False]}
    torch.ops.fastrnn.layer_backward("gru", *args.values())
    args[which] = 5 if which == "batch" else args[which][:1] if way == "too little" else args[which][None]
    if way == "a dimension more" and which in ("dh_n", "hx"):  # as the modules have them
        return torch.ops.fastrnn.layer_backward("gru", *args.values())
    with pytest.raises(RuntimeError, match="should be"):
        torch.ops.fastrnn.layer_backward("gru", *args.values())


def test_the_operation_is_differentiable_twice():
    layer, x = fastrnn.GRU(I, H).double(), sequence().double().requires_grad_()
    weights = [p.detach() for p in layer.parameters()]

    def run(x):
        return torch.ops.fastrnn.layer_forward("gru", x, None, None, *weights, None, None, x.size(1), False, True)[0]

    assert torch.autograd.gradcheck(run, (x,)) and torch.autograd.gradgradcheck(run, (x,))

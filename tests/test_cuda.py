"""What only a GPU shows: modules there, errors beside cuDNN's, graphs, streams, devices."""

import copy

import pytest
import torch
from helpers import evaluate, initial, variants

import fastrnn
from fastrnn import _cuda

pytestmark = pytest.mark.cuda
KINDS = ("RNN", "GRU", "LSTM")


@pytest.fixture(autouse=True)
def exact(gpu):
    """Everything is made on the GPU, and there is no TF32, neither in ours nor in cuDNN's."""


@pytest.fixture(params=["a", "b", "d", "c"])
def tier(request, monkeypatch):
    """Forces a tier; a case says with `planned` whether its layer runs there."""
    monkeypatch.setenv("FASTRNN_CUDA_TIER", request.param)
    return request.param


def planned(tier, cell, T, B, H, dtype):
    """Skips where this device cannot run the layer in the tier: before sm_90 there are no clusters."""
    for backward in (False, True):
        found, why, _ = _cuda.plan(cell, T, B, H, dtype, backward=backward)
        if found != tier:
            pytest.skip(why)


def pair(kind, *sizes, dtype=torch.float32, **options):
    """Ours on the GPU, torch.nn's on the GPU, and torch.nn's in float64 on the CPU, of equal weights."""
    torch.manual_seed(0)
    theirs = getattr(torch.nn, kind)(*sizes, dtype=dtype, **options)
    mine = getattr(fastrnn, kind)(*sizes, dtype=dtype, **options)
    mine.load_state_dict(theirs.state_dict())
    return mine, theirs, copy.deepcopy(theirs).cpu().double()


def largest_error(found, true):
    return max(
        ((found[k].cpu().double() - v.double()).abs().max() / v.abs().max().clamp_min(1e-30)).item()
        for k, v in true.items()
        if v is not None
    )


def results(module, x, hx):
    """Outputs and all gradients, with upstream gradients that are the same on every device."""
    return {k: v for k, v in evaluate(module, x, hx).items() if v is not None}


def on_cpu(function, *args):
    with torch.device("cpu"):
        return function(*args)


def moved(value, *to):
    return tuple(v.to(*to) for v in value) if isinstance(value, tuple) else value.to(*to)


CELL = {"RNN": "rnn_tanh", "GRU": "gru", "LSTM": "lstm"}
FLOORS = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}


def assert_as_good_as_cudnn(kind, dtype, T, B, I, H, floor):
    mine, theirs, exact_ = pair(kind, I, H, dtype=dtype)
    x = torch.randn(T, B, I, dtype=dtype)
    hx = moved(on_cpu(initial, exact_, B), "cuda", dtype)
    true = on_cpu(results, exact_, x.cpu().double(), moved(hx, "cpu", torch.float64))
    ours, cudnns = largest_error(results(mine, x, hx), true), largest_error(results(theirs, x, hx), true)
    assert ours <= max(2 * cudnns, floor), (ours, cudnns)


@pytest.mark.parametrize("dtype", FLOORS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("T, B, I, H", [(50, 16, 64, 128), (20, 5, 33, 65), (30, 64, 128, 512)])
def test_error_is_at_most_twice_cudnns(kind, dtype, T, B, I, H):
    assert_as_good_as_cudnn(kind, dtype, T, B, I, H, FLOORS[dtype])


@pytest.mark.parametrize("dtype", ["tf32", torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("T, B, H", [(40, 16, 128), (40, 3, 256), (25, 40, 512), (20, 16, 1024)])
def test_every_tier_is_as_good_as_cudnn(monkeypatch, tier, kind, dtype, T, B, H):
    fast = dtype == "tf32"
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", fast)
    dtype = torch.float32 if fast else dtype
    planned(tier, CELL[kind], T, B, H, dtype)
    assert_as_good_as_cudnn(kind, dtype, T, B, 64, H, 1e-3 if fast else FLOORS[dtype])


@variants
@pytest.mark.parametrize("form", ["layers", "bidirectional", "batch_first", "packed"])
def test_modules_in_float64(kind, options, form):
    more = {"layers": {"num_layers": 2}, "bidirectional": {"bidirectional": True}, "batch_first": {"batch_first": True}}
    mine, _, exact_ = pair(kind, 5, 7, dtype=torch.float64, **options, **more.get(form, {}))
    x = torch.randn(6, 4, 5, dtype=torch.float64, device="cpu")
    batch = 6 if form == "batch_first" else 4
    on_gpu = x.cuda()
    if form == "packed":
        lengths = [2, 6, 3, 1]
        x = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
        on_gpu = torch.nn.utils.rnn.pack_padded_sequence(on_gpu, lengths, enforce_sorted=False)
    hx = on_cpu(initial, exact_, batch)
    found, true = results(mine, on_gpu, moved(hx, "cuda")), on_cpu(results, exact_, x, hx)
    assert largest_error(found, true) < 1e-10


@pytest.mark.parametrize("kind", ["RNNCell", "GRUCell", "LSTMCell"])
def test_cells(kind):
    torch.manual_seed(0)
    mine, x = getattr(fastrnn, kind)(5, 7), torch.randn(3, 5)
    theirs = getattr(torch.nn, kind)(5, 7)
    theirs.load_state_dict(mine.state_dict())
    ours, true = mine(x), theirs(x)
    for a, b in zip(ours, true, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_double_backward(kind):
    layer = getattr(fastrnn, kind)(3, 4, dtype=torch.float64)
    x = torch.randn(3, 2, 3, dtype=torch.float64, device="cuda", requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: layer(x)[0], (x,))


def warm(call):
    """Three calls in a stream of their own, as a capture wants it."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["dense", "packed"])
def test_graph_capture_and_replay(tier, kind, form):
    dtype = torch.bfloat16
    planned(tier, CELL[kind], 9, 5, 48, dtype)
    layer = getattr(fastrnn, kind)(32, 48, dtype=dtype)
    x = torch.randn(9, 5, 32, dtype=dtype, requires_grad=True)
    given = x
    if form == "packed":
        rows = torch.nn.utils.rnn.pack_padded_sequence(x.detach(), [9, 7, 7, 2, 1])
        x = rows.data.requires_grad_()
        given = torch.nn.utils.rnn.PackedSequence(x, rows.batch_sizes)
    leaves = [x, *layer.parameters()]

    def call():
        y = layer(given)[0]
        y = y.data if form == "packed" else y
        return [y, *torch.autograd.grad(y, leaves, torch.ones_like(y))]

    warm(call)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = call()
    for _ in range(3):
        with torch.no_grad():
            x.normal_()
        graph.replay()
        assert all(torch.equal(a, b) for a, b in zip(captured, call(), strict=True))


def test_two_graphs_do_not_share_memory(tier):
    """Both replayed at once, each in its stream: flags and exchange buffers belong to a call."""
    planned(tier, "lstm", 64, 16, 128, torch.bfloat16)
    layers = [fastrnn.LSTM(32, 128, dtype=torch.bfloat16) for _ in range(2)]
    xs = [torch.randn(64, 16, 32, dtype=torch.bfloat16) for _ in range(2)]
    graphs, outs, true = [], [], []
    with torch.no_grad():
        for layer, x in zip(layers, xs, strict=True):
            true.append(layer(x)[0])
            warm(lambda layer=layer, x=x: layer(x))
            graphs.append(torch.cuda.CUDAGraph())
            with torch.cuda.graph(graphs[-1]):
                outs.append(layer(x)[0])
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in range(2)]
    for _ in range(20):
        for graph, stream in zip(graphs, streams, strict=True):
            with torch.cuda.stream(stream):
                graph.replay()
    torch.cuda.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(outs, true, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_runs_are_bit_equal(kind):
    layer = getattr(fastrnn, kind)(64, 200, 2, bidirectional=True)
    x = torch.randn(40, 33, 64, device="cuda", requires_grad=True)
    with_flag = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        runs = [torch.autograd.grad(layer(x)[0].square().sum(), [x, *layer.parameters()]) for _ in range(3)]
    finally:
        torch.use_deterministic_algorithms(with_flag)
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], run, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_two_streams(tier, kind):
    """Calls of both streams in flight at once, forward and backward."""
    planned(tier, CELL[kind], 200, 16, 128, torch.bfloat16)
    layers = [getattr(fastrnn, kind)(64, 128, dtype=torch.bfloat16) for _ in range(2)]
    xs = [torch.randn(200, 16, 64, dtype=torch.bfloat16, requires_grad=True) for _ in range(2)]

    def run(layer, x):
        y = layer(x)[0]
        return [y, *torch.autograd.grad(y.float().sum(), [x, *layer.parameters()])]

    alone = [run(layer, x) for layer, x in zip(layers, xs, strict=True)]
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in range(2)]
    for _ in range(5):
        together = []
        for layer, x, stream in zip(layers, xs, streams, strict=True):
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                together.append(run(layer, x))
        torch.cuda.synchronize()
        for a, b in zip(alone, together, strict=True):
            assert all(torch.equal(c, d) for c, d in zip(a, b, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_runs_are_bit_equal_in_every_tier(tier, kind):
    planned(tier, CELL[kind], 60, 33, 256, torch.float16)
    layer = getattr(fastrnn, kind)(64, 256, dtype=torch.float16)
    x = torch.randn(60, 33, 64, dtype=torch.float16, requires_grad=True)
    runs = [torch.autograd.grad(layer(x)[0].float().sum(), [x, *layer.parameters()]) for _ in range(5)]
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], run, strict=True))


def test_nothing_waits_for_the_device():
    """A call that synchronised would be an error here."""
    layer = fastrnn.LSTM(16, 32, 2, bidirectional=True)
    x = torch.randn(7, 3, 16, requires_grad=True)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x.detach(), [7, 4, 2])
    layer(x)
    torch.cuda.set_sync_debug_mode("error")
    try:
        layer(x)[0].sum().backward()
        layer(packed)[0].data.sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_packing_on_the_gpu():
    """What a user writes: lengths on the CPU, rows on the GPU, results back in the caller's order."""
    lengths = [2, 6, 3]
    x = torch.randn(6, 3, 5, dtype=torch.float64)
    layer = fastrnn.GRU(5, 7, bidirectional=True, dtype=torch.float64)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
    y, h_n = layer(packed)
    assert y.data.is_cuda and h_n.is_cuda
    assert packed.to("cuda").batch_sizes.device.type == "cpu"
    padded, found = torch.nn.utils.rnn.pad_packed_sequence(y)
    assert found.tolist() == lengths
    for i, length in enumerate(lengths):
        torch.testing.assert_close(padded[:length, i], layer(x[:length, i])[0], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_autocast(kind, dtype):
    layer, x = getattr(fastrnn, kind)(8, 16), torch.randn(5, 3, 8)
    with torch.autocast("cuda", dtype=dtype):
        y = layer(x)[0]
    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), layer(x)[0], rtol=0.05, atol=0.02)


def test_tensors_on_two_devices_are_refused():
    layer = fastrnn.LSTM(4, 5)
    with pytest.raises(RuntimeError, match="not at the same device"):
        layer(torch.randn(3, 2, 4, device="cpu"))
    state = torch.zeros(1, 2, 5, device="cpu")
    with pytest.raises(RuntimeError, match="not at the same device"):
        layer(torch.randn(3, 2, 4), (state, state))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_second_device():
    layer, x = fastrnn.GRU(4, 5, device="cuda:1"), torch.randn(3, 2, 4, device="cuda:1")
    torch.testing.assert_close(layer(x)[0].cpu(), layer.cpu()(x.cpu())[0], rtol=1e-5, atol=1e-5)


def test_tf32_follows_torchs_flag(monkeypatch):
    layer, x = fastrnn.LSTM(64, 256), torch.randn(20, 16, 64)
    plain = layer(x)[0]
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    fast = layer(x)[0]
    assert not torch.equal(plain, fast)
    torch.testing.assert_close(plain, fast, rtol=0, atol=5e-3)

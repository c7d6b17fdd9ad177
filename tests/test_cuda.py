"""What only a GPU shows: modules there, errors beside cuDNN's, graphs, streams, devices."""

import copy

import pytest
import torch
from helpers import evaluate, initial, variants

import fastrnn

pytestmark = pytest.mark.cuda
KINDS = ("RNN", "GRU", "LSTM")


@pytest.fixture(autouse=True)
def exact(monkeypatch):
    """No TF32, neither in ours nor in cuDNN's."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)


def pair(kind, *sizes, dtype=torch.float32, **options):
    """Ours on the GPU, torch.nn's on the GPU, and torch.nn's in float64 on the CPU, of equal weights."""
    torch.manual_seed(0)
    theirs = getattr(torch.nn, kind)(*sizes, dtype=dtype, device="cuda", **options)
    mine = getattr(fastrnn, kind)(*sizes, dtype=dtype, device="cuda", **options)
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


def moved(value, *to):
    return tuple(v.to(*to) for v in value) if isinstance(value, tuple) else value.to(*to)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("T, B, I, H", [(50, 16, 64, 128), (20, 5, 33, 65), (30, 64, 128, 512)])
def test_error_is_at_most_twice_cudnns(kind, dtype, T, B, I, H):
    mine, theirs, exact_ = pair(kind, I, H, dtype=dtype)
    x, hx = torch.randn(T, B, I, device="cuda", dtype=dtype), moved(initial(exact_, B), "cuda", dtype)
    true = results(exact_, x.cpu().double(), moved(hx, "cpu", torch.float64))
    ours, cudnns = largest_error(results(mine, x, hx), true), largest_error(results(theirs, x, hx), true)
    floor = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}[dtype]
    assert ours <= max(2 * cudnns, floor), (ours, cudnns)


@variants
@pytest.mark.parametrize("form", ["layers", "bidirectional", "batch_first", "packed"])
def test_modules_in_float64(kind, options, form):
    more = {"layers": {"num_layers": 2}, "bidirectional": {"bidirectional": True}, "batch_first": {"batch_first": True}}
    mine, _, exact_ = pair(kind, 5, 7, dtype=torch.float64, **options, **more.get(form, {}))
    x = torch.randn(6, 4, 5, dtype=torch.float64)
    batch = 6 if form == "batch_first" else 4
    on_gpu = x.cuda()
    if form == "packed":
        lengths = [2, 6, 3, 1]
        x = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
        on_gpu = torch.nn.utils.rnn.pack_padded_sequence(on_gpu, lengths, enforce_sorted=False)
    hx = initial(exact_, batch)
    found, true = results(mine, on_gpu, moved(hx, "cuda")), results(exact_, x, hx)
    assert largest_error(found, true) < 1e-10


@pytest.mark.parametrize("kind", ["RNNCell", "GRUCell", "LSTMCell"])
def test_cells(kind):
    torch.manual_seed(0)
    mine, x = getattr(fastrnn, kind)(5, 7, device="cuda"), torch.randn(3, 5)
    theirs = getattr(torch.nn, kind)(5, 7)
    theirs.load_state_dict(mine.state_dict())
    ours, true = mine(x.cuda()), theirs(x)
    for a, b in zip(ours, true, strict=True):
        torch.testing.assert_close(a.cpu(), b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_double_backward(kind):
    layer = getattr(fastrnn, kind)(3, 4, dtype=torch.float64, device="cuda")
    x = torch.randn(3, 2, 3, dtype=torch.float64, device="cuda", requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: layer(x)[0], (x,))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_graph_capture_and_replay(kind, dtype):
    layer = getattr(fastrnn, kind)(32, 48, dtype=dtype, device="cuda")
    x = torch.randn(9, 5, 32, dtype=dtype, device="cuda", requires_grad=True)
    leaves = [x, *layer.parameters()]

    def call():
        y = layer(x)[0]
        return [y, *torch.autograd.grad(y, leaves, torch.ones_like(y))]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = call()
    for _ in range(3):
        with torch.no_grad():
            x.normal_()
        graph.replay()
        assert all(torch.equal(a, b) for a, b in zip(captured, call(), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_runs_are_bit_equal(kind):
    layer = getattr(fastrnn, kind)(64, 200, 2, bidirectional=True, device="cuda")
    x = torch.randn(40, 33, 64, device="cuda", requires_grad=True)
    with_flag = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        runs = [torch.autograd.grad(layer(x)[0].square().sum(), [x, *layer.parameters()]) for _ in range(3)]
    finally:
        torch.use_deterministic_algorithms(with_flag)
    for run in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], run, strict=True))


def test_two_streams():
    layers = [fastrnn.LSTM(64, 128, device="cuda") for _ in range(2)]
    xs = [torch.randn(200, 16, 64, device="cuda") for _ in range(2)]
    with torch.no_grad():
        alone = [layer(x)[0] for layer, x in zip(layers, xs, strict=True)]
        torch.cuda.synchronize()
        streams = [torch.cuda.Stream() for _ in range(2)]
        together = []
        for layer, x, stream in zip(layers, xs, streams, strict=True):
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                together.append(layer(x)[0])
        torch.cuda.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_autocast(kind, dtype):
    layer, x = getattr(fastrnn, kind)(8, 16, device="cuda"), torch.randn(5, 3, 8, device="cuda")
    with torch.autocast("cuda", dtype=dtype):
        y = layer(x)[0]
    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), layer(x)[0], rtol=0.05, atol=0.02)


def test_tensors_on_two_devices_are_refused():
    layer = fastrnn.LSTM(4, 5, device="cuda")
    with pytest.raises(RuntimeError, match="not at the same device"):
        layer(torch.randn(3, 2, 4))
    with pytest.raises(RuntimeError, match="not at the same device"):
        layer(torch.randn(3, 2, 4, device="cuda"), (torch.zeros(1, 2, 5), torch.zeros(1, 2, 5)))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_second_device():
    layer, x = fastrnn.GRU(4, 5, device="cuda:1"), torch.randn(3, 2, 4, device="cuda:1")
    torch.testing.assert_close(layer(x)[0].cpu(), layer.cpu()(x.cpu())[0], rtol=1e-5, atol=1e-5)


def test_tf32_follows_torchs_flag(monkeypatch):
    layer, x = fastrnn.LSTM(64, 256, device="cuda"), torch.randn(20, 16, 64, device="cuda")
    plain = layer(x)[0]
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    fast = layer(x)[0]
    assert not torch.equal(plain, fast)
    torch.testing.assert_close(plain, fast, rtol=0, atol=5e-3)

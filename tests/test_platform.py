"""What else a torch module must live with: meta and fake tensors, late initialisation, data parallelism,
processes."""

import subprocess
import sys

import pytest
import torch
from helpers import LAYERS, assert_same, both, evaluate, initial, leaves, variants
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn.utils.rnn import PackedSequence

import fastrnn


@variants
@pytest.mark.parametrize("with_hx", [True, False])
def test_meta_device(kind, options, with_hx):
    mine = getattr(fastrnn, kind)(3, 4, 2, bidirectional=True, device="meta", **options)
    theirs = getattr(torch.nn, kind)(3, 4, 2, bidirectional=True, device="meta", **options)
    assert all(p.is_meta for p in mine.parameters())
    x = torch.empty(5, 2, 3, device="meta", requires_grad=True)
    hx = None
    if with_hx:
        hx = tuple(h.to("meta") for h in leaves(initial(mine, 2, torch.float32)))
        hx = hx if kind == "LSTM" else hx[0]
    output, states = mine(x, hx)
    for a, b in zip(leaves((output, states)), leaves(theirs(x, hx)), strict=True):
        assert a.is_meta and a.shape == b.shape and a.dtype == b.dtype
    output.sum().backward()
    assert x.grad.is_meta and x.grad.shape == x.shape
    assert mine.weight_hh_l1.grad.shape == mine.weight_hh_l1.shape


@pytest.mark.parametrize("kind", LAYERS)
def test_packed_rows_on_the_meta_device(kind):
    mine = getattr(fastrnn, kind)(3, 4, bidirectional=True, device="meta")
    output, states = mine(PackedSequence(torch.empty(6, 3, device="meta"), torch.tensor([3, 2, 1])))
    assert output.data.is_meta and output.data.shape == (6, 8)
    assert all(state.shape == (2, 3, 4) for state in leaves(states))


@variants
def test_fake_tensors(kind, options):
    with FakeTensorMode():
        mine = getattr(fastrnn, kind)(3, 4, 2, bidirectional=True, batch_first=True, **options)
        x = torch.empty(2, 5, 3, requires_grad=True)
        output, states = mine(x)
        output.sum().backward()
    expected = getattr(torch.nn, kind)(3, 4, 2, bidirectional=True, batch_first=True, **options)(torch.zeros(2, 5, 3))
    for a, b in zip(leaves((output, states)), leaves(expected), strict=True):
        assert isinstance(a, FakeTensor) and a.shape == b.shape and a.stride() == b.stride()
    assert isinstance(x.grad, FakeTensor) and x.grad.shape == x.shape


@pytest.mark.parametrize("kind", LAYERS)
def test_late_initialisation(kind):
    """The ways of building a model without spending time or memory on first weights."""
    _, mine = both(kind, 3, 4, 2)
    layer = getattr(fastrnn, kind)
    emptied = layer(3, 4, 2, device="meta", dtype=torch.float64).to_empty(device="cpu")
    skipped = torch.nn.utils.skip_init(layer, 3, 4, num_layers=2, dtype=torch.float64)
    with torch.device("meta"):
        assigned = layer(3, 4, 2)
    assigned.load_state_dict(mine.state_dict(), assign=True)
    x = torch.randn(5, 2, 3).double()
    expected = evaluate(mine, x)
    for module in (emptied, skipped, assigned):
        module.load_state_dict(mine.state_dict())
        assert all(flat is p for flat, p in zip(module._flat_weights, module.parameters(), strict=True))
        assert_same(evaluate(module, x), expected, 0.0)


@pytest.mark.parametrize("kind", LAYERS)
def test_default_dtype_and_device_contexts(kind):
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        mine = getattr(fastrnn, kind)(3, 4)
        assert mine.weight_ih_l0.dtype == torch.float64
        assert mine(torch.zeros(5, 2, 3))[0].dtype == torch.float64
    finally:
        torch.set_default_dtype(before)
    assert getattr(fastrnn, kind)(3, 4)(torch.zeros(5, 2, 3))[0].dtype == torch.float32


@pytest.fixture
def single_process_group(tmp_path):
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_gloo_available()):
        pytest.skip("this build of torch has no gloo")
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def shard(module):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    return fully_shard(module, mesh=init_device_mesh("cpu", (1,)))


@pytest.mark.usefixtures("single_process_group")
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("wrap", [torch.nn.parallel.DistributedDataParallel, shard], ids=["ddp", "fsdp2"])
def test_data_parallel(kind, wrap):
    if wrap is shard and not hasattr(torch.cpu.Stream, "record_event"):
        pytest.skip("fully_shard of this torch does not run on the CPU")
    _, plain = both(kind, 3, 4, 2, dtype=torch.float32)
    _, mine = both(kind, 3, 4, 2, dtype=torch.float32)
    wrapped = wrap(mine)
    x = torch.randn(5, 2, 3)
    for module in (plain, wrapped):
        output, _ = module(x)
        output.pow(2).sum().backward()
    for a, b in zip(plain.parameters(), wrapped.parameters(), strict=True):
        gradient = b.grad.full_tensor() if hasattr(b.grad, "full_tensor") else b.grad
        assert torch.equal(a.grad, gradient)


@pytest.mark.parametrize("kind", LAYERS)
def test_threads_of_the_caller(kind):
    """Several Python threads may run one layer at once."""
    from concurrent.futures import ThreadPoolExecutor

    _, mine = both(kind, 16, 32, bidirectional=True)
    inputs = [torch.randn(20, 4, 16).double() for _ in range(8)]
    expected = [evaluate(mine, x)["output 0"] for x in inputs]
    with torch.no_grad(), ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda x: mine(x)[0].detach(), inputs))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_importing_is_light():
    """fastrnn needs torch alone: no optional package comes along that torch itself does not bring."""
    # and torch.compile, a second to load, which torch itself leaves until someone asks for it
    extras = ("click", "tqdm", "matplotlib", "pytest", "hypothesis", "fastrnn.tasks", "torch._dynamo")
    code = f"""
import sys, torch
before = set(sys.modules)
import fastrnn
print(sorted(set({extras!r}) & (set(sys.modules) - before)))"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_reference_layers_are_traced_whole():
    """Nothing between a module and its layer function stops torch.compile or torch.func.vmap."""
    torch.manual_seed(0)
    layer = fastrnn.reference.LSTM(3, 4, 2, bidirectional=True, batch_first=True)
    x = torch.randn(2, 5, 3)
    expected = layer(x)[0]
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x)[0], expected, rtol=1e-6, atol=1e-6)
    batched = torch.func.vmap(lambda one: layer(one)[0])(torch.stack([x, 2 * x]))
    torch.testing.assert_close(batched[0], expected, rtol=1e-6, atol=1e-6)

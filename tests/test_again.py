"""A module's second call, which asks the one before in C: it gives what that gave, and sees whatever has changed."""

import copy
import gc
import threading
import warnings
import weakref

import pytest
import torch
from quick_calls import CELLS, LAYERS, STEPS
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode

import fastrnn
from fastrnn import _again, _cpu

pytestmark = [pytest.mark.cpu, pytest.mark.usefixtures("no_calls_kept")]


@pytest.fixture
def answers(monkeypatch):
    """Whether each call was answered by the one before."""
    found = []
    ask = _again._repeated

    def asked(module, args):
        results = ask(module, args)
        found.append(results is not None)
        return results

    monkeypatch.setattr(_again, "_repeated", asked)
    return found


def made(cell, form, dtype=torch.float32):
    torch.manual_seed(3)
    step = form == "step"
    module = (STEPS if step else LAYERS)[cell](4, 5).to(dtype)
    x = torch.randn(2, 4, dtype=dtype) if step else torch.randn(3, 2, 4, dtype=dtype)
    h, c = (torch.randn(2, 5, dtype=dtype) if step else torch.randn(1, 2, 5, dtype=dtype) for _ in range(2))
    return module, x, (h, c) if cell == "lstm" else h


def flat(results):
    return [results] if isinstance(results, torch.Tensor) else [t for r in results for t in flat(r)]


def same_form(a, b):
    return type(a) is type(b) and (isinstance(a, torch.Tensor) or (len(a) == len(b) and all(map(same_form, a, b))))


FORMS = pytest.mark.parametrize("form", ["layer", "step"])
EACH = pytest.mark.parametrize("cell", CELLS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("given", [True, False], ids=["states", "no states"])
@FORMS
@EACH
def test_the_second_call_gives_what_a_first_one_gives(cell, form, given, dtype, answers):
    module, x, hx = made(cell, form, dtype)
    args = (x, hx) if given else (x,)
    with torch.no_grad():
        first, second = module(*args), module(*args)
    assert answers == [False, True] and same_form(first, second)
    for a, b in zip(flat(first), flat(second), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
        assert a.data_ptr() != b.data_ptr() and not b.requires_grad
    recorded = module(*args)
    recorded = module(*args)
    assert answers == [False, True, False, True] and same_form(first, recorded)
    gradients = [
        torch.autograd.grad([t.sum() for t in flat(m(*args))], m.parameters()) for m in (module, copy.deepcopy(module))
    ]
    assert answers[4:] == [True, False]
    for a, b in zip([*flat(first), *gradients[0]], [*flat(recorded), *gradients[1]], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@FORMS
@EACH
def test_mistakes_after_a_good_call_are_told_as_ever(cell, form, answers):
    module, x, hx = made(cell, form)
    h = hx[0] if cell == "lstm" else hx
    wrong = [
        (None, hx),
        ("text", hx),
        (x[..., :3], hx),
        (x.double(), hx),
        (x, "text"),
        (x, [h, h, h]),
        (x, (h,)),
        (x, (h, None)),
        (x, h[..., :4] if cell != "lstm" else (h, h[..., :4])),
        (x, 7),
    ]

    def told(module, args):
        try:
            return None, module(*args)
        except Exception as error:
            return type(error), str(error)

    for args in wrong:
        module(x, hx)
        fresh = copy.deepcopy(module)
        assert told(module, args) == told(fresh, args)
        assert told(module, args)[0] is not None
    assert not any(answers[1::4])


@FORMS
def test_a_changed_module_is_seen(form, answers):
    module, x, hx = made("lstm", form)
    with torch.no_grad():
        first = flat(module(x, hx))
        with torch.no_grad():
            module.get_parameter("bias_ih" if form == "step" else "bias_ih_l0").add_(1)
        changed = flat(module(x, hx))  # the same parameters, other values
        assert answers == [False, True] and not torch.equal(first[0], changed[0])
        other = {name: p + 1 for name, p in module.named_parameters()}
        replaced = flat(torch.func.functional_call(module, other, (x, hx)))
        module.load_state_dict(other, assign=True)
        torch.testing.assert_close(flat(module(x, hx)), replaced, rtol=0, atol=0)
        assert not torch.equal(changed[0], replaced[0])
        with pytest.raises(AttributeError):
            module.no_such_parameter  # noqa: B018
        module.double()
        assert module(x.double(), tuple(s.double() for s in hx))[0].dtype == torch.float64
    with pytest.raises(ValueError, match=r"dtype|float"):
        module(x, hx)


def test_a_changed_setting_is_seen():
    layer, x = fastrnn.GRU(4, 5), torch.randn(3, 2, 4)
    with torch.no_grad():
        first = layer(x)[0]
        layer.batch_first = True
        assert torch.equal(layer(x.transpose(0, 1))[0].transpose(0, 1), first)
        layer.batch_first = False
        layer.weight_dtype = torch.bfloat16
        layer(x)
        rounded = layer(x)[0]
        layer.weight_dtype = None
        assert torch.equal(layer(x)[0], first) and not torch.equal(rounded, first)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@EACH
def test_weights_packed_once_are_used_and_made_anew(cell, dtype, answers):
    layer, x, hx = made(cell, "layer")
    layer.weight_dtype = dtype
    with torch.no_grad():
        first = layer(x, hx)[0]
        assert torch.equal(layer(x, hx)[0], first) and answers == [False, True]
        layer.weight_hh_l0.mul_(2)
        second = layer(x, hx)[0]
        assert answers == [False, True, True] and not torch.equal(second, first)
        fresh = copy.deepcopy(layer)
        assert fresh._packed is not layer._packed and torch.equal(fresh(x, hx)[0], second)


@EACH
def test_what_stands_around_a_call_is_seen(cell, answers):
    """Modes in which torch does something else than to run an operation as it stands."""
    module, x, hx = made(cell, "layer")
    with torch.no_grad():
        expected = flat(module(x, hx))

        class Mode(TorchDispatchMode):
            seen = 0

            def __torch_dispatch__(self, function, types, args=(), kwargs=None):
                Mode.seen += "fastrnn" in str(function)
                return function(*args, **(kwargs or {}))

        with Mode():
            module(x, hx)
        assert Mode.seen
        with torch.autocast("cpu", torch.bfloat16):
            assert module(x, hx)[0].dtype == torch.bfloat16
        batched = torch.func.vmap(lambda a: module(a, hx)[0])(torch.stack([x, x]))
        torch.testing.assert_close(batched[1], expected[0])
        with forward_ad.dual_level():
            assert forward_ad.unpack_dual(module(forward_ad.make_dual(x, x), hx)[0]).tangent is not None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tracing is deprecated, and warns of each size that is asked for
            traced = torch.jit.trace(module, (x, hx), check_trace=False)
        torch.testing.assert_close(traced(x + 1, hx)[0], module(x + 1, hx)[0])
    assert not any(answers[:-1]) and answers[-1]
    assert module(x, hx)[0].requires_grad
    with torch.inference_mode():
        assert not module(x, hx)[0].requires_grad
    hooks = []
    module.register_forward_hook(lambda *_: hooks.append(1))
    module(x, hx)
    assert hooks == [1]


def repeated(module, args):
    """The last of two results."""
    with torch.no_grad():
        module(*args)
        return flat(module(*args))[0]


@FORMS
def test_hooks_of_every_kind_run(form):
    module, x, hx = made("gru", form)
    plain = repeated(module, (x, hx))
    ran = []

    def forward_hook(module, args, result):
        ran.append("forward")

    def pre_hook(module, args):
        ran.append("before")
        return args[0] + 1, args[1]

    def backward_hook(module, *gradients):
        ran.append("backward")

    everywhere = torch.nn.modules.module
    for register, hook in (
        (module.register_forward_hook, forward_hook),
        (module.register_forward_pre_hook, pre_hook),
        (module.register_full_backward_hook, backward_hook),
        (module.register_full_backward_pre_hook, backward_hook),
        (everywhere.register_module_forward_hook, forward_hook),
        (everywhere.register_module_forward_pre_hook, pre_hook),
        (everywhere.register_module_full_backward_hook, backward_hook),
        (everywhere.register_module_full_backward_pre_hook, backward_hook),
    ):
        before, handle = len(ran), register(hook)
        try:
            changed = repeated(module, (x, hx))
            module(x.clone().requires_grad_(), hx)[0].sum().backward()
        finally:
            handle.remove()
        assert len(ran) - before == (1 if hook is backward_hook else 3), hook
        assert torch.equal(changed, plain) == (hook is not pre_hook)
        assert torch.equal(repeated(module, (x, hx)), plain)


@FORMS
def test_another_forward_is_run(form, answers, monkeypatch):
    """A subclass's, an object's own, and one put in the place of the class's."""
    module, x, hx = made("gru", form)
    plain = repeated(module, (x, hx))
    assert answers.pop() and not answers.pop()

    once = type(module).forward

    def doubled(self, *args):
        out = once(self, *args)
        return out * 2 if isinstance(out, torch.Tensor) else (out[0] * 2, out[1])

    twice = type("Twice", (type(module),), {"forward": doubled})(4, 5)
    twice.load_state_dict(module.state_dict())
    assert torch.equal(repeated(twice, (x, hx)), 2 * plain)
    own = copy.deepcopy(module)
    own.forward = lambda *args: twice.forward(*args)
    assert torch.equal(repeated(own, (x, hx)), 2 * plain)
    del own.forward
    assert torch.equal(repeated(own, (x, hx)), plain) and answers.pop()
    monkeypatch.setattr(type(module), "forward", doubled)
    assert torch.equal(repeated(own, (x, hx)), 2 * plain)
    assert not any(answers[:4])


@FORMS
def test_what_is_put_in_the_place_of_torchs_own_is_run(form, monkeypatch):
    module, x, hx = made("gru", form)
    plain = repeated(module, (x, hx))
    ran = []

    def before(call):
        def counted(self, *args, **kwargs):
            ran.append(1)
            return call(self, *args, **kwargs)

        return counted

    for name in ("__call__", "_call_impl"):
        monkeypatch.setattr(torch.nn.Module, name, before(getattr(torch.nn.Module, name)))
        assert torch.equal(repeated(module, (x, hx)), plain)
        monkeypatch.undo()
    hooks = {0: lambda module, args, result: ran.append(1)}
    monkeypatch.setattr(torch.nn.modules.module, "_global_forward_hooks", hooks)
    assert torch.equal(repeated(module, (x, hx)), plain)
    assert len(ran) == 6


@FORMS
def test_arguments_by_name(form, answers):
    module, x, hx = made("gru", form)
    with torch.no_grad():
        first = flat(module(x, hx))
        for result in (module(input=x, hx=hx), module(x, hx=hx)):
            assert all(map(torch.equal, flat(result), first))
    assert answers == [False]
    for wrong in ((), (x, hx, None)):
        with pytest.raises(TypeError, match="positional argument"):
            module(*wrong)
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        module(x, hidden=hx)


@FORMS
def test_freed_storage_is_an_error_of_the_second_call_too(form):
    for position in range(3):
        module, x, hx = made("lstm", form)
        module(x, hx)
        (x, *hx)[position].untyped_storage().resize_(0)
        with pytest.raises(RuntimeError, match="storage was freed"):
            module(x, hx)


def test_a_module_is_not_kept_alive_by_its_call():
    module, x, hx = made("lstm", "layer")
    module(x, hx)
    alive = weakref.ref(module)
    del module
    gc.collect()
    assert alive() is None


def test_a_call_that_was_under_way_when_a_setting_changed_is_not_taken(monkeypatch):
    """Another thread's call, between the first look at the settings and the last moment of the change."""
    layer, x = fastrnn.GRU(4, 5), torch.randn(3, 3, 4)
    with torch.no_grad():
        plain, first = torch.nn.Module.__setattr__, layer(x)[0]

        def slowly(module, name, value):
            layer(x)
            plain(module, name, value)
            if name == "batch_first" and value:
                settings.append(layer._kept_settings)  # what a call had read that keeps its results now

        settings = []
        monkeypatch.setattr(torch.nn.Module, "__setattr__", slowly)
        layer.batch_first = True
        monkeypatch.undo()
        layer._keep(layer._kept_call.call, settings[0])
        second = layer(x)[0]
        assert not torch.equal(second, first)
        torch.testing.assert_close(second, layer(x)[0], rtol=0, atol=0)
        del layer.batch_first
        with pytest.raises(AttributeError, match="batch_first"):
            layer(x)


def test_many_threads_may_call_one_module():
    module, x, hx = made("gru", "layer")
    with torch.no_grad():
        expected, wrong = module(x, hx)[0], []

        def run():
            with torch.no_grad():
                for _ in range(200):
                    if not torch.equal(module(x, hx)[0], expected):
                        wrong.append(1)

        threads = [threading.Thread(target=run) for _ in range(4)]
        for t in threads:
            t.start()
        for _ in range(50):
            module.batch_first = False  # the others look anew
        for t in threads:
            t.join()
    assert not wrong


def test_arguments_of_the_function_in_c():
    module, x, hx = made("gru", "layer")
    module(x, hx)
    again = module._kept_call.call.again
    with pytest.raises(TypeError, match="3 arguments"):
        again(module._kept_call.call, module._parameters, x)
    assert again(module._kept_call.call, None, x, hx, None) is None
    assert again(module._kept_call.call, {}, x, hx, None) is None
    assert _again._repeated(module, (x, hx)) is not None
    for other, args in ((torch.nn.GRU(4, 5), (x, hx)), (module, [x, hx]), (module, ()), (fastrnn.GRU(4, 5), (x, hx))):
        assert _again._repeated(other, args) is None
    with pytest.raises(TypeError, match="1 arguments"):
        _again._repeated(module)
    with pytest.raises(ValueError, match="seven functions"):
        _cpu.again((), (), "gru", False, False, False, False, False, 0, None, None, None, None)

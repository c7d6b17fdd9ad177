"""The output layers: loss and gradients are those of plain linear and cross-entropy, in less memory."""

import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("fastrnn.tasks", reason='needs pip install "fastrnn[tasks]"', exc_type=ImportError)

from fastrnn.tasks import softmax
from fastrnn.tasks.softmax import AdaptiveSoftmax, FullSoftmax, linear_cross_entropy

ROWS, SIZE, VOCABULARY = 23, 8, 60


def tensors(scale=1.0):
    draw = torch.Generator().manual_seed(0)
    parts = [torch.randn(shape, generator=draw) * scale for shape in ((ROWS, SIZE), (VOCABULARY, SIZE), (VOCABULARY,))]
    return [part.requires_grad_() for part in parts], torch.randint(VOCABULARY, (ROWS,), generator=draw)


def plain(hidden, weight, bias, target):
    return F.cross_entropy(F.linear(hidden, weight, bias), target)


@pytest.mark.parametrize("chunk", [1, 7 * VOCABULARY, 1 << 23], ids=["row-by-row", "ragged", "whole"])
@pytest.mark.parametrize("factor", [1.0, 0.25], ids=["alone", "scaled"])
def test_loss_and_gradients_are_those_of_the_plain_layer(monkeypatch, chunk, factor):
    monkeypatch.setattr(softmax, "CHUNK_ELEMENTS", chunk)
    inputs, target = tensors()
    mine, theirs = linear_cross_entropy(*inputs, target), plain(*inputs, target)
    torch.testing.assert_close(mine, theirs, rtol=2e-6, atol=0)
    ours = torch.autograd.grad(mine * factor, inputs)
    torch.testing.assert_close(ours, torch.autograd.grad(theirs * factor, inputs), rtol=1e-5, atol=1e-7)


def test_words_of_no_probability_have_a_finite_loss():
    inputs, target = tensors(scale=30.0)  # logits of thousands: the others' exponentials are 0
    loss = linear_cross_entropy(*inputs, target)
    assert loss.isfinite() and loss > 100
    torch.testing.assert_close(loss, plain(*inputs, target), rtol=1e-5, atol=0)


def test_without_gradients_only_the_loss_is_computed():
    inputs, target = tensors()
    with torch.no_grad():
        loss = linear_cross_entropy(*inputs, target)
    assert not loss.requires_grad and loss.item() == pytest.approx(plain(*inputs, target).item(), rel=1e-6)


def test_a_second_backward_is_an_error():
    inputs, target = tensors()
    loss = linear_cross_entropy(*inputs, target)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="backward a second time"):
        loss.backward()


def test_autocast_rounds_the_products_and_no_more():
    inputs, target = tensors()
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(*inputs, target)
    exact = plain(*inputs, target)
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(exact.item(), rel=0.01)
    for mine, theirs in zip(torch.autograd.grad(loss, inputs), torch.autograd.grad(exact, inputs), strict=True):
        assert mine.dtype == torch.float32 and (mine - theirs).norm() < 0.02 * theirs.norm()


def test_a_tied_weight_gets_both_gradients():
    embedding = torch.nn.Embedding(VOCABULARY, SIZE)
    output = FullSoftmax(SIZE, VOCABULARY, embedding.weight)
    tokens, target = torch.arange(ROWS), torch.arange(ROWS) + 1
    output(embedding(tokens), target).backward()
    mine, embedding.weight.grad = embedding.weight.grad, None
    plain(embedding(tokens), embedding.weight, output.bias, target).backward()
    torch.testing.assert_close(mine, embedding.weight.grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", [FullSoftmax, AdaptiveSoftmax])
@pytest.mark.parametrize("vocabulary", [3, 60])
def test_the_loss_is_the_mean_of_the_probabilities_a_layer_gives(kind, vocabulary):
    torch.manual_seed(0)
    layer, hidden = kind(SIZE, vocabulary), torch.randn(ROWS, SIZE)
    target = torch.arange(ROWS) % vocabulary
    scores = layer.log_prob(hidden)
    assert scores.shape == (ROWS, vocabulary)
    torch.testing.assert_close(scores.exp().sum(1), torch.ones(ROWS))
    torch.testing.assert_close(layer(hidden, target), F.nll_loss(scores, target))

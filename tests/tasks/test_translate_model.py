"""The translator: packed as alone, stepped as whole, and decoding that finds what there is to find."""

import itertools

import pytest
import torch
from torch.nn import functional as F

pytest.importorskip("fastrnn.tasks", reason='needs pip install "fastrnn[tasks]"', exc_type=ImportError)

from fastrnn.tasks.recipes import AdamW
from fastrnn.tasks.softmax import linear_cross_entropy
from fastrnn.tasks.translate.batches import Encoded, Sentences, pack_sources
from fastrnn.tasks.translate.data import read_pairs, split_pairs
from fastrnn.tasks.translate.decode import beam_search
from fastrnn.tasks.translate.models import Translator
from fastrnn.tasks.translate.train import describe, maker
from fastrnn.tasks.translate.vocabulary import END, START, UNKNOWN

KINDS = [(cell, attention) for cell in ("gru", "lstm", "rnn") for attention in (False, True)]
OPTIONS = {
    "direction": "ja-en", "tokens": "char", "cell": "gru", "backend": "fastrnn", "attention": True, "embedding": 12,
    "hidden": 16, "layers": 1, "dropout": 0.2, "label_smoothing": 0.1, "scheduled_sampling": 0.0, "batch_size": 16,
    "beam": 2, "length_penalty": 1.0, "seed": 0, "device": "cpu", "epochs": 3,
}  # fmt: skip


def small(cell="gru", attention=True, target=9, seed=3, **options):
    torch.manual_seed(seed)
    shape = {"embedding": 6, "hidden": 7, "layers": 1, "dropout": 0.0, **options}
    model = Translator(11, target, backend="fastrnn", cell=cell, attention=attention, **shape)
    with torch.no_grad():  # far from uniform, so that hypotheses differ
        model.target_embedding.weight.mul_(4)
    return model.eval()


def batch(count=7, seed=0, target=9):
    draw = torch.Generator().manual_seed(seed)
    length = torch.randint(1, 7, (2, count), generator=draw).tolist()
    a, b = (
        [[*torch.randint(3, most, (n,), generator=draw).tolist(), END] for n in lengths]
        for lengths, most in zip(length, (11, target), strict=True)
    )
    return Encoded(Sentences.of(sorted(a, key=len, reverse=True)), Sentences.of(b))


def loss(model, encoded, index):
    source, target, words = encoded.batch(index, "cpu", backwards=not model.attention)
    return F.cross_entropy(model.score(model(source, target)), words, reduction="sum")


@pytest.mark.parametrize(("cell", "attention"), KINDS)
def test_a_ragged_batch_is_its_sentences_alone(cell, attention):
    """Packed and masked, no sentence sees another or any padding: loss and gradients are the sums."""
    model, encoded = small(cell, attention), batch()
    together = loss(model, encoded, torch.arange(7))
    together.backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    alone = sum(loss(model, encoded, torch.tensor([n])) for n in range(7))
    alone.backward()
    assert together.item() == pytest.approx(alone.item(), rel=1e-5)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("cell", "attention"), KINDS)
def test_stepping_is_the_whole_target(cell, attention):
    model, encoded = small(cell, attention), batch(1, seed=4)
    source, target, _ = encoded.batch(torch.tensor([0]), "cpu", backwards=not attention)
    with torch.no_grad():
        whole = model.score(model(source, target))
        memory, states = model.encode(source)
        stepped = []
        for token in target.read.data:
            logits, states, weights = model.step(memory, states, token.view(1))
            stepped.append(logits)
            assert weights is None if not attention else weights.sum(1).item() == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(torch.cat(stepped), whole, rtol=1e-5, atol=1e-5)


def test_attention_looks_at_nothing_behind_a_sentence_s_end():
    model, encoded = small(), batch()
    source = pack_sources(encoded.sources, torch.arange(7), "cpu", backwards=False)
    with torch.no_grad():
        memory, _ = model.encode(source)
        _, weights = model.attend(memory, torch.randn(7, 3, 7))
    for row, length in zip(weights, encoded.sources.lengths.tolist(), strict=True):
        assert (row[:, length:] == 0).all() and row[:, :length].sum(1) == pytest.approx(torch.ones(3), abs=1e-5)


def greedy(model, source, longest):
    """Word by word, one sentence."""
    memory, states = model.encode(source)
    token, words, score = torch.tensor([START]), [], 0.0
    while True:
        logits, states, _ = model.step(memory, states, token)
        logits = logits.log_softmax(1)
        logits[:, [UNKNOWN, START]] = -torch.inf
        if len(words) == longest:
            return words, score + logits[0, END].item()
        token = logits.argmax(1)
        score += logits[0, token].item()
        if int(token) == END:
            return words, score
        words.append(int(token))


@torch.no_grad()
@pytest.mark.parametrize(("cell", "attention"), KINDS)
def test_a_beam_of_one_is_greedy(cell, attention):
    model, encoded = small(cell, attention), batch()
    source = pack_sources(encoded.sources, torch.arange(7), "cpu", backwards=not attention)
    found = beam_search(model, source, width=1, longest=6)
    for number, hypothesis in enumerate(found):
        alone = pack_sources(encoded.sources, torch.tensor([number]), "cpu", backwards=not attention)
        words, score = greedy(model, alone, 6)
        assert hypothesis.numbers == words and hypothesis.score == pytest.approx(score, abs=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("penalty", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("attention", [False, True])
def test_a_beam_of_full_width_is_exhaustive(attention, penalty):
    """Four words at most, of three, each sequence scored under teacher forcing: the beam finds the best of all."""
    model, encoded = small(attention=attention, target=6), batch(3, target=6)
    source = pack_sources(encoded.sources, torch.arange(3), "cpu", backwards=not attention)
    found = beam_search(model, source, width=4**4, penalty=penalty, longest=4)
    every = [[*words, END] for n in range(5) for words in itertools.product(range(3, 6), repeat=n)]
    assert len(every) == 121
    for number, hypothesis in enumerate(found):
        line = encoded.sources.padded[number, : encoded.sources.lengths[number]].tolist()
        all_of_it = Encoded(Sentences.of([line] * len(every)), Sentences.of(every))
        source, target, words = all_of_it.batch(torch.arange(len(every)), "cpu", backwards=not attention)
        terms = F.cross_entropy(model.score(model(source, target)), words, reduction="none")
        scores = torch.zeros(len(every)).index_add_(0, target.cells // all_of_it.targets.padded.shape[1], -terms)
        best = int((scores / all_of_it.targets.lengths**penalty).argmax())
        assert hypothesis.numbers == every[best][:-1]
        assert hypothesis.score == pytest.approx(scores[best].item(), abs=1e-4)


@torch.no_grad()
def test_a_wider_beam_is_no_worse_and_companions_do_not_matter():
    model, encoded = small(), batch(6, seed=2)
    scores = {}
    for width in (1, 4, 400):
        source = pack_sources(encoded.sources, torch.arange(6), "cpu", backwards=False)
        found = beam_search(model, source, width=width, penalty=0.0, longest=3)
        alone = [
            beam_search(model, pack_sources(encoded.sources, torch.tensor([n]), "cpu", False), width=width, penalty=0.0,
                        longest=3)[0] for n in range(6)
        ]  # fmt: skip
        assert [h.numbers for h in found] == [h.numbers for h in alone]
        scores[width] = [h.score for h in found]
    assert all(a <= b + 1e-5 for a, b in zip(scores[1], scores[400], strict=True))
    assert scores[1] != scores[400], "greedy misses something here"


@torch.no_grad()
def test_the_weights_are_those_that_wrote_each_word():
    model, encoded = small(), batch(4, seed=5)
    source = pack_sources(encoded.sources, torch.arange(4), "cpu", backwards=False)
    for number, hypothesis in enumerate(beam_search(model, source, width=3, longest=5)):
        memory, states = model.encode(pack_sources(encoded.sources, torch.tensor([number]), "cpu", False))
        length = int(encoded.sources.lengths[number])
        for token, row in zip([START, *hypothesis.numbers], hypothesis.weights, strict=True):
            _, states, weights = model.step(memory, states, torch.tensor([token]))
            assert torch.allclose(weights[0], row[:length], atol=1e-5)


def test_dropout_is_the_same_at_all_steps_of_a_sentence():
    model = small(dropout=0.5).train()
    _, target, _ = batch().batch(torch.arange(7), "cpu", backwards=False)
    dropped = model._drop(torch.ones(len(target.place), 50), *target.places)
    for place in range(7):
        mine = dropped[target.place == place]
        assert (mine == mine[0]).all() and set(mine[0].tolist()) == {0.0, 2.0}
    assert not torch.equal(dropped[0], dropped[1])


# ---- learning ---------------------------------------------------------------------------------------------------


def task(backend="fastrnn", **options):
    chosen = {**OPTIONS, **options, "backend": backend}
    split = split_pairs(read_pairs("builtin")[:900])
    return maker({"options": chosen, **describe(split, chosen)}, split)()


@pytest.mark.parametrize(("cell", "attention"), KINDS)
def test_the_backends_agree_for_fifty_steps(cell, attention):
    curves = []
    for backend in ("torch", "fastrnn"):
        one = task(backend, cell=cell, attention=attention)
        recipe = AdamW(epochs=3, lr=2e-3)
        optimizer = recipe.optimizer(one.model)
        one.model.train()
        losses = []
        for index in one.batches(0)[:50]:
            value = one.loss(index)
            recipe.update(one.model, optimizer, value)
            losses.append(value.item())
        curves.append(losses)
    assert len(curves[0]) == 50 and curves[0][-1] < curves[0][0]
    assert curves[0] == pytest.approx(curves[1], rel=1e-5)


def test_scheduled_sampling_puts_in_the_model_s_own_guesses():
    one = task(scheduled_sampling=1.0, epochs=2, dropout=0.0)
    source, target, _ = one._tensors("train", one.batches(0)[0])
    with torch.no_grad():
        guesses = one.model.score(one.model(source, target)).argmax(1)
    sampled = one._sampled(source, target, 1.0).read
    sizes = sampled.batch_sizes.tolist()
    starts = [0, *itertools.accumulate(sizes)]
    assert (sampled.data[: sizes[0]] == START).all()
    for step in range(1, len(sizes)):
        put_in = sampled.data[starts[step] : starts[step + 1]]
        assert put_in.tolist() == guesses[starts[step - 1] : starts[step - 1] + sizes[step]].tolist()
    assert torch.equal(one._sampled(source, target, 0.0).read.data, target.read.data)
    some = one._sampled(source, target, 0.5).read.data
    assert not torch.equal(some, target.read.data) and not torch.equal(some, sampled.data)


def test_the_mean_loss_of_a_model_that_knows_nothing():
    one = task()
    torch.nn.init.zeros_(one.model.target_embedding.weight)
    one.model.eval()
    words = one.model.bias.numel()
    assert one.mean_loss("valid") == pytest.approx(torch.tensor(float(words)).log().item(), rel=1e-5)


def test_batches_hold_every_pair_once_and_depend_on_seed_and_epoch():
    one = task()
    epochs = [torch.cat(one.batches(epoch)).tolist() for epoch in (0, 0, 1)]
    assert epochs[0] == epochs[1] != epochs[2] and sorted(epochs[0]) == list(range(len(one.parts["train"].order)))
    for index in one.batches(0):
        lengths = one.parts["train"].sources.lengths[index]
        assert (lengths[:-1] >= lengths[1:]).all()
    assert torch.cat(task(seed=1).batches(0)).tolist() != epochs[0]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("elements", [1 << 23, 70])
def test_the_chunked_softmax_smooths_labels_as_torch_does(monkeypatch, smoothing, elements):
    monkeypatch.setattr("fastrnn.tasks.softmax.CHUNK_ELEMENTS", elements)
    draw = torch.Generator().manual_seed(0)
    shapes = (23, 5), (30, 5), (30,)
    inputs = [torch.randn(shape, generator=draw).requires_grad_() for shape in shapes]
    words = torch.randint(0, 30, (23,), generator=draw)
    ours = linear_cross_entropy(*inputs, words, smoothing)
    theirs = F.cross_entropy(F.linear(*inputs), words, label_smoothing=smoothing)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    for a, b in zip(torch.autograd.grad(ours, inputs), torch.autograd.grad(theirs, inputs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)

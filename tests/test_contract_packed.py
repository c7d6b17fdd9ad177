"""PackedSequence: what torch's own packing helpers make goes in and comes out, with torch.nn's values and
gradients."""

import pytest
import torch
from helpers import LAYERS, assert_alike, assert_same, both, error_of, evaluate, initial, leaves, rand, variants
from helpers import packed as pack
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence


def ragged(lengths, size=5, **options):
    return pack([rand(length, size, seed=i) for i, length in enumerate(lengths)], **options)


@variants
@pytest.mark.parametrize("stack", [{}, {"num_layers": 2, "bidirectional": True}], ids=["one", "deep bidirectional"])
@pytest.mark.parametrize("lengths", [[5, 4, 4, 1], [3, 3], [1], [9, 1, 1]], ids=str)
def test_sorted(kind, options, stack, lengths):
    assert_alike(kind, 5, 7, input=ragged(lengths), batch=len(lengths), **options, **stack)


@variants
def test_initial_states_default_to_zeros(kind, options):
    packed = ragged([2, 5, 1], enforce_sorted=False)
    assert_alike(kind, 5, 7, 2, bidirectional=True, input=packed, with_hx=False, **options)


@variants
def test_unsorted_permutes_hx_and_results(kind, options):
    packed = ragged([2, 5, 1, 4], enforce_sorted=False)
    assert_alike(kind, 5, 7, bidirectional=True, input=packed, batch=4, **options)


@pytest.mark.parametrize("kind", LAYERS)
def test_packing_helpers_and_batch_first(kind):
    """batch_first concerns padded tensors only, before packing and after."""
    theirs, mine = both(kind, 5, 7, batch_first=True, bidirectional=True)
    padded, lengths = rand(3, 6, 5), torch.tensor([2, 6, 3], device="cpu")
    packed = pack_padded_sequence(padded, lengths, batch_first=True, enforce_sorted=False)
    (mine_out, _), (their_out, _) = mine(packed), theirs(packed)
    for name in ("batch_sizes", "sorted_indices", "unsorted_indices"):
        assert torch.equal(getattr(mine_out, name), getattr(their_out, name))
    (mine_padded, mine_lengths), (their_padded, _) = (
        pad_packed_sequence(out, batch_first=True) for out in (mine_out, their_out)
    )
    assert torch.equal(mine_lengths, lengths)
    torch.testing.assert_close(mine_padded, their_padded, rtol=1e-12, atol=1e-12)


@variants
def test_packed_equals_each_sequence_alone(kind, options):
    _, mine = both(kind, 5, 7, bidirectional=True, **options)
    sequences = [rand(length, 5) for length in (3, 6, 1)]
    output, states = mine(pack(sequences, enforce_sorted=False))
    padded, _ = pad_packed_sequence(output)
    for i, sequence in enumerate(sequences):
        alone, own_states = mine(sequence)
        torch.testing.assert_close(padded[: len(sequence), i], alone, rtol=1e-12, atol=1e-12)
        for packed_state, own in zip(leaves(states), leaves(own_states), strict=True):
            torch.testing.assert_close(packed_state[:, i], own, rtol=1e-12, atol=1e-12)


@pytest.mark.cpu  # on a GPU torch.nn is cuDNN, which draws its own masks
@pytest.mark.parametrize("kind", LAYERS)
def test_dropout_on_packed_rows(kind):
    theirs, mine = both(kind, 5, 7, 2, dropout=0.5)
    packed = ragged([4, 2, 2])
    results = []
    for module in (mine, theirs):
        torch.manual_seed(3)
        results.append(evaluate(module, packed))
    assert_same(*results)


@pytest.mark.parametrize("kind", LAYERS)
def test_data_of_any_layout(kind):
    theirs, mine = both(kind, 5, 7)
    batch_sizes = torch.tensor([3, 2, 1], device="cpu")
    for data in (
        rand(6, 10)[:, ::2],
        rand(5, 6).t(),
        torch.ones(1, 5).double().expand(6, 5),
    ):
        packed = PackedSequence(data, batch_sizes)
        torch.testing.assert_close(mine(packed)[0].data, theirs(packed)[0].data, rtol=1e-12, atol=1e-12)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    variant=st.sampled_from([("RNN", 0), ("GRU", 0), ("LSTM", 0), ("LSTM", 1)]),
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=6),
    sizes=st.tuples(st.integers(1, 9), st.integers(2, 20)),
    num_layers=st.integers(1, 2),
    bidirectional=st.booleans(),
    bias=st.booleans(),
    with_hx=st.booleans(),
)
def test_any_ragged_batch(variant, lengths, sizes, num_layers, bidirectional, bias, with_hx):
    kind, proj_size = variant
    options = {"proj_size": proj_size} if proj_size else {}
    assert_alike(
        kind,
        *sizes,
        num_layers,
        bias=bias,
        bidirectional=bidirectional,
        input=ragged(lengths, sizes[0], enforce_sorted=False),
        with_hx=with_hx,
        batch=len(lengths),
        **options,
    )


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    variant=st.sampled_from([("RNN", {}), ("RNN", {"nonlinearity": "relu"}), ("GRU", {}), ("LSTM", {})]),
    shape=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 20)),
    hidden_size=st.integers(1, 35),
    batch_first=st.booleans(),
    bidirectional=st.booleans(),
)
def test_any_dense_batch(variant, shape, hidden_size, batch_first, bidirectional):
    kind, options = variant
    batch = shape[0] if batch_first else shape[1]
    x = torch.linspace(-1, 1, shape[0] * shape[1] * shape[2]).double().view(shape)
    options = {**options, "batch_first": batch_first, "bidirectional": bidirectional}
    assert_alike(kind, shape[2], hidden_size, input=x, batch=batch, **options)


@pytest.mark.parametrize("kind", LAYERS)
def test_wrong_hx_is_refused(kind):
    """torch.nn forgets this for the LSTM, and for others takes part of an hx that is too large."""
    _, mine = both(kind, 5, 7)
    packed = ragged([2, 4, 1], enforce_sorted=False)
    label = "hidden[0]" if kind == "LSTM" else "hidden"
    for batch in (2, 4):
        text = f"Expected {label} size (1, 3, 7), got [1, {batch}, 7]"
        assert error_of(lambda batch=batch: mine(packed, initial(mine, batch))) == (RuntimeError, text)
    unbatched = f"Expected {label} size (1, 3, 7), got [1, 7]"
    assert error_of(lambda: mine(packed, initial(mine, None))) == (RuntimeError, unbatched)


def test_wrong_c_is_refused():
    _, mine = both("LSTM", 5, 7, proj_size=2)
    h, c = torch.zeros(1, 3, 2).double(), torch.zeros(1, 3, 2).double()
    found = error_of(lambda: mine(ragged([4, 2, 1]), (h, c)))
    assert found == (RuntimeError, "Expected hidden[1] size (1, 3, 7), got [1, 3, 2]")


@pytest.mark.parametrize(
    "batch_sizes",
    [[1, 1, 2, 2], [2, 2, 1], [2, 2, 2, 1], [2, 2, 2, 0], [3, 3, 0, 0], [7, -1], [-6]],
    ids=str,
)
@pytest.mark.parametrize("kind", LAYERS)
def test_contradicting_batch_sizes_are_refused(kind, batch_sizes):
    _, mine = both(kind, 5, 7)
    packed = PackedSequence(torch.zeros(6, 5).double(), torch.tensor(batch_sizes, device="cpu"))
    with pytest.raises(ValueError, match=r"positive, non-increasing and add up to the rows of data.*pack_padded"):
        mine(packed)


def test_other_malformed_packed_sequences_are_refused():
    _, mine = both("GRU", 5, 7)
    data, sizes = torch.zeros(6, 5).double(), torch.tensor([2, 2, 2], device="cpu")
    order = torch.tensor([0, 1, 2])
    with pytest.raises(ValueError, match=r"should have shape \(2,\), got \(3,\)"):
        mine(PackedSequence(data, sizes, order, order))
    with pytest.raises(ValueError, match=r"one-dimensional int64 tensor on the CPU, got 1-D torch.int32 on cpu"):
        mine(PackedSequence(data, sizes.int()))
    with pytest.raises(RuntimeError, match="Expected sequence length to be larger than 0 in RNN"):
        mine(PackedSequence(data[:0], sizes[:0]))
    with pytest.raises(RuntimeError, match="input must have 2 dimensions, got 3"):
        mine(PackedSequence(data.unsqueeze(0), sizes))

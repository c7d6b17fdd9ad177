"""`fastrnn probe`: what is drawn is what the layers compute."""

import json

import pytest
import torch

pytest.importorskip("fastrnn.tasks", reason='needs pip install "fastrnn[tasks]"', exc_type=ImportError)

import fastrnn
from fastrnn.tasks.layers import CELLS, recurrent
from fastrnn.tasks.plots import fonts_for
from fastrnn.tasks.probe import gates, gradient, memory, packing, sources, sums
from fastrnn.tasks.probe.trace import contributions, open_gate, walk
from fastrnn.tasks.probe.words import LANGUAGES, Words


def layer_and_input(cell, **options):
    torch.manual_seed(3)
    layer = recurrent("fastrnn", cell, 5, 7, dtype=torch.float64, **options)
    return layer, torch.randn(11, 2, 5, dtype=torch.float64)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"num_layers": 2, "bidirectional": True}], ids=str)
def test_a_walk_goes_where_the_layer_goes(cell, options):
    layer, x = layer_and_input(cell, **options)
    top = options.get("num_layers", 1) - 1
    steps = walk(layer, x, top)
    output, state = layer(x)
    torch.testing.assert_close(torch.stack([step.h for step in steps]), output[..., :7])
    carried = state[1] if cell == "lstm" else state
    torch.testing.assert_close(steps[-1].state, carried[2 * top if options.get("bidirectional") else top])


def test_a_walk_of_a_relu_layer():
    torch.manual_seed(0)
    layer, x = fastrnn.RNN(3, 4, nonlinearity="relu"), torch.randn(5, 1, 3)
    torch.testing.assert_close(torch.stack([step.h for step in walk(layer, x)]), layer(x)[0])


@pytest.mark.parametrize("cell", CELLS)
def test_the_gradient_of_a_walk_is_that_of_the_layer(cell):
    layer, x = layer_and_input(cell)
    found = torch.autograd.grad(walk(layer, x)[-1].h.sum(), layer.weight_hh_l0)[0]
    torch.testing.assert_close(found, torch.autograd.grad(layer(x)[0][-1].sum(), layer.weight_hh_l0)[0])


@pytest.mark.parametrize("cell", CELLS)
def test_the_contributions_add_up_to_the_state(cell):
    layer, x = layer_and_input(cell)
    with torch.no_grad():
        steps = walk(layer, x)
    terms = contributions(steps)
    torch.testing.assert_close(terms.sum(0), torch.stack([step.state for step in steps]), rtol=0, atol=1e-14)
    assert all((terms[k, :k] == 0).all() for k in range(11)), "nothing is there before it was added"
    torch.testing.assert_close(torch.stack([terms[t, t] for t in range(11)]), torch.stack([s.add for s in steps]))
    later = terms[0, 5].abs().sum()
    assert later == 0 if cell == "rnn" else later > 0


def test_the_gradients_shape_what_the_slides_say():
    found = gradient.measure(hidden=24, steps=40, seeds=2)
    assert all(len(norms) == 41 and norms[0] == 1.0 for cell in found.values() for norms in cell.values())
    assert found["rnn"]["init"][40] < 1e-6, "vanishes"
    assert found["rnn"]["1.5"][40] > 2, "explodes"
    for cell in ("gru", "lstm"):
        shut, half, opened = (found[cell][key][40] for key in ("init", "1.0", "3.0"))
        assert shut < half / 10 and half < opened / 10 and opened > 0.1, "an open gate lets it through"


def test_a_measured_gradient_is_the_derivative():
    """Against finite differences of the loss as a function of the state two steps before the end."""
    torch.manual_seed(0)
    layer, x = recurrent("reference", "gru", 3, 4, dtype=torch.float64), torch.randn(6, 1, 3, dtype=torch.float64)
    steps, u = walk(layer, x), torch.randn(4, dtype=torch.float64)
    found = torch.autograd.grad((steps[-1].h * u).sum(), steps[3].state)[0]

    def loss(h):
        return (layer(x[4:], h[None])[0][-1] * u).sum()

    h, e = steps[3].state.detach(), 1e-6
    for unit in range(4):
        push = torch.zeros(1, 4, dtype=torch.float64)
        push[0, unit] = e
        assert ((loss(h + push) - loss(h - push)) / (2 * e)).item() == pytest.approx(found[0, unit].item(), abs=1e-8)


def test_an_open_gate_keeps_the_state():
    for cell in ("gru", "lstm"):
        layer, x = layer_and_input(cell)
        before = walk(layer, x)[5].keep.mean()
        open_gate(layer, 3.0)
        assert walk(layer, x)[5].keep.mean() > 0.9 > before


def test_the_marked_bit_is_the_answer():
    x, bit = memory.batch(torch.tensor([0, 3, 7]), 8, torch.Generator().manual_seed(0))
    assert x.shape == (8, 3, 2) and set(x[..., 0].unique().tolist()) == {-1.0, 1.0}
    assert x[..., 1].argmax(0).tolist() == [7, 4, 0] and x[..., 1].sum() == 3
    assert [x[place, b, 0].item() for b, place in enumerate((7, 4, 0))] == (2.0 * bit - 1).tolist()


def test_a_net_learns_to_recall():
    of = memory.Experiment(hidden=8, longest=2, updates=80, seeds=1, distances=(1,))
    found = memory.measure(of)
    assert set(found["mixed"]) == set(found["single"]) == set(memory.NETS)
    assert all(len(rows[0]) == 3 for rows in found["mixed"].values())
    assert all(rows[0][0] > 0.95 for rows in found["single"].values())


@pytest.fixture(scope="module")
def readers():
    return sources.train_small("ab ba", hidden=6, epochs=1, seed=0, lines=["abc ab", "ba bca", "c"])[0]


def test_gates_are_in_range_and_slow_units_come_first(readers):
    for reader in readers:
        found = gates.measure(reader)
        assert set(found) == {letter for letter in gates.ROWS[reader.cell] if letter}
        assert all(values.shape == (6, 6) for values in found.values()), "six symbols with the start, six units"
        assert all((values >= 0).all() and (values <= 1).all() for g, values in found.items() if g in "rzifo")


def test_the_decomposition_of_a_sentence_is_exact(readers):
    for reader in readers:
        found = sums.measure(reader)
        assert found.error < 1e-14 and found.terms.sum().item() == pytest.approx(found.value, abs=1e-14)
        assert found.shares.sum(0) == pytest.approx(torch.ones(6, dtype=torch.float64), abs=1e-12)


def test_padding_is_what_no_name_fills():
    assert packing.Batches([torch.tensor([1, 4, 1])], [torch.tensor([1, 1]), torch.tensor([4])]).padding() == {
        "shuffled": 0.5, "alike": 0.0,
    }  # fmt: skip
    made = packing.Batches.of(torch.tensor([2, 8] * packing.BATCH), seed=0)
    assert sum(map(sum, made.shuffled)) == sum(map(sum, made.alike)) == 10 * packing.BATCH
    assert made.padding()["alike"] == 0 < 0.2 < made.padding()["shuffled"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_picture_is_drawn_with_all_its_glyphs(language, readers, recwarn, caplog):
    words = Words(language)
    try:
        context = fonts_for(words.all())
    except Exception as error:
        pytest.skip(str(error))
    of = memory.Experiment(longest=2, seeds=1, distances=(2, 5))
    with context:
        figures = [
            gradient.draw(gradient.measure(hidden=4, steps=8, seeds=1), words, 4, 1),
            memory.draw({"mixed": {net: [[1.0, 0.9, 0.5]] for net in memory.NETS},
                         "single": {net: [[1.0, 0.5]] for net in memory.NETS}}, words, of),
            gates.draw(readers, words),
            sums.draw(readers, [sums.measure(reader) for reader in readers], words),
            packing.draw(packing.Batches.of(torch.tensor([3, 9, 2]), 0),
                         {backend: dict.fromkeys(packing.WAYS, 2.5) for backend in packing.COLOURS}, words, "gru", 8),
        ]  # fmt: skip
        for figure in figures:
            figure.set_dpi(30)
            figure.canvas.draw()
    assert not [w for w in recwarn if "lyph" in str(w.message)] and "glyph" not in caplog.text


def test_the_commands_write_picture_and_numbers(invoke, tmp_path):
    result = invoke("probe", "gradient", "--out", tmp_path / "new", "--steps", 8, "--seeds", 1, "--hidden", 4,
                    "--format", "svg")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert {file.name for file in (tmp_path / "new").iterdir()} == {"gradient.svg", "gradient.json"}
    assert set(json.loads((tmp_path / "new" / "gradient.json").read_text())) == {"rnn", "gru", "lstm"}


def test_a_names_run_is_looked_into(invoke, refused, trained, tmp_path):
    run = trained[0]
    for options in ([], ["--class", "up"]):
        result = invoke("probe", "sum", "--run", run, "--out", tmp_path, "aeiou", *options)
        assert result.exit_code == 0, result.output
        numbers = json.loads((tmp_path / "sum.json").read_text())["gru"]
        assert numbers["symbols"] == ["^"] * bool(options) + list("aeiou") and numbers["largest_error"] < 1e-14
    common = ("probe", "gates", "--run", run, "--out", tmp_path, "aei")
    assert "unknown class bird" in refused(*common, "--class", "bird")
    assert "--layer 2 is not there" in refused(*common, "--layer", 2)
    assert "is not a run" in refused("probe", "gates", "--run", tmp_path, "--out", tmp_path)


def test_mistakes(refused, tmp_path):
    (tmp_path / "file").write_text("")
    assert "cannot make the folder" in refused("probe", "gradient", "--out", tmp_path / "file" / "x", "--steps", 8)
    assert "the sentence is empty" in refused("probe", "sum", "--out", tmp_path, "")


def test_runs_of_news_and_lm_are_looked_into(invoke, refused, tmp_path):
    from small_news import TRAIN, write_news

    news = write_news(tmp_path / "news")
    made = invoke("news", "train", "--data", news, "--out", tmp_path / "n", *TRAIN, "--epochs", 1)
    assert made.exit_code == 0, made.output
    (tmp_path / "text.txt").write_text("a cat sat\na dog ran\n" * 30, "utf-8")
    made = invoke("lm", "train", "--train", tmp_path / "text.txt", "--valid", tmp_path / "text.txt", "--level", "char",
                  "--hidden", 8, "--epochs", 1, "--threads", 1, "--no-compare", "--out", tmp_path / "l")  # fmt: skip
    assert made.exit_code == 0, made.output
    for run, symbols in (("n", ["bank", "of", "profit"]), ("l", ["^", *"Bank of profit"])):
        result = invoke("probe", "sum", "--run", tmp_path / run, "--out", tmp_path, "Bank of profit")
        assert result.exit_code == 0, result.output
        (numbers,) = [n for n in json.loads((tmp_path / "sum.json").read_text()).values() if "symbols" in n]
        assert numbers["symbols"] == symbols and numbers["largest_error"] < 1e-13
    assert "has no word" in refused("probe", "gates", "--run", tmp_path / "n", "--out", tmp_path, "12")

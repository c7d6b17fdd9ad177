"""`fastrnn names` as a user types it: use of a run, and every mistake answered with one line."""

import itertools
import json
import shutil

import pytest
import torch

pytest.importorskip("fastrnn.tasks", reason='needs pip install "fastrnn[tasks]"', exc_type=ImportError)

from small_names import LETTERS

from fastrnn.tasks.names import predict
from fastrnn.tasks.names.data import EDGE, UNKNOWN
from fastrnn.tasks.names.models import Classifier, Generator
from fastrnn.tasks.run import Run


@pytest.fixture
def run(trained):
    return trained[0]


def test_classify_shows_the_likeliest_classes(invoke, run):
    result = invoke("names", "classify", run, "aeiea", "nskt", "くけか", "--top", "2")
    assert result.exit_code == 0 and result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[0::3] == ["aeiea", "nskt", "くけか"], "names in the order given, two classes under each"
    for line, klass in zip(lines[1::3], ("down", "mid", "up"), strict=True):
        share, name = line.split()
        assert name == klass and float(share.rstrip("%")) > 50


def test_classify_gives_all_classes_and_their_shares_sum_to_one(run):
    opened = Run.open(run, "names")
    names = ["a", "aeiouae", "ks", "ek"]
    model, alphabet = predict.load(opened, Classifier), predict.alphabet_of(opened)
    together = predict.classify(model, alphabet, names)
    assert together.shape == (4, 3) and together.sum(1) == pytest.approx(torch.ones(4), abs=1e-6)
    alone = torch.cat([predict.classify(model, alphabet, [name]) for name in names])
    assert torch.allclose(together, alone, rtol=0, atol=1e-6), "its companions do not matter to a name"


def test_classify_says_which_characters_it_does_not_know(invoke, run):
    result = invoke("names", "classify", run, "aeZeZQ", "io")
    assert result.exit_code == 0
    assert result.stderr == "note: aeZeZQ: Z Q never seen in training, read as the unknown character\n"
    assert invoke("names", "classify", run, "??").stdout.splitlines()[0] == "??", "even where it knows none"


def test_classify_reads_a_name_in_any_normal_form(invoke, run):
    a, b = (invoke("names", "classify", run, name).stdout for name in ("がか", "か\u3099か"))
    assert a == b and a.startswith("がか")


@pytest.mark.parametrize("klass", LETTERS)
def test_generate_makes_names_of_the_class(invoke, run, klass):
    result = invoke("names", "generate", run, "--class", klass, "-n", "12", "--temperature", "0.5")
    names = result.stdout.splitlines()
    assert result.exit_code == 0 and len(names) == 12 and len(set(names)) > 6
    own = sum(set(name) <= set(LETTERS[klass]) for name in names)
    assert own >= 11, names  # without the class a third would be its own


def test_generate_follows_start_seed_number_and_temperature(invoke, run):
    def make(*options):
        result = invoke("names", "generate", run, "--class", "mid", *options)
        assert result.exit_code == 0, result.output
        return result.stdout.splitlines()

    assert len(make()) == 10
    assert make("--seed", 1) == make("--seed", 1) != make("--seed", 2)
    assert make("-n", 3) == make("-n", 8)[:3]
    assert len(set(make("--temperature", 0))) == 1
    assert all(name.startswith("sk") for name in make("--start", "sk"))
    bold, safe = (len(set("".join(make("-n", 40, "--temperature", t)))) for t in (20, 0.1))
    assert bold > safe


def test_generate_says_which_start_it_does_not_know(invoke, run):
    result = invoke("names", "generate", run, "--class", "up", "--start", "Zか", "-n", "2")
    assert result.exit_code == 0 and all(name.startswith("Zか") for name in result.stdout.splitlines())
    assert result.stderr == "note: Zか: Z never seen in training, read as the unknown character\n"


def test_a_generated_name_ends_and_is_never_empty(run):
    opened = Run.open(run, "names")
    model, alphabet = predict.load(opened, Generator), predict.alphabet_of(opened)
    with torch.no_grad():
        model.output.bias[EDGE] = 50.0  # would end at once
        assert {len(name) for name in itertools.islice(predict.generate(model, alphabet, 0), 5)} == {1}
        model.output.bias[EDGE] = -50.0  # would never end
        assert {len(name) for name in itertools.islice(predict.generate(model, alphabet, 0), 2)} == {100}


def test_stepping_equals_the_whole_sequence(run):
    """The state carried from step to step, one character at a time, is the sequence model's own."""
    opened = Run.open(run, "names")
    model, alphabet = predict.load(opened, Generator), predict.alphabet_of(opened)
    characters = [EDGE, *alphabet.encode("ksnkt")]
    state, stepped = None, []
    with torch.no_grad():
        for character in characters:
            logits, state = model.step(character, 1, state)
            stepped.append(logits)
        columns = torch.tensor([[character, 1] for character in characters])
        whole = model(torch.nn.utils.rnn.pack_sequence([columns]))
    torch.testing.assert_close(torch.stack(stepped), whole, rtol=1e-5, atol=1e-5)


def test_generating_feeds_each_character_and_the_state_back(run):
    """Greedily, every next character is the likeliest after all before it, run as one sequence."""
    opened = Run.open(run, "names")
    model, alphabet = predict.load(opened, Generator), predict.alphabet_of(opened)
    for klass in range(3):
        name = next(predict.generate(model, alphabet, klass, temperature=0))
        characters = [EDGE, *alphabet.encode(name)]
        with torch.no_grad():
            logits = model(torch.nn.utils.rnn.pack_sequence([torch.tensor([[c, klass] for c in characters])]))
        logits[:, UNKNOWN] = logits[0, EDGE] = -torch.inf
        assert logits.argmax(1).tolist() == [*characters[1:], EDGE]


def test_a_run_can_be_used_wherever_it_is_moved(invoke, run, tmp_path):
    shutil.copytree(run, tmp_path / "moved")
    for command in (("classify", "aeiea"), ("generate", "--class", "up")):
        name, *rest = command
        before, after = (invoke("names", name, place, *rest).stdout for place in (run, tmp_path / "moved"))
        assert before and before == after


def test_mistakes_in_using_a_run(refused, run, tmp_path):
    assert "unknown class bird: " in refused("names", "generate", run, "--class", "bird")
    assert "knows down, mid, up" in refused("names", "generate", run, "--class", "bird")
    assert "is not a run" in refused("names", "classify", tmp_path, "x")
    assert "a name has 1 to 100 characters; '' has 0" in refused("names", "classify", run, "")
    assert "has 101" in refused("names", "classify", run, "x" * 101)


def test_a_run_without_the_model_asked_for(refused, train, folder, tmp_path):
    assert train(tmp_path / "run", data=folder, epochs=1, models="classifier").exit_code == 0
    line = refused("names", "generate", tmp_path / "run", "--class", "up")
    assert "holds no trained generator: train one with --models both or generator" in line


def test_a_run_of_another_task_is_refused_by_each_command(refused, run, tmp_path):
    shutil.copytree(run, tmp_path / "other")
    config = json.loads((run / "config.json").read_text("utf-8"))
    (tmp_path / "other" / "config.json").write_text(json.dumps({**config, "task": "lm"}))
    for command in (["classify", tmp_path / "other", "x"], ["generate", tmp_path / "other", "--class", "up"],
                    ["train", "--resume", "--out", tmp_path / "other"]):  # fmt: skip
        assert "is a run of the task lm, not of names" in refused("names", *command)


def test_a_damaged_or_foreign_checkpoint(refused, run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    shutil.copy(copy / "generator.pt", copy / "classifier.pt")
    assert "classifier.pt does not fit its config.json" in refused("names", "classify", copy, "a")
    assert "classifier.pt does not fit its config.json" in refused("names", "train", "--resume", "--out", copy)
    torch.save({"weights": torch.zeros(3)}, copy / "classifier.pt")
    assert "classifier.pt is damaged" in refused("names", "classify", copy, "a")
    (copy / "classifier.pt").write_bytes(b"PK")
    assert "classifier.pt is damaged" in refused("names", "classify", copy, "a")


def test_mistakes_in_training(refused, folder, tmp_path):
    def line(*options, out=tmp_path / "new"):
        return refused("names", "train", "--out", out, *options)

    assert "no such folder" in line("--data", tmp_path / "absent")
    (folder / "lone.txt").write_text("Ann\n", "utf-8")
    assert "lone.txt has 1 distinct name:" in line("--data", folder)
    (folder / "lone.txt").write_bytes(b"Jos\xe9\n")
    assert "lone.txt, line 1: not UTF-8" in line("--data", folder)
    assert not (tmp_path / "new").exists(), "a mistake leaves no folder behind"
    assert "is not a run" in line("--resume")
    (tmp_path / "file").write_text("")
    assert "cannot make the folder" in line(out=tmp_path / "file" / "run")


def test_a_second_training_into_a_run_needs_resume(refused, train, folder, tmp_path):
    out = tmp_path / "run"
    assert train(out, data=folder, epochs=1).exit_code == 0
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    assert "holds a run already: add --resume" in refused("names", "train", "--out", out, "--data", folder)
    line = refused("names", "train", "--out", out, "--resume", "--hidden", "9")
    assert "--hidden 8: leave --hidden out" in line
    with Run.resume(out, "names"):
        assert "another process trains into" in refused("names", "train", "--out", out, "--resume")
    with (folder / "up.txt").open("a", encoding="utf-8") as file:
        file.write("けけけけけけけけ\n")
    assert "changed since" in refused("names", "train", "--out", out, "--resume")
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


@pytest.mark.parametrize("device", ["tpu", "meta", "cuda:99", "gpu0"])
def test_a_device_that_is_not_there(invoke, device, tmp_path):
    result = invoke("names", "train", "--out", tmp_path / "run", "--device", device)
    assert result.exit_code == 2 and f"{device}" in result.stderr.splitlines()[-1]
    assert not (tmp_path / "run").exists()

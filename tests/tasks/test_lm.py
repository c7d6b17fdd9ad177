"""`fastrnn lm` as a user types it: training, judging, writing text, and every mistake answered with one line."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch

pytest.importorskip("fastrnn.tasks", reason='needs pip install "fastrnn[tasks]"', exc_type=ImportError)

from exact import Kill, same

from fastrnn.tasks import recipes, training
from fastrnn.tasks.lm.corpus import END, batchify, get_batch
from fastrnn.tasks.lm.grammar import japanese
from fastrnn.tasks.lm.models import LanguageModel
from fastrnn.tasks.lm.objective import LanguageModelTask, nats_per_token
from fastrnn.tasks.recipes import SGD

SMALL = ("--hidden", "16", "--bptt", "12", "--batch-size", "8", "--threads", "1", "--layers", "1",
         "--language", "spaces", "--no-compare")  # fmt: skip
WINDOWS = {"bptt": 5, "device": "cpu", "shift": False, "seed": 0}
SHAPE = {"cell": "lstm", "embedding": 16, "hidden": 16, "layers": 2, "dropout": 0.0, "tied": False, "softmax": "full"}


@pytest.fixture(scope="session")
def texts(tmp_path_factory):
    """Three files of the built-in grammar, words with spaces between."""
    folder = tmp_path_factory.mktemp("texts")
    for seed, (part, tokens) in enumerate({"train": 6000, "valid": 800, "test": 800}.items()):
        lines = japanese().sample(seed, tokens).lines
        (folder / part).write_text("".join(" ".join(line) + "\n" for line in lines), "utf-8")
    return folder


@pytest.fixture
def train(invoke, texts):
    """Train a small model into a folder; no plot and no share of time, which take longest."""

    def run(out, *arguments, **options):
        files = [part for name in ("train", "valid", "test") for part in (f"--{name}", texts / name)]
        pairs = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
        return invoke("lm", "train", "--out", out, *files, *SMALL, *arguments, *pairs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fastrnn.tasks.lm.train.curve_plot", lambda *_: b"")
        patch.setattr("fastrnn.tasks.lm.train.recurrent_share", lambda *_: 0.5)
        yield run


@pytest.fixture(scope="session")
def trained(tmp_path_factory, texts):
    from conftest import call

    run = tmp_path_factory.mktemp("lm") / "run"
    files = [part for name in ("train", "valid", "test") for part in (f"--{name}", texts / name)]
    result = call("lm", "train", "--out", run, *files, *SMALL[2:-1], "--hidden", "32", "--epochs", "3")
    assert result.exit_code == 0, result.output
    return run, result.stdout


def metrics(run):
    return json.loads((run / "metrics.json").read_text("utf-8"))


def numbers(run):
    state = torch.load(run / "lm.pt", weights_only=True)
    del state["clock"]
    return state, metrics(run)["quality"], metrics(run)["lm"]["epochs"]


def test_a_run_leaves_everything_it_promises(trained):
    run, printed = trained
    report = metrics(run)
    assert (report["task"], report["backend"], report["cell"]) == ("lm", "fastrnn", "lstm")
    perplexities = [epoch["valid_perplexity"] for epoch in report["lm"]["epochs"]]
    assert perplexities[-1] < 40 < report["vocabulary"] and perplexities == sorted(perplexities, reverse=True)
    # another text of the same kind; how close depends on how sums were rounded
    assert report["quality_on"] == "test" and report["quality"]["perplexity"] == pytest.approx(
        perplexities[-1], rel=0.3
    )
    assert "SGD" in report["lm"]["optimizer"] and 0 < report["lm"]["recurrent_share"] < 1
    assert report["lm"]["tokens_per_second"] == pytest.approx(
        3 * (report["tokens"]["train"] // 8 - 1) * 8 / report["lm"]["seconds"]
    )
    assert (run / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert list(report["speed"]) == ["fastrnn", "torch", "reference"]
    assert printed.splitlines()[-1].startswith("speed: fastrnn ")


def test_eval_gives_what_training_gave(invoke, trained, texts):
    run, _ = trained
    result = invoke("lm", "eval", run, "--data", texts / "test")
    assert result.exit_code == 0 and result.stderr == ""
    quality = metrics(run)["quality"]
    assert f"perplexity {quality['perplexity']:.2f}, {quality['bits_per_character']:.3f} bits" in result.stdout


def test_perplexity_of_a_model_that_knows_nothing(trained, texts, invoke):
    torch.manual_seed(0)
    model = LanguageModel(50, backend="torch", **SHAPE).eval()
    torch.nn.init.zeros_(model.output.weight)
    assert nats_per_token(model, torch.randint(50, (300,))) == pytest.approx(math.log(50), rel=1e-6)


def test_the_state_goes_from_window_to_window():
    """The loss of windows with the state carried on is that of the whole text at once."""
    torch.manual_seed(0)
    model, text = LanguageModel(50, backend="torch", **SHAPE), torch.randint(50, (124,))
    task = LanguageModelTask(model, text, text, WINDOWS | {"batch_size": 4})
    batches = task.batches(0)
    total = sum(task.loss(batch).item() * task.count(batch) for batch in batches)
    assert sum(map(task.count, batches)) == 30 * 4
    data, target = get_batch(batchify(text, 4), 0, 30)
    assert total / 120 == pytest.approx(model.output(model(data)[0], target.flatten()).item(), rel=1e-5)


def test_shares_of_a_batch_are_the_whole(texts):
    torch.manual_seed(0)
    model, text = LanguageModel(50, backend="torch", **SHAPE), torch.randint(50, (124,))
    task = LanguageModelTask(model, text, text, WINDOWS | {"batch_size": 3})
    batch = task.batches(0)[0]
    parts = [task.share(batch, rank, 2) for rank in range(2)]
    assert [task.count(part) for part in parts] == [10, 5] and task.share(batch, 3, 4) is None
    losses = []
    for part in parts:
        task.carried = None
        losses.append(task.loss(part).item() * task.count(part))
    task.carried = None
    assert sum(losses) / 15 == pytest.approx(task.loss(batch).item(), rel=1e-5)


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_the_backends_agree_for_fifty_steps(cell):
    text = torch.randint(50, (8 * 12 * 50 + 8,), generator=torch.Generator().manual_seed(0))
    curves = {}
    for backend in ("torch", "fastrnn", "reference"):
        torch.manual_seed(0)
        model = LanguageModel(50, backend=backend, **{**SHAPE, "cell": cell})
        options = WINDOWS | {"bptt": 12, "batch_size": 8}
        task = LanguageModelTask(model, text, text, options)
        recipe = SGD(epochs=1, lr=5.0, clip=0.25)
        optimizer, curves[backend] = recipe.optimizer(model), []
        for batch in task.batches(0):
            loss = task.loss(batch)
            recipe.update(model, optimizer, loss)
            curves[backend].append(loss.item())
    assert len(curves["torch"]) == 50
    assert curves["fastrnn"] == pytest.approx(curves["torch"], rel=2e-6)
    assert curves["reference"] == pytest.approx(curves["torch"], rel=2e-6)


@pytest.mark.parametrize("how", ["killed", "ctrl-c"])
@pytest.mark.parametrize("options", [{}, {"recipe": "modern"}], ids=["course", "modern"])
def test_a_stopped_run_resumes_to_the_same_bits(train, tmp_path, monkeypatch, how, options):
    assert train(tmp_path / "whole", epochs=2, **options).exit_code == 0
    steps, update = [0], recipes.Recipe.update

    def interrupted(self, *arguments):
        steps[0] += 1
        if steps[0] == 90 and how == "killed":  # some 60 steps an epoch
            raise Kill
        update(self, *arguments)
        if steps[0] == 90:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(recipes.Recipe, "update", interrupted)
        patch.setattr(training, "SAVE_EVERY", 0.0)
        if how == "killed":
            with pytest.raises(Kill):
                train(tmp_path / "cut", epochs=2, **options)
        else:
            assert train(tmp_path / "cut", epochs=2, **options).exit_code == 130
    state = torch.load(tmp_path / "cut" / "lm.pt", weights_only=True)
    assert state["step"] > 0 and state["processes"][0]["carried"] is not None
    torch.manual_seed(999)
    assert train(tmp_path / "cut", "--resume").exit_code == 0
    assert same(numbers(tmp_path / "cut"), numbers(tmp_path / "whole"))


def test_two_processes_train_as_one(train, invoke, refused, tmp_path, texts):
    options = ("--dropout", "0", "--epochs", "2", "--lr", "2")  # at 20 rounding soon grows
    assert train(tmp_path / "one", *options).exit_code == 0
    files = [str(part) for name in ("train", "valid", "test") for part in (f"--{name}", texts / name)]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "fastrnn", "lm", "train",
               "--out", str(tmp_path / "two"), *files, *SMALL, *options]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("lm   1 ") == 1, "process 0 alone prints"
    one, two = (metrics(tmp_path / name) for name in ("one", "two"))
    assert (one["processes"], two["processes"]) == (1, 2)
    for a, b in zip(one["lm"]["epochs"], two["lm"]["epochs"], strict=True):
        assert b == pytest.approx(a, rel=2e-4)
    assert two["quality"] == pytest.approx(one["quality"], rel=2e-4)
    line = refused("lm", "train", "--resume", "--out", tmp_path / "two")
    assert "was trained by 2 processes: resume with as many" in line
    done = subprocess.run([*command[: command.index("--out")], "--out", str(tmp_path / "bad"), *files, "--batch-size",
                           "1"], capture_output=True, text=True, timeout=200)  # fmt: skip
    said = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert said == ["Error: --batch-size 1 cannot be shared by 2 processes"] and done.returncode != 0


def test_generate_is_the_seeds_and_goes_on_from_the_start(invoke, trained):
    def make(*options):
        result = invoke("lm", "generate", trained[0], *options)
        assert result.exit_code == 0, result.output
        return result.stdout

    assert make("--seed", 1) == make("--seed", 1) != make("--seed", 2)
    assert make("--start", "太郎 は", "-n", 5).startswith("太郎 は ")
    assert make("-n", 30).startswith(make("-n", 10).rstrip("\n"))
    assert make("--temperature", 0, "--seed", 1) == make("--temperature", 0, "--seed", 2)
    result = invoke("lm", "generate", trained[0], "--start", "zebra は")
    assert result.stderr == "note: zebra never seen in training, read as the unknown word\n"
    assert result.stdout.startswith("zebra は ") and "<unk>" not in result.stdout and END not in result.stdout


@pytest.mark.parametrize(
    "options",
    [
        {"recipe": "modern"},
        {"softmax": "adaptive", "recipe": "modern"},
        {"level": "char"},
        {"level": "byte", "cell": "gru"},
        {"amp": "bf16", "backend": "torch"},
        {"amp": "bf16"},
    ],
    ids=lambda options: "-".join(options.values()),
)
def test_each_choice_trains_judges_and_writes(train, invoke, texts, tmp_path, options):
    result = train(tmp_path / "run", epochs=1, **options)
    assert result.exit_code == 0, result.output
    report = metrics(tmp_path / "run")
    assert report["quality"]["perplexity"] < report["vocabulary"] / 1.5
    assert invoke("lm", "eval", tmp_path / "run", "--data", texts / "test").exit_code == 0
    made = invoke("lm", "generate", tmp_path / "run", "--start", "太郎", "-n", "8")
    assert made.exit_code == 0 and made.stdout.startswith("太郎")


def test_the_builtin_text_shows_its_floor(invoke, tmp_path, monkeypatch):
    monkeypatch.setattr("fastrnn.tasks.lm.sources.BUILTIN_TOKENS", {"train": 3000, "valid": 400, "test": 400})
    result = invoke("lm", "train", "--out", tmp_path / "run", *SMALL, "--epochs", "1")
    assert result.exit_code == 0, result.output
    quality = metrics(tmp_path / "run")["quality"]
    assert quality["perplexity"] > quality["perplexity_floor"] == pytest.approx(2.66, rel=0.1)
    assert f"no model can do better than {quality['perplexity_floor']:.2f} and" in result.stdout
    assert quality["bits_per_character"] > quality["bits_per_character_floor"]


def test_mistakes(refused, trained, texts, tmp_path):
    def line(*options, out=tmp_path / "new"):
        return refused("lm", "train", "--out", out, *options)

    assert "absent: no such file" in line("--train", tmp_path / "absent")
    assert "--valid and --test need --train" in line("--valid", texts / "valid")
    assert "--test without --valid" in line("--train", texts / "train", "--test", texts / "test")
    (tmp_path / "latin").write_bytes("a\nJos\u00e9 b\n".encode("latin-1"))
    assert "latin, line 2: not UTF-8" in line("--train", tmp_path / "latin")
    (tmp_path / "empty").write_bytes(b"")
    assert "empty is empty" in line("--train", texts / "train", "--valid", tmp_path / "empty")
    (tmp_path / "short").write_text("a b\n" * 5, "utf-8")
    says = line("--train", tmp_path / "short", "--valid", texts / "valid", "--batch-size", "10")
    assert "15 tokens to train on are too few for --batch-size 10" in says
    assert "tied weights need one size: --embedding 8, --hidden 16" in line(
        "--train", texts / "train", "--tied", "--embedding", "8", "--hidden", "16"
    )
    assert "--amp fp16 needs a GPU" in line("--train", texts / "train", "--amp", "fp16", "--device", "cpu")
    assert not (tmp_path / "new").exists(), "a mistake leaves no folder behind"
    run = trained[0]
    assert "begun with --recipe course: leave --recipe out" in line("--resume", "--recipe", "modern", out=run)
    assert "empty is empty" in refused("lm", "eval", run, "--data", tmp_path / "empty")
    assert "is not a run" in refused("lm", "generate", tmp_path)
    other = shutil.copytree(run, tmp_path / "other")
    config = json.loads((run / "config.json").read_text("utf-8"))
    (other / "config.json").write_text(json.dumps({**config, "task": "news"}))
    for command in (("eval", "--data", texts / "test"), ("generate",)):
        assert "is a run of the task news, not of lm: use fastrnn news" in refused(
            "lm", command[0], other, *command[1:]
        )
    (other / "config.json").write_text(json.dumps({**config, "words": config["words"][:-1]}))
    assert "lm.pt does not fit its config.json" in refused("lm", "generate", other)


def test_eval_says_how_much_it_does_not_know(invoke, trained, tmp_path):
    (tmp_path / "text").write_text("太郎 は zebra zebra 。\n太郎 は 。\n", "utf-8")
    result = invoke("lm", "eval", trained[0], "--data", tmp_path / "text")
    assert result.stderr == "note: 2 of 10 tokens never seen in training, judged as the unknown word\n"
    assert result.stdout.startswith("10 tokens, 26 characters: perplexity ")

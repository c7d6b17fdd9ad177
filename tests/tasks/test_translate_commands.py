"""`fastrnn translate` as a user types it: train, run, eval, stop and resume, and every mistake answered in a line."""

import io
import json
import os
import shutil
import signal
import sys

import pytest
import torch

pytest.importorskip("fastrnn.tasks", reason='needs pip install "fastrnn[tasks]"', exc_type=ImportError)

from fastrnn.tasks.errors import UserError
from fastrnn.tasks.recipes import Recipe
from fastrnn.tasks.translate.grammar import pairs

SMALL = (
    "--hidden",
    "16",
    "--embedding",
    "16",
    "--batch-size",
    "16",
    "--threads",
    "1",
    "--no-compare",
    "--tokens",
    "char",
)


def write(file, count=400):
    file.write_text("".join(f"{english}\t{japanese}\n" for english, japanese in pairs(count)), "utf-8")
    return file


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("pairs") / "jpn.txt")


@pytest.fixture
def train(invoke, monkeypatch):
    monkeypatch.setattr("fastrnn.tasks.translate.train.curve_plot", lambda *_: b"")
    monkeypatch.setattr("fastrnn.tasks.translate.train.recurrent_share", lambda *_: 0.5)
    return lambda out, *arguments: invoke("translate", "train", "--out", out, *SMALL, *arguments)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data):
    """A run with attention that has learned something, and what its training printed."""
    from conftest import call

    out = tmp_path_factory.mktemp("trained") / "run"
    file = write(out.parent / "jpn.txt", 1200)
    result = call("translate", "train", "--out", out, "--data", file, *SMALL[4:], "--hidden", 48, "--embedding", 48,
                  "--attention", "--epochs", 14, "--lr", 0.012, "--dropout", 0.1)  # fmt: skip
    assert result.exit_code == 0, result.output
    return out, result.stdout


def metrics(run):
    return json.loads((run / "metrics.json").read_text("utf-8"))


def numbers(run):
    """All that two trainings must have in common: every parameter, the history but for no time, the quality."""
    state = torch.load(run / "translator.pt", weights_only=True)
    return state["model"], state["best"], state["history"], metrics(run)["quality"]


def same(a, b):
    return all(torch.equal(a[0][n], b[0][n]) and torch.equal(a[1][n], b[1][n]) for n in a[0]) and a[2:] == b[2:]


def test_what_is_learned_from_shipped_sentences(trained):
    out, printed = trained
    report = metrics(out)
    assert report["quality"]["bleu"] > 25 and report["quality"]["chrf"] > 40, report["quality"]
    assert (report["task"], report["unit"], report["cell"]) == ("translate", "tokens", "gru")
    assert report["pairs"]["test"] > 50 and 0 < report["translator"]["recurrent_share"] < 1
    assert "test pairs, best epoch" in printed and (out / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_run_translates_what_it_was_trained_on(invoke, trained):
    out, _ = trained
    asked = ["彼は先生です。", "私は猫が好きです。", "明日雨が降るでしょう。"]
    result = invoke("translate", "run", out, *asked)
    lines = result.stdout.splitlines()
    assert result.exit_code == 0 and len(lines) == 3
    assert lines[0].startswith("He is a") and lines[1].startswith("I like") and "tomorrow" in lines[2]
    one_by_one = [invoke("translate", "run", out, text).stdout.strip() for text in asked]
    assert one_by_one == lines, "its companions do not matter to a sentence"


def test_run_reads_standard_input_line_by_line(invoke, trained, monkeypatch):
    out, _ = trained
    asked = ["彼は先生です。", "", "私は猫が好きです。"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(asked) + "\n"))
    from click.testing import CliRunner

    from fastrnn.tasks.commands import cli

    result = CliRunner().invoke(cli, ["translate", "run", str(out)], input="\n".join(asked) + "\n")
    direct = invoke("translate", "run", out, asked[0], asked[2]).stdout.splitlines()
    assert result.exit_code == 0 and result.stdout.splitlines() == [direct[0], "", direct[1]]


def test_run_says_what_it_does_not_know(invoke, trained):
    result = invoke("translate", "run", trained[0], "彼はZです。")
    assert result.exit_code == 0 and "Z never seen in training, read as the unknown word" in result.stderr
    assert "<unk>" not in result.stdout


def test_a_heat_map_is_drawn_or_the_missing_font_named(invoke, refused, trained, tmp_path, monkeypatch):
    result = invoke("translate", "run", trained[0], "彼は先生です。", "--heat-map", tmp_path / "map.png")
    if result.exit_code == 0:
        assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    else:
        assert "no font here has the characters" in result.stderr
    monkeypatch.setattr("fastrnn.tasks.plots._font_files", lambda: [])
    line = refused("translate", "run", trained[0], "彼は先生です。", "--heat-map", tmp_path / "other.png")
    assert "no font here has the characters 彼は先生" in line and not (tmp_path / "other.png").exists()


def test_eval_repeats_the_test_s_scores(invoke, trained, tmp_path):
    out, _ = trained
    bleu = metrics(out)["quality"]["bleu"]
    result = invoke("translate", "eval", out, "--show", 2)
    assert result.exit_code == 0 and f"bleu {bleu:.2f}" in result.stdout.splitlines()[-1]
    assert result.stdout.count("\n  = ") == 2
    other = write(tmp_path / "other.txt", 60)  # all of them, most of which were learned from
    assert "sentences, beam 1: bleu" in invoke("translate", "eval", out, "--data", other, "--beam", 1).stdout


@pytest.mark.parametrize("direction", ["ja-en", "en-ja"])
@pytest.mark.parametrize("cell", ["lstm", "rnn"])
def test_each_direction_and_cell_without_attention(train, invoke, data, tmp_path, direction, cell):
    out = tmp_path / "run"
    result = train(out, "--data", data, "--direction", direction, "--cell", cell, "--epochs", 1, "--layers", 2)
    assert result.exit_code == 0, result.output
    text = {"ja-en": "彼は先生です。", "en-ja": "He is a teacher."}[direction]
    written = invoke("translate", "run", out, text, "--beam", 2).stdout.strip()
    assert written and written.isascii() == (direction == "ja-en")


def test_other_ways_to_train(train, refused, data, tmp_path):
    pytest.importorskip("sentencepiece", reason="needs sentencepiece")
    options = ("--data", data, "--epochs", 2, "--attention", "--scheduled-sampling", 0.5)
    result = train(tmp_path / "run", *options, "--tokens", "piece", "--pieces", 500)
    assert result.exit_code == 0, result.output
    assert metrics(tmp_path / "run")["vocabulary"]["source"] > 300
    line = refused(
        "translate", "train", "--out", tmp_path / "few", *SMALL, *options, "--tokens", "piece", "--pieces", 100
    )
    assert "--pieces 100 do not fit these sentences: Vocabulary size is smaller" in line


def test_the_course_s_subset_is_trained_on(train, tmp_path):
    assert train(tmp_path / "run", "--filter", "course", "--epochs", 1).exit_code == 0
    assert 150 < sum(metrics(tmp_path / "run")["pairs"].values()) < 600


def test_the_seed_decides(train, data, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert train(tmp_path / name, "--data", data, "--epochs", 1, "--attention", "--seed", seed).exit_code == 0
    assert same(numbers(tmp_path / "a"), numbers(tmp_path / "b"))
    assert not same(numbers(tmp_path / "a"), numbers(tmp_path / "c"))


class Kill(BaseException):
    """As sudden as a signal: nothing in the program may catch it."""


@pytest.mark.parametrize(("how", "step"), [("killed", 30), ("ctrl-c", 30), ("ctrl-c", 5)])
def test_a_stopped_run_resumes_to_the_same_bits(train, invoke, data, tmp_path, monkeypatch, how, step):
    options = ("--data", data, "--epochs", 3, "--attention", "--scheduled-sampling", 0.3)
    assert train(tmp_path / "whole", *options).exit_code == 0
    steps, update = [0], Recipe.update

    def interrupted(self, *arguments):
        update(self, *arguments)
        steps[0] += 1
        if steps[0] == step:
            if how == "killed":
                raise Kill
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Recipe, "update", interrupted)
    if how == "killed":
        with pytest.raises(Kill):
            train(tmp_path / "cut", *options)
    else:
        result = train(tmp_path / "cut", *options)
        assert result.exit_code == 130
        assert f"fastrnn translate train --resume --out {tmp_path / 'cut'}" in result.stderr
    monkeypatch.setattr(Recipe, "update", update)
    torch.manual_seed(999)
    result = invoke("translate", "train", "--resume", "--out", tmp_path / "cut", "--no-compare")
    assert result.exit_code == 0, result.output
    assert same(numbers(tmp_path / "cut"), numbers(tmp_path / "whole"))


def test_mistakes_in_the_data(refused, tmp_path):
    line = refused("translate", "train", "--out", tmp_path / "run", "--data", tmp_path / "none.txt", *SMALL)
    assert "none.txt: no such file" in line
    (tmp_path / "jpn.txt").write_text("Go.\t行け。\nHello.\n", "utf-8")
    line = refused("translate", "train", "--out", tmp_path / "run", "--data", tmp_path / "jpn.txt", *SMALL)
    assert "line 2: 1 columns, 2 are needed" in line and not (tmp_path / "run").exists()


def test_mistakes_in_using_a_run(refused, trained, train, data, tmp_path):
    out, _ = trained
    assert "is not a run" in refused("translate", "run", tmp_path, "x")
    shutil.copytree(out, tmp_path / "other")
    config = json.loads((out / "config.json").read_text("utf-8"))
    (tmp_path / "other" / "config.json").write_text(json.dumps({**config, "task": "names"}))
    for command in (("run", tmp_path / "other", "x"), ("eval", tmp_path / "other")):
        assert "is a run of the task names, not of translate" in refused("translate", *command)
    assert "has at most 400 words" in refused("translate", "run", out, "あ" * 401)
    assert train(tmp_path / "plain", "--data", data, "--epochs", 1).exit_code == 0
    line = refused("translate", "run", tmp_path / "plain", "x", "--heat-map", tmp_path / "x.png")
    assert "has no attention to draw" in line
    data_of_run = tmp_path / "moving.txt"
    shutil.copy(data, data_of_run)
    assert train(tmp_path / "moved", "--data", data_of_run, "--epochs", 1).exit_code == 0
    write(data_of_run, 300)
    assert "changed since" in refused("translate", "eval", tmp_path / "moved")


def test_words_without_a_dictionary_become_characters(monkeypatch):
    from fastrnn.tasks.translate.data import split_pairs
    from fastrnn.tasks.translate.train import describe

    monkeypatch.setattr("fastrnn.tasks.tokenise.has_dictionary", lambda: False)
    split = split_pairs(pairs(200))
    sides = describe(split, {"direction": "ja-en", "tokens": "word"})["vocabularies"]
    assert [side["tokens"] for side in sides] == ["char", "en"]


def test_pieces_without_sentencepiece(monkeypatch):
    from fastrnn.tasks.translate.vocabulary import Pieces

    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(UserError, match="need sentencepiece"):
        Pieces.of(["a"], 100)

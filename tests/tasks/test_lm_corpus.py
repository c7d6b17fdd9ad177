"""From a text to windows: the course's four functions, and how lines are cut into tokens and joined again."""

import pytest
import torch

pytest.importorskip("fastrnn.tasks", reason='needs pip install "fastrnn[tasks]"', exc_type=ImportError)

from fastrnn.tasks import tokenise
from fastrnn.tasks.errors import UserError
from fastrnn.tasks.lm.corpus import END, UNKNOWN, Dictionary, batchify, get_batch, repackage
from fastrnn.tasks.lm.sources import cut, join, load

OPTIONS = {"level": "word", "language": "auto", "train": None, "valid": None, "test": None, "batch_size": 2}


def test_the_dictionary_numbers_by_frequency():
    dictionary = Dictionary.of([["b", "a"], ["c", "a"], ["a"]])
    assert dictionary.words == ["a", END, "b", "c", UNKNOWN], "ties by appearance"
    assert len(dictionary) == 5
    assert dictionary.encode([["a", "zzz"], []]).tolist() == [0, 4, 1, 1]
    assert Dictionary.of([[UNKNOWN, "a"]]).words.count(UNKNOWN) == 1


def test_batchify_lays_the_text_down_in_columns():
    columns = batchify(torch.arange(13), 3)
    assert columns.tolist() == [[0, 4, 8], [1, 5, 9], [2, 6, 10], [3, 7, 11]]  # 12 is left over
    assert columns.is_contiguous()


def test_get_batch_pairs_each_token_with_the_next():
    source = batchify(torch.arange(22), 2)  # (11, 2)
    data, target = get_batch(source, 4, 3)
    assert data.tolist() == [[4, 15], [5, 16], [6, 17]] and torch.equal(target, data + 1)
    data, target = get_batch(source, 8, 5)
    assert data.shape == (2, 2) and target[-1].tolist() == [10, 21], "the last window is shorter"
    seen = [int(row) for start in range(0, 10, 4) for row in get_batch(source, start, 4)[1][:, 0]]
    assert seen == list(range(1, 11)), "windows follow each other without a gap"


def test_repackage_keeps_the_values_and_cuts_the_graph():
    w = torch.ones(2, requires_grad=True)
    state = (w * 2, (w * 3,))
    h, (c,) = repackage(state)
    assert h.tolist() == [2, 2] and c.tolist() == [3, 3]
    assert not h.requires_grad and h.grad_fn is None and repackage(None) is None


@pytest.mark.parametrize(
    ("level", "language", "line", "tokens"),
    [
        ("word", "spaces", " = Robert <unk> = ", ["=", "Robert", "<unk>", "="]),
        ("word", "en", "It's red.", ["It's", "red", "."]),
        ("char", "spaces", "猫 だ。", ["猫", " ", "だ", "。"]),
        ("byte", "spaces", "é!", ["c3", "a9", "21"]),
    ],
)
def test_tokens_of_each_level_and_the_way_back(level, language, line, tokens):
    assert cut(line, level, language) == tokens
    assert join([*tokens, END, *tokens], level, language).split("\n") == [line.strip()] * 2


def test_japanese_is_noticed(tmp_path):
    if not tokenise.has_dictionary():
        pytest.skip('splitting Japanese needs pip install "fastrnn[japanese]"')
    file = tmp_path / "neko.txt"
    file.write_text("吾輩は猫である。\n" * 40, "utf-8")
    corpus, description = load({**OPTIONS, "train": str(file)})
    assert description["language"] == "ja" and "吾輩" in corpus.dictionary.words
    assert corpus.test.characters == 4 * 9 and len(corpus.test.numbers) == 4 * 7


def test_one_file_is_split_in_the_order_of_its_lines(tmp_path):
    file = tmp_path / "text"
    file.write_text("\n".join(f"w{number}" for number in range(100)), "utf-8")
    corpus, _ = load({**OPTIONS, "train": str(file)})
    words = {part: [corpus.dictionary.words[k] for k in getattr(corpus, part).numbers[::2]]
             for part in ("train", "valid", "test")}  # fmt: skip
    assert words["train"] == [f"w{k}" for k in range(85)]
    assert words["valid"] == [f"w{k}" for k in range(85, 90)]
    assert words["test"] == [f"w{k}" for k in range(90, 100)]
    assert corpus.test.characters == 10 * 4 and corpus.test.nats is None
    file.write_text("too\nfew\n", "utf-8")
    with pytest.raises(UserError, match="has 2 lines, too few to hold some out: give --valid"):
        load({**OPTIONS, "train": str(file)})


def test_the_builtin_text_has_three_parts_and_a_floor():
    corpus, description = load(OPTIONS)
    assert len(corpus.train.numbers) > 5 * len(corpus.test.numbers) > 5 * len(corpus.valid.numbers)
    assert corpus.test.nats / len(corpus.test.numbers) == pytest.approx(0.98, rel=0.03)
    by_characters, _ = load({**OPTIONS, "level": "char"})
    assert by_characters.test.nats == corpus.test.nats, "the same text"
    assert by_characters.test.characters == len(by_characters.test.numbers) == corpus.test.characters
    assert description["fingerprint"] != load({**OPTIONS, "level": "byte"})[1]["fingerprint"]

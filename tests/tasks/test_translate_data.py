"""Sentence pairs: read as users have them, split without a leak, numbered and back, and scored."""

import os
import random
from pathlib import Path

import pytest
import torch

pytest.importorskip("fastrnn.tasks", reason='needs pip install "fastrnn[tasks]"', exc_type=ImportError)

from fastrnn.tasks.errors import UserError
from fastrnn.tasks.tokenise import has_dictionary
from fastrnn.tasks.translate.batches import Encoded, Sentences, pack_sources
from fastrnn.tasks.translate.data import course, examples, read_pairs, split_pairs
from fastrnn.tasks.translate.quality import quality
from fastrnn.tasks.translate.vocabulary import END, START, UNKNOWN, Pieces, Vocabulary


def test_two_and_three_columns_are_the_same_pairs(tmp_path):
    two, three = tmp_path / "two.txt", tmp_path / "three.txt"
    two.write_text("Go.\t行け。\nHi.\tこんにちは。\n\nGo.\t行け。\n", "utf-8")
    three.write_text("Go.\t行け。\tCC-BY 2.0 #1\r\nHi.\t こんにちは。 \tCC-BY 2.0 #2\r\n", "utf-8-sig")
    assert read_pairs(str(two)) == read_pairs(str(three)) == [("Go.", "行け。"), ("Hi.", "こんにちは。")]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"Go.\t\xe8\xa1\x8c\nHi.", "line 2: 1 columns, 2 are needed (english<TAB>japanese), the last line"),
        (b"Hi.\nGo.\t\xe8\xa1\x8c\n", "line 1: 1 columns, 2 are needed"),
        (b"Go.\t \n", "line 1: one of the two sentences is empty"),
        ("Café.\tx\n".encode("latin-1"), "line 1: not UTF-8 (byte 0xe9): convert it"),
        (b"PK\x03\x04\t\x00\x00\n", "a binary file?"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path, content, says):
    (tmp_path / "jpn.txt").write_bytes(content)
    with pytest.raises(UserError) as error:
        read_pairs(str(tmp_path / "jpn.txt"))
    assert says in str(error.value) and "jpn.txt" in str(error.value) and "\n" not in str(error.value)


def test_the_course_s_subset():
    kept = ["I'm cold.", "I am cold.", "He is a man.", "They're here.", "You’re late.", "SHE IS OUT."]
    left = ["Hello.", "His is bigger.", "I amuse you.", "Here he is.", "We are " + "very " * 8 + "cold."]
    assert [pair[0] for pair in course([(english, "x") for english in kept + left])] == kept


def _pairs():
    """Pairs that share sentences both ways: an English one with up to three Japanese, and the reverse."""
    draw = random.Random(1)
    return list({(f"e{draw.randrange(300)}", f"j{draw.randrange(900)}"): None for _ in range(700)})


def test_no_sentence_of_validation_or_test_is_trained_on_in_either_language():
    pairs = _pairs()
    split = split_pairs(pairs)
    for side in (0, 1):
        trained = {pair[side] for pair in split.train}
        assert not trained & {pair[side] for pair in split.valid + split.test}
    english = [{pair[0] for pair in part} for part in (split.train, split.valid, split.test)]
    assert not english[1] & english[2]
    assert len(split.train) + split.dropped + len(split.valid) + len(split.test) == len(pairs) and split.dropped > 50


def test_the_split_does_not_depend_on_the_file_s_order():
    pairs = _pairs()
    other = random.Random(2).sample(pairs, len(pairs))
    one, two = split_pairs(pairs), split_pairs(other)
    for name in ("train", "valid", "test"):
        assert sorted(getattr(one, name)) == sorted(getattr(two, name))
    assert one.fingerprint() == split_pairs(pairs).fingerprint() != split_pairs(pairs[1:]).fingerprint()


def test_too_little_data():
    with pytest.raises(UserError, match="10 distinct English sentences: at least 20"):
        split_pairs([(f"e{n}", "j") for n in range(10)])
    with pytest.raises(UserError, match="nothing is left to train on"):
        split_pairs([(f"e{n}", "j") for n in range(40)])


def test_a_source_has_all_its_references():
    pairs = [("a", "x"), ("b", "x"), ("a", "y")]
    assert [(e.source, e.references) for e in examples(pairs, "ja-en")] == [("x", ["a", "b"]), ("y", ["a"])]
    assert [(e.source, e.references) for e in examples(pairs, "en-ja")] == [("a", ["x", "y"]), ("b", ["x"])]


def test_words_to_numbers_and_back():
    side = Vocabulary.of(["He isn't here.", "He is here!", "Who isn't?"], "en")
    assert side.words == ["He", "here", "isn't"], "those seen twice, by frequency, then spelling"
    tokens = side.tokens("He isn't new here.")
    assert side.encode(tokens) == [3, 5, UNKNOWN, 4, UNKNOWN, END] and side.unknown(tokens) == ["new", "."]
    assert side.decode([START, 3, 5, 4, END]) == "He isn't here" and len(side) == 6


def test_pieces_to_numbers_and_back():
    pytest.importorskip("sentencepiece", reason="needs sentencepiece")
    sentences = [english for english, _ in read_pairs("builtin")[:2000]]
    side = Pieces.of(sentences, 300)
    assert len(side) == 300 and Pieces(side.config()["model"]).tokens(sentences[0]) == side.tokens(sentences[0])
    for sentence in sentences[:50]:
        numbers = side.encode(side.tokens(sentence))
        assert numbers[-1] == END and side.decode([START, *numbers]) == sentence
    assert side.unknown(side.tokens("He 漢.")) == ["漢"]


def test_packed_targets_and_sources():
    sources = Sentences.of([[5, 6, 7, END], [8, 9, END], [5, END]])
    targets = Sentences.of([[3, END], [4, 5, 6, END], [7, 8, END]])
    source, target, words = Encoded(sources, targets).batch(torch.tensor([0, 1, 2]), "cpu", backwards=True)
    assert source.data.tolist() == [END, END, END, 7, 9, 5, 6, 8, 5] and source.batch_sizes.tolist() == [3, 3, 2, 1]
    # the second target is the longest: it stands first in packed order
    assert target.read.data.tolist() == [START, START, START, 4, 7, 3, 5, 8, 6]
    assert words.tolist() == [4, 7, 3, 5, 8, END, 6, END, END]
    assert target.cells.tolist() == [4, 8, 0, 5, 9, 1, 6, 10, 7] and target.place.tolist() == [
        0,
        1,
        2,
        0,
        1,
        2,
        0,
        1,
        0,
    ]
    ahead = pack_sources(sources, torch.tensor([0, 1, 2]), "cpu", backwards=False)
    assert ahead.data.tolist() == [5, 8, 5, 6, 9, END, 7, END, END]


def test_scores_take_the_best_of_all_references():
    references = [["The cat sat on the mat.", "A cat was on a mat."], ["He is here."]]
    perfect = quality(["A cat was on a mat.", "He is here."], references, "en")
    assert perfect["bleu"] == pytest.approx(100) and perfect["chrf"] == pytest.approx(100)
    one_only = quality(["A cat was on a mat.", "He is here."], [refs[:1] for refs in references], "en")
    assert one_only["bleu"] < 60 and "bleu_words" not in one_only
    japanese = quality(["猫がいます。"], [["犬がいます。"]], "ja")
    assert japanese["bleu"] > 50, "on characters"
    assert ("bleu_words" in japanese) == has_dictionary()


def test_the_real_file_splits_as_the_baseline_s_did():
    beside = Path(__file__).parents[3] / "shared" / "data"
    file = Path(os.environ.get("FASTRNN_DATA", beside)) / "jpn" / "jpn.txt"
    if not file.is_file():
        pytest.skip(f"no jpn data: set FASTRNN_DATA to a folder that holds jpn/jpn.txt (looked for {file})")
    split = split_pairs(read_pairs(str(file)))
    assert (len(split.train), len(split.valid), len(split.test)) == (38_594, 2_259, 2_274)

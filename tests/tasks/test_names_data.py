"""Names read, split and encoded, and the set that ships with the package."""

import random
import unicodedata

import pytest
import torch

pytest.importorskip("fastrnn.tasks", reason='needs pip install "fastrnn[tasks]"', exc_type=ImportError)

from fastrnn.tasks.errors import UserError
from fastrnn.tasks.names.data import (
    BUILTIN,
    EDGE,
    UNKNOWN,
    Alphabet,
    Encoded,
    read_classes,
    split_names,
)  # fmt: skip


def test_the_shipped_classes_are_there_in_strength():
    classes = read_classes("builtin")
    assert {"family", "given", "city", "station", "food", "creature"} <= set(classes)
    assert all(len(names) >= 150 for names in classes.values()), {k: len(v) for k, v in classes.items()}


@pytest.mark.parametrize("file", sorted(BUILTIN.glob("*.txt")), ids=lambda file: file.stem)
def test_a_shipped_file_is_clean(file):
    lines = file.read_bytes().decode("utf-8").split("\n")
    assert lines.pop() == "", "the last line ends"
    assert len(set(lines)) == len(lines), "an entry stands twice"
    for name in lines:
        assert name and name == unicodedata.normalize("NFC", name)
        for character in name:
            # letters (kanji, kana, the long-vowel sign) and the middle dot: no space, control or Latin
            assert unicodedata.category(character) in ("Lo", "Lm") or character == "・", (name, character)


def test_names_are_distinct_nfc_and_in_file_order(tmp_path):
    (tmp_path / "b.txt").write_bytes("\ufeffZoe\u0301\r\n\r\n  Ann \r\nZo\u00e9\r\nBo\r\n".encode())
    (tmp_path / "a.txt").write_text("x\ny\nz", "utf-8")
    (tmp_path / "README.md").write_text("not a class", "utf-8")
    classes = read_classes(str(tmp_path))
    assert list(classes.items()) == [("a", ["x", "y", "z"]), ("b", ["Zo\u00e9", "Ann", "Bo"])]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"\n \n", "is empty"),
        (b"Ann\nAnn\n", "has 1 distinct name:"),
        ("Ann\nJos\u00e9\nEve\n".encode("latin-1"), "line 2: not UTF-8 (byte 0xe9): convert it"),
        (b"Ann\n\x89PNG\x00\xff\n", "line 2: not UTF-8 (byte 0x89): a binary file?"),
        (b"Ann\nE\x00ve\nBob\n", "line 2: a control character"),
        ("Ann\n三".encode()[:-1], "line 2: not UTF-8 (it ends within a character): half written?"),
        (b"Ann\n" + b"x" * 101 + b"\nBob\n", "line 2: 101 characters"),
    ],
    ids=["empty", "blank", "one", "latin1", "binary", "nul", "half-written", "long"],
)
def test_a_bad_file_is_named_with_its_line(folder, content, says):
    (folder / "bad.txt").write_bytes(content)
    with pytest.raises(UserError) as error:
        read_classes(str(folder))
    assert "bad.txt" in str(error.value) and says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_must_exist_and_hold_two_classes(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        read_classes(str(tmp_path / "absent"))
    with pytest.raises(UserError, match=r"0 CLASS\.txt files"):
        read_classes(str(tmp_path))
    (tmp_path / "only.txt").write_text("a\nb\nc\n", "utf-8")
    with pytest.raises(UserError, match=r"1 CLASS\.txt files"):
        read_classes(str(tmp_path))


def test_the_split_is_80_10_10_of_each_class_without_overlap():
    names = {"a": [f"a{i}" for i in range(100)], "b": [f"b{i}" for i in range(33)]}
    split = split_names(names)
    parts = (split.train, split.valid, split.test)
    assert [sum(label == 0 for _, label in part) for part in parts] == [80, 10, 10]
    assert [sum(label == 1 for _, label in part) for part in parts] == [26, 3, 4]
    everything = split.train + split.valid + split.test
    assert sorted(everything) == sorted((n, k) for k, own in enumerate(names.values()) for n in own)
    expected = names["a"].copy()
    random.Random(0).shuffle(expected)
    assert [name for name, label in split.train if label == 0] == expected[:80]


def test_a_split_without_validation_is_refused():
    with pytest.raises(UserError, match="too few names to validate with"):
        split_names({"a": ["x", "y", "z"], "b": ["1", "2", "3", "4", "5"]})
    assert split_names({"a": ["x", "y", "z"], "b": ["1", "2", "3", "4", "5", "6"]}).valid


def test_the_fingerprint_follows_names_classes_and_order():
    base = {"a": list("uvwxyz"), "b": list("123456")}
    prints = [
        split_names(classes).fingerprint()
        for classes in (base, {"a": list("uvwxyZ"), "b": base["b"]}, {"c": base["a"], "d": base["b"]},
                        {"a": list("vuwxyz"), "b": base["b"]})
    ]  # fmt: skip
    assert len(set(prints)) == 4
    assert split_names(dict(base)).fingerprint() == prints[0]


def test_encoding_edges_and_unknown_characters():
    alphabet = Alphabet.of([("abba", 0), ("cab", 1)])
    assert (alphabet.characters, alphabet.rare) == ("abc", "c")
    encoded = Encoded.of([("ca", 1), ("abzb", 0)], alphabet)
    a, b, c = alphabet.encode("abc")
    assert [alphabet.character(number) for number in (a, b, c)] == ["a", "b", "c"]
    assert encoded.padded.tolist() == [[EDGE, c, a, EDGE, EDGE, EDGE], [EDGE, a, b, UNKNOWN, b, EDGE]]
    assert encoded.veiled.tolist() == [[EDGE, UNKNOWN, a, EDGE, EDGE, EDGE], [EDGE, a, b, UNKNOWN, b, EDGE]]
    assert encoded.lengths.tolist() == [2, 4] and encoded.labels.tolist() == [1, 0]
    assert alphabet.unknown("zaxz") == ["z", "x"]


def test_rare_characters_are_veiled_every_other_epoch():
    encoded = Encoded.of([("xa", 0), ("ya", 0)], Alphabet.of([("xa", 0), ("ya", 0)]))
    index = torch.tensor([1, 0])
    seen = [(encoded.pick(index, epoch)[0][:, 1] == UNKNOWN).tolist() for epoch in range(3)]
    assert seen == [[True, False], [False, True], [True, False]]
    assert not (encoded.pick(index)[0] == UNKNOWN).any(), "outside training nothing known is veiled"


def test_the_real_names_split_as_published(real_names):
    split = split_names(read_classes(str(real_names)))
    assert len(split.classes) == 18
    assert (len(split.train), len(split.valid), len(split.test)) == (14402, 1802, 1809)

"""Files as users have them, and words of two languages."""

import pytest

pytest.importorskip("fastrnn.tasks", reason='needs pip install "fastrnn[tasks]"', exc_type=ImportError)

from fastrnn.tasks import tokenise as tokens
from fastrnn.tasks.errors import UserError
from fastrnn.tasks.text import read_columns, read_lines
from fastrnn.tasks.tokenise import detokenise, resolve, tokenise


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ("a\nb\n", ["a", "b"]),
        ("\ufeffa\r\n\r\nb", ["a", "", "b"]),
        ("吾輩は　猫\u2028である\tx\n", ["吾輩は　猫\u2028である\tx"]),  # only \n ends a line
    ],
)
def test_lines_are_read_as_written(tmp_path, content, lines):
    (tmp_path / "f").write_bytes(content.encode())
    assert read_lines(tmp_path / "f") == lines


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b" \n\t\n", "is empty"),
        ("a\nJos\u00e9 x\n".encode("latin-1"), "line 2: not UTF-8 (byte 0xe9): convert it"),
        ("猫である".encode("cp932"), "line 1: not UTF-8 (byte 0x94): convert it, e.g. iconv -f cp932 -t utf-8"),
        ("猫である".encode("euc-jp"), "line 1: not UTF-8 (byte 0xa4): convert it, e.g. iconv -f euc-jp -t utf-8"),
        ("猫".encode("utf-16"), "line 1: not UTF-8 (byte 0xff): convert it, e.g. iconv -f utf-16 -t utf-8"),
        (b"a\nb\n\x00\xff", "line 3: not UTF-8 (byte 0xff): a binary file?"),
        (b"a\nb\x00\n", "line 2: a control character (0x00): a binary file?"),
        ("a\n三".encode()[:-1], "line 2: not UTF-8 (it ends within a character): half written?"),
    ],
    ids=["empty", "blank", "latin1", "shift-jis", "euc", "utf16", "binary", "nul", "half-written"],
)
def test_a_bad_file_is_named_with_its_line(tmp_path, content, says):
    (tmp_path / "f.txt").write_bytes(content)
    with pytest.raises(UserError) as error:
        read_lines(tmp_path / "f.txt")
    assert str(error.value).startswith((f"{tmp_path / 'f.txt'}, ", f"{tmp_path / 'f.txt'} ")) and says in str(
        error.value
    )


def test_a_file_that_is_not_there_or_a_folder(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_lines(tmp_path / "absent")
    with pytest.raises(UserError, match="Is a directory"):
        read_lines(tmp_path)


def test_columns_keep_quotes_and_line_numbers(tmp_path):
    (tmp_path / "f").write_text('1\ta "b\n\n2\t\tc\n', "utf-8")
    assert read_columns(tmp_path / "f", 2, "number and text") == [(1, ["1", 'a "b']), (3, ["2", "", "c"])]


@pytest.mark.parametrize(("text", "end"), [("a\tb\nc\nd\te\n", ")"), ("a\tb\nc", "), the last line: half written?")])
def test_a_line_without_a_tab_is_named(tmp_path, text, end):
    (tmp_path / "f").write_text(text)
    with pytest.raises(UserError) as error:
        read_columns(tmp_path / "f", 2, "english and japanese")
    assert str(error.value) == f"{tmp_path / 'f'}, line 2: 1 columns, 2 are needed (english and japanese{end}"


def test_english_words_and_the_way_back():
    text = "Don't you know Tom's well-known U.S friend (25)? \"Yes,\" I said; it was $3.14!"
    assert tokenise("I don't know.", "en") == ["I", "don't", "know", "."]
    assert detokenise(tokenise(text, "en"), "en") == text


def test_characters():
    assert tokenise("猫 だ。", "char") == ["猫", "だ", "。"]
    assert detokenise(["猫", "だ", "。"], "char") == "猫だ。"


def test_japanese_words_and_the_way_back():
    if not tokens.has_dictionary():
        pytest.skip('splitting Japanese needs pip install "fastrnn[japanese]"')
    assert tokenise("吾輩は猫である。\n", "ja") == ["吾輩", "は", "猫", "で", "ある", "。"]
    assert tokenise(" ", "ja") == []
    assert resolve("ja") == "ja"
    for text in ("名前はまだ無い。", "トムはNew Yorkにいる。", '"-a"と言った'):
        assert detokenise(tokenise(text, "ja"), "ja") == text


def test_without_a_dictionary_japanese_goes_by_characters(monkeypatch):
    monkeypatch.setattr(tokens, "find_spec", lambda _: None)
    tokens._tagger.cache_clear()
    assert resolve("ja") == "char" and resolve("en") == "en"
    with pytest.raises(UserError, match="needs fugashi and unidic-lite"):
        tokenise("猫", "ja")

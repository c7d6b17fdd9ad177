"""Text files as users have them: read whole, checked, and every fault named with its file and line."""

from __future__ import annotations

import codecs
import re
from pathlib import Path

from fastrnn.tasks.errors import UserError

__all__ = ["located", "read_columns", "read_lines"]

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")  # what no text file holds; tab and form feed may be there
_KANA = re.compile("[ぁ-んァ-ヶ]{2}")


def located(data: str) -> str:
    """`data` as an absolute path, so that a run can be resumed from anywhere; `builtin` stays."""
    return data if data == "builtin" else str(Path(data).absolute())


def read_lines(file: Path | str, *, empty: bool = False) -> list[str]:
    """The lines of a UTF-8 file, with or without a byte order mark, ended by LF or CRLF; number 1 is at index 0.

    Raises `UserError`, naming file and line, where it is missing, not to be read, not UTF-8 (Latin-1, a binary
    file, a last line cut within a character) or holds control characters, and, unless `empty` is allowed, where
    it has nothing but white space.
    """
    file = Path(file)
    try:
        raw = file.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"cannot read {file}: no such file") from error
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = raw.count(b"\n", 0, error.start) + 1
        if error.reason == "unexpected end of data":
            raise UserError(f"{file}, line {number}: not UTF-8 (it ends within a character): half written?") from error
        raise UserError(f"{file}, line {number}: not UTF-8 (byte 0x{raw[error.start]:02x}): {_hint(raw)}") from error
    if found := _CONTROL.search(text):
        number = text.count("\n", 0, found.start()) + 1
        raise UserError(f"{file}, line {number}: a control character (0x{ord(found[0]):02x}): a binary file?")
    if not empty and not text.strip():
        raise UserError(f"{file} is empty")
    lines = text.replace("\r\n", "\n").split("\n")
    return lines if lines[-1] else lines[:-1]


def _hint(raw: bytes) -> str:
    """What bytes that are not UTF-8 may be."""
    encoding = "latin1"
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif b"\0" in raw:
        return "a binary file?"
    else:
        for japanese in ("euc-jp", "cp932"):  # either may read the other without a fault, but not as kana
            if _KANA.search(raw.decode(japanese, "replace")):
                encoding = japanese
                break
    return f"convert it, e.g. iconv -f {encoding} -t utf-8"


def read_columns(file: Path | str, least: int, what: str) -> list[tuple[int, list[str]]]:
    """The (line number, tab-separated columns) of each line that is not blank; `what` says what they should be.

    Quotes are read as characters. Raises `UserError` as `read_lines` does, and for a line of fewer than `least`
    columns, as a last line that was half written has.
    """
    rows = []
    lines = read_lines(file)
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        columns = line.split("\t")
        if len(columns) < least:
            half = ", the last line: half written?" if number == len(lines) else ""
            raise UserError(f"{file}, line {number}: {len(columns)} columns, {least} are needed ({what}){half}")
        rows.append((number, columns))
    return rows

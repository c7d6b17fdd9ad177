"""What stands in the documents: code blocks, commands, pictures and links, to be held against the program."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`(fastrnn [a-z][^`]*)`(?!`)")
_LINK = re.compile(r"(!?)\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


@dataclass(frozen=True)
class Document:
    """A Markdown file of the project, `name` its path from the root."""

    name: str

    @property
    def path(self) -> Path:
        return ROOT / self.name

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    def blocks(self, language: str) -> list[str]:
        """The code blocks marked with `language`, in order."""
        return [body for marked, body in _BLOCK.findall(self.text) if marked == language]

    def commands(self) -> list[list[str]]:
        """The arguments of each `fastrnn …` in the sh blocks, comments left out; a pipe's parts are commands too."""
        found = []
        for line in "".join(self.blocks("sh")).replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars="|")
            lexer.whitespace_split = True
            parts: list[list[str]] = [[]]
            for word in lexer:
                parts.append([]) if word == "|" else parts[-1].append(word)
            found += [part[1:] for part in parts if part[:1] == ["fastrnn"]]
        return found

    def mentioned(self) -> list[list[str]]:
        """The arguments of each `fastrnn …` between backquotes in the running text, which may be the half of one."""
        return [shlex.split(line)[1:] for line in _INLINE.findall(_BLOCK.sub("", self.text))]

    def links(self) -> list[str]:
        """The files that are linked or shown."""
        return [link for _, link in _LINK.findall(self.text) if "://" not in link]

    def pictures(self) -> list[str]:
        return [link for shown, link in _LINK.findall(self.text) if shown]

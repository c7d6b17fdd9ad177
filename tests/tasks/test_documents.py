"""The documents say what is so: their commands parse, their files exist, what they quote stands in the program."""

import os
from pathlib import Path

import pytest

pytest.importorskip("fastrnn.tasks", reason='needs pip install "fastrnn[tasks]"', exc_type=ImportError)

import click
from documents import ROOT, Document

from fastrnn.tasks.commands import cli

ENGLISH, JAPANESE = COURSE = Document("docs/course.md"), Document("docs/course.ja.md")
EVERY = (*COURSE, Document("README.md"), Document("docs/tasks.md"))

each = pytest.mark.parametrize("document", EVERY, ids=lambda document: document.name)
each_course = pytest.mark.parametrize("document", COURSE, ids=lambda document: document.name)


def resolved(arguments):
    """The command that `arguments` name, and what is left of them for it."""
    command = cli
    while isinstance(command, click.Group) and arguments and not arguments[0].startswith("-"):
        command, arguments = command.commands[arguments[0]], arguments[1:]
    return command, arguments


@each
def test_every_command_parses(document):
    assert document.commands()
    for arguments in document.commands():
        command, rest = resolved(list(arguments))
        command.make_context("fastrnn", list(rest))  # parses and runs nothing


@each
def test_every_option_named_in_the_running_text_exists(document):
    for arguments in document.mentioned():
        command, rest = resolved(arguments)
        known = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
        unknown = {word.partition("=")[0] for word in rest if word.startswith("-")} - known - {"-h", "--help"}
        assert not unknown, arguments


@each
def test_every_file_linked_is_there(document):
    missing = [link for link in document.links() if not (document.path.parent / link).exists()]
    assert not missing


@each_course
def test_what_is_quoted_stands_in_the_program(document):
    """A block of Python begins with the file that it is taken from; a line of `…` leaves out what stands between."""
    quoted = [body.splitlines() for body in document.blocks("python")]
    assert sum(head == "# fastrnn/reference.py" for head, *_ in quoted) >= 4
    for head, *lines in quoted:
        there = iter((ROOT / head.removeprefix("# ")).read_text(encoding="utf-8").splitlines())
        for line in filter(str.strip, lines):
            if line.strip() != "…":
                assert line in there, f"{head} has no {line!r}, or has it in another order"  # goes on behind the last


def test_both_languages_show_the_same():
    def without_language(arguments):
        return " ".join(arguments).replace(" --lang ja", "")

    assert [*map(without_language, ENGLISH.commands())] == [*map(without_language, JAPANESE.commands())]
    assert ENGLISH.pictures() == [picture.replace(".ja.", ".") for picture in JAPANESE.pictures()]
    for language in ("python", "pycon", "text"):
        assert ENGLISH.blocks(language) == JAPANESE.blocks(language), language
    assert ENGLISH.text.count("\n## ") == JAPANESE.text.count("\n## ")


@each_course
def test_pictures_are_small(document):
    sizes = {picture: (document.path.parent / picture).stat().st_size for picture in document.pictures()}
    assert sizes and max(sizes.values()) < 100_000, sizes


@pytest.mark.slow
@pytest.mark.timeout(900)
@each_course
def test_the_commands_run_in_order(document, invoke, tmp_path, monkeypatch):
    """As in the text, but briefly: one epoch, few updates. What they print is not compared."""
    monkeypatch.chdir(tmp_path)
    for arguments in document.commands():
        command, _ = resolved(list(arguments))
        short = {"epochs": ["--epochs", "1"], "updates": ["--updates", "3"], "seeds": ["--seeds", "1"],
                 "no_compare": ["--no-compare"]}  # fmt: skip
        flags = [word for parameter in command.params if parameter.name in short for word in short[parameter.name]]
        result = invoke(*arguments, *flags)
        assert result.exit_code == 0, (arguments, result.output)
    drawn = {Path(folder) / file for folder, _, files in os.walk(".") for file in files if file.endswith(".png")}
    lacking = {Path(picture).name.replace(".ja.", ".") for picture in document.pictures()} - {p.name for p in drawn}
    assert not lacking, f"shown, but made by no command: {lacking}"

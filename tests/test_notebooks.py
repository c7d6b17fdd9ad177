"""The course's notebooks: clean files, each exercise with a solution, and checks that tell right from wrong."""

import ast
import os
import re
from pathlib import Path

import pytest

import fastrnn

COURSE = Path(__file__).parents[1] / "docs" / "course"
if not COURSE.is_dir():
    pytest.skip("docs/course is not beside the tests", allow_module_level=True)
nbformat = pytest.importorskip("nbformat", reason='nbformat not installed: pip install -e ".[test]"')
pytest.importorskip("fastrnn.tasks", reason='needs pip install "fastrnn[tasks]"', exc_type=ImportError)

from fastrnn.tasks.course import BLANK, OK, WRONG  # noqa: E402

NAMES = ("names", "translate", "lm", "news")
MARK = "# ここを埋める / fill in"


def notebook(name):
    return nbformat.read(COURSE / f"{name}.ipynb", as_version=4)


def functions(source):
    """The functions that stand at the top of `source`, by name, and the text of each with its decorators."""
    lines, found = source.splitlines(), {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            found[node.name] = node, "\n".join(lines[first - 1 : node.end_lineno])
    return found


SOLUTIONS = functions((COURSE / "solutions.py").read_text(encoding="utf-8"))


def exercises(book):
    """(cell, name of the function that is blank) of each exercise, in order."""
    found = []
    for cell in book.cells:
        if cell.cell_type == "code" and MARK in cell.source:
            (name,) = [name for name, (_, text) in functions(cell.source).items() if MARK in text]
            found.append((cell, name))
    return found


def test_a_notebook_a_task():
    assert {file.stem for file in COURSE.glob("*.ipynb")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_file(name):
    """Valid and small, without outputs or a reader's own metadata."""
    file = COURSE / f"{name}.ipynb"
    book = notebook(name)
    nbformat.validate(book)
    assert file.stat().st_size < 30_000
    assert book.nbformat == 4 and book.nbformat_minor >= 5
    assert set(book.metadata) == {"kernelspec", "language_info"} and book.metadata.kernelspec.name == "python3"
    for cell in book.cells:
        assert not cell.metadata
        if cell.cell_type == "code":
            assert cell.outputs == [] and cell.execution_count is None


@pytest.mark.parametrize("name", NAMES)
def test_bilingual(name):
    """Each text is Japanese first and has an English line under it."""
    for cell in notebook(name).cells:
        if cell.cell_type == "markdown":
            assert re.search("[ぁ-ん]", cell.source), cell.source
            paragraphs = cell.source.split("\n\n")
            assert any(text.startswith("*") and text.endswith("*") for text in paragraphs[1:]), cell.source


@pytest.mark.parametrize("name", NAMES)
def test_exercises(name):
    """Each blank is one function that is checked in the cell below, with a solution and a mistake of its form."""
    book = notebook(name)
    found = exercises(book)
    assert len(found) >= 4
    for cell, exercise in found:
        assert cell.source.count(MARK) == 1
        below = book.cells[book.cells.index(cell) + 1]
        assert re.search(rf"^{exercise} = check\(\n? *{exercise},", below.source, re.MULTILINE), exercise
        blank = functions(cell.source)[exercise][0]
        for answer in (exercise, f"{exercise}_wrong"):
            node = SOLUTIONS[answer][0]
            assert ast.dump(node.args) == ast.dump(blank.args), answer
            assert list(map(ast.dump, node.decorator_list)) == list(map(ast.dump, blank.decorator_list)), answer


def test_no_other_solutions():
    known = {exercise for name in NAMES for _, exercise in exercises(notebook(name))}
    assert set(SOLUTIONS) == known | {f"{exercise}_wrong" for exercise in known}


def filled(name, suffix):
    """The notebook with the answers NAME + suffix of solutions.py in place of its blanks."""
    book = notebook(name)
    for cell, exercise in exercises(book):
        blank, answer = functions(cell.source)[exercise][1], SOLUTIONS[exercise + suffix][1]
        cell.source = cell.source.replace(blank, answer.replace(f"def {exercise + suffix}(", f"def {exercise}("))
    return book


def run(book, tmp_path, monkeypatch):
    """What the cells print when run from top to bottom, an error of a cell being raised. One thread, the fastrnn
    that the tests import, and no settings of the user's."""
    nbclient = pytest.importorskip("nbclient", reason='nbclient not installed: pip install -e ".[test]"')
    pytest.importorskip("ipykernel", reason='ipykernel not installed: pip install -e ".[test]"')
    package = str(Path(fastrnn.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    resources = {"metadata": {"path": tmp_path}}
    nbclient.NotebookClient(book, timeout=600, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("answers", ["blank", "right", "wrong"])
def test_run(name, answers, tmp_path, monkeypatch):
    """Each notebook runs to its end, whatever is filled in, and its checks say what was."""
    book = notebook(name) if answers == "blank" else filled(name, "" if answers == "right" else "_wrong")
    printed = run(book, tmp_path, monkeypatch)
    mark, says = {"blank": (BLANK, "still blank"), "right": (OK, "correct"), "wrong": (WRONG, "not yet")}[answers]
    verdicts = [line for line in printed.splitlines() if line.startswith((OK, WRONG, BLANK))]
    expected = [exercise for _, exercise in exercises(notebook(name))]
    assert [line.partition(":")[0] for line in verdicts] == [f"{mark} {exercise}" for exercise in expected], verdicts
    assert all(says in line for line in verdicts)

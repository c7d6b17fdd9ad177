"""The check of exercises: what is right passes, and each way to be wrong is named in one line."""

import math

import pytest

pytest.importorskip("fastrnn.tasks", reason='needs pip install "fastrnn[tasks]"', exc_type=ImportError)

import torch

from fastrnn import reference
from fastrnn.tasks.course import BLANK, OK, WRONG, check


@pytest.fixture
def verdict(capsys):
    """The line that a check of an `answer` prints."""

    def of(answer, reference, *cases):
        def exercise(*arguments):
            return answer(*arguments)

        check(exercise, reference, *cases)
        (line,) = capsys.readouterr().out.splitlines()
        return line

    return of


def two(x):
    return x, 2 * x


def test_right(verdict):
    cell = [torch.randn(*shape) for shape in ((2, 3), (2, 4), (4, 3), (4, 4), (4,), (4,))]
    own = lambda x, h, w, u, b, c: torch.tanh(x @ w.T + b + h @ u.T + c)  # noqa: E731
    assert verdict(own, reference.elman_step, cell) == f"{OK} exercise: 正解です (correct)"
    assert verdict(lambda x: [x, x + x], two, (torch.ones(2),)).startswith(OK)  # a list is as good as a tuple
    assert verdict(lambda x: torch.tensor(x).exp(), math.exp, (0.5,)).startswith(OK)  # and a tensor as a number
    assert verdict(lambda x: x.long(), torch.clone, (torch.ones(2),)).startswith(OK)  # of any dtype
    assert verdict(list, sorted, ("ab",)).startswith(OK)


@pytest.mark.parametrize("answer", [lambda x: ..., lambda x: (x, ...), lambda x: ... + x, lambda x: torch.tanh(...)])
def test_blank(verdict, answer):
    assert verdict(answer, two, (torch.ones(2),)) == f"{BLANK} exercise: まだ空欄です (still blank)"


@pytest.mark.parametrize(
    ("answer", "expected", "says"),
    [
        (lambda x: x + 1e-3, torch.clone, "値 value [0] 1.001、正しくは expected 1"),
        (lambda x: x * torch.nan, torch.clone, "値 value [0] nan"),
        (lambda x: x[:1], torch.clone, "形 shape (1,)、正しくは expected (2,)"),
        (lambda x: x.tolist(), torch.clone, "テンソルではなく list です (not a tensor)"),
        (lambda x: None, torch.clone, "テンソルではなく NoneType です"),
        (lambda x: x, two, "2 個の組ではなく Tensor です (not 2 values)"),
        (lambda x: (x,), two, "長さ length 1、正しくは expected 2"),
        (lambda x: (x, x), two, "[1] 値 value [0] 1、正しくは expected 2"),
        (lambda x: "1", lambda x: 1.0, "数ではなく str です (not a number)"),
        (lambda x: 1.1, lambda x: 1.0, "値 value 1.1、正しくは expected 1"),
        (lambda x: 2, lambda x: 1, "2、正しくは expected 1"),
        (lambda x: ["a", "c"], lambda x: ["a", "b"], "[1] 'c'、正しくは expected 'b'"),
        (lambda x: x + torch.ones(3), torch.clone, "RuntimeError: The size of tensor a"),
        (lambda x: x * torch.ones(2, requires_grad=True), torch.clone, "still attached to its graph"),
    ],
)
def test_wrong(verdict, answer, expected, says):
    line = verdict(answer, expected, (torch.ones(2),))
    assert line.startswith(f"{WRONG} exercise: まだ違います (not yet): 例 case 1: ") and says in line


def test_every_case_counts(verdict):
    assert "case 3" in verdict(lambda x: 0, abs, (0,), (0,), (1,))


def test_writing_in_place_misleads_no_one(verdict):
    given, lists = torch.ones(2), ([3, 1], (2, [1]))
    assert verdict(lambda x: x.mul_(2), lambda x: x * 2, (given,), (given,)).startswith(OK)
    assert verdict(lambda x, y: [x.pop(), y[1].pop()], lambda x, y: [x[-1], y[1][-1]], lists, lists).startswith(OK)
    assert given.tolist() == [1, 1] and lists == ([3, 1], (2, [1]))


@pytest.mark.parametrize("found", [..., 5])
def test_what_is_not_right_is_stood_in_for(found, capsys):
    def exercise(x):
        return found

    stand_in = check(exercise, lambda x: x * 3, (1,))
    assert stand_in(2) == 6
    capsys.readouterr()
    # the check run again, without the cell above it, must not praise our own function
    assert check(stand_in, lambda x: x * 3, (1,)) is stand_in
    assert capsys.readouterr().out.startswith(f"{BLANK} exercise: ")


def test_what_is_right_is_kept():
    def exercise(x):
        return 3 * x

    assert check(exercise, lambda x: x * 3, (1,)) is exercise


def test_an_interruption_is_passed_on():
    def endless(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(endless, abs, (1,))

"""Combinatorial calculation: every formula that hits the target, against enumeration."""

import functools
import itertools
import re
from collections.abc import Callable
from fractions import Fraction

import pytest

from r1ci_jax.errors import UserError
from r1ci_jax.tasks.base import Example, Task
from r1ci_jax.tasks.symbench.combinatorial_calculation import (
    CombinatorialCalculation,
    plainly_reachable,
)

type Drawn = Callable[[Task, int, int], list[Example]]

TASK = CombinatorialCalculation()


def item(numbers: list[int], target: int) -> Example:
    return TASK.item(0, "", {"numbers": numbers, "target": target}, None).example


def listed(text: str) -> str:
    return f"[{', '.join(text)}]"


@pytest.mark.parametrize(
    "text",
    [
        "[6, /, 2, +, 7]",
        " 6,/,2,+,7\n",
        '["6", "/", "2", "+", "7"]',
        "['6', '/', '2', '+', '7']",
        "[(, 6, /, 2, ), +, 7]",
        "[(, (, 6, /, 2, ), +, 7, )]",
    ],
)
def test_right_forms(text: str) -> None:
    assert TASK.score(item([6, 2, 7], 10), text).correct


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[7, +, 6, /, 2]", "order"),
        ("[6, /, 2, +, 8]", "order"),
        ("[6, /, 2]", "order"),
        ("[6, /, 2, +, 7, +, 7]", "order"),
        ("[6, 2, -, 7]", "not a formula"),
        ("[-, 6, /, 2, +, 7]", "not a formula"),
        ("[6, /, (, 2, ), 7]", "not a formula"),
        ("[6, /, 2, +, (, 7]", "not a formula"),
        ("[62, -, 7]", "order"),
        ("[6, +, 2, +, 7]", "the value is 15"),
        ("[6, /, 2, /, 7]", "the value is 3/7"),
        ("6/2+7", "not a list"),
        ("[6, /, 2, +, 7] = 10", "not a list"),
        ("[6, /, 2, +, 7]\n[6, /, 2, +, 7]", "not a list"),
        ("[6, /, 2, +, 7, ]", "not a list"),
        ("[[6, /, 2, +, 7]]", "not a list"),
        ("[6, ÷, 2, +, 7]", "not a list"),
        ("(6, /, 2, +, 7]", "not a list"),
        ("[06, /, 2, +, 7]", "not a list"),
    ],
)
def test_wrong_answers_and_why(text: str, reason: str) -> None:
    verdict = TASK.score(item([6, 2, 7], 10), text)
    assert not verdict.correct and reason in verdict.reason, verdict


def test_exact_fractions_and_divisions_by_zero() -> None:
    assert TASK.score(item([8, 3, 8, 3], 24), listed("8/(3-8/3)")).correct
    assert TASK.score(item([1, 3, 3], 1), listed("1/3*3")).correct
    verdict = TASK.score(item([5, 2, 2], 5), listed("5/(2-2)"))
    assert not verdict.correct and "zero" in verdict.reason


@functools.cache
def reachable(numbers: tuple[int, ...]) -> frozenset[Fraction]:
    """All values of the numbers in their order: every split, every operator."""
    if len(numbers) == 1:
        return frozenset({Fraction(numbers[0])})
    found: set[Fraction] = set()
    for cut in range(1, len(numbers)):
        for left, right in itertools.product(reachable(numbers[:cut]), reachable(numbers[cut:])):
            found |= {left + right, left - right, left * right}
            if right:
                found.add(left / right)
    return frozenset(found)


def flat(numbers: tuple[int, ...], target: int) -> bool:
    """Whether some choice of operators alone gives the target; products first, then sums."""
    for operators in itertools.product("+-*/", repeat=len(numbers) - 1):
        terms = [Fraction(numbers[0])]
        for operator, following in zip(operators, numbers[1:], strict=True):
            match operator:
                case "+":
                    terms.append(Fraction(following))
                case "-":
                    terms.append(Fraction(-following))
                case "*":
                    terms[-1] *= following
                case _:
                    terms[-1] /= following
        if sum(terms) == target:
            return True
    return False


def test_targets_are_reachable_and_need_parentheses_above_level_1(drawn: Drawn) -> None:
    for example in (one for level in TASK.difficulties for one in drawn(TASK, level, 20)):
        row = re.search(r"value (\d+): ([\d, ]+)\n", example.question)
        assert row is not None
        target, numbers = int(row[1]), tuple(map(int, row[2].split(", ")))
        if len(numbers) <= 5:
            assert target in reachable(numbers)
        if len(numbers) <= 5:
            assert plainly_reachable(numbers, target) == flat(numbers, target)
        assert example.difficulty == 1 or not plainly_reachable(numbers, target)


def test_of_all_three_number_formulas_exactly_the_hits_score() -> None:
    numbers = (6, 2, 3)
    for target in (9, 4, 1, 12):
        example, right = item(list(numbers), target), 0
        for one, two in itertools.product("+-*/", repeat=2):
            for form in ("6{}2{}3", "(6{}2){}3", "6{}(2{}3)"):
                text = form.format(one, two)
                expected = abs(eval(text) - target) < 1e-9  # the test's own text
                assert TASK.score(example, listed(text)).correct == expected
                right += expected
        assert right


def test_unreadable_released_items_are_reported() -> None:
    question = "Now the input numbers are: 6, 2, 7, the target values is: 10"
    found = TASK.parse_released(1, question, {"solution": ["6", "/", "2", "+", "7"]})
    assert found.gold == "[6, /, 2, +, 7]" and TASK.score(found.example, found.gold).correct
    for broken in (("Hello", {"solution": []}), (question, None), (question, {"solution": "6"})):
        with pytest.raises(UserError, match="released item 4 of combinatorial_calculation"):
            TASK.parse_released(4, *broken)

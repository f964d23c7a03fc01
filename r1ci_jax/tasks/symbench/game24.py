"""Join numbers in any order to a formula with the value 24."""

import json
import random
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any, Final, override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import Puzzle
from r1ci_jax.tasks.symbench import formula, symbench_task
from r1ci_jax.tasks.symbench.formula import Formula
from r1ci_jax.tasks.symbench.symbench_task import ReleasedItem

RELEASED_DEFECTS: Final[dict[str, int]] = {}
"""Released puzzles without a solution: there are none. The release stores no golds."""

_TARGET = 24
_SHAPE = {1: (4, 16), 2: (4, 16), 3: (4, 40), 4: (5, 40), 5: (6, 60)}
"""The number of numbers, and the largest."""
_FREE_LEVEL = 1
"""The level whose numbers give 24 without division and parentheses; on higher levels none do."""

_QUESTION = """\
Make {target} out of these {count} numbers: {numbers}

Write a formula that uses each of them exactly once (a number that is listed twice is used twice), \
in any order, and no other numbers. It may contain the operators +, -, * and / and parentheses, \
nothing else: numbers are neither joined to longer numbers nor given a sign, and every product is \
written with *. Multiplication and division bind more strongly than addition and subtraction; \
operators that bind equally strongly are done from left to right. Calculate exactly: intermediate \
results may be negative or fractions, but nothing may be divided by zero.

Answer with the formula alone, without an equals sign, for example (7 - 2) * 3 / 5. There may be \
several right answers; give one."""


class Game24(symbench_task.SymbenchTask):
    """Make 24 from numbers in any order."""

    name = "game24"
    kind = "planning"
    answer_format = "a formula"
    many_answers = True

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        count, high = _SHAPE[difficulty]
        while True:
            made = _make_aimed_formula(rng, count, high)
            if made is None:
                continue
            # The numbers are sorted, because the order of the formula would reveal it.
            numbers = sorted(int(token) for token in made.tokens if token.isdigit())
            if plainly_reachable(numbers, _TARGET) == (difficulty == _FREE_LEVEL):
                break
        return Puzzle(
            question=_question(numbers),
            answer=" ".join(made.tokens).replace("( ", "(").replace(" )", ")"),
            metadata={"numbers": numbers, "target": _TARGET},
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        short = len(answer_text) <= answers.MAX_ANSWER_CHARS
        row = formula.tokens(answer_text.strip()) if short else None
        if not row:
            return symbench_task.wrong_verdict(
                f"{answers.format_answer(answer_text)} is not a formula"
            )
        given = json.loads(example.metadata)
        if sorted(int(token) for token in row if token.isdigit()) != given["numbers"]:
            return symbench_task.wrong_verdict("not each of the given numbers exactly once")
        return formula.score_formula(row, given["target"])

    @override
    def parse_released(self, number: int, question: str, solution: Any) -> ReleasedItem:
        """Parse four numbers, stored as the question or under `puzzle`; the release has no gold."""
        raw = solution.get("puzzle", question) if isinstance(solution, dict) else question
        if re.fullmatch(r"\s*\d{1,3}(\s+\d{1,3})+\s*", str(raw)) is None:
            raise self.malformed(number, "the puzzle is not a row of numbers")
        numbers = sorted(int(part) for part in str(raw).split())
        metadata = {"numbers": numbers, "target": _TARGET}
        return self.item(number, _question(numbers), metadata, None)


def plainly_reachable(numbers: Sequence[int], target: int) -> bool:
    """Return True if the numbers, in some order, give the target with + - * and no parentheses.

    Numbers and target must be positive: then no formula consists of subtractions only.
    """
    # Such a formula adds and subtracts products: it is a partition of the numbers with signs.
    for products in _products(tuple(numbers)):
        sums = {0}
        for product in products:
            sums = {total + signed for total in sums for signed in (product, -product)}
        if target in sums:
            return True
    return False


def _make_aimed_formula(rng: random.Random, count: int, high: int) -> Formula | None:
    """Make a random formula of so many numbers up to `high` with the value 24, or None by chance.

    All numbers but one are sampled; the last must be the one that the formula around it needs.
    """
    known = [rng.randint(1, high) for _ in range(count - 1)]
    needed = Fraction(_TARGET)
    around: list[tuple[Formula, str, bool]] = []  # from the outermost operation inwards
    while known:
        size = rng.randint(1, len(known))
        operand, known = formula.make_formula(rng, known[:size]), known[size:]
        operator, left = rng.choice(formula.OPERATORS), rng.random() < 0.5
        if operand is None:
            return None
        inner = _missing(needed, operand.value, operator, left)
        if inner is None:
            return None
        needed = inner
        around.append((operand, operator, left))
    if needed.denominator != 1 or not 1 <= needed <= high:
        return None
    made: Formula | None = formula.number(int(needed))
    for operand, operator, left in reversed(around):
        pair = (made, operand) if left else (operand, made)
        made = formula.combine(pair[0], operator, pair[1])
        if made is None:
            return None
    return made


def _missing(needed: Fraction, operand: Fraction, operator: str, left: bool) -> Fraction | None:
    """Return the left (or right) operand that gives the needed value with the other operand."""
    match operator:
        case "+":
            return needed - operand
        case "-":
            return needed + operand if left else operand - needed
        case "*":
            return needed / operand if operand else None
        case _ if left:
            return needed * operand if operand else None
        case _:
            return operand / needed if operand and needed else None


def _products(numbers: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Yield the products for each partition of the numbers into groups."""
    if not numbers:
        yield ()
        return
    first, *rest = numbers
    for products in _products(tuple(rest)):
        yield (first, *products)
        for spot, product in enumerate(products):
            yield (*products[:spot], product * first, *products[spot + 1 :])


def _question(numbers: Sequence[int]) -> str:
    listed = ", ".join(map(str, numbers))
    return _QUESTION.format(target=_TARGET, count=len(numbers), numbers=listed)

"""Formulas of integers with + - * / and parentheses, with exact values."""

import dataclasses
import random
import re
from collections.abc import Sequence
from fractions import Fraction

from r1ci_jax.tasks.base import Verdict
from r1ci_jax.tasks.symbench import symbench_task

OPERATORS = "+-*/"
_RANK = {"+": 1, "-": 1, "*": 2, "/": 2}
_NUMBER_RANK = 3
_TOKEN = re.compile(r"[ \t]*((?:0|[1-9][0-9]{0,3})(?![0-9])|[-+*/()])[ \t]*")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Formula:
    """A formula and its value."""

    tokens: tuple[str, ...]
    value: Fraction
    rank: int = _NUMBER_RANK
    """The precedence of its last operation, which decides where parentheses are needed."""


def number(value: int) -> Formula:
    """Make a formula of one number."""
    return Formula(tokens=(str(value),), value=Fraction(value))


def combine(left: Formula, operator: str, right: Formula) -> Formula | None:
    """Join both, with parentheses where needed; return None for a division by zero."""
    value = apply(left.value, operator, right.value)
    if value is None:
        return None
    rank = _RANK[operator]
    # A right side of equal precedence changes its meaning only after - and /.
    right_open = right.rank < rank or (right.rank == rank and operator in "-/")
    tokens = (
        *_parenthesize(left.tokens, left.rank < rank),
        operator,
        *_parenthesize(right.tokens, right_open),
    )
    return Formula(tokens=tokens, value=value, rank=rank)


def make_formula(rng: random.Random, numbers: Sequence[int]) -> Formula | None:
    """Make a random formula of the numbers in their order; return None where it divides by zero."""
    parts = [number(value) for value in numbers]
    while len(parts) > 1:
        spot = rng.randrange(len(parts) - 1)
        joined = combine(parts[spot], rng.choice(OPERATORS), parts[spot + 1])
        if joined is None:
            return None
        parts[spot : spot + 2] = [joined]
    return parts[0]


def tokens(text: str) -> list[str] | None:
    """Return the numbers and symbols of an infix formula, or None where it has anything else."""
    found, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            return None
        found.append(match[1])
        position = match.end()
    return found


def value(row: Sequence[str]) -> Fraction | None:
    """Return the exact value of the tokens, or None for no formula or a division by zero.

    An operator must be between two operands: there are no signs and no implied products.
    """
    operands: list[Fraction] = []
    waiting: list[str] = []
    operand_due = True
    for token in row:
        if operand_due != (token == "(" or token.isdigit()):
            return None
        if token.isdigit():
            operands.append(Fraction(int(token)))
            operand_due = False
        elif token == "(":
            waiting.append(token)
        elif token == ")":
            if not _reduce(operands, waiting, 1) or not waiting:
                return None
            waiting.pop()
        else:
            if not _reduce(operands, waiting, _RANK[token]):
                return None
            waiting.append(token)
            operand_due = True
    if operand_due or not _reduce(operands, waiting, 1) or waiting:
        return None
    return operands[0]


def score_formula(tokens: Sequence[str], target: int) -> Verdict:
    """Score the tokens as correct if they are a formula with that value."""
    found = value(tokens)
    if found is None:
        return symbench_task.wrong_verdict("not a formula, or it divides by zero")
    if found != target:
        return symbench_task.wrong_verdict(f"the value is {found}, not {target}")
    return symbench_task.right_verdict(f"the value is {found}")


def apply(left: Fraction, operator: str, right: Fraction) -> Fraction | None:
    """Apply one operation; return None for a division by zero."""
    match operator:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case _:
            return left / right if right else None


def _reduce(operands: list[Fraction], waiting: list[str], rank: int) -> bool:
    """Apply the waiting operations of at least this precedence, back to a parenthesis."""
    while waiting and waiting[-1] != "(" and _RANK[waiting[-1]] >= rank:
        right = operands.pop()
        result = apply(operands.pop(), waiting.pop(), right)
        if result is None:
            return False
        operands.append(result)
    return True


def _parenthesize(row: tuple[str, ...], needed: bool) -> tuple[str, ...]:
    return ("(", *row, ")") if needed else row

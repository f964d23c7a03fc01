"""Evaluate an expression of operators that the question defines."""

import contextlib
import dataclasses
import json
import random
import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final, override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import Puzzle
from r1ci_jax.tasks.symbench import symbench_task

RELEASED_DEFECTS: Final[dict[str, int]] = {
    "of the two operators outside the brackets the gold applies one only": 99,
}

_SYMBOLS: Final = "#@$&%~"
_PLACES: Final = 3
_FRACTION: Final = re.compile(r"([+-]?[0-9]+)/([0-9]+)")
_TOKEN: Final = re.compile(rf"\s*([0-9]+|[()]|[{re.escape(_SYMBOLS)}])")
_MAX_EXPRESSION_CHARS: Final = 200
_LARGEST: Final = 1_000_000
"""The limit below which every value survives a float's rounding."""
_SMALLEST: Final = Fraction(1, 10)
"""The limit above which no value rounds to zero."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Operator:
    """The definition of `a ? b`."""

    form: str
    """One of sum, product, ratio, difference, mixed."""
    p: int = 1
    q: int = 1

    def __call__(self, a: Fraction, b: Fraction) -> Fraction:
        """Return the value.

        Raises:
            ZeroDivisionError: The formula divides by zero.
        """
        match self.form:
            case "sum":
                return self.p * a + self.q * b
            case "product":
                return self.p * a * b
            case "ratio":
                return (a + b) / b
            case "difference":
                return self.p * a - self.q * b
            case "mixed":
                return a * b - self.p * a + self.q * b
        raise AssertionError(self.form)

    @property
    def formula(self) -> str:
        """Return the formula as the question shows it."""
        texts = {
            "sum": f"{self.p}*a + {self.q}*b",
            "product": f"{self.p}*a*b",
            "ratio": "(a + b)/b",
            "difference": f"{self.p}*a - {self.q}*b",
            "mixed": f"a*b - {self.p}*a + {self.q}*b",
        }
        return texts[self.form]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Level:
    operators: int
    operations: int
    forms: tuple[str, ...] = ("sum", "product", "ratio", "difference", "mixed")


_LEVELS: Final = {
    1: _Level(operators=1, operations=2, forms=("sum", "product", "ratio")),
    2: _Level(operators=2, operations=3, forms=("sum", "product", "ratio", "difference")),
    3: _Level(operators=3, operations=4),
    4: _Level(operators=3, operations=6),
    5: _Level(operators=4, operations=8),
}


def evaluate(expression: str, operators: Mapping[str, Operator]) -> Fraction:
    """Return the exact value: brackets first, else from left to right.

    Raises:
        ValueError: The text is no expression of these operators.
        ZeroDivisionError: A formula divides by zero.
    """
    if len(expression) > _MAX_EXPRESSION_CHARS:
        raise ValueError("the expression is too long")
    tokens = _TOKEN.findall(expression)
    if "".join(tokens) != re.sub(r"\s", "", expression):
        raise ValueError(f"{answers.format_answer(expression)} is no expression")
    value, end = _chain(tokens, 0, operators)
    if end != len(tokens):
        raise ValueError(f"brackets do not match in {answers.format_answer(expression)}")
    return value


def _chain(tokens: list[str], at: int, operators: Mapping[str, Operator]) -> tuple[Fraction, int]:
    value, at = _operand(tokens, at, operators)
    while at < len(tokens) and tokens[at] in operators:
        apply = operators[tokens[at]]
        right, at = _operand(tokens, at + 1, operators)
        value = apply(value, right)
    return value, at


def _operand(tokens: list[str], at: int, operators: Mapping[str, Operator]) -> tuple[Fraction, int]:
    token = tokens[at] if at < len(tokens) else ""
    if token.isdigit():
        return Fraction(token), at + 1
    if token != "(":
        raise ValueError("a number is missing")
    value, at = _chain(tokens, at + 1, operators)
    if tokens[at : at + 1] != [")"]:
        raise ValueError("a bracket is not closed")
    return value, at + 1


class NewOperator(symbench_task.SymbenchTask):
    """Apply unfamiliar operators in the right order."""

    name = "new_operator"
    kind = "execution"
    answer_format = "an integer, a fraction, or a decimal number to three places or more"

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        level = _LEVELS[difficulty]
        while True:
            symbols = rng.sample(_SYMBOLS, level.operators)
            operators = {
                symbol: Operator(
                    form=rng.choice(level.forms), p=rng.randint(2, 5), q=rng.randint(1, 5)
                )
                for symbol in symbols
            }
            if len({operator.formula for operator in operators.values()}) < len(operators):
                continue
            order = symbols + rng.choices(symbols, k=level.operations - len(symbols))
            rng.shuffle(order)
            expression = _expression(rng, order)
            try:
                value = evaluate(expression, operators)
            except ZeroDivisionError:
                continue
            if _SMALLEST <= abs(value) <= _LARGEST and value.denominator <= _LARGEST:
                break
        return Puzzle(
            question=_question(operators, expression),
            answer=str(value),
            metadata={"value": str(value)},
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        exact = Fraction(json.loads(example.metadata)["value"])
        if len(answer_text) > answers.MAX_ANSWER_CHARS:
            return symbench_task.wrong_verdict("the answer is too long")
        text = answer_text.strip()
        parts = _FRACTION.fullmatch(text)
        if parts is not None:
            same = int(parts[2]) != 0 and Fraction(int(parts[1]), int(parts[2])) == exact
        else:
            same = answers.rounds_to(exact, text, places=_PLACES)
        if not same:
            return symbench_task.wrong_verdict(f"{answers.format_answer(text)} is not {exact}")
        return symbench_task.right_verdict(f"equals {exact}")

    @override
    def parse_released(
        self, number: int, question: str, solution: Any
    ) -> symbench_task.ReleasedItem:
        definitions = re.findall(r"Define a(.)b to be (.+?)\.\n", question)
        asked = re.search(r"Calculate (.+)\.\s*\n", question)
        gold = symbench_task.read_field(solution)
        if not definitions or asked is None or not isinstance(gold, int | float):
            raise self.malformed(number, "no definitions, no expression or no number")
        try:
            operators = {symbol: _operator(formula) for symbol, formula in definitions}
            value = evaluate(asked[1], operators)
        except (ValueError, ZeroDivisionError) as error:
            raise self.malformed(number, str(error)) from error
        # The release leaves the order open; equal precedence means from left to right.
        parts = [str(part) for part in _values_of_parts(asked[1], operators)]
        return self.item(number, question, {"value": str(value), "parts": parts}, str(gold))

    @override
    def explain_gold(self, item: symbench_task.ReleasedItem) -> str | None:
        parts = json.loads(item.example.metadata)["parts"]
        gold = item.gold or ""
        is_part = any(answers.rounds_to(Fraction(part), gold, places=_PLACES) for part in parts)
        return next(iter(RELEASED_DEFECTS)) if is_part else None


def _values_of_parts(expression: str, operators: Mapping[str, Operator]) -> list[Fraction]:
    """Return the values of `(a.b).c` and of `c.d` where the expression is `(a.b).c.d`."""
    form = re.fullmatch(r"(\([0-9]+\D[0-9]+\)\D([0-9]+))(\D[0-9]+)", expression.replace(" ", ""))
    if form is None:
        return []
    found: list[Fraction] = []
    for part in (form[1], form[2] + form[3]):
        with contextlib.suppress(ZeroDivisionError, ValueError):
            found.append(evaluate(part, operators))
    return found


def _expression(rng: random.Random, order: list[str]) -> str:
    """Make a random expression with these operators, in this order from left to right."""
    if not order:
        return str(rng.randint(1, 9))
    top = rng.randrange(len(order))
    left, right = _expression(rng, order[:top]), _expression(rng, order[top + 1 :])
    if top > 0 and rng.random() < 0.5:
        left = f"({left})"
    if top < len(order) - 1:
        right = f"({right})"
    return f"{left} {order[top]} {right}"


def _question(operators: Mapping[str, Operator], expression: str) -> str:
    definitions = "\n".join(
        f"a {symbol} b = {operator.formula}" for symbol, operator in operators.items()
    )
    return (
        "For numbers a and b, new operators are defined by formulas in which +, -, * and / have "
        f"their usual meaning:\n\n{definitions}\n\nWhat stands in brackets is worked out first. "
        "The new operators all have the same rank: apart from brackets, they are applied strictly "
        f"from left to right.\n\nCalculate {expression}\n\nAnswer with one number: an integer, a "
        "fraction such as -17/3 (it may be unreduced), or a decimal number such as -5.667 that is "
        f"exact or rounded to {_PLACES} decimal places or more."
    )


def _operator(formula: str) -> Operator:
    """Parse one of the release's three formulas."""
    text = re.sub(r"\s", "", formula)
    if found := re.fullmatch(r"([0-9]+)\*a\+([0-9]+)\*b", text):
        return Operator(form="sum", p=int(found[1]), q=int(found[2]))
    if found := re.fullmatch(r"([0-9]+)\*a\*b", text):
        return Operator(form="product", p=int(found[1]))
    if text == "(a+b)/b":
        return Operator(form="ratio")
    raise ValueError(f"unknown formula {answers.format_answer(formula)}")

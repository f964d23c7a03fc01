"""The teacher of multistep_arithmetic_two."""

import dataclasses
import math
import random
import re
from typing import Any, Final, override

from r1ci_jax.teachers.bbh.bbh_phrases import match, read_body
from r1ci_jax.teachers.teacher import Step, Teacher
from r1ci_jax.teachers.template_teacher import Pattern, PatternTeacher

_NAMES: Final = {
    "tokens": ("tokens", "symbols", "parts"),
    "left right": ("left right", "first second", "a b", "left_group right_group"),
    "value": ("value", "result", "total", "number"),
}

_DIRECT = """
$left = $left_text
$right = $right_text
print($left $operator $right)
"""

_DESCENT = """
import re

$tokens = re.findall(r"\\d+|[-+*()]", "$text")


def expression():
    $value = term()
    while $tokens and $tokens[0] in "+-":
        sign = 1 if $tokens.pop(0) == "+" else -1
        $value += sign * term()
    return $value


def term():
    $value = factor()
    while $tokens and $tokens[0] == "*":
        $tokens.pop(0)
        $value *= factor()
    return $value


def factor():
    token = $tokens.pop(0)
    if token == "-":
        return -factor()
    if token == "(":
        $value = expression()
        $tokens.pop(0)  # the closing bracket
        return $value
    return int(token)


print(expression())
"""

_TERMS = """
import math


def evaluate(terms):
    # A term is a list of factors; the signs stand in the numbers.
    return sum(math.prod(factors) for factors in terms)


$left = evaluate($left_terms)
$right = evaluate($right_terms)
print($left $operator $right)
"""

_TREE = """
import ast
import operator

operations = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}


def evaluate(node):
    match node:
        case ast.Constant(value=number):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -evaluate(operand)
        case ast.BinOp(left=$left, op=op, right=$right):
            return operations[type(op)](evaluate($left), evaluate($right))


print(evaluate(ast.parse("$text", mode="eval").body))
"""

_CHECK = """
from fractions import Fraction

claimed = $answer
$left = $left_text
$right = $right_text
# Undo the outer operation: it must lead back to the first bracket.
print($undo)
"""

_GROUPS = """
for group in $groups:
    print(group, "=", eval(group))
"""

_LEFT_TO_RIGHT = """
import re


def evaluate(group):
    $value = 0
    sign = "+"
    for token in re.findall(r"(?<=\\d) [-+*] |-?\\d+", group):
        if token.strip() in ("+", "-", "*"):
            sign = token.strip()
        elif sign == "*":
            $value *= int(token)
        else:
            $value += int(token) if sign == "+" else -int(token)
    return $value


print(evaluate("$left_text") $operator evaluate("$right_text"))
"""

_FORMS: Final[dict[str, Pattern]] = {
    "direct": (
        (
            "Python follows the usual precedence, so I compute the two groups, which are then "
            "$joined.",
            "The two bracketed groups are $joined; each is plain integer arithmetic with products "
            "before sums.",
            "$numbers signed numbers: Python does not lose a minus sign. I name the two groups, "
            "which are then $joined.",
        ),
        _DIRECT,
    ),
    "recursive descent": (
        (
            "A recursive parser with three levels (sums, products, signed numbers or brackets) "
            "evaluates the expression with its $numbers numbers.",
            "I read the expression by recursive descent: an expression is a sum of terms, a term a "
            "product of factors, a factor a number, a minus or a bracket.",
        ),
        _DESCENT,
    ),
    "sums of products": (
        (
            "Each group is a sum of products. I write every term as the list of its factors and "
            "sum the products; the two totals are $joined.",
            "Written as lists of factors, with the subtracted terms negated, a group is the sum of "
            "the products. The two sums are $joined.",
        ),
        _TERMS,
    ),
    "syntax tree": (
        (
            "Python's parser gives the syntax tree with the right precedence; I evaluate it from "
            "the leaves upwards.",
            "I walk the syntax tree of the $numbers numbers: constants, negations and the "
            "operations + - *.",
        ),
        _TREE,
    ),
}
_UNDO: Final = {
    "+": "claimed - $right == $left",
    "-": "claimed + $right == $left",
    "*": "Fraction(claimed, $right) == $left if $right else claimed == 0",
}
_INVERSES: Final = {"+": "subtracting", "-": "adding back", "*": "dividing by"}
_JOINED: Final = {"+": "added", "-": "subtracted", "*": "multiplied"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TwoGroups:
    """Two groups of numbers, as text without brackets, and the operation between them."""

    left: str
    operator: str
    right: str

    @property
    def text(self) -> str:
        """The whole expression."""
        return f"({self.left}) {self.operator} ({self.right})"


def _split_terms(group: str) -> list[list[int]]:
    """Return the factors of every term; the sign of a term is that of its first factor."""
    terms: list[list[int]] = []
    sign, operator = 1, "+"
    for token in re.findall(r"(?<=\d) [-+*] |-?\d+", group):
        if token.strip() in ("+", "-", "*"):
            operator = token.strip()
            sign = -1 if operator == "-" else 1
        elif operator == "*":
            terms[-1].append(int(token))
        else:
            terms.append([sign * int(token)])
    return terms


def _total(group: str) -> int:
    return sum(math.prod(factors) for factors in _split_terms(group))


def _combine(left: int, operator: str, right: int) -> int:
    return {"+": left + right, "-": left - right, "*": left * right}[operator]


def _left_to_right(group: str) -> int:
    value, operator = 0, "+"
    for token in re.findall(r"(?<=\d) [-+*] |-?\d+", group):
        if token.strip() in ("+", "-", "*"):
            operator = token.strip()
        else:
            value = _combine(value, operator, int(token))
    return value


def _bracket(number: int) -> str:
    return f"({number})" if number < 0 else str(number)


class MultistepArithmetic(PatternTeacher[TwoGroups]):
    """Evaluates two bracketed groups and joins them."""

    task = "bbh_multistep_arithmetic_two"
    forms = tuple(_FORMS)
    names = _NAMES
    patterns = _FORMS
    exploring = (
        ("First the two groups separately.", "I begin with the value of each bracket."),
        _GROUPS,
    )
    slip = (
        (
            "I go through each group from left to right with a running value.",
            "A running value for each group takes the numbers in their order.",
        ),
        _LEFT_TO_RIGHT,
    )

    @override
    def parse(self, question: str) -> TwoGroups:
        found = match(r"\(\(([-+*\d ]+)\) ([-+*]) \(([-+*\d ]+)\)\) =", read_body(question))
        return TwoGroups(left=found[1], operator=found[2], right=found[3])

    @override
    def values(self, data: TwoGroups, rng: random.Random) -> dict[str, object]:
        return {
            "text": data.text,
            "left_text": data.left,
            "right_text": data.right,
            "operator": data.operator,
            "joined": _JOINED[data.operator],
            "numbers": len(re.findall(r"\d+", data.text)),
            "left_terms": _split_terms(data.left),
            "right_terms": _split_terms(data.right),
            "groups": f'("{data.left}", "{data.right}")',
        }

    @override
    def check(self, data: TwoGroups, answer: str, rng: random.Random) -> Step:
        template = _CHECK.replace("$undo", _UNDO[data.operator])
        if data.operator != "*":
            template = template.replace("from fractions import Fraction\n\n", "")
        inverse = _INVERSES[data.operator]
        words = (
            f"I test {answer} backwards: {inverse} the second group must give the first.",
            f"The inverse operation, {inverse} the second group, should lead from {answer} to the "
            "first group.",
        )
        return self._fill(data, (words, template), {"answer": answer}, rng)

    @override
    def first_attempt(self, data: TwoGroups, rng: random.Random) -> Step | None:
        slip = [_left_to_right(group) for group in (data.left, data.right)]
        right = [_total(group) for group in (data.left, data.right)]
        if _combine(slip[0], data.operator, slip[1]) == _combine(right[0], data.operator, right[1]):
            return None
        return super().first_attempt(data, rng)

    @override
    def in_words(self, data: TwoGroups, rng: random.Random) -> tuple[str, str]:
        lines = []
        for name, group in (("first", data.left), ("second", data.right)):
            terms = _split_terms(group)
            products = [math.prod(factors) for factors in terms]
            steps = [
                " * ".join(map(_bracket, factors)) + f" = {product}"
                for factors, product in zip(terms, products, strict=True)
                if len(factors) > 1
            ]
            total = " + ".join(map(_bracket, products))
            shown = "; ".join([*steps, f"{total} = {sum(products)}"])
            lines.append(f"The {name} group, {group}: {shown}.")
        left, right = _total(data.left), _total(data.right)
        value = _combine(left, data.operator, right)
        opening = rng.choice(
            (
                "Products come before sums, so I take each bracket in turn.",
                "I evaluate the brackets separately, multiplying first.",
                "Two groups, each a sum of products:",
            )
        )
        joined = f"Together: {_bracket(left)} {data.operator} {_bracket(right)} = {value}."
        return "\n".join([opening, *lines, joined]), str(value)

    @override
    def wrong_answer(self, data: TwoGroups, answer: str, rng: random.Random) -> str | None:
        slip = [_left_to_right(group) for group in (data.left, data.right)]
        guess = str(_combine(slip[0], data.operator, slip[1]))
        return guess if guess != answer else str(-int(answer)) if int(answer) else "1"


TEACHERS: tuple[Teacher[Any], ...] = (MultistepArithmetic(),)

"""Values of formulas that an answer holds, found over the syntax tree: no text is evaluated.

Python's parser makes the tree; only the listed nodes count, so names, calls and attributes of an
answer have no value. A text has a limited length and a power a limited exponent, so every value is
small.
"""

import ast
from fractions import Fraction
from typing import Final

from r1ci_jax.tasks import answers

MAX_DEPTH: Final = 200
"""The largest number of operations inside each other."""
MAX_DEGREE: Final = 99
MAX_TERMS: Final = 1000

Polynomial = dict[tuple[int, ...], int]
"""Coefficients by the exponents of the variables; zero coefficients are left out."""


def parse(text: str, *, limit: int = answers.MAX_ANSWER_CHARS) -> ast.expr | None:
    """Return the syntax tree of a formula of one line; None where it is none, or is too long."""
    if len(text) > limit or len(text.splitlines()) != 1:
        return None
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return tree if _is_shallow(tree) else None


def _is_shallow(tree: ast.expr) -> bool:
    """Return True if the functions below can descend to every leaf."""
    level: list[ast.AST] = [tree]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    return not level


def numbers(tree: ast.expr) -> list[int]:
    """Return the whole numbers of a formula, in the order of the text."""
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    nodes.sort(key=lambda node: node.col_offset)
    return [node.value for node in nodes if type(node.value) is int]


def arithmetic_value(tree: ast.expr) -> Fraction | None:
    """Return the exact value of whole numbers joined by + - * / and brackets; None for all else."""
    match tree:
        case ast.Constant(value=int() as value) if type(value) is int:
            return Fraction(value)
        case ast.UnaryOp(op=ast.UAdd() | ast.USub() as sign, operand=operand):
            inner = arithmetic_value(operand)
            return inner if inner is None or isinstance(sign, ast.UAdd) else -inner
        case ast.BinOp(left=left, op=operator, right=right):
            first, second = arithmetic_value(left), arithmetic_value(right)
            if first is None or second is None:
                return None
            match operator:
                case ast.Add():
                    return first + second
                case ast.Sub():
                    return first - second
                case ast.Mult():
                    return first * second
                case ast.Div():
                    return first / second if second else None
    return None


def polynomial(tree: ast.expr, variables: str) -> Polynomial | None:
    """Return a polynomial in these variables with whole coefficients; None for all else."""
    match tree:
        case ast.Constant(value=int() as value) if type(value) is int:
            return _without_zeros({(0,) * len(variables): value})
        case ast.Name(id=name) if len(name) == 1 and name in variables:
            return {tuple(int(name == variable) for variable in variables): 1}
        case ast.UnaryOp(op=ast.UAdd() | ast.USub() as sign, operand=operand):
            inner = polynomial(operand, variables)
            return inner if inner is None or isinstance(sign, ast.UAdd) else _scaled(inner, -1)
        case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=int() as exponent)):
            base = polynomial(left, variables)
            if base is None or not 0 <= exponent <= MAX_DEGREE or len(base) > 1:
                return None
            return {
                tuple(exponent * n for n in key): value**exponent for key, value in base.items()
            }
        case ast.BinOp(left=left, op=operator, right=right):
            return _combined(polynomial(left, variables), operator, polynomial(right, variables))
    return None


def _combined(
    first: Polynomial | None, operator: ast.operator, second: Polynomial | None
) -> Polynomial | None:
    if first is None or second is None:
        return None
    match operator:
        case ast.Add():
            pairs = [*first.items(), *second.items()]
        case ast.Sub():
            pairs = [*first.items(), *_scaled(second, -1).items()]
        case ast.Mult() if len(first) * len(second) <= MAX_TERMS:
            pairs = [
                (tuple(map(sum, zip(one, other, strict=True))), one_value * other_value)
                for one, one_value in first.items()
                for other, other_value in second.items()
            ]
        case _:
            return None
    total: Polynomial = {}
    for key, value in pairs:
        total[key] = total.get(key, 0) + value
    return _without_zeros(total)


def _scaled(terms: Polynomial, factor: int) -> Polynomial:
    return {key: factor * value for key, value in terms.items()}


def _without_zeros(terms: Polynomial) -> Polynomial:
    return {key: value for key, value in terms.items() if value}

"""Formulas: exact values against Python's own parser, and nothing else is read."""

import ast
import random
from fractions import Fraction

import pytest

from r1ci_jax.tasks.symbench import formula


def walk(node: ast.AST) -> Fraction:
    """The value as Python's grammar reads the formula."""
    match node:
        case ast.Expression(body=body):
            return walk(body)
        case ast.Constant(value=int(number)):
            return Fraction(number)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return walk(left) + walk(right)
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return walk(left) - walk(right)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return walk(left) * walk(right)
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return walk(left) / walk(right)
    raise AssertionError(ast.dump(node))


def test_drawn_formulas_keep_their_value_when_written_and_read() -> None:
    rng = random.Random(4)
    made = [
        formula.make_formula(rng, [rng.randint(0, 9) for _ in range(1 + i % 7)]) for i in range(600)
    ]
    kept = [one for one in made if one is not None]
    assert len(kept) > 400
    for one in kept:
        text = "".join(one.tokens)
        assert formula.tokens(text) == list(one.tokens)
        assert formula.value(one.tokens) == one.value == walk(ast.parse(text, mode="eval"))


def test_random_rows_are_formulas_exactly_where_python_reads_one() -> None:
    rng, formulas = random.Random(5), 0
    for _ in range(4_000):
        row = rng.choices(["1", "2", "3", "+", "-", "*", "/", "(", ")"], k=rng.randint(1, 7))
        text = " ".join(row)  # blanks keep digits apart and ** and // from forming
        try:
            expected = walk(ast.parse(text, mode="eval"))
        except (SyntaxError, AssertionError, ZeroDivisionError, ValueError):
            expected = None
        except TypeError:  # a call of a number
            expected = None
        assert formula.value(row) == expected, text
        formulas += expected is not None
    assert formulas > 100


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8/(3-8/3)", 24),
        ("2-3-4", -5),
        ("2-(3-4)", 3),
        ("12/2*3", 18),
        ("12/(2*3)", 2),
        ("((7))", 7),
        ("1/3*3", 1),
    ],
)
def test_known_values(text: str, expected: int) -> None:
    row = formula.tokens(text)
    assert row is not None and formula.value(row) == expected


@pytest.mark.parametrize(
    "text",
    ["", "-1", "+1", "1+", "2(3)", "(2)(3)", "()", "(1", "1)", ")1(", "1 2", "2**3", "4//2", "1/0"],
)
def test_what_is_no_formula(text: str) -> None:
    row = formula.tokens(text)
    assert row is None or formula.value(row) is None


@pytest.mark.parametrize(
    "text", ["007", "12345", "1.5", "a", "1e3", "²", "٣", "3\u00d74", "2^3", "x"]
)
def test_what_is_no_row_of_tokens(text: str) -> None:
    assert formula.tokens(text) is None

"""Equality of two LaTeX expressions: math-verify, in the jail."""

from typing import Final

from r1ci_jax.tasks.jail_scoring import NO_CODE_FROM_TEXT, SCORING_JAIL, ScoringJail

PROGRAM: Final = f"""
import itertools, logging
import math_verify
import sympy
from math_verify.parser import LatexExtractionConfig
{NO_CODE_FROM_TEXT}
# The parser of LaTeX makes its numbers by `sympy.Number`, which evaluates a text.
number_of = sympy.Number.__new__
def without_evaluating(cls, *values):
    if len(values) != 1 or not isinstance(values[0], str):
        return number_of(cls, *values)
    (text,) = values
    return sympy.Integer(text) if text.isdigit() else sympy.Float(text)
sympy.Number.__new__ = without_evaluating
logging.disable(logging.CRITICAL)
def parsed(text):
    return math_verify.parse(
        "\\\\boxed{{" + text + "}}", extraction_config=[LatexExtractionConfig()],
        fallback_mode="no_fallback", parsing_timeout=0, raise_on_error=False,
    )
def is_real(value):
    return abs(value.imag) <= 1e-9 * (1 + abs(value))
def equal_where_real(expected, given):
    # sqrt(1/n) is 1/sqrt(n) for all n for which it is a real number, though not for all complex n.
    symbols = sorted(expected.free_symbols, key=str)
    if not 0 < len(symbols) <= 3 or given.free_symbols != expected.free_symbols:
        return False
    positive = {{symbol: sympy.Symbol(symbol.name, positive=True) for symbol in symbols}}
    if sympy.simplify(expected.subs(positive) - given.subs(positive)) != 0:
        return False
    for signs in itertools.product((1, -1), repeat=len(symbols)):
        sizes = (sympy.Rational(7, 3), sympy.Rational(11, 5), sympy.Rational(13, 7))
        point = {{symbol: sign * size for symbol, sign, size in zip(symbols, signs, sizes)}}
        ours, theirs = (complex(side.subs(point).evalf(20)) for side in (expected, given))
        if is_real(ours) and abs(ours - theirs) > 1e-9 * (1 + abs(ours)):
            return False
    return True
try:
    expected, given = map(parsed, request)
    # An exact form is asked, so a rounded decimal must not pass.
    number = math_verify.verify(
        expected, given, float_rounding=12, numeric_precision=30, strict=True,
        timeout_seconds=None,
    )
    if not number and isinstance(expected[0], sympy.Expr) and isinstance(given[0], sympy.Expr):
        number = equal_where_real(expected[0], given[0])
except (Exception, RecursionError, MemoryError):
    number = 0  # whatever a parser stumbles over is no right answer
"""
"""A program whose `request` is the expected and the given expression."""


def are_equal(expected: str, given: str, jail: ScoringJail = SCORING_JAIL) -> bool | None:
    """Return True if both have the same value; None where the comparison took too long.

    Raises:
        UserError: There is no jail on this machine, or it failed.
    """
    (number,) = jail.numbers(PROGRAM, [[expected, given]])
    return None if number is None else number == 1.0

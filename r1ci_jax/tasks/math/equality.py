"""Equality of two LaTeX expressions: math-verify, in the jail."""

from typing import Final

from r1ci_jax.tasks.jail_scoring import NO_CODE_FROM_TEXT, SCORING_JAIL, ScoringJail

PROGRAM: Final = f"""
import logging
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
try:
    # An exact form is asked, so a rounded decimal must not pass.
    number = math_verify.verify(
        *map(parsed, request), float_rounding=12, numeric_precision=30, strict=True,
        timeout_seconds=None,
    )
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

"""Strict parsing of an answer text: it is a value of the expected form, or it is wrong."""

import json
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Final

from r1ci_jax.tasks.base import Verdict

MAX_ANSWER_CHARS: Final = 400
"""A longer answer is wrong without being parsed, so hostile text costs nothing."""
MAX_PLAN_CHARS: Final = 20_000
"""The same limit for plans, which name many steps."""

_INTEGER = re.compile(r"[+-]?[0-9]+(?:\.0+)?")
_DECIMAL = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")
_SEPARATOR = re.compile(r"\s*,\s*|\s+")
_BRACKETS: Final = ("[]", "()")
_NOISE: Final = Fraction(1, 10**9)
"""The largest relative error of a float printed in full."""


def integer(text: str) -> int | None:
    """Parse an integer, or return None. `17.0` is 17; words, units and sums are rejected."""
    if len(text) > MAX_ANSWER_CHARS:
        return None
    text = text.strip()
    if _INTEGER.fullmatch(text) is None:
        return None
    return int(text.partition(".")[0])


def integers(text: str) -> list[int] | None:
    """Parse integers separated by commas or blanks, with or without brackets, or return None."""
    if len(text) > MAX_ANSWER_CHARS:
        return None
    text = strip_brackets(text).strip()
    found = [integer(part) for part in _SEPARATOR.split(text)]
    values = [value for value in found if value is not None]
    return values if len(values) == len(found) else None


def strip_brackets(text: str, brackets: Sequence[str] = _BRACKETS) -> str:
    """Remove white space and one pair of brackets around the text."""
    text = text.strip()
    return text[1:-1] if text[:1] + text[-1:] in brackets else text


def strip_quotes(text: str) -> str:
    """Remove white space and one pair of quotes around the text."""
    text = text.strip()
    quoted = len(text) >= 2 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if quoted else text


def split_parts(text: str, *, limit: int = MAX_ANSWER_CHARS) -> list[str] | None:
    """Split a list at its commas, with or without brackets; return None if it is too long."""
    if len(text) > limit:
        return None
    return [part.strip() for part in strip_brackets(text).split(",")]


def matches(
    text: str,
    form: re.Pattern[str],
    *,
    limit: int = MAX_ANSWER_CHARS,
    brackets: Sequence[str] = _BRACKETS,
) -> list[re.Match[str]] | None:
    """Return the parts of a list with their blanks if each has this form, else None."""
    if len(text) > limit:
        return None
    found = [form.fullmatch(part) for part in strip_brackets(text, brackets).split(",")]
    fitting = [match for match in found if match is not None]
    return fitting if len(fitting) == len(found) else None


def json_value(text: str, *, limit: int = MAX_ANSWER_CHARS) -> Any:
    """Parse a JSON value; return None where the text is too long, null or not JSON."""
    if len(text) > limit:
        return None
    try:
        return json.loads(text, object_pairs_hook=_named_once)
    except (ValueError, RecursionError):
        return None


def _named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object; reject repeated names, whose value would be ambiguous."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice")
    return found


def rounds_to(exact: Fraction, text: str, *, places: int) -> bool:
    """Return True if the text is this number, or its rounding to as many decimal places as it has.

    Args:
        exact: The correct number.
        text: A short text; only a plain decimal number can match.
        places: The least number of decimal places of a text that is not exact.
    """
    if _DECIMAL.fullmatch(text) is None:
        return False
    value = Fraction(text)
    if value == exact:
        return True
    decimals = len(text.partition(".")[2])
    # A tie may be rounded up or down, and floats printed in full are inexact in their last digits.
    allowed = max(Fraction(1, 2 * 10**decimals), _NOISE * max(1, abs(exact)))
    return decimals >= places and abs(value - exact) <= allowed


def score_integer(expected: int, text: str) -> Verdict:
    """Score the text as correct if it is that integer."""
    value = integer(text)
    if value is None:
        return Verdict(correct=False, reason=f"{format_answer(text)} is not a single integer")
    if value != expected:
        return Verdict(correct=False, reason=f"{format_answer(text)} is not {expected}")
    return Verdict(correct=True, reason=f"equals {expected}")


def score_integers(expected: Sequence[int], text: str, what: str) -> Verdict:
    """Score the text as correct if it lists those integers; `what` names them for the reason."""
    found = integers(text)
    if found is None:
        return Verdict(
            correct=False, reason=f"{format_answer(text)} is not a list of whole numbers"
        )
    if found != list(expected):
        return Verdict(correct=False, reason=f"not {what}")
    return Verdict(correct=True, reason=what)


def score_word(expected: str, text: str) -> Verdict:
    """Score the text as correct if it is that word, with or without quotes."""
    if len(text) > MAX_ANSWER_CHARS or strip_quotes(text).strip() != expected:
        return Verdict(
            correct=False, reason=f"{format_answer(text)} is not {format_answer(expected)}"
        )
    return Verdict(correct=True, reason=f"is {format_answer(expected)}")


def format_answer(text: str) -> str:
    """Format the answer for a reason: one line, shortened."""
    seen = repr(text if len(text) <= 40 else text[:37] + "...")
    return seen if len(seen) <= 60 else seen[:57] + "..."  # an escape takes 4 characters

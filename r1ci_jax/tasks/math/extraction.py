"""Parsing of the answers of mathematical questions: cases that need no parser are decided here.

The published answers are LaTeX. `read_value` removes units and decoration, and `score_answer`
compares an answer text with the value: lists part by part and in order, plain numbers exactly, and
all else by the checker passed in (`equality`), once the text is known to be one expression.
"""

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Final

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Verdict

Check = Callable[[str, str], bool | None]
"""A function of expected and given LaTeX: True if they are equal; None where it gave up."""

_FUNCTIONS: Final = re.compile("pi|theta|sqrt|sin|cos|tan|sec|csc|cot|log|ln")
"""Names that are also accepted without a backslash."""
_COMMANDS: Final = re.compile(
    f"frac|{_FUNCTIONS.pattern}|arc(?:sin|cos|tan)|alpha|beta|gamma|phi|varphi|"
    "cdot|times|div|pm|infty|leq?|geq?|neq?|in|cup|cap"
)
"""LaTeX commands of an answer: values and relations, with no definitions or long computations."""
_SYMBOLS: Final = frozenset(r"0123456789+-*/^_()[]{}\.,=<>| ")
_RELATION = re.compile(r"[=<>]|\\(?:leq?|geq?|neq?|in)(?![A-Za-z])")
_NUMBER = re.compile(r"([+-]?)([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE]([+-]?[0-9]{1,3}))?")
_THOUSANDS = re.compile(r"[+-]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?")
_RATIO = re.compile(r"([+-]?)\\frac(?:\{([0-9]+)\}|([0-9]))(?:\{([0-9]+)\}|([0-9]))")
_SPACING = re.compile(r"\\[!,;: ]|\\quad|~")
_TEXT = re.compile(r"\\(?:text|mbox|textrm|textbf|mathrm)\s*\{([^{}]*)\}")
_UNIT = re.compile(r"(?:\s*\\(?:text|mbox|textrm|mathrm)\s*\{[^{}]*\}(?:\^\{?[23]\}?)?)+\s*\.?\s*$")
_DEGREES = re.compile(r"\s*\^\s*\{?\s*\\circ\s*\}?|°")
_NAMED = re.compile(r"[A-Za-z]{1,3}\s*=\s*(?=[^=]*$)(?![^=]*(?<![\\A-Za-z])[A-Za-z](?![A-Za-z]))")
_WORDS = re.compile(r"\\?[A-Za-z]+")
_TOWER = re.compile(r"\^(?:\{[^{}]*\}?|\([^()]*\)?|\\?[A-Za-z0-9]+ ?)\^|\^[{(]?-?[0-9]{4,}")
"""Powers that are never intended and that would keep the checker busy."""
_PLAIN_POWER = re.compile(r"\^(-?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?![0-9.])|\([-+0-9./ ]+\))")
"""A power in plain notation, whose exponent LaTeX would end after one character."""
_ROUNDED = re.compile(r"\.[0-9]{7,}")
"""A decimal with so many places next to other signs is only an approximation of the value."""
_TWO_NUMBERS = re.compile(r"[0-9.] +[0-9.]")
_IDLE_BLANK = re.compile(r"(?<![A-Za-z0-9]) | (?![A-Za-z0-9])")
_PLAIN_NAME = re.compile(
    r"(?<!\\)(?<![A-Za-z])(pi|theta|sin|cos|tan|sec|csc|cot|log|ln)(?![A-Za-z])"
)


def extract_boxed(solution: str) -> str | None:
    r"""Return the content of the last `\boxed` of a worked solution, or None."""
    start = solution.rfind("\\boxed")
    content = solution[start + len("\\boxed") :].lstrip() if start >= 0 else ""
    if not content.startswith("{"):
        return None
    depth = 0
    for index, char in enumerate(content):
        depth += (char == "{") - (char == "}")
        if depth == 0:
            return content[1:index]
    return None


def read_value(content: str) -> str | None:
    """Return the value in a published answer, without units, degree or percent signs, or its name.

    Returns None where it is not one value.
    """
    text = _SPACING.sub("", content).replace("\\$", "").strip().removesuffix(".").strip()
    if (whole := _TEXT.fullmatch(text)) is not None:
        return whole[1].strip() or None
    text = _DEGREES.sub("", _UNIT.sub("", text))
    first, equals, second = text.partition("=")
    if equals and read_rational(first) is not None and second.rstrip().endswith("\\%"):
        text = first  # The same value is given twice, as in 0.56 = 56\%.
    elif (named := _NAMED.match(text)) is not None:
        text = text[named.end() :]
    text = text.replace("\\%", "").strip()
    return None if not text or _TEXT.search(text) else text


def read_number(text: str) -> Fraction | None:
    """Return the number written in digits, with a decimal point or an exponent, or None."""
    if len(text) > answers.MAX_ANSWER_CHARS:
        return None
    text = text.strip()
    if (found := _NUMBER.fullmatch(text)) is None:
        return None
    exponent = int(found[3] or 0)
    return Fraction(found[1] + found[2]) * Fraction(10) ** exponent


def read_rational(text: str) -> Fraction | None:
    """Parse a number as `read_number` does, also with thousands commas or as a quotient."""
    text = canonicalize(text)
    if _THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    if (ratio := _RATIO.fullmatch(text)) is not None:
        sign, above, below = ratio[1], ratio[2] or ratio[3], ratio[4] or ratio[5]
    else:
        sign, (above, below) = "", _quotient(text)
    top, bottom = read_number(above), read_number(below)
    if top is None or not bottom:
        return None
    return -top / bottom if sign == "-" else top / bottom


def canonicalize(text: str) -> str:
    """Replace spellings that differ in appearance alone by one spelling."""
    if len(text) > answers.MAX_ANSWER_CHARS:
        return ""
    text = _SPACING.sub("", text).replace("\\left", "").replace("\\right", "")
    text = re.sub(r"\\[dt]frac(?![A-Za-z])", r"\\frac", text).replace("\N{MINUS SIGN}", "-")
    text = text.replace("π", "\\pi ")
    text = _PLAIN_POWER.sub(_braced_exponent, re.sub(r" *\*\* *", "^", text))
    text = _PLAIN_NAME.sub(r"\\\1 ", text)
    return _IDLE_BLANK.sub("", " ".join(text.split()))


def _braced_exponent(power: re.Match[str]) -> str:
    """Write the exponent in braces, and one with decimal places exactly, as a quotient."""
    exponent = power[1].removeprefix("(").removesuffix(")")
    if "." in exponent and "/" not in exponent and (value := read_number(exponent)) is not None:
        exponent = f"{value.numerator}/{value.denominator}"
    return "^{" + exponent + "}"


def unwrap(text: str) -> str:
    """Remove the formula marks around the whole answer."""
    text = text.strip()
    for opening, closing in (("\\boxed{", "}"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
        if text.startswith(opening) and text.endswith(closing) and len(text) > len(opening):
            inner = text[len(opening) : -len(closing)]
            if _is_balanced(inner) and "$" not in inner:
                return inner.strip()
    return text


def score_answer(expected: str, answer_text: str, check: Check) -> Verdict:
    """Score the text as correct if it is the expected value, written in any exact form."""
    if len(answer_text) > answers.MAX_ANSWER_CHARS:
        return _wrong("the answer is too long")
    text = unwrap(answer_text)
    shown = answers.format_answer(text)
    if not text or len(text.splitlines()) != 1:
        return _wrong(f"{shown} is not one line with one expression")
    fold = str.casefold if _is_name(expected) else str
    if fold(canonicalize(text)) == fold(canonicalize(expected)):
        return Verdict(correct=True, reason=f"{shown} is the expected answer")
    ours, theirs = split_parts(canonicalize(expected)), split_parts(canonicalize(text))
    if ours[0] != theirs[0] or len(ours[1]) != len(theirs[1]):
        return _wrong(f"{shown} has not the expected form: one value, or a list in its brackets")
    return _score_parts(ours, theirs[1], shown, check)


def split_parts(text: str) -> tuple[str, list[str]]:
    """Return the outer brackets of a list ("" for a single value or a bare list) and its parts."""
    if read_rational(text) is not None:  # Its commas separate thousands.
        return "", [text]
    pairs = (("\\{", "\\}"), ("(", ")"), ("[", "]"), ("(", "]"), ("[", ")"))
    for opening, closing in pairs:
        if text.startswith(opening) and text.endswith(closing):
            inner = text[len(opening) : -len(closing)]
            listed = _at_commas(inner)
            if _close_brackets(inner) and (len(listed) > 1 or opening in ("\\{", "[")):
                return opening + closing, listed
    return "", _at_commas(text)


def _score_parts(
    ours: tuple[str, list[str]], theirs: list[str], shown: str, check: Check
) -> Verdict:
    brackets, expected = ours
    open_ones = list(theirs)
    for index, part in enumerate(expected):
        # Only the parts of a set may be in any order.
        candidates = open_ones if brackets == "\\{\\}" else [theirs[index]]
        for candidate in candidates:
            verdict = _score_value(part, candidate, check)
            if verdict is None:
                return _wrong(f"comparing {shown} took too long")
            if verdict:
                open_ones.remove(candidate)
                break
        else:
            return _wrong(f"{shown} is not the expected value")
    return Verdict(correct=True, reason=f"{shown} equals the expected value")


def _score_value(expected: str, text: str, check: Check) -> bool | None:
    ours, theirs = read_rational(expected), read_rational(text)
    if ours is not None and theirs is not None:
        return ours == theirs
    if (
        _is_name(expected)
        or not _is_readable(expected, expected)
        or not _is_readable(text, expected)
    ):
        return False
    return check(expected, text)


def _is_readable(text: str, expected: str) -> bool:
    """Return True for one expression with only the expected answer's letters and relations."""
    if not text or not _is_balanced(text) or not _close_brackets(text) or _TOWER.search(text):
        return False
    if _TWO_NUMBERS.search(text) or _ROUNDED.search(text):
        return False
    if _RELATION.search(text) and not _RELATION.search(expected):
        return False
    if "\\pm" in text and "\\pm" not in expected:
        return False
    variables = {char for word in _plain_words(expected) for char in word}
    for word in _WORDS.findall(text):
        if word.startswith("\\"):
            if _COMMANDS.fullmatch(word[1:]) is None:
                return False
        elif _FUNCTIONS.fullmatch(word) is None and not variables.issuperset(word):
            return False
    return _SYMBOLS.issuperset(char for char in text if not ("a" <= char.lower() <= "z"))


def _is_name(expected: str) -> bool:
    """Return True if the expected answer is a word or an option such as (B)."""
    if re.fullmatch(r"\(?[A-Z]\)?", expected) is not None:
        return True
    return any(len(word) > 2 for word in _plain_words(expected))


def _plain_words(text: str) -> list[str]:
    words = [word for word in _WORDS.findall(text) if word[0] != "\\"]
    return [word for word in words if _FUNCTIONS.fullmatch(word) is None]


def _quotient(text: str) -> tuple[str, str]:
    above, slash, below = text.partition("/")
    return (above, below) if slash else (above, "1")


def _at_commas(text: str) -> list[str]:
    """Split at commas outside all brackets."""
    found, depth, start = [], 0, 0
    for index, char in enumerate(text):
        depth += (char in "([{") - (char in ")]}")
        if char == "," and depth == 0:
            found.append(text[start:index])
            start = index + 1
    return [part.strip() for part in (*found, text[start:])]


def _close_brackets(text: str) -> bool:
    """Return True if no bracket in the text closes one before it."""
    depth = 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        if depth < 0:
            return False
    return depth == 0


def _is_balanced(text: str) -> bool:
    depth = 0
    for char in text:
        depth += (char == "{") - (char == "}")
        if depth < 0 or depth > 20:
            return False
    return depth == 0


def _wrong(reason: str) -> Verdict:
    return Verdict(correct=False, reason=reason)

r"""One rule for the marks around an answer, for every task: the answer counts without them.

A scorer reads an answer strictly. If that finds it wrong, these forms of it are read too, each made
from the one before: without white space around it, without a final full stop, without one pair of
outer marks (emphasis, backticks, quotes, round brackets, dollars, `\(...\)`, `\boxed{...}`), with a
hyphen for a Unicode minus, and, where the stored answer is one number, without thousands commas. A
mark that the stored answer has itself is never removed. Nothing is searched for inside the text.
"""

import json
import re
from typing import Final

_PAIRS: Final = (
    *(("**", "**"), ("__", "__"), ("*", "*"), ("_", "_"), ("`", "`"), ('"', '"'), ("'", "'")),
    *(("\u201c", "\u201d"), ("\u2018", "\u2019"), ("$$", "$$"), ("$", "$"), ("(", ")")),
    *(("\\(", "\\)"), ("\\[", "\\]"), ("\\boxed{", "}"), ("\\text{", "}")),
)
_MINUS: Final = "\N{MINUS SIGN}"
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")
_THOUSANDS = re.compile(r"[+-]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?")
_MOST: Final = 8
"""The largest number of forms of an answer."""


def forms(text: str, stored: str) -> list[str]:
    """Return other forms of an answer, without those marks that the stored answer has.

    Args:
        text: The answer.
        stored: The example's answer as JSON text, or "".
    """
    gold = _gold(stored)
    found: list[str] = []
    text = text.strip()
    while len(found) < _MOST and (simpler := _simpler(text, gold)) is not None:
        text = simpler
        found.append(text)
    return found


def _gold(stored: str) -> str:
    try:
        value = json.loads(stored)
    except (ValueError, RecursionError):
        value = stored  # A user's task may store something else.
    return value if isinstance(value, str) else json.dumps(value)


def _simpler(text: str, gold: str) -> str | None:
    if text[-1:] == "." and text[-2:-1] not in ("", ".") and gold[-1:] != ".":
        return text[:-1].rstrip()
    for opening, closing in _PAIRS:
        inner = text[len(opening) : -len(closing)]
        if (
            inner.strip()
            and text == opening + inner + closing
            and opening not in gold
            and closing not in gold
            and _is_one_pair(inner, opening, closing)
        ):
            return inner.strip()
    if _MINUS in text and _MINUS not in gold:
        return text.replace(_MINUS, "-")
    if _THOUSANDS.fullmatch(text) and _NUMBER.fullmatch(gold):
        return text.replace(",", "")
    return None


def _is_one_pair(inner: str, opening: str, closing: str) -> bool:
    """Return True if the marks around `inner` belong together."""
    if opening == closing:
        return opening[0] not in inner
    depth = 0
    for position in range(len(inner)):
        depth += inner.startswith(opening[-1], position) - inner.startswith(closing[-1], position)
        if depth < 0:
            return False
    return depth == 0

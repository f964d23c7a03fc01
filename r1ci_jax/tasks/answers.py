"""Reading an answer text strictly: it is a value of the expected form, or it is wrong."""

import re

MAX_ANSWER_CHARS = 400
"""A longer answer is wrong unread, so hostile text costs nothing."""

_INTEGER = re.compile(r"[+-]?[0-9]+(?:\.0+)?")
_SEPARATOR = re.compile(r"\s*,\s*|\s+")


def integer(text: str) -> int | None:
    """The integer that the text is, or None. `17.0` is 17; words, units and sums are not."""
    if len(text) > MAX_ANSWER_CHARS:
        return None
    text = text.strip()
    if _INTEGER.fullmatch(text) is None:
        return None
    return int(text.partition(".")[0])


def integers(text: str) -> list[int] | None:
    """A list of integers parted by commas or blanks, with or without brackets, or None."""
    if len(text) > MAX_ANSWER_CHARS:
        return None
    text = text.strip()
    if (text[:1], text[-1:]) in {("[", "]"), ("(", ")")}:
        text = text[1:-1].strip()
    found = [integer(part) for part in _SEPARATOR.split(text)]
    values = [value for value in found if value is not None]
    return values if len(values) == len(found) else None


def shown(text: str) -> str:
    """The answer for a reason line: one line, shortened."""
    return repr(text if len(text) <= 40 else text[:37] + "...")

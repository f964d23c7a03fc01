"""Hostile text in a form that a browser lays out at once.

Layout takes time that grows with the square of a cluster's or a line's length: 50,000 accents on
one letter, or a line of 20,000 Arabic letters, stop a browser for many seconds.
"""

import unicodedata
from typing import Any

MAX_TEXT = 20_000
"""Characters of one text."""
MAX_RECORD = 100_000
"""Characters of all texts of one record together."""
MIN_TEXT = 200
"""Characters that each text of a record has, even if others were long."""
MAX_LINE = 1_000
"""Characters of a line; a longer one is broken."""
MAX_MARKS = 8
"""Combining marks and invisible characters in a row."""
MAX_ITEMS = 100
"""Entries of a list or an object."""
MAX_DEPTH = 8
"""Levels of lists and objects."""


def make_readable(text: str, max_length: int = MAX_TEXT) -> str:
    """Cut what is too long, thin out runs of combining marks, and break long lines."""
    cut = len(text) - max_length
    kept = text[:max_length]
    if not kept.isascii():
        kept = _thin_out_marks(kept)
    if len(kept) > MAX_LINE:
        kept = "\n".join(_break_line(line) for line in kept.split("\n"))
    return f"{kept}\n[… {cut} more characters, see the .jsonl]" if cut > 0 else kept


def shorten_record(record: dict[str, Any]) -> dict[str, Any]:
    """Make every text of a record readable; the first texts get the room there is."""
    return _Shortener().shorten(record, MAX_DEPTH)


class _Shortener:
    """Spends the characters of one record."""

    def __init__(self) -> None:
        self._left = MAX_RECORD

    def shorten(self, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            room = min(MAX_TEXT, max(self._left, MIN_TEXT))
            self._left -= min(len(value), room)
            return make_readable(value, room)
        if not isinstance(value, dict | list):
            return value
        if not depth:
            return "[… more levels, see the .jsonl]"
        if isinstance(value, list):
            return [self.shorten(inner, depth - 1) for inner in value[:MAX_ITEMS]]
        items = list(value.items())[:MAX_ITEMS]
        return {key[:MAX_LINE]: self.shorten(inner, depth - 1) for key, inner in items}


def _thin_out_marks(text: str) -> str:
    kept: list[str] = []
    run = 0
    for character in text:
        is_mark = unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf")
        run = run + 1 if is_mark else 0
        if run <= MAX_MARKS:
            kept.append(character)
        elif run == MAX_MARKS + 1:
            kept.append("…")
    return "".join(kept)


def _break_line(line: str) -> str:
    return "\n".join(line[at : at + MAX_LINE] for at in range(0, len(line) or 1, MAX_LINE))

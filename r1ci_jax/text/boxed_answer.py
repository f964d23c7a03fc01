r"""Answers in \boxed{}, as published models mark them that were not trained for our marks."""

import re
from typing import Final

_OPENING: Final = "\\boxed{"
_WORDS: Final = re.compile(r"\\(?:text|mathrm|textbf|mathbf)\{([^{}\\]*)\}")
"""A command that only sets words."""


def last_boxed(text: str) -> str | None:
    r"""Return the stripped content of the last \boxed{}; None if it is empty or cut off.

    >>> last_boxed(r"So \boxed{1} or \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    >>> last_boxed(r"\[\boxed{\text{yes}}\]"), last_boxed(r"\boxed{ }"), last_boxed(r"\boxed{4")
    ('yes', None, None)
    """
    _, is_there, content = text.rpartition(_OPENING)
    if not is_there:
        return None
    depth = 1
    for place, character in enumerate(content):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth == 0:
            found = content[:place].strip()
            words = _WORDS.fullmatch(found)
            return (words[1].strip() if words else found) or None
    return None

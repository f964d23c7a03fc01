r"""Other ways to mark an answer, written as `<<<answer>>>`: `\boxed{}`, `<answer>`, a last line."""

import re
from typing import Final

_BOXED: Final = re.compile(r"(?:(?:\$\$?|\\\(|\\\[)\s*)?\\boxed\s*\{")
_LAST_LINE: Final = re.compile(
    r"^[*#\s>]{0,8}(?:the )?(?:final )?answer(?: is)?\s{0,4}[:=]?\s{0,4}\**\s{0,4}[:=]?"
    r"(?P<answer>[^\n]+)$",
    re.I | re.M,
)
_OPEN_TAG: Final = "<answer>"
_CLOSE_TAG: Final = "</answer>"


def with_marks(text: str) -> str | None:
    """Return the text up to its answer with our marks around that; None if it marks none.

    The last answer counts, as with our marks.
    """
    found = _boxed(text) or _tagged(text) or _last_line(text)
    if found is None:
        return None
    before, answer = found
    answer = answer.strip()
    if not answer or "<<<" in answer or ">>>" in answer:
        return None
    return f"{before}<<<{answer}>>>"


def _boxed(text: str) -> tuple[str, str] | None:
    places = list(_BOXED.finditer(text))
    if not places:
        return None
    last = places[-1]
    depth = 1
    for position in range(last.end(), len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[: last.start()], text[last.end() : position]
    return None


def _tagged(text: str) -> tuple[str, str] | None:
    before, mark, rest = text.rpartition(_OPEN_TAG)
    answer, end, _ = rest.partition(_CLOSE_TAG)
    return (before, answer) if mark and end else None


def _last_line(text: str) -> tuple[str, str] | None:
    lines = list(_LAST_LINE.finditer(text))
    if not lines or text[lines[-1].end() :].strip():
        return None
    last = lines[-1]
    return text[: last.start("answer")].rstrip(" *") + " ", last["answer"].strip().strip("*")

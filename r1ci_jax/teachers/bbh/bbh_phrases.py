"""What the teachers of BIG-Bench-Hard share: parts of a question."""

import re
from typing import Final

from r1ci_jax.teachers.teacher import UnreadableQuestionError

_OPTION = re.compile(r"^\(([A-Z])\) (.+)$", re.MULTILINE)

_WORDS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
NUMBER_WORDS: Final = (*_WORDS.split(), "fifteen", "sixteen")


def read_number(word: str) -> int:
    """Read a number word or an article.

    Raises:
        UnreadableQuestionError: It is neither.
    """
    if word in ("a", "an"):
        return 1
    if word not in NUMBER_WORDS:
        raise UnreadableQuestionError(f"{word!r} is no number")
    return NUMBER_WORDS.index(word)


def read_body(question: str) -> str:
    """Return the question without its options and without the sentence on the answer's form."""
    text = re.split(r"\nOptions:\n|\n\nAnswer with ", question)[0]
    return text.strip()


def read_options(question: str) -> dict[str, str]:
    """Return the text of every option by its letter.

    Raises:
        UnreadableQuestionError: There is none.
    """
    _, _, listed = question.partition("\nOptions:\n")
    found = {letter: text.strip() for letter, text in _OPTION.findall(listed)}
    if not found:
        raise UnreadableQuestionError("the question has no lettered options")
    return found


def match(pattern: str, text: str) -> re.Match[str]:
    """Match the whole text.

    Raises:
        UnreadableQuestionError: It has another form.
    """
    if (found := re.fullmatch(pattern, text, re.DOTALL)) is None:
        raise UnreadableQuestionError(f"the text has another form: {text[:80]!r}")
    return found


def fold(text: str, after: str) -> list[str]:
    """Break a text into lines after a mark such as `, `; each but the last ends with the mark."""
    lines = [""]
    for part in re.split(f"(?<={re.escape(after)})", text):
        if lines[-1] and len(lines[-1]) + len(part) > 80:
            lines.append("")
        lines[-1] += part
    return lines

"""Strict parsing of BIG-Bench-Hard answers: the whole text must be the answer."""

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Final

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.bbh.bbh_files import RuleName

_LETTER = re.compile(r"\(([A-Z])\)|([A-Z])")
_BLANKS = re.compile(r"[ \t]+")
_PARTED = re.compile(r"[ \t]*,[ \t]*|[ \t]+")
_CLOSING = frozenset(")]}>")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rule:
    """One form of answer."""

    answer_format: str
    sentence: str
    """The sentence of the question that states the form."""
    read: Callable[[str, Sequence[str]], str | None]
    """A function of one line and the options (empty for most forms). It returns the answer's
    canonical spelling, or None where the line does not have the form."""

    def answer(self, text: str, options: Sequence[str]) -> str | None:
        """Return the canonical spelling of the answer, or None."""
        if len(text) > answers.MAX_ANSWER_CHARS:
            return None
        text = text.strip()
        return self.read(text, options) if text and len(text.splitlines()) == 1 else None


def option_key(text: str) -> str:
    """Normalize an option text for comparison: case and blanks do not count."""
    return _BLANKS.sub(" ", text.strip()).casefold()


def _option(text: str, options: Sequence[str]) -> str | None:
    letters = [chr(ord("A") + index) for index in range(len(options))]
    if (found := _LETTER.fullmatch(text)) is not None:
        letter = found[1] or found[2]
        return f"({letter})" if letter in letters else None
    keys = [option_key(option) for option in options]
    key = option_key(text)
    return f"({letters[keys.index(key)]})" if keys.count(key) == 1 else None


def _one_of(*words: str) -> Callable[[str, Sequence[str]], str | None]:
    def read(text: str, options: Sequence[str]) -> str | None:
        return text.lower() if text.lower() in words else None

    return read


def _integer(text: str, options: Sequence[str]) -> str | None:
    value = answers.integer(text)
    return None if value is None else str(value)


def _words(text: str, options: Sequence[str]) -> str | None:
    parts = _PARTED.split(text)
    return " ".join(parts) if all(parts) else None


def _brackets(text: str, options: Sequence[str]) -> str | None:
    closing = _BLANKS.sub("", text)
    return " ".join(closing) if _CLOSING.issuperset(closing) else None


RULES: Final[dict[RuleName, Rule]] = {
    "option": Rule(
        answer_format="an option: its letter, with or without round brackets, or its whole text",
        sentence="Answer with one option only: its letter, with or without the round brackets, "
        "or the whole text of that option.",
        read=_option,
    ),
    "yes_no": Rule(
        answer_format="Yes or No",
        sentence="Answer with a single word, Yes or No.",
        read=_one_of("yes", "no"),
    ),
    "truth": Rule(
        answer_format="True or False",
        sentence="Answer with the value of this expression as a single word, True or False. "
        "As in Python, `not` binds tighter than `and`, and `and` tighter than `or`.",
        read=_one_of("true", "false"),
    ),
    "validity": Rule(
        answer_format="valid or invalid",
        sentence="Answer with a single word, valid or invalid.",
        read=_one_of("valid", "invalid"),
    ),
    "integer": Rule(
        answer_format="an integer in digits",
        sentence="Answer with a single integer, written in digits.",
        read=_integer,
    ),
    "words": Rule(
        answer_format="the sorted words, parted by blanks or commas",
        sentence="Answer with all the words in their new order and nothing else, parted by blanks "
        "or by commas, each spelt as in the list. An apostrophe or an ampersand sorts before "
        "every letter.",
        read=_words,
    ),
    "brackets": Rule(
        answer_format="the closing brackets that are missing, blanks between them or not",
        sentence="Answer with the closing brackets that are missing at the end, in order and "
        "nothing else; blanks between them do not matter. Each of ( [ { < must be closed by its "
        "own partner.",
        read=_brackets,
    ),
}

"""What the teachers of BIG-Bench-Hard share: parts of a question, and scripts from templates."""

import random
import re
import string
from collections.abc import Mapping, Sequence

from r1ci_jax.teachers.teacher import Step, UnreadableQuestionError

_OPTION = re.compile(r"^\(([A-Z])\) (.+)$", re.MULTILINE)


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


def write(
    rng: random.Random,
    words: Sequence[str],
    template: str,
    values: Mapping[str, object],
    names: Mapping[str, Sequence[str]] | None = None,
) -> Step:
    """Fill one of the phrases and the script's template.

    `$key` stands for a value or for one of the names to choose from; names that belong together
    are chosen together (`"x y"` from `"east north"`).
    """
    chosen: dict[str, str] = {}
    for keys, choices in (names or {}).items():
        chosen |= zip(keys.split(), rng.choice(list(choices)).split(), strict=True)
    table = {key: str(value) for key, value in values.items()} | chosen
    said = string.Template(rng.choice(list(words))).substitute(table)
    code = string.Template(template.strip("\n")).substitute(table)
    return Step(words=said, code=code.rstrip("\n"))


def wrap_items(items: Sequence[str], opening: str, closing: str, width: int = 88) -> str:
    """Write the items of a literal, on one line where they fit."""
    line = opening + ", ".join(items) + closing
    if len(line) <= width - 16:
        return line
    rows, row = [], ""
    for item in items:
        if row and len(row) + len(item) > width - 8:
            rows.append(row.rstrip())
            row = ""
        row += item + ", "
    return f"{opening}\n    " + "\n    ".join([*rows, row.rstrip()]) + f"\n{closing}"


def quote(text: str) -> str:
    """Write a string literal in double quotes."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def text_literal(lines: Sequence[str]) -> str:
    """Write a long string as several literals in brackets, a short one as it is."""
    if len(lines) == 1:
        return quote(lines[0])
    return "(\n    " + "\n    ".join(quote(line) for line in lines) + "\n)"


def list_literal(items: Sequence[str]) -> str:
    """Write a list of strings."""
    return wrap_items([quote(item) for item in items], "[", "]")


def dict_literal(table: Mapping[str, str]) -> str:
    """Write a dictionary of strings."""
    return wrap_items([f"{quote(k)}: {quote(v)}" for k, v in table.items()], "{", "}")


def enumerate_words(items: Sequence[str], last: str = "and") -> str:
    """Join items as a sentence does: `a, b and c`."""
    return f" {last} ".join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else items[0]


def count_noun(n: int, noun: str) -> str:
    """Write a number with its noun: `1 clue`, `3 clues`."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"

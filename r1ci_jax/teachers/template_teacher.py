"""A teacher that fills templates: reading of questions, literals, names that vary, phrases."""

import abc
import json
import random
import re
import string
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, override

from r1ci_jax.teachers.teacher import Step, Teacher, UnreadableQuestionError

Matrix = tuple[tuple[int, ...], ...]


def read(pattern: str | re.Pattern[str], question: str) -> re.Match[str]:
    """Search the question for the pattern; in one that is a text, a point is also a line feed.

    Raises:
        UnreadableQuestionError: It is not there.
    """
    compiled = re.compile(pattern, re.DOTALL) if isinstance(pattern, str) else pattern
    found = compiled.search(question)
    if found is None:
        raise UnreadableQuestionError(question[:200])
    return found


def literal(data: object) -> str:
    """Write data as Python does, but with double quotes; no string may hold a quotation mark."""
    return repr(data).replace("'", '"')


def require(condition: bool, question: str) -> None:
    """Check that what was read fits together.

    Raises:
        UnreadableQuestionError: It does not.
    """
    if not condition:
        raise UnreadableQuestionError(question[:200])


def read_matrix(text: str) -> Matrix:
    """Read rows of whole numbers, one row a line.

    Raises:
        UnreadableQuestionError: The text is not a matrix.
    """
    lines = [line.split() for line in text.strip().splitlines()]
    cells = [cell for line in lines for cell in line]
    if len({len(line) for line in lines}) != 1 or not all(map(str.isdigit, cells)):
        raise UnreadableQuestionError(text[:200])
    return tuple(tuple(map(int, line)) for line in lines)


def script(template: str, /, **parts: object) -> str:
    """Fill `$name` in the template and remove its indentation and the blank lines around it."""
    text = textwrap.dedent(template).strip("\n").rstrip()
    return string.Template(text).substitute({name: str(part) for name, part in parts.items()})


def pick(rng: random.Random, /, **choices: Sequence[str]) -> dict[str, str]:
    """Choose one of the spellings of each name, never the same for two of them.

    Choices may be one text of words. Names that belong together are chosen together: `"x y"` from
    `("east north", "a b")`.
    """
    chosen: dict[str, str] = {}
    for names, options in choices.items():
        words = options.split() if isinstance(options, str) else options
        free = [each for each in words if not set(each.split()) & set(chosen.values())]
        chosen |= zip(names.split(), rng.choice(free).split(), strict=True)
    return chosen


def step(rng: random.Random, words: Sequence[str], code: str) -> Step:
    """Return the step with one of the phrasings."""
    return Step(words=rng.choice(words), code=code)


def write_step(
    rng: random.Random,
    words: Sequence[str],
    template: str,
    values: Mapping[str, object],
    names: Mapping[str, Sequence[str]] | None = None,
) -> Step:
    """Fill one of the phrases and the script's template with values and chosen names."""
    parts = {**values, **pick(rng, **(names or {}))}
    return Step(words=script(rng.choice(words), **parts), code=script(template, **parts))


def sentence(*parts: str) -> str:
    """Join sentences by blanks, leaving out empty ones."""
    return " ".join(part for part in parts if part)


def join_words(parts: Sequence[object], last: str = "and") -> str:
    """Join parts as a sentence does: `a, b and c`."""
    texts = [str(part) for part in parts]
    return f" {last} ".join(filter(None, [", ".join(texts[:-1]), *texts[-1:]]))


def count_noun(n: int, noun: str) -> str:
    """Write a number with its noun: `1 clue`, `3 clues`."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def quote(text: str) -> str:
    """Write a string literal in double quotes."""
    return json.dumps(text, ensure_ascii=False)


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


def list_literal(items: Iterable[str]) -> str:
    """Write a list of strings."""
    return wrap_items([quote(item) for item in items], "[", "]")


def dict_literal(table: Mapping[str, str]) -> str:
    """Write a dictionary of strings."""
    return wrap_items([f"{quote(k)}: {quote(v)}" for k, v in table.items()], "{", "}")


def text_literal(lines: Sequence[str]) -> str:
    """Write a long string as several literals in brackets, a short one as it is."""
    if len(lines) == 1:
        return quote(lines[0])
    return "(\n    " + "\n    ".join(quote(line) for line in lines) + "\n)"


def rows_literal(rows: Iterable[object]) -> str:
    """Write a list, one item (as code) a line."""
    return "[\n" + "".join(f"    {row},\n" for row in rows) + "]"


def list_rows(name: str, rows: Iterable[object]) -> str:
    """Return a statement that binds `name` to a list, one item (as code) a line."""
    return f"{name} = {rows_literal(rows)}"


def text_block(name: str, lines: Iterable[str]) -> str:
    """Return a statement that binds `name` to a text of several lines."""
    body = "\n".join(lines)
    return f'{name} = """\n{body}\n""".strip()'


Pattern = tuple[Sequence[str], str]
"""Phrasings of the words, and the template of a script."""


class PatternTeacher[D](Teacher[D]):
    """Fills patterns with the data: one for each form, and one for each further script it has."""

    names: ClassVar[Mapping[str, Sequence[str]]] = {}
    """Spellings of the variables `$name` in the templates."""
    patterns: ClassVar[Mapping[str, Pattern]]
    """The pattern of each form."""
    checking: ClassVar[Pattern | None] = None
    exploring: ClassVar[Pattern | None] = None
    slip: ClassVar[Pattern | None] = None

    @abc.abstractmethod
    def values(self, data: D, rng: random.Random) -> Mapping[str, object]:
        """Return the literals that stand for `$name` in words and scripts."""

    def pattern_of(self, data: D, form: str) -> Pattern:
        """Return the pattern of a form for these data."""
        del data
        return self.patterns[form]

    def answer_values(self, data: D, answer: str) -> Mapping[str, object]:
        """Return what stands for the answer in the check: `$answer` quoted, `$literal` as it is."""
        del data
        return {"answer": quote(answer), "literal": answer}

    @override
    def step(self, data: D, form: str, rng: random.Random) -> Step:
        return self._fill(data, self.pattern_of(data, form), {}, rng)

    @override
    def check(self, data: D, answer: str, rng: random.Random) -> Step | None:
        if self.checking is None:
            return None
        return self._fill(data, self.checking, self.answer_values(data, answer), rng)

    @override
    def small_case(self, data: D, rng: random.Random) -> Step | None:
        return None if self.exploring is None else self._fill(data, self.exploring, {}, rng)

    @override
    def first_attempt(self, data: D, rng: random.Random) -> Step | None:
        return None if self.slip is None else self._fill(data, self.slip, {}, rng)

    def _fill(
        self, data: D, pattern: Pattern, more: Mapping[str, object], rng: random.Random
    ) -> Step:
        """Fill a pattern with the data's values, some more, and chosen names."""
        words, template = pattern
        values = {**self.values(data, rng), **more}
        return write_step(rng, words, template, values, self.names)


class TemplateTeacher[D](PatternTeacher[D]):
    """A step has an opening, which all forms share, the form's method and its script."""

    scripts: ClassVar[Mapping[str, str]]
    """The template of each form."""
    methods: ClassVar[Mapping[str, str]]
    """A sentence about each form, which follows the opening."""

    @abc.abstractmethod
    def openings(self, data: D) -> Sequence[str]:
        """Return phrasings of the problem that name its data."""

    @override
    def pattern_of(self, data: D, form: str) -> Pattern:
        words = [sentence(each, self.methods[form]) for each in self.openings(data)]
        return words, self.scripts[form]


class TextTeacher(TemplateTeacher[str]):
    """Fills templates with one text, `$data`, which a pattern finds in the question."""

    pattern: ClassVar[str]
    """Its first group is the text."""

    @override
    def parse(self, question: str) -> str:
        return read(self.pattern, question)[1].strip()

    @override
    def values(self, data: str, rng: random.Random) -> Mapping[str, object]:
        return {"data": data}

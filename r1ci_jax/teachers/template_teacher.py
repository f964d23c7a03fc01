"""A teacher that fills templates: reading of questions, literals, names that vary, phrases."""

import abc
import json
import random
import re
import string
import textwrap
from collections.abc import Mapping, Sequence
from typing import ClassVar, override

from r1ci_jax.teachers.teacher import Step, Teacher, UnreadableQuestionError

Matrix = tuple[tuple[int, ...], ...]

_SMALL = 30
"""The most cells of a matrix that is written as a list of lists."""
_FEW_ROWS = 9
"""The most rows that are written on lines of their own, where they are words of digits."""


def read(pattern: str, question: str) -> re.Match[str]:
    """Search the question for the pattern, in which a point also stands for a line feed.

    Raises:
        UnreadableQuestionError: It is not there.
    """
    found = re.search(pattern, question, re.DOTALL)
    if found is None:
        raise UnreadableQuestionError(question[:200])
    return found


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


def matrix_literal(rows: Matrix, name: str, rng: random.Random) -> str:
    """Return statements that bind `name` to the matrix as a list of lists."""
    if sum(map(len, rows)) <= _SMALL and rng.random() < 0.7:
        body = "".join(f"    {list(row)},\n" for row in rows)
        return f"{name} = [\n{body}]"
    digits = all(0 <= cell <= 9 for row in rows for cell in row)
    if digits and (sum(map(len, rows)) > 2 * _SMALL or rng.random() < 0.5):
        words = ["".join(map(str, row)) for row in rows]
        per_line = 1 if len(rows) <= _FEW_ROWS else 4
        lines = [words[start : start + per_line] for start in range(0, len(words), per_line)]
        body = "\n".join(map(" ".join, lines))
        return (
            f'text = """\n{body}\n"""\n{name} = [[int(c) for c in word] for word in text.split()]'
        )
    body = "\n".join(" ".join(map(str, row)) for row in rows)
    split = "[list(map(int, line.split())) for line in text.splitlines()]"
    return f'text = """{body}"""\n{name} = {split}'


def script(template: str, /, **parts: object) -> str:
    """Fill `$name` in the template and remove its indentation and the blank lines around it."""
    text = textwrap.dedent(template).strip("\n").rstrip()
    return string.Template(text).substitute({name: str(part) for name, part in parts.items()})


def pick(rng: random.Random, /, **choices: Sequence[str]) -> dict[str, str]:
    """Choose one of the spellings of each name, never the same for two of them."""
    chosen: dict[str, str] = {}
    for name, options in choices.items():
        chosen[name] = rng.choice([each for each in options if each not in chosen.values()])
    return chosen


def step(rng: random.Random, words: Sequence[str], code: str) -> Step:
    """Return the step with one of the phrasings."""
    return Step(words=rng.choice(words), code=code)


def sentence(*parts: str) -> str:
    """Join sentences by blanks, leaving out empty ones."""
    return " ".join(part for part in parts if part)


Pattern = tuple[Sequence[str], str]
"""Phrasings of the words, and the template of a script."""


class TemplateTeacher[D](Teacher[D]):
    """Fills templates with the data; a step has an opening, the form's method and its script."""

    names: ClassVar[Mapping[str, Sequence[str]]] = {}
    """Spellings of the variables `$name` in the templates."""
    scripts: ClassVar[Mapping[str, str]]
    """The template of each form."""
    methods: ClassVar[Mapping[str, str]]
    """A sentence about each form, which follows the opening."""
    checking: ClassVar[Pattern | None] = None
    exploring: ClassVar[Pattern | None] = None
    slip: ClassVar[Pattern | None] = None

    @abc.abstractmethod
    def values(self, data: D, rng: random.Random) -> Mapping[str, object]:
        """Return the literals that stand for `$name` in words and scripts."""

    @abc.abstractmethod
    def openings(self, data: D) -> Sequence[str]:
        """Return phrasings of the problem that name its data."""

    def answer_values(self, data: D, answer: str) -> Mapping[str, object]:
        """Return the literals of the check."""
        del data
        return {"answer": json.dumps(answer)}

    @override
    def step(self, data: D, form: str, rng: random.Random) -> Step:
        words = [sentence(each, self.methods[form]) for each in self.openings(data)]
        return self._fill(data, (words, self.scripts[form]), {}, rng)

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
        names = pick(rng, **self.names)
        parts = {**self.values(data, rng), **more, **names}
        words, template = pattern
        return Step(words=script(rng.choice(words), **parts), code=script(template, **parts))

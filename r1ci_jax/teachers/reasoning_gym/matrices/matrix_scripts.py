"""Scripts whose data are a matrix: its literal, and a teacher that fills it into templates."""

import abc
import random
from collections.abc import Mapping
from typing import ClassVar, cast, override

from r1ci_jax.teachers.teacher import Step
from r1ci_jax.teachers.template_teacher import (
    Matrix,
    Pattern,
    TemplateTeacher,
    list_rows,
    pick,
    read_matrix,
    script,
)

_SMALL = 30
"""The most cells of a matrix that is written as a list of lists."""
_LISTED = 0.6
"""The share of small matrices that are written so."""
_ROWS = 16
"""The most rows of digits that are written on lines of their own."""
_FEW_CELLS = 64


def matrix_literal(rows: Matrix, name: str, rng: random.Random) -> str:
    """Return statements that bind `name` to the matrix as a list of lists."""
    listed, mapped = rng.random() < _LISTED, rng.random() < 0.5
    if listed and sum(map(len, rows)) <= _SMALL:
        return list_rows(name, map(list, rows))
    if any(not 0 <= cell <= 9 for row in rows for cell in row):
        body = "\n".join(" ".join(map(str, row)) for row in rows)
        split = "[list(map(int, line.split())) for line in text.splitlines()]"
        return f'text = """{body}"""\n{name} = {split}'
    words = ["".join(map(str, row)) for row in rows]
    per_line = 1 if len(rows) <= _ROWS else 4
    lines = [" ".join(words[start : start + per_line]) for start in range(0, len(words), per_line)]
    numbers = "list(map(int, word))" if mapped else "[int(c) for c in word]"
    text = '"""\n' + "\n".join(lines) + '\n"""'
    return f"text = {text}\n{name} = [{numbers} for word in text.split()]"


def count_cells(rows: Matrix, value: int) -> int:
    """Count the cells that have this value."""
    return sum(row.count(value) for row in rows)


def is_small(rows: Matrix) -> bool:
    """Return True if the matrix may be printed more than once: a guess, a mistake or a check."""
    return sum(map(len, rows)) <= _FEW_CELLS


def size_of(rows: Matrix) -> str:
    """Write the size of a matrix as `3 x 4`."""
    return f"{len(rows)} x {len(rows[0])}"


class MatrixTeacher[D](TemplateTeacher[D]):
    """Fills templates with a matrix: `$given` binds `$grid` to it, `$found` binds `$out` to one.

    The statements of a form are followed by `showing`, which prints the result.
    """

    names: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "grid": ("grid", "matrix", "cells", "table", "m"),
        "out": ("result", "out", "answer"),
    }
    showing: ClassVar[str] = "for row in $out:\n    print(*row)"

    @abc.abstractmethod
    def matrix(self, data: D) -> Matrix:
        """Return the matrix of the question."""

    @override
    def step(self, data: D, form: str, rng: random.Random) -> Step:
        words = [f"{each} {self.methods[form]}" for each in self.openings(data)]
        template = "\n".join(filter(None, (script_body(self.scripts[form]), self.showing)))
        return self._fill(data, (words, template), {}, rng)

    @override
    def answer_values(self, data: D, answer: str) -> Mapping[str, object]:
        return {"answer": read_matrix(answer)}

    @override
    def _fill(
        self, data: D, pattern: Pattern, more: Mapping[str, object], rng: random.Random
    ) -> Step:
        words, template = pattern
        names, seed = pick(rng, **self.names), rng.random()
        parts: dict[str, object] = {**self.values(data, rng), **names}
        # Both matrices of a check are written in the same way.
        parts["given"] = matrix_literal(self.matrix(data), names["grid"], random.Random(seed))
        if "answer" in more:
            answer = cast(Matrix, more["answer"])
            parts["found"] = matrix_literal(answer, names["out"], random.Random(seed))
        return Step(words=script(rng.choice(words), **parts), code=script(template, **parts))


def script_body(template: str) -> str:
    """Remove the indentation of a template, whose names stay."""
    return script(template.replace("$", "$$"))

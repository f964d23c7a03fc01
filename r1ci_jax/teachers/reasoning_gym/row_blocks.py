"""Rows of signs in questions and in scripts."""

from collections.abc import Sequence

from r1ci_jax.teachers.teacher import UnreadableQuestionError


def read_rows(text: str) -> tuple[str, ...]:
    """Read rows of signs, with or without blanks between them.

    Raises:
        UnreadableQuestionError: They are not equally long.
    """
    rows = tuple("".join(line.split()) for line in text.strip().splitlines())
    if len({len(row) for row in rows}) != 1:
        raise UnreadableQuestionError(text[:200])
    return rows


def split_block(rows: Sequence[str]) -> str:
    """Return an expression for the list of the rows, one row a line."""
    body = "\n".join(rows)
    return f'"""\n{body}\n""".split()'

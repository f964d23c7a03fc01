"""Find the one square of equal characters in a grid."""

import dataclasses
import json
import random
import re
import string
from collections.abc import Callable
from typing import Any, Final, override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import Puzzle
from r1ci_jax.tasks.symbench import symbench_task

type Grid = list[list[str]]
type Cell = tuple[int, int]

RELEASED_DEFECTS: Final[dict[str, int]] = {}

SMALLEST: Final = 3
"""The shortest side of a block that counts."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Level:
    sides: tuple[int, int]
    """The size of the grid."""
    block: tuple[int, int]
    decoys: int
    letters: int
    """The number of letters; fewer letters make more neighbors equal by chance."""


_LEVELS: Final = {
    1: _Level(sides=(6, 8), block=(3, 4), decoys=0, letters=26),
    2: _Level(sides=(8, 10), block=(3, 4), decoys=1, letters=20),
    3: _Level(sides=(10, 13), block=(3, 5), decoys=3, letters=14),
    4: _Level(sides=(13, 16), block=(3, 5), decoys=5, letters=8),
    5: _Level(sides=(16, 20), block=(3, 6), decoys=8, letters=6),
}


def blocks(grid: Grid) -> list[tuple[int, int, int]]:
    """Return row and column of the bottom right cell and the side of every maximal block."""
    rows, columns = len(grid), len(grid[0])
    sides = [[1] * columns for _ in range(rows)]  # of the largest block that ends in the cell
    for r in range(1, rows):
        for c in range(1, columns):
            around = (grid[r - 1][c], grid[r][c - 1], grid[r - 1][c - 1])
            if all(other == grid[r][c] for other in around):
                sides[r][c] += min(sides[r - 1][c], sides[r][c - 1], sides[r - 1][c - 1])
    found = [
        (r, c, sides[r][c]) for r in range(rows) for c in range(columns) if sides[r][c] >= SMALLEST
    ]
    return [block for block in found if not any(_inside(block, other) for other in found)]


def _inside(block: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
    (row, column, side), (other_row, other_column, other_side) = block, other
    room = other_side - side
    return room > 0 and 0 <= other_row - row <= room and 0 <= other_column - column <= room


class PatternRecognition(symbench_task.SymbenchTask):
    """Find a square of equal characters among shapes that are almost squares."""

    name = "pattern_recognition"
    kind = "reasoning"
    answer_format = "row and column, counted from 0, parted by a comma"

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        level = _LEVELS[difficulty]
        while True:
            grid = _grid(rng, level)
            found = blocks(grid)
            if len(found) == 1:
                break
        row, column, _ = found[0]
        return Puzzle(
            question=_question(grid),
            answer=f"{row},{column}",
            metadata={"corners": [[row, column]]},
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        corners = json.loads(example.metadata)["corners"]
        values = answers.integers(answer_text)
        if values is None or len(values) != 2:
            return symbench_task.wrong_verdict(
                f"{answers.format_answer(answer_text)} is not a row and a column"
            )
        if values not in corners:
            return symbench_task.wrong_verdict(
                f"no square ends at {answers.format_answer(answer_text)}"
            )
        return symbench_task.right_verdict(
            f"the square ends at row {values[0]}, column {values[1]}"
        )

    @override
    def parse_released(
        self, number: int, question: str, solution: Any
    ) -> symbench_task.ReleasedItem:
        body = re.search(r"matrix is\s*\n(.+?)\n\s*\nPlease provide", question, re.DOTALL)
        if body is None:
            raise self.malformed(number, "no matrix in the question")
        grid = [line.split() for line in body[1].strip().splitlines()]
        if len({len(row) for row in grid}) != 1:
            raise self.malformed(number, "rows of different lengths")
        row, column = (
            symbench_task.read_field(solution, "row"),
            symbench_task.read_field(solution, "column"),
        )
        if not isinstance(row, int) or not isinstance(column, int):
            raise self.malformed(number, "no row and column")
        corners = [[r, c] for r, c, _ in blocks(grid)]
        return self.item(number, question, {"corners": corners}, f"{row},{column}")


def _grid(rng: random.Random, level: _Level) -> Grid:
    """Make a grid of random letters, decoys over them, and the block on top."""
    letters = rng.sample(string.ascii_uppercase, level.letters)
    rows, columns = (rng.randint(*level.sides) for _ in range(2))
    grid = [[rng.choice(letters) for _ in range(columns)] for _ in range(rows)]
    for _ in range(level.decoys):
        _place(rng, grid, rng.choice(_DECOYS)(rng), rng.choice(letters))
    side = rng.randint(*level.block)
    _place(rng, grid, _rectangle(side, side), rng.choice(letters))
    return grid


def _place(rng: random.Random, grid: Grid, shape: list[Cell], letter: str) -> None:
    height, width = (1 + max(cell[axis] for cell in shape) for axis in range(2))
    top, left = rng.randint(0, len(grid) - height), rng.randint(0, len(grid[0]) - width)
    for r, c in shape:
        grid[top + r][left + c] = letter


def _rectangle(height: int, width: int) -> list[Cell]:
    return [(r, c) for r in range(height) for c in range(width)]


def _strip(rng: random.Random) -> list[Cell]:
    """Make a strip that is long enough, but only two cells wide."""
    length = rng.randint(3, 6)
    return _rectangle(2, length) if rng.random() < 0.5 else _rectangle(length, 2)


def _frame(rng: random.Random) -> list[Cell]:
    """Make the border of a square."""
    last = rng.randint(2, 4)
    return [cell for cell in _rectangle(last + 1, last + 1) if {0, last} & {*cell}]


def _bitten(_: random.Random) -> list[Cell]:
    """Make a square without a corner; the cell under the corner keeps its letter."""
    return _rectangle(3, 3)[:-1]


def _steps(rng: random.Random) -> list[Cell]:
    """Make the lower triangle of a square."""
    side = rng.randint(3, 4)
    return [(r, c) for r, c in _rectangle(side, side) if c <= r]


_DECOYS: Final[tuple[Callable[[random.Random], list[Cell]], ...]] = (
    _strip,
    _frame,
    _bitten,
    _steps,
)


def _question(grid: Grid) -> str:
    rows = "\n".join(" ".join(row) for row in grid)
    return (
        "This is a grid of characters. Each line is a row, with blanks between the characters:\n\n"
        f"{rows}\n\nSomewhere in the grid is a filled square of at least {SMALLEST} by {SMALLEST} "
        "cells that all hold the same character. There is exactly one such square, not counting "
        "smaller squares inside it. Find the cell in its bottom right corner.\n\n"
        "Rows are counted from 0 at the top, columns from 0 at the left. Answer with the row and "
        "the column of that cell, with a comma between them. The cell in the first row and second "
        "column of the grid would be written 0,1."
    )

"""Move one tile of a grid step by step, as in the game 2048."""

import json
import random
import re
from typing import Any, Final, override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import Puzzle
from r1ci_jax.tasks.symbench import symbench_task
from r1ci_jax.tasks.symbench.symbench_task import ReleasedItem

Grid = list[list[int]]

RELEASED_DEFECTS: Final[dict[str, int]] = {}
"""Golds of the released sample that break the stated rules: there are none."""

RELEASED_REMARKS: Final[dict[str, int]] = {"the start cell is empty, so nothing moves": 57}
"""Weak questions of the released sample whose golds are nevertheless right."""

_TILES: tuple[int, ...] = (0, 2, 4, 8, 16)
_SHAPE = {1: (3, 3), 2: (4, 5), 3: (4, 8), 4: (5, 12), 5: (6, 18)}
"""Side of the grid and number of steps."""
_MAX_CHARS = 1_000
"""The longest answer that is parsed: a grid of 6 by 6 needs about 250 characters."""
_STEPS = {"u": (-1, 0), "d": (1, 0), "l": (0, -1), "r": (0, 1)}

_QUESTION = """\
A grid of {side} rows and {side} columns holds tiles with powers of 2; a 0 is an empty cell. \
Rows are counted from 1 at the top, columns from 1 at the left.

One tile moves and all other tiles stay where they are. It is given a row of steps: u is one cell \
up, d one down, l one to the left, r one to the right. The steps are done one after the other:
- If the next cell in that direction is empty, the tile moves there and leaves an empty cell.
- If the next cell holds a tile of the same value, the two merge: the next cell now holds the \
double value, the old cell is empty, and the merged tile is the one that goes on moving.
- If the next cell holds a tile of another value, or if it would lie outside the grid, nothing \
happens in this step.

The grid:
{grid}

The tile in row {row}, column {column} does the steps {moves}.

What does the grid look like afterwards? Answer with a list of its rows from top to bottom, each \
a list of its numbers from left to right, for example [[0, 8], [2, 0]] for a grid of 2 by 2."""

_RELEASED = re.compile(
    r"position \((\d+), (\d+)\) using the sequence '([udlr]*)':\s*\n((?:[\d, ]+\n)+)"
)


def move(grid: Grid, row: int, column: int, moves: str) -> tuple[Grid, str]:
    """Return the grid after the moves of the tile at a 0-based position, and each move's result.

    The second value has one letter per move: `m` moved, `x` merged, `-` nothing.
    """
    grid = [list(cells) for cells in grid]
    value, effects = grid[row][column], ""
    for move in moves if value else "":  # An empty cell has nothing to move.
        to_row, to_column = row + _STEPS[move][0], column + _STEPS[move][1]
        inside = 0 <= to_row < len(grid) and 0 <= to_column < len(grid[0])
        if not inside or grid[to_row][to_column] not in (0, value):
            effects += "-"
            continue
        effects += "x" if grid[to_row][to_column] else "m"
        value += grid[to_row][to_column]
        grid[row][column], grid[to_row][to_column] = 0, value
        row, column = to_row, to_column
    return grid, effects


class Tile2048(symbench_task.SymbenchTask):
    """Move one tile over a grid; equal tiles merge, others block."""

    name = "2048"
    kind = "execution"
    answer_format = "a list of rows, each a list of integers"

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        side, steps = _SHAPE[difficulty]
        while True:
            values: list[int] = rng.choices(_TILES, weights=(8, 4, 4, 3, 2), k=side * side)
            grid = [values[start : start + side] for start in range(0, side * side, side)]
            row, column = rng.randrange(side), rng.randrange(side)
            moves = "".join(rng.choices("udlr", k=steps))
            final, effects = move(grid, row, column, moves)
            # If a tile hardly moved, a copy of the grid would be almost right.
            busy = 2 * effects.count("-") <= steps and "x" in effects and "-" in effects
            if busy and final != grid:
                break
        question = _QUESTION.format(
            side=side,
            grid="\n".join(", ".join(map(str, cells)) for cells in grid),
            row=row + 1,
            column=column + 1,
            moves=moves,
        )
        metadata = {"grid": grid, "row": row, "column": column, "moves": moves}
        return Puzzle(question=question, answer=final, metadata=metadata)

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        found = _read(answer_text)
        if found is None:
            return symbench_task.wrong_verdict(
                f"{answers.format_answer(answer_text)} is not a list of rows of integers"
            )
        given = json.loads(example.metadata)
        expected, _ = move(given["grid"], given["row"], given["column"], given["moves"])
        if found == expected:
            return symbench_task.right_verdict("the grid after the steps")
        if [len(cells) for cells in found] != [len(cells) for cells in expected]:
            return symbench_task.wrong_verdict("the answer's grid has another shape")
        spots = [
            (row + 1, column + 1)
            for row, cells in enumerate(expected)
            for column, value in enumerate(cells)
            if found[row][column] != value
        ]
        return symbench_task.wrong_verdict(
            f"{len(spots)} wrong cells, the first in row and column {spots[0]}"
        )

    @override
    def parse_released(self, number: int, question: str, solution: Any) -> ReleasedItem:
        match = _RELEASED.search(question)
        if match is None:
            raise self.malformed(number, "the question has no grid and moves")
        metadata = {
            "grid": _rows(match[4]),
            "row": int(match[1]) - 1,
            "column": int(match[2]) - 1,
            "moves": match[3],
        }
        try:
            gold = json.dumps(_rows(solution["solution"]))
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise self.malformed(number, f"the solution cannot be read ({error!r})") from error
        return self.item(number, question, metadata, gold)


def _rows(text: str) -> Grid:
    return [[int(value) for value in line.split(",")] for line in text.strip().splitlines()]


def _read(text: str) -> Grid | None:
    rows = answers.json_value(text, limit=_MAX_CHARS)
    if not isinstance(rows, list) or not all(isinstance(cells, list) for cells in rows):
        return None
    # JSON's true and 2.0 equal the integers 1 and 2 in Python.
    return rows if all(type(value) is int for cells in rows for value in cells) else None

"""Play a few given moves of Reversi and write down the grid.

All released grids are already the final ones: every landing cell is taken, and copying the grid
shown scores. The scorer replays the moves on the grid shown, as those questions require.
"""

import json
import random
import re
from typing import Any, Final, override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import Puzzle
from r1ci_jax.tasks.symbench import symbench_task

RELEASED_DEFECTS: Final[dict[str, int]] = {
    "the grid shown is already the final one and playing the moves on it turns further pieces": 8,
}
RELEASED_REMARKS: Final[dict[str, int]] = {
    "every landing cell is taken in the grid shown, and the gold is that grid": 100,
}
"""Flaws of released questions whose golds may nevertheless score."""

Move = tuple[str, int, int]
"""Color (0 is black, 1 is white), row and column, both counted from 1."""

_LEVELS: Final = {
    1: (4, 3, 7, 2),
    2: (6, 2, 8, 3),
    3: (6, 4, 10, 6),
    4: (8, 6, 16, 10),
    5: (10, 8, 24, 16),
}
"""Side of the grid, fewest and most moves played before the question, moves in the question."""

_DIRECTIONS: Final = tuple((dr, dc) for dr in (-1, 0, 1) for dc in (-1, 0, 1) if dr or dc)
_NAMES: Final = {"0": "Black", "1": "White"}
_CELL = re.compile(r"\s*(['\"]?)([01*])\1\s*")
_CHARS_PER_CELL: Final = 6
"""The length of a cell written as a quoted item of a list, with some margin."""

_RELEASED_MOVE = re.compile(
    r"Round \d+: (Your's|The opponent's) landing position is \((\d+),(\d+)\)"
)

_QUESTION = """\
Black and White play on a grid of {size} rows and {size} columns. Below, 0 is a black piece, \
1 is a white piece and * is an empty cell. Cell (r, c) lies in row r from the top and column c \
from the left, both counted from 1.

In a move, a player puts one piece of the own colour on an empty cell. Then look from the new \
piece in each of the eight directions (along the row, along the column and along both diagonals): \
where one or more pieces of the other colour follow without a gap and right behind them stands a \
piece of the player's colour, the pieces of the other colour between the two turn into the \
player's colour. Only lines that begin at the new piece count; a piece that has just turned makes \
no others turn.

The grid at the start:
{grid}

The players then make these moves:
{moves}

What is the grid after the last move? Answer with all {cells} cells, row by row from the top and \
each row from left to right, separated by commas. For example, a grid with the two rows 0* and \
*1 would be written 0,*,*,1."""


class Reversi(symbench_task.SymbenchTask):
    """Play a few given moves of Reversi and write down the grid."""

    name = "reversi"
    marks_matter = True
    kind = "execution"
    answer_format = "all cells row by row, each 0, 1 or *, separated by commas"

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        size, fewest, most, rounds = _LEVELS[difficulty]
        while True:
            grid = _opening(rng, size)
            colour = rng.choice("01")
            before = _playout(rng, grid, colour, rng.randint(fewest, most))
            if before is None:
                continue
            grid, played = before
            if len(played) % 2:
                colour = _other(colour)
            after = _playout(rng, grid, colour, rounds)
            if after is not None:
                return _puzzle(grid, after[1], after[0])

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        game = json.loads(example.metadata)
        expected = "".join(play(game["grid"], game["moves"]))
        cells = _cells(answer_text, len(expected))
        if cells is None:
            return symbench_task.wrong_verdict(
                f"{answers.format_answer(answer_text)} is not a list of 0, 1 and *"
            )
        if len(cells) != len(expected):
            return symbench_task.wrong_verdict(f"{len(cells)} cells instead of {len(expected)}")
        different = sum(a != b for a, b in zip(cells, expected, strict=True))
        if different:
            return symbench_task.wrong_verdict(f"{different} of {len(expected)} cells differ")
        return symbench_task.right_verdict("every cell is right")

    @override
    def parse_released(
        self, number: int, question: str, solution: Any
    ) -> symbench_task.ReleasedItem:
        grid = re.findall(r"^[01*]+$", question, re.MULTILINE)
        you = "0" if "you play black" in question else "1"
        moves = [
            (you if who == "Your's" else _other(you), int(row), int(column))
            for who, row, column in _RELEASED_MOVE.findall(question)
        ]
        size = len(grid)
        if not moves or any(len(row) != size for row in grid):
            raise self.malformed(number, "the question shows no square grid or no moves")
        if not all(1 <= row <= size and 1 <= column <= size for _, row, column in moves):
            raise self.malformed(number, "a move leaves the grid")
        gold = symbench_task.read_field(solution)
        if not isinstance(gold, str):
            raise self.malformed(number, "the solution holds no answer")
        return self.item(number, question, {"grid": grid, "moves": moves}, gold)


def play(grid: list[str], moves: list[Move]) -> list[str]:
    """Return the grid after the moves."""
    for colour, row, column in moves:
        turned = _turned_cells(grid, colour, row - 1, column - 1)
        grid = _with(grid, colour, [(row - 1, column - 1), *turned])
    return grid


def _other(colour: str) -> str:
    return "1" if colour == "0" else "0"


def _turned_cells(grid: list[str], colour: str, row: int, column: int) -> list[tuple[int, int]]:
    """Return the cells whose piece turns when `colour` moves there."""
    size, found = len(grid), []
    for down, right in _DIRECTIONS:
        line: list[tuple[int, int]] = []
        r, c = row + down, column + right
        while 0 <= r < size and 0 <= c < size and grid[r][c] == _other(colour):
            line.append((r, c))
            r, c = r + down, c + right
        if 0 <= r < size and 0 <= c < size and grid[r][c] == colour:
            found += line
    return found


def _with(grid: list[str], colour: str, cells: list[tuple[int, int]]) -> list[str]:
    rows = [list(row) for row in grid]
    for row, column in cells:
        rows[row][column] = colour
    return ["".join(row) for row in rows]


def _opening(rng: random.Random, size: int) -> list[str]:
    """Put two pieces of each color on the diagonals of the center."""
    centre = ["01", "10"]
    if rng.random() < 0.5:
        centre.reverse()
    margin = "*" * (size // 2 - 1)
    edge = ["*" * size] * (size // 2 - 1)
    return [*edge, *(f"{margin}{pair}{margin}" for pair in centre), *edge]


def _playout(
    rng: random.Random, grid: list[str], colour: str, count: int
) -> tuple[list[str], list[Move]] | None:
    """Play so many random moves that each turn a piece; return None where no such move exists."""
    moves: list[Move] = []
    for _ in range(count):
        empty = [(r, c) for r, row in enumerate(grid) for c, cell in enumerate(row) if cell == "*"]
        rng.shuffle(empty)
        cell = next((cell for cell in empty if _turned_cells(grid, colour, *cell)), None)
        if cell is None:
            return None
        moves.append((colour, cell[0] + 1, cell[1] + 1))
        grid = play(grid, moves[-1:])
        colour = _other(colour)
    return grid, moves


def _puzzle(grid: list[str], moves: list[Move], final: list[str]) -> Puzzle:
    listed = (f"{i}. {_NAMES[who]} plays ({r}, {c})." for i, (who, r, c) in enumerate(moves, 1))
    question = _QUESTION.format(
        size=len(grid), grid="\n".join(grid), moves="\n".join(listed), cells=len(grid) ** 2
    )
    return Puzzle(
        question=question,
        answer=",".join("".join(final)),
        metadata={"grid": grid, "moves": moves},
    )


def _cells(text: str, expected: int) -> list[str] | None:
    """Parse the cells; brackets around all and quotes around each are optional."""
    found = answers.matches(text, _CELL, limit=_CHARS_PER_CELL * expected, brackets=("[]",))
    return None if found is None else [cell[2] for cell in found]

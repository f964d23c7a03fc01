"""Complete a 9*9 Sudoku."""

import json
import random
import re
from collections.abc import Sequence
from typing import Any, Final, override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import Puzzle
from r1ci_jax.tasks.symbench import symbench_task

RELEASED_DEFECTS: Final[dict[str, int]] = {}

_BLANKS: Final = {1: 28, 2: 36, 3: 44, 4: 50, 5: 54}
"""The number of empty cells. Most grids keep a single solution with at most 56 empty cells."""

_ALL: Final = 0b111111111
"""The digits 1 to 9 as a set of bits; digit d is bit d - 1."""
_LINE = re.compile(r"[1-9](?:[ \t]*,?[ \t]*[1-9]){8}")
_RELEASED_ROW = re.compile(r"^[1-9 ](?:,[1-9 ]){8}$", re.MULTILINE)


def _units_of(cell: int) -> tuple[int, int, int]:
    """Return the numbers of the row, the column and the box of a cell."""
    row, column = divmod(cell, 9)
    return row, 9 + column, 18 + row // 3 * 3 + column // 3


_UNITS: Final = tuple(_units_of(cell) for cell in range(81))

_QUESTION = """\
Complete this 9*9 Sudoku. Put a digit from 1 to 9 into every empty cell (shown as a dot) so that \
each row, each column and each of the nine 3*3 boxes holds every digit from 1 to 9 exactly once. \
The digits that are already there must stay; there is exactly one solution.

{grid}

Answer with the whole completed grid: nine lines from top to bottom, each with the nine digits \
of that row from left to right (for example, a row could be the line 4 1 7 2 9 5 8 6 3), or the \
same nine rows as a list of nine lists of digits."""


class StandardSudoku(symbench_task.SymbenchTask):
    """Complete a 9*9 Sudoku."""

    name = "standard_sudoku"
    kind = "reasoning"
    answer_format = "nine lines of nine digits, or a list of nine lists of digits"

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        while True:
            full = _fill([0] * 81, rng)
            assert full is not None, "an empty grid can be filled"
            grid = _dug(full, _BLANKS[difficulty], rng)
            if grid is not None:
                break
        rows = [" ".join(str(digit or ".") for digit in row) for row in _rows(grid)]
        return Puzzle(
            question=_QUESTION.format(grid="\n".join(rows)),
            answer="\n".join(" ".join(map(str, row)) for row in _rows(full)),
            metadata={"grid": _rows(grid)},
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        given = [digit for row in json.loads(example.metadata)["grid"] for digit in row]
        cells = _cells(answer_text)
        if cells is None:
            return symbench_task.wrong_verdict(
                f"{answers.format_answer(answer_text)} is not nine rows of nine digits"
            )
        changed = sum(a not in (0, b) for a, b in zip(given, cells, strict=True))
        if changed:
            return symbench_task.wrong_verdict(f"{changed} of the given digits are changed")
        held = [0] * 27
        for cell, digit in enumerate(cells):
            for unit in _UNITS[cell]:
                held[unit] |= 1 << (digit - 1)
        if any(digits != _ALL for digits in held):
            return symbench_task.wrong_verdict("a digit is repeated in a row, a column or a box")
        return symbench_task.right_verdict("every row, column and box holds each digit once")

    @override
    def parse_released(
        self, number: int, question: str, solution: Any
    ) -> symbench_task.ReleasedItem:
        rows = [
            [int(cell) if cell.strip() else 0 for cell in row.split(",")]
            for row in _RELEASED_ROW.findall(question)
        ]
        if len(rows) != 9:
            raise self.malformed(number, f"the question shows {len(rows)} rows instead of 9")
        gold = symbench_task.read_field(solution)
        if not isinstance(gold, list):
            raise self.malformed(number, "the solution holds no answer")
        return self.item(number, question, {"grid": rows}, json.dumps(gold))


def _rows(cells: Sequence[int]) -> list[list[int]]:
    return [list(cells[start : start + 9]) for start in range(0, 81, 9)]


def _cells(text: str) -> list[int] | None:
    """Parse 81 digits, or return None where the text does not have the form of a grid."""
    if len(text) > answers.MAX_ANSWER_CHARS:
        return None
    text = text.strip()
    if text.startswith("["):
        return _cells_of_lists(text)
    lines = [line.strip() for line in text.splitlines()]
    if len(lines) != 9 or any(_LINE.fullmatch(line) is None for line in lines):
        return None
    return [int(char) for line in lines for char in line if char in "123456789"]


def _cells_of_lists(text: str) -> list[int] | None:
    rows = answers.json_value(text)
    if rows is None or len(rows) != 9:
        return None
    if any(not isinstance(row, list) or len(row) != 9 for row in rows):
        return None
    cells = [cell for row in rows for cell in row]
    return cells if all(type(cell) is int and 1 <= cell <= 9 for cell in cells) else None


def _fill(grid: Sequence[int], rng: random.Random | None = None) -> list[int] | None:
    """Complete a grid, at random where `rng` is given; return None where this is impossible."""
    held = [0] * 27
    for cell, digit in enumerate(grid):
        if digit:
            bit = 1 << (digit - 1)
            for unit in _UNITS[cell]:
                if held[unit] & bit:
                    return None
                held[unit] |= bit
    cells = list(grid)
    empty = [cell for cell in range(81) if not grid[cell]]
    return cells if _search(cells, held, empty, rng) else None


def _search(cells: list[int], held: list[int], empty: list[int], rng: random.Random | None) -> bool:
    """Fill the cells in place, fewest digits left first; return True if this succeeds."""
    if not empty:
        return True
    spot, free, fewest = 0, 0, 10
    for position, cell in enumerate(empty):
        row, column, box = _UNITS[cell]
        left = _ALL & ~(held[row] | held[column] | held[box])
        count = left.bit_count()
        if count < fewest:
            spot, free, fewest = position, left, count
            if count <= 1:
                break
    cell = empty[spot]
    empty[spot] = empty[-1]
    empty.pop()
    digits = [digit for digit in range(1, 10) if free >> (digit - 1) & 1]
    if rng is not None:
        rng.shuffle(digits)
    for digit in digits:
        bit = 1 << (digit - 1)
        cells[cell] = digit
        for unit in _UNITS[cell]:
            held[unit] |= bit
        if _search(cells, held, empty, rng):
            return True
        for unit in _UNITS[cell]:
            held[unit] ^= bit
    cells[cell] = 0
    empty.append(cell)
    return False


def _dug(full: Sequence[int], blanks: int, rng: random.Random) -> list[int] | None:
    """Empty so many cells and keep one solution; return None where this order allows fewer."""
    grid = list(full)
    order = list(range(81))
    rng.shuffle(order)
    for tried, cell in enumerate(order):
        if 81 - tried < blanks:
            return None
        if not _other_solution(grid, cell):
            grid[cell] = 0
            blanks -= 1
            if not blanks:
                return grid
    return None


def _other_solution(grid: list[int], cell: int) -> bool:
    """Return True if the cell could have another digit if it were emptied."""
    changed = list(grid)
    for digit in range(1, 10):
        if digit != grid[cell]:
            changed[cell] = digit
            if _fill(changed) is not None:
                return True
    return False

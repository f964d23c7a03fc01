"""Complete a board with some queens and some blocked cells so that no queens attack each other."""

import json
import random
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, override

from r1ci_jax.tasks import answers
from r1ci_jax.tasks.base import Example, Verdict
from r1ci_jax.tasks.procedural import Puzzle
from r1ci_jax.tasks.symbench import symbench_task
from r1ci_jax.tasks.symbench.symbench_task import ReleasedItem

Cell = tuple[int, int]

RELEASED_DEFECTS: Final[dict[str, int]] = {}
"""Golds of the released sample that break the stated rules: there are none."""

RELEASED_REMARKS: Final[dict[str, int]] = {
    "no queen is given, so one placement fits many items": 23
}
"""Weak questions of the released sample whose golds are nevertheless right."""

_SHAPE = {1: (8, 3, 6), 2: (8, 2, 12), 3: (9, 2, 14), 4: (10, 1, 20), 5: (12, 1, 36)}
"""Side of the board, queens given, cells blocked."""

_QUESTION = """\
On this board of {side} by {side} cells, Q is a queen, X a blocked cell and a point a free cell:

{board}

Put more queens on free cells so that there are {side} queens altogether and none attacks another: \
no two queens stand in the same row, in the same column or on the same diagonal, not even when a \
blocked cell lies between them. The given queens stay where they are, and no queen stands on a \
blocked cell.

Answer with the cells of all {side} queens, the given ones included, in any order: row and column, \
both counted from 0 at the top left, with a blank between them, and commas between the cells. For \
example, 2 0, 0 1 stands for two queens in row 2, column 0 and in row 0, column 1. There may be \
several right answers; give one."""

_PAIR = re.compile(r"\s*(0|[1-9][0-9]?) +(0|[1-9][0-9]?)\s*", re.ASCII)
_BOARD = re.compile(r"^[01X]+$", re.MULTILINE)


class EightQueens(symbench_task.SymbenchTask):
    """Complete a board of queens that do not attack each other."""

    name = "eight_queens"
    kind = "planning"
    answer_format = "the cells of all queens: row and column counted from 0, commas between cells"
    many_answers = True

    @override
    def make_puzzle(self, rng: random.Random, difficulty: int) -> Puzzle:
        side, given, blocked = _SHAPE[difficulty]
        queens = _placement(rng, side)
        shown = rng.sample(queens, given)
        free = [(r, c) for r in range(side) for c in range(side) if (r, c) not in queens]
        # A cell that a given queen attacks needs no block, which would only look like a hint.
        useful = [cell for cell in free if not any(attack(cell, queen) for queen in shown)]
        marks = dict.fromkeys(rng.sample(useful, min(blocked, len(useful))), "X")
        marks |= dict.fromkeys(shown, "Q")
        board = ["".join(marks.get((r, c), ".") for c in range(side)) for r in range(side)]
        return Puzzle(
            question=_QUESTION.format(side=side, board="\n".join(board)),
            answer=_written(queens),
            metadata={"board": board},
        )

    @override
    def score(self, example: Example, answer_text: str) -> Verdict:
        queens = _read(answer_text)
        if queens is None:
            return symbench_task.wrong_verdict(
                f"{answers.format_answer(answer_text)} is not a list of cells"
            )
        board = json.loads(example.metadata)["board"]
        fault = _fault(board, queens)
        return (
            symbench_task.wrong_verdict(fault)
            if fault
            else symbench_task.right_verdict("no queen attacks another")
        )

    @override
    def parse_released(self, number: int, question: str, solution: Any) -> ReleasedItem:
        rows = _BOARD.findall(question)
        if not rows or {len(row) for row in rows} != {len(rows)}:
            raise self.malformed(number, "the question has no square board")
        metadata = {"board": [row.replace("0", ".").replace("1", "Q") for row in rows]}
        try:
            gold = _written([(int(row), int(column)) for row, column in solution["solution"]])
        except (TypeError, KeyError, ValueError) as error:
            raise self.malformed(number, f"the solution cannot be read ({error!r})") from error
        return self.item(number, question, metadata, gold)


def attack(one: Cell, other: Cell) -> bool:
    """Return True if queens on both cells would attack each other, or the cells are the same."""
    down, across = one[0] - other[0], one[1] - other[1]
    return down == 0 or across == 0 or abs(down) == abs(across)


def _fault(board: Sequence[str], queens: Sequence[Cell]) -> str:
    """Return the reason why the queens do not solve the board, or an empty text."""
    side = len(board)
    if len(queens) != side:
        return f"{len(queens)} queens, not {side}"
    if max(max(cell) for cell in queens) >= side:
        return "a queen outside the board"
    if any(board[row][column] == "X" for row, column in queens):
        return "a queen on a blocked cell"
    given = [(r, c) for r in range(side) for c in range(side) if board[r][c] == "Q"]
    if any(cell not in queens for cell in given):
        return "a given queen is missing"
    for spot, cell in enumerate(queens):
        for other in queens[:spot]:
            if attack(cell, other):
                return f"the queens on {other} and {cell} attack each other"
    return ""


def _placement(rng: random.Random, side: int) -> list[Cell]:
    """Return a random placement of queens without attacks, made row by row."""

    def extended(queens: list[Cell]) -> Iterator[list[Cell]]:
        row = len(queens)
        if row == side:
            yield queens
            return
        for column in rng.sample(range(side), side):
            if not any(attack((row, column), queen) for queen in queens):
                yield from extended([*queens, (row, column)])

    return next(extended([]))


def _written(queens: Sequence[Cell]) -> str:
    return ", ".join(f"{row} {column}" for row, column in queens)


def _read(text: str) -> list[Cell] | None:
    """Parse the cells; brackets around the whole list are allowed."""
    found = answers.matches(text, _PAIR, brackets=("[]",))
    return None if found is None else [(int(cell[1]), int(cell[2])) for cell in found]

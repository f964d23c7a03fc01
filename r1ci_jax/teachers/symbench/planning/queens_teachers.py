"""Teacher of eight_queens (complete a board)."""

import random
import re
from collections.abc import Iterator
from typing import Any, Final, override

from r1ci_jax.teachers.teacher import Step, Teacher
from r1ci_jax.teachers.template_teacher import pick, quote, read, rows_literal, script, step

_BOARD: Final = re.compile(r"X a blocked cell and a point a free cell:\n\n([QX.\n]+)\n\n")

_QUEEN_FORMS: Final = {
    "backtracking": """
        $board = $rows
        n = len($board)

        def $place(row, $queens):
            if row == n:
                return $queens
            columns = [$board[row].index("Q")] if "Q" in $board[row] else range(n)
            for col in columns:
                free = $board[row][col] != "X" and all(
                    col != c and abs(col - c) != row - r for r, c in $queens
                )
                if free:
                    found = $place(row + 1, $queens + [(row, col)])
                    if found:
                        return found
            return None

        print(", ".join(f"{r} {c}" for r, c in $place(0, [])))
    """,
    "permutations": """
        from itertools import permutations

        $board = $rows
        n = len($board)
        given = {r: row.index("Q") for r, row in enumerate($board) if "Q" in row}
        open_rows = [r for r in range(n) if r not in given]
        open_columns = [c for c in range(n) if c not in given.values()]
        for order in permutations(open_columns):
            $queens = given | dict(zip(open_rows, order))
            if any($board[r][c] == "X" for r, c in $queens.items()):
                continue
            falling = {r - c for r, c in $queens.items()}
            rising = {r + c for r, c in $queens.items()}
            if len(falling) == len(rising) == n:
                print(", ".join(f"{r} {c}" for r, c in sorted($queens.items())))
                break
    """,
    "bitmasks": """
        $board = $rows
        n = len($board)
        full = (1 << n) - 1
        blocked = [sum(1 << c for c, sign in enumerate(row) if sign == "X"
                       or "Q" in row and sign != "Q") for row in $board]

        def $place(row, columns, falling, rising):
            if columns == full:
                return []
            free = full & ~(columns | falling | rising | blocked[row])
            while free:
                bit = free & -free
                free ^= bit
                rest = $place(row + 1, columns | bit, (falling | bit) << 1, (rising | bit) >> 1)
                if rest is not None:
                    return [(row, bit.bit_length() - 1)] + rest
            return None

        $queens = $place(0, 0, 0, 0)
        print(", ".join(f"{r} {c}" for r, c in $queens))
    """,
    "fewest_choices": """
        $board = $rows
        n = len($board)

        def attacks(a, b):
            return a[1] == b[1] or abs(a[0] - b[0]) == abs(a[1] - b[1])

        def $place(choices, $queens):
            if not choices:
                return $queens
            row = min(choices, key=lambda r: len(choices[r]))
            for cell in choices[row]:
                rest = {r: [other for other in cells if not attacks(cell, other)]
                        for r, cells in choices.items() if r != row}
                found = all(rest.values()) and $place(rest, $queens + [cell])
                if found:
                    return found
            return None

        choices = {}
        for r, row in enumerate($board):
            wanted = "Q" if "Q" in row else "."
            choices[r] = [(r, c) for c in range(n) if row[c] == wanted]
        print(", ".join(f"{r} {c}" for r, c in sorted($place(choices, []))))
    """,
}
_QUEEN_WORDS: Final = {
    "backtracking": "Row by row I try the columns that no earlier queen attacks and go back from "
    "dead ends; a row with a given queen has one choice only.",
    "permutations": "One queen a row and a column is a permutation of the open columns; I test the "
    "blocked cells and both kinds of diagonals.",
    "bitmasks": "Backtracking with bit masks for columns and diagonals is short and fast.",
    "fewest_choices": "I always fill the row that has the fewest cells left and strike out what "
    "the new queen attacks.",
}
_MOST_PERMUTED: Final = 9


class EightQueens(Teacher[tuple[str, ...]]):
    """Completes a board of queens that do not attack each other."""

    task = "eight_queens"
    forms = tuple(_QUEEN_FORMS)

    @override
    def parse(self, question: str) -> tuple[str, ...]:
        found = read(_BOARD, question)
        return tuple(found[1].split())

    def _fields(self, data: tuple[str, ...], rng: random.Random) -> dict[str, Any]:
        names = pick(
            rng,
            board="board rows grid lines",
            queens="queens placed cells_taken chosen",
            place="place solve extend search",
        )
        return names | {"rows": rows_literal(map(quote, data))}

    @override
    def step(self, data: tuple[str, ...], form: str, rng: random.Random) -> Step:
        text, side = "".join(data), len(data)
        given, blocked = text.count("Q"), text.count("X")
        if form == "permutations" and side - given > _MOST_PERMUTED:
            form = "fewest_choices"
        queens = f"{given} queen{'s' if given > 1 else ''}"
        opening = rng.choice(
            [
                f"The {side} by {side} board has {queens} already and {blocked} blocked cells; "
                f"{side - given} more have to be placed.",
                f"{queens} of {side} stand on the board, and {blocked} cells are blocked.",
                f"I need {side - given} more queens on a {side} by {side} board with {blocked} "
                "blocked cells.",
            ]
        )
        return Step(
            words=f"{opening} {_QUEEN_WORDS[form]}",
            code=script(_QUEEN_FORMS[form], **self._fields(data, rng)),
        )

    @override
    def check(self, data: tuple[str, ...], answer: str, rng: random.Random) -> Step:
        code = """
            from itertools import combinations

            $board = $rows
            $queens = $claim
            cells = [(r, c) for r in range(len($board)) for c in range(len($board))]
            given = {(r, c) for r, c in cells if $board[r][c] == "Q"}
            peace = all(
                a[0] != b[0] and a[1] != b[1] and abs(a[0] - b[0]) != abs(a[1] - b[1])
                for a, b in combinations($queens, 2)
            )
            allowed = all($board[r][c] != "X" for r, c in $queens)
            print(peace and allowed and given <= set($queens) and len($queens) == len($board))
        """
        claim = [tuple(map(int, cell.split())) for cell in answer.split(",")]
        return step(
            rng,
            [
                "Every pair of queens has to be free of attack, the given ones kept and no "
                "blocked cell used; I test each of these.",
                f"I check all pairs of the {len(data)} queens, the blocked cells and the given "
                "queens.",
            ],
            script(code, **self._fields(data, rng) | {"claim": claim}),
        )

    @override
    def small_case(self, data: tuple[str, ...], rng: random.Random) -> Step:
        code = """
            $board = $rows
            $queens = [(r, row.index("Q")) for r, row in enumerate($board) if "Q" in row]
            print("given:", $queens)
            for r, row in enumerate($board):
                open_columns = [
                    c for c, sign in enumerate(row) if sign == "."
                    and all(r != a and c != b and abs(r - a) != abs(c - b) for a, b in $queens)
                ]
                print(r, open_columns)
        """
        return step(
            rng,
            [
                "First I list which columns of each row the given queens and the blocks leave.",
                "How much freedom is there? I look at the open cells of each row.",
            ],
            script(code, **self._fields(data, rng)),
        )

    @override
    def first_attempt(self, data: tuple[str, ...], rng: random.Random) -> Step | None:
        if all(data[row][column] != "X" for row, column in _first_placement(data)):
            return None
        template = _QUEEN_FORMS["backtracking"].replace('$board[row][col] != "X" and all(', "all(")
        return Step(
            words="Row by row I put a queen where no earlier queen attacks it.",
            code=script(template, **self._fields(data, rng)),
        )

    @override
    def wrong_answer(self, data: tuple[str, ...], answer: str, rng: random.Random) -> str:
        # The queens use every column, so a queen that moves meets another in its column.
        cells = [tuple(map(int, cell.split())) for cell in answer.split(",")]
        spot = rng.randrange(len(cells))
        row, column = cells[spot]
        cells[spot] = row, column + (1 if column == 0 else -1)
        return ", ".join(f"{r} {c}" for r, c in cells)


def _first_placement(board: tuple[str, ...]) -> list[tuple[int, int]]:
    """Return the first placement that keeps the given queens and ignores the blocked cells."""

    def extended(queens: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
        row = len(queens)
        if row == len(board):
            yield queens
            return
        columns = [board[row].index("Q")] if "Q" in board[row] else range(len(board))
        for column in columns:
            if all(column != c and abs(column - c) != row - r for r, c in queens):
                yield from extended([*queens, (row, column)])

    return next(extended([]))


TEACHERS: tuple[Teacher[Any], ...] = (EightQueens(),)

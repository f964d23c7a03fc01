"""Teacher of the Game of Life on a torus."""

import dataclasses
import json
import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, override

from r1ci_jax.teachers.reasoning_gym.matrices.matrix_scripts import (
    MatrixTeacher,
    count_cells,
    is_small,
    size_of,
)
from r1ci_jax.teachers.teacher import Step, Teacher, UnreadableQuestionError
from r1ci_jax.teachers.template_teacher import Matrix, count_noun, read


@dataclasses.dataclass(frozen=True, kw_only=True)
class Board:
    """A board of the Game of Life and the number of steps."""

    rows: Matrix
    steps: int


class GameOfLife(MatrixTeacher[Board]):
    """Simulates the Game of Life on a torus."""

    task = "rg_game_of_life"
    forms = ("modulo", "numpy_roll", "live_set", "padded_rows")
    showing = 'print(json.dumps($grid, separators=(",", ":")))'
    names: ClassVar = {
        "grid": ("grid", "cells", "board", "world"),
        "steps": ("steps", "generations", "rounds"),
        "new": ("new", "after"),
    }
    scripts: ClassVar = {
        "modulo": """
            import json

            $given
            high, wide = len($grid), len($grid[0])
            near = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b]
            for _ in range($number):
                $new = []
                for r in range(high):
                    $new.append([])
                    for c in range(wide):
                        live = sum($grid[(r + a) % high][(c + b) % wide] for a, b in near)
                        $new[r].append(int(live == 3 or (live == 2 and $grid[r][c] == 1)))
                $grid = $new
            """,
        "numpy_roll": """
            import json

            import numpy as np

            $given
            state = np.array($grid)
            shifts = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b]
            for _ in range($number):
                live = sum(np.roll(state, shift, axis=(0, 1)) for shift in shifts)
                state = ((live == 3) | ((state == 1) & (live == 2))).astype(int)
            $grid = state.tolist()
            """,
        "live_set": """
            import json
            from collections import Counter
            from itertools import product

            $given
            high, wide = len($grid), len($grid[0])
            alive = {(r, c) for r in range(high) for c in range(wide) if $grid[r][c]}
            $steps = $number
            for _ in range($steps):
                touched = Counter(
                    ((r + a) % high, (c + b) % wide)
                    for r, c in alive
                    for a, b in product((-1, 0, 1), repeat=2)
                    if a or b
                )
                alive = {p for p, k in touched.items() if k == 3 or (k == 2 and p in alive)}
            $grid = [[int((r, c) in alive) for c in range(wide)] for r in range(high)]
            """,
        "padded_rows": """
            import json

            $given
            for _ in range($number):
                # Copy the opposite borders around the board, then no index needs to wrap.
                wide = [[row[-1], *row, row[0]] for row in $grid]
                wide = [wide[-1], *wide, wide[0]]
                $new = []
                for r, row in enumerate($grid):
                    blocks = [sum(sum(line[c:c + 3]) for line in wide[r:r + 3])
                              for c in range(len(row))]
                    $new.append([int(k == 3 or (k == 4 and x)) for k, x in zip(blocks, row)])
                $grid = $new
            """,
    }
    methods: ClassVar = {
        "modulo": "Indices modulo the size do the wrapping.",
        "numpy_roll": "np.roll shifts the torus in the eight directions; the sum counts neighbors.",
        "live_set": "I keep only the set of live cells and count how often each cell is touched.",
        "padded_rows": "With the opposite borders copied around it, plain 3 x 3 sums are enough: "
        "3, or 4 with a live cell in the middle.",
    }
    slip = (
        (
            "I sum the 3 x 3 block around each cell with slices and apply the rules.",
            "For each cell of the $size board I count the live cells in the block around it.",
        ),
        """
        $given
        for _ in range($number):
            $new = []
            for r in range(len($grid)):
                $new.append([])
                for c, cell in enumerate($grid[r]):
                    rows = $grid[max(r - 1, 0):r + 2]
                    live = sum(sum(row[max(c - 1, 0):c + 2]) for row in rows) - cell
                    $new[r].append(int(live == 3 or (live == 2 and cell == 1)))
            $grid = $new
        print($grid)
        """,
    )
    exploring = (
        (
            "First the neighbors of the top row, to see that the board wraps.",
            "I count the live neighbors along the border row before I apply any rule.",
        ),
        """
        $given
        high, wide = len($grid), len($grid[0])
        for c in range(wide):
            block = [$grid[r % high][k % wide] for r in (-1, 0, 1) for k in (c - 1, c, c + 1)]
            print(sum(block) - $grid[0][c], end=" ")
        """,
    )

    @override
    def parse(self, question: str) -> Board:
        found = read(r"look like after (\d+) steps? of simulation\?.*?\n\n(\[\[.*\]\])", question)
        try:
            rows = json.loads(found[2])
        except json.JSONDecodeError as error:
            raise UnreadableQuestionError(found[2][:200]) from error
        return Board(rows=tuple(map(tuple, rows)), steps=int(found[1]))

    @override
    def matrix(self, data: Board) -> Matrix:
        return data.rows

    @override
    def values(self, data: Board, rng: random.Random) -> Mapping[str, object]:
        return {"number": data.steps, "size": size_of(data.rows)}

    @override
    def openings(self, data: Board) -> Sequence[str]:
        size, steps = size_of(data.rows), count_noun(data.steps, "step")
        return (
            f"The {size} board wraps around, so every cell has eight neighbors, also at the "
            "border.",
            f"{steps} from {count_cells(data.rows, 1)} live cells: a cell lives on with 2 or 3 "
            "live neighbors, a dead one is born with 3.",
            f"I simulate {steps} on a {size} torus.",
        )

    @override
    def first_attempt(self, data: Board, rng: random.Random) -> Step | None:
        small = is_small(data.rows)
        wrong = _lives(data, wraps=True) != _lives(data, wraps=False)
        return super().first_attempt(data, rng) if small and wrong else None

    @override
    def wrong_answer(self, data: Board, answer: str, rng: random.Random) -> str | None:
        guess = json.dumps([list(row) for row in data.rows], separators=(",", ":"))
        return None if guess == answer or not is_small(data.rows) else guess


def _lives(board: Board, *, wraps: bool) -> list[list[int]]:
    """Return the board after its steps, on a torus or with dead cells around it."""
    rows = [list(row) for row in board.rows]
    high, wide = len(rows), len(rows[0])

    def live(r: int, c: int) -> int:
        inside = wraps or (0 <= r < high and 0 <= c < wide)
        return rows[r % high][c % wide] if inside else 0

    for _ in range(board.steps):
        blocks = [
            [sum(live(r + a, c + b) for a in (-1, 0, 1) for b in (-1, 0, 1)) for c in range(wide)]
            for r in range(high)
        ]
        rows = [
            [int(k == 3 or (k == 4 and cell)) for k, cell in zip(*pair, strict=True)]
            for pair in zip(blocks, rows, strict=True)
        ]
    return rows


TEACHERS: tuple[Teacher[Any], ...] = (GameOfLife(),)

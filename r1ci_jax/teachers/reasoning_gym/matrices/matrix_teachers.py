"""Teachers of rearranged matrices: rotation and spiral order."""

import dataclasses
import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, override

from r1ci_jax.teachers.reasoning_gym.matrices.matrix_scripts import (
    MatrixTeacher,
    is_small,
    size_of,
)
from r1ci_jax.teachers.teacher import Step, Teacher
from r1ci_jax.teachers.template_teacher import Matrix, read, read_matrix


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rotation:
    """A matrix and the angle, clockwise in degrees."""

    rows: Matrix
    degrees: int


class RotateMatrix(MatrixTeacher[Rotation]):
    """Turns a matrix clockwise."""

    task = "rg_rotate_matrix"
    forms = ("quarter_turns", "index_formula", "numpy_rot90", "cases")
    names: ClassVar = {
        "grid": ("matrix", "grid", "table", "m"),
        "out": ("rotated", "result", "turned", "out"),
        "angle": ("degrees", "angle"),
    }
    scripts: ClassVar = {
        "quarter_turns": """
            $given
            $angle = $number
            $out = $grid
            for _ in range($angle // 90 % 4):
                # A clockwise quarter turn: the columns, read from the bottom up, become rows.
                $out = [list(row) for row in zip(*$out[::-1])]
            """,
        "index_formula": """
            $given
            $angle = $number
            n = len($grid)
            $out = [row[:] for row in $grid]
            for _ in range($angle % 360 // 90):
                before = [row[:] for row in $out]
                for r in range(n):
                    for c in range(n):
                        $out[c][n - 1 - r] = before[r][c]
            """,
        "numpy_rot90": """
            import numpy as np

            $given
            $angle = $number
            # rot90 turns counterclockwise, so a negative k turns clockwise.
            $out = np.rot90($grid, k=-($angle // 90))
            """,
        "cases": """
            $given
            $angle = $number
            rest = $angle % 360
            if rest == 0:
                $out = $grid
            elif rest == 90:
                $out = [list(column)[::-1] for column in zip(*$grid)]
            elif rest == 180:
                $out = [row[::-1] for row in $grid[::-1]]
            else:
                $out = [list(column) for column in zip(*$grid)][::-1]
            """,
    }
    methods: ClassVar = {
        "quarter_turns": "A quarter turn is a reversal of the rows, then a transposition.",
        "index_formula": "In each quarter turn the cell (r, c) moves to (c, n-1-r).",
        "numpy_rot90": "numpy's rot90 does it, with a negative k because it turns the other way.",
        "cases": "Each of the four possible remainders has a one-line formula.",
    }
    checking = (
        (
            "Turning the result back by $number degrees must give the matrix of the question; I "
            "test that.",
            "To be sure of the direction, I undo the rotation counterclockwise and compare.",
        ),
        """
        $given
        $found
        for _ in range($number // 90 % 4):
            # Undo one clockwise quarter turn: turn back counterclockwise.
            $out = [list(row) for row in zip(*$out)][::-1]
        print($out == $grid)
        """,
    )
    slip = (
        (
            "numpy's rot90 does quarter turns, so $number degrees are one call.",
            "$number / 90 quarter turns: np.rot90 with k does them at once.",
        ),
        """
        import numpy as np

        $given
        $out = np.rot90($grid, k=$number // 90)
        for row in $out:
            print(*row)
        """,
    )

    @override
    def parse(self, question: str) -> Rotation:
        found = read(r"Rotate the matrix below by (\d+) degrees clockwise:\n([\d \n]+)", question)
        return Rotation(rows=read_matrix(found[2]), degrees=int(found[1]))

    @override
    def matrix(self, data: Rotation) -> Matrix:
        return data.rows

    @override
    def values(self, data: Rotation, rng: random.Random) -> Mapping[str, object]:
        return {"number": data.degrees}

    @override
    def openings(self, data: Rotation) -> Sequence[str]:
        degrees, size = data.degrees, size_of(data.rows)
        full, rest = divmod(degrees, 360)
        effect = {0: "nothing changes", 90: "one quarter turn", 180: "half a turn"}.get(
            rest, "three quarters of a turn"
        )
        turns = "a full turn" if full == 1 else f"{full} full turns"
        return (
            f"I have to rotate a {size} matrix by {degrees} degrees clockwise.",
            f"{degrees} degrees are {turns}{' and' if rest else ', so'} {effect}."
            if full
            else f"{degrees} degrees clockwise are {effect} of the {size} matrix.",
        )

    @override
    def check(self, data: Rotation, answer: str, rng: random.Random) -> Step | None:
        return super().check(data, answer, rng) if is_small(data.rows) else None

    @override
    def first_attempt(self, data: Rotation, rng: random.Random) -> Step | None:
        back = tuple(tuple(reversed(row)) for row in reversed(data.rows))
        same = data.degrees % 180 == 0 or back == data.rows
        return None if same or not is_small(data.rows) else super().first_attempt(data, rng)

    @override
    def wrong_answer(self, data: Rotation, answer: str, rng: random.Random) -> str | None:
        rows = [row.split() for row in answer.splitlines()][::-1]
        text = "\n".join(" ".join(reversed(row)) for row in rows)
        return None if text == answer or not is_small(data.rows) else text


class SpiralMatrix(MatrixTeacher[Matrix]):
    """Lists the elements of a matrix in spiral order."""

    task = "rg_spiral_matrix"
    forms = ("four_bounds", "peel_and_turn", "walk_and_turn", "stops")
    showing = "print(*$out)"
    names: ClassVar = {
        "grid": ("matrix", "grid", "table", "m"),
        "out": ("order", "spiral", "result", "path"),
        "ring": ("ring", "frame", "outer"),
    }
    scripts: ClassVar = {
        "four_bounds": """
            $given
            $out = []
            top, bottom, left, right = 0, len($grid) - 1, 0, len($grid[0]) - 1
            while top <= bottom and left <= right:
                $out += $grid[top][left:right + 1]
                $out += [$grid[r][right] for r in range(top + 1, bottom + 1)]
                if top < bottom and left < right:
                    $out += [$grid[bottom][c] for c in range(right - 1, left - 1, -1)]
                    $out += [$grid[r][left] for r in range(bottom - 1, top, -1)]
                top, bottom, left, right = top + 1, bottom - 1, left + 1, right - 1
            """,
        "peel_and_turn": """
            $given
            $out = []
            while $grid:
                $out += $grid[0]
                # What is left, turned counterclockwise, has the next side of the spiral on top.
                $grid = [list(row) for row in zip(*$grid[1:])][::-1]
            """,
        "walk_and_turn": """
            $given
            rows, cols = len($grid), len($grid[0])
            $out, seen = [], set()
            r, c, dr, dc = 0, 0, 0, 1
            for _ in range(rows * cols):
                $out.append($grid[r][c])
                seen.add((r, c))
                nr, nc = r + dr, c + dc
                if not (0 <= nr < rows and 0 <= nc < cols) or (nr, nc) in seen:
                    dr, dc = dc, -dr  # turn right
                r, c = r + dr, c + dc
            """,
        "stops": """
            $given
            $out = []
            while $grid:
                $out += $grid.pop(0)
                $out += [row.pop() for row in $grid if row]
                $out += reversed($grid.pop()) if $grid else []
                $out += [row.pop(0) for row in reversed($grid) if row]
            """,
    }
    methods: ClassVar = {
        "four_bounds": "I keep four bounds that move inward after every round.",
        "peel_and_turn": "I take the top row off and turn the rest counterclockwise, to the end.",
        "walk_and_turn": "I walk cell by cell and turn right at the border or at a visited cell.",
        "stops": "Each round takes away the top row, the right ends, the bottom row and the left.",
    }
    slip = (
        (
            "I take the top row of the $size matrix away, turn the rest, and go on so.",
            "Removing the top row and rotating what remains walks along the spiral.",
        ),
        """
        $given
        $out = []
        while $grid:
            $out += $grid.pop(0)
            $grid = [list(row) for row in zip(*$grid[::-1])]
        print(*$out)
        """,
    )
    exploring = (
        (
            "First only the outer frame, clockwise, to see that the corners are taken once.",
            "I begin with the outermost of the frames of this $size matrix.",
        ),
        """
        $given
        $ring = $grid[0] + [row[-1] for row in $grid[1:-1]]
        $ring += $grid[-1][::-1] + [row[0] for row in $grid[-2:0:-1]]
        print("outer frame:", *$ring)
        print(len($ring), "of", len($grid) * len($grid[0]), "elements")
        """,
    )

    @override
    def parse(self, question: str) -> Matrix:
        return read_matrix(read(r"elements in spiral order\?\n([\d \n]+)", question)[1])

    @override
    def matrix(self, data: Matrix) -> Matrix:
        return data

    @override
    def values(self, data: Matrix, rng: random.Random) -> Mapping[str, object]:
        return {"size": size_of(data)}

    @override
    def openings(self, data: Matrix) -> Sequence[str]:
        size = size_of(data)
        return (
            f"All {len(data) * len(data[0])} elements of the {size} matrix are read clockwise "
            "from the outside inward.",
            f"The spiral through the {size} matrix starts at the top left with {data[0][0]} and "
            "goes right, down, left and up.",
            f"I need the clockwise spiral of a {size} matrix.",
        )

    @override
    def first_attempt(self, data: Matrix, rng: random.Random) -> Step | None:
        return super().first_attempt(data, rng) if is_small(data) and len(data) > 1 else None

    @override
    def wrong_answer(self, data: Matrix, answer: str, rng: random.Random) -> str | None:
        rows = " ".join(
            " ".join(map(str, row if r % 2 == 0 else row[::-1])) for r, row in enumerate(data)
        )
        return None if rows == answer or not is_small(data) else rows


TEACHERS: tuple[Teacher[Any], ...] = (RotateMatrix(), SpiralMatrix())

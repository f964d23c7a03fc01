"""Teachers of cells and their neighbors: distances to a zero and rotting oranges."""

import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, override

from r1ci_jax.teachers.reasoning_gym.matrices.matrix_scripts import (
    MatrixTeacher,
    count_cells,
    is_small,
    size_of,
)
from r1ci_jax.teachers.teacher import Step, Teacher
from r1ci_jax.teachers.template_teacher import Matrix, count_noun, read, read_matrix

_ROW_COLUMN = {"x": ("r", "i", "row"), "y": ("c", "j", "col")}


class GridTeacher(MatrixTeacher[Matrix]):
    """What the teachers of one matrix without further data share."""

    pattern: ClassVar[str]
    """Finds the rows in the question."""

    @override
    def parse(self, question: str) -> Matrix:
        return read_matrix(read(self.pattern, question)[1])

    @override
    def matrix(self, data: Matrix) -> Matrix:
        return data

    @override
    def values(self, data: Matrix, rng: random.Random) -> Mapping[str, object]:
        return {"size": size_of(data), "fresh_count": count_cells(data, 1)}


class BinaryMatrix(GridTeacher):
    """Finds the distance of each cell from the nearest zero."""

    task = "rg_binary_matrix"
    forms = ("breadth_first", "brute_force", "two_sweeps", "numpy", "rings")
    pattern = r"each cell in the matrix below:\n([01 \n]+)"
    names: ClassVar = {
        **MatrixTeacher.names,
        "out": ("dist", "distance", "d", "nearest"),
        **_ROW_COLUMN,
    }
    scripts: ClassVar = {
        "breadth_first": """
            from collections import deque

            $given
            n = len($grid)
            queue = deque(($x, $y) for $x in range(n) for $y in range(n) if $grid[$x][$y] == 0)
            $out = [[0 if cell == 0 else None for cell in line] for line in $grid]
            while queue:
                $x, $y = queue.popleft()
                for a, b in (($x + 1, $y), ($x - 1, $y), ($x, $y + 1), ($x, $y - 1)):
                    if 0 <= a < n and 0 <= b < n and $out[a][b] is None:
                        $out[a][b] = $out[$x][$y] + 1
                        queue.append((a, b))
            """,
        "brute_force": """
            $given
            n = len($grid)
            zeros = [(a, b) for a in range(n) for b in range(n) if $grid[a][b] == 0]
            $out = [
                [min(abs($x - a) + abs($y - b) for a, b in zeros) for $y in range(n)]
                for $x in range(n)
            ]
            """,
        "two_sweeps": """
            $given
            n = len($grid)
            $out = [[2 * n * cell for cell in line] for line in $grid]
            places = [($x, $y) for $x in range(n) for $y in range(n)]
            # First from above and from the left, then from below and from the right.
            for order, back in ((places, -1), (places[::-1], 1)):
                for $x, $y in order:
                    for a, b in (($x + back, $y), ($x, $y + back)):
                        if 0 <= a < n and 0 <= b < n:
                            $out[$x][$y] = min($out[$x][$y], $out[a][b] + 1)
            """,
        "numpy": """
            import numpy as np

            $given
            zeros = np.argwhere(np.array($grid) == 0)
            places = np.stack(np.indices((len($grid), len($grid))), axis=-1)
            # differences of every cell from every zero: (n, n, zeros, 2)
            gaps = np.abs(places[:, :, None, :] - zeros)
            $out = gaps.sum(axis=-1).min(axis=-1)
            """,
        "rings": """
            $given
            n = len($grid)
            $out = {($x, $y): 0 for $x in range(n) for $y in range(n) if $grid[$x][$y] == 0}
            while len($out) < n * n:
                for ($x, $y), steps in list($out.items()):
                    for place in (($x + 1, $y), ($x - 1, $y), ($x, $y + 1), ($x, $y - 1)):
                        if min(place) >= 0 and max(place) < n:
                            $out.setdefault(place, steps + 1)
            $out = [[$out[$x, $y] for $y in range(n)] for $x in range(n)]
            """,
    }
    methods: ClassVar = {
        "breadth_first": "A breadth-first search from all zeros at once gives it.",
        "brute_force": "There are few cells, so I take the minimum over all zeros directly.",
        "two_sweeps": "Two sweeps of dynamic programming, forward and backward, are enough.",
        "numpy": "numpy subtracts every zero's place from every cell's and takes the minimum.",
        "rings": "I start with the zeros and add the cells one step further out, ring by ring.",
    }
    checking = (
        (
            "In a correct table each nonzero cell is exactly one more than its smallest neighbor "
            "and the zeros stay 0; I test that.",
            "I verify the distances locally: 0 at the zeros, else 1 + the smallest neighbor.",
        ),
        """
        $given
        $found
        n = len($grid)
        ok = [len(line) for line in $out] == [n] * n
        for $x in range(n):
            for $y in range(n):
                near = [($x - 1, $y), ($x + 1, $y), ($x, $y - 1), ($x, $y + 1)]
                steps = 1 + min($out[a][b] for a, b in near if 0 <= a < n and 0 <= b < n)
                ok = ok and $out[$x][$y] == $grid[$x][$y] * steps
        print(ok)
        """,
    )
    slip = (
        (
            "One sweep over the $size matrix carries the distances on.",
            "Each distance is one more than that of the neighbor above or to the left.",
        ),
        """
        $given
        n = len($grid)
        $out = [[2 * n * cell for cell in line] for line in $grid]
        for $x in range(n):
            for $y in range(n):
                if $x:
                    $out[$x][$y] = min($out[$x][$y], $out[$x - 1][$y] + 1)
                if $y:
                    $out[$x][$y] = min($out[$x][$y], $out[$x][$y - 1] + 1)
        for line in $out:
            print(*line)
        """,
    )

    @override
    def openings(self, data: Matrix) -> Sequence[str]:
        zeros, n = count_cells(data, 0), len(data)
        return (
            f"The {n} x {n} matrix has {count_noun(zeros, 'zero')}; every cell needs its taxicab "
            "distance from the nearest one.",
            f"For each of the {n * n} cells I need the smallest |r - r'| + |c - c'| over the "
            f"{count_noun(zeros, 'zero')}.",
            "The distance is the number of steps up, down, left and right to the closest 0 in "
            f"this {n} x {n} matrix.",
        )

    @override
    def check(self, data: Matrix, answer: str, rng: random.Random) -> Step | None:
        return super().check(data, answer, rng) if is_small(data) else None

    @override
    def first_attempt(self, data: Matrix, rng: random.Random) -> Step | None:
        right = _distances(data)
        # Without anything nearer below or to the right one sweep is enough.
        wrong = any(
            right[r][c] <= min(right[r - 1][c] if r else 99, right[r][c - 1] if c else 99)
            for r, row in enumerate(data)
            for c, cell in enumerate(row)
            if cell
        )
        return super().first_attempt(data, rng) if wrong and is_small(data) else None

    @override
    def wrong_answer(self, data: Matrix, answer: str, rng: random.Random) -> str | None:
        guess = "\n".join(" ".join(map(str, row)) for row in data)
        return None if guess == answer or not is_small(data) else guess


def _distances(rows: Matrix) -> Matrix:
    zeros = [(r, c) for r, row in enumerate(rows) for c, cell in enumerate(row) if cell == 0]
    return tuple(
        tuple(min(abs(r - a) + abs(c - b) for a, b in zeros) for c in range(len(row)))
        for r, row in enumerate(rows)
    )


class RottenOranges(GridTeacher):
    """Counts the minutes until no orange is fresh."""

    task = "rg_rotten_oranges"
    forms = ("breadth_first", "minute_by_minute", "sets")
    pattern = r"the grid below has a fresh orange:\n([012 \n]+)"
    showing = ""
    names: ClassVar = {
        "grid": ("grid", "cells", "board", "oranges"),
        "minutes": ("minutes", "time", "elapsed"),
        "fresh": ("fresh", "good", "left"),
    }
    scripts: ClassVar = {
        "breadth_first": """
            from collections import deque

            $given
            n = len($grid)
            queue = deque((r, c, 0) for r in range(n) for c in range(n) if $grid[r][c] == 2)
            $fresh = sum(row.count(1) for row in $grid)
            $minutes = 0
            while queue:
                r, c, $minutes = queue.popleft()
                for a, b in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)):
                    if 0 <= a < n and 0 <= b < n and $grid[a][b] == 1:
                        $grid[a][b] = 2
                        $fresh -= 1
                        queue.append((a, b, $minutes + 1))
            print($minutes if $fresh == 0 else -1)
            """,
        "minute_by_minute": """
            $given
            n = len($grid)
            $minutes = 0
            while any(1 in row for row in $grid):
                turning = []
                for r in range(n):
                    for c in range(n):
                        near = ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1))
                        inside = [$grid[a][b] for a, b in near if 0 <= a < n and 0 <= b < n]
                        if $grid[r][c] == 1 and 2 in inside:
                            turning.append((r, c))
                if not turning:
                    $minutes = -1
                    break
                for r, c in turning:
                    $grid[r][c] = 2
                $minutes += 1
            print($minutes)
            """,
        "sets": """
            $given
            places = [(r, c) for r, row in enumerate($grid) for c in range(len(row))]
            $fresh = {(r, c) for r, c in places if $grid[r][c] == 1}
            front = {(r, c) for r, c in places if $grid[r][c] == 2}
            sides = ((0, 1), (1, 0), (0, -1), (-1, 0))
            $minutes = 0
            while $fresh:
                front = {(r + a, c + b) for r, c in front for a, b in sides} & $fresh
                if not front:
                    break
                $fresh -= front
                $minutes += 1
            print(-1 if $fresh else $minutes)
            """,
    }
    methods: ClassVar = {
        "breadth_first": "A breadth-first search from all rotten ones gives each orange's minute.",
        "minute_by_minute": "I simulate each minute, collecting what turns before changing cells.",
        "sets": "With sets of coordinates, the front is met with the fresh ones until it is empty.",
    }
    slip = (
        (
            "I simulate in place: every minute each rotten orange infects its neighbors.",
            "A loop over the $size grid per minute does the simulation.",
        ),
        """
        $given
        n = len($grid)
        $minutes = 0
        while any(1 in row for row in $grid) and $minutes < n * n:
            $minutes += 1
            for r in range(n):
                for c in range(n):
                    if $grid[r][c] == 2:
                        for a, b in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)):
                            if 0 <= a < n and 0 <= b < n and $grid[a][b] == 1:
                                $grid[a][b] = 2
        print($minutes)
        """,
    )
    exploring = (
        (
            "First I look for fresh oranges that have no neighbor at all; one would never rot.",
            "Is any of the $fresh_count fresh oranges cut off from all others? I look for those.",
        ),
        """
        $given
        n = len($grid)
        alone = []
        for r in range(n):
            for c in range(n):
                near = ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1))
                inside = [$grid[a][b] for a, b in near if 0 <= a < n and 0 <= b < n]
                if $grid[r][c] == 1 and not any(inside):
                    alone.append((r, c))
        print("without a neighbor:", *alone or ["none"])
        """,
    )

    @override
    def openings(self, data: Matrix) -> Sequence[str]:
        fresh, rotten = count_cells(data, 1), count_cells(data, 2)
        verb = "spreads" if rotten == 1 else "spread"
        return (
            f"The grid has {fresh} fresh and {rotten} rotten oranges; rot spreads to the four "
            "neighbors each minute.",
            f"{count_noun(rotten, 'rotten orange').capitalize()} {verb} the rot to {fresh} fresh "
            "ones, one step a minute.",
            f"On this {size_of(data)} grid I need the minute in which the last of "
            f"{fresh} fresh oranges rots, or -1 if one is never reached.",
        )

    @override
    def first_attempt(self, data: Matrix, rng: random.Random) -> Step | None:
        in_place, at_once = _rotting(data, in_place=True), _rotting(data, in_place=False)
        return None if in_place == at_once != -1 else super().first_attempt(data, rng)

    @override
    def wrong_answer(self, data: Matrix, answer: str, rng: random.Random) -> str:
        return str(int(answer) + 1) if answer != "-1" else str(rng.randint(3, 7))


def _rotting(rows: Matrix, *, in_place: bool) -> int:
    """Count the minutes, or -1; `in_place` lets the rot run on through cells within a minute."""
    cells, minutes = [list(row) for row in rows], 0
    while any(1 in row for row in cells):
        seen = cells if in_place else [row[:] for row in cells]
        before = count_cells(tuple(map(tuple, cells)), 1)
        for r, row in enumerate(cells):
            for c in range(len(row)):
                if seen[r][c] == 2:
                    for a, b in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)):
                        if 0 <= a < len(cells) and 0 <= b < len(row) and cells[a][b] == 1:
                            cells[a][b] = 2
        if before == count_cells(tuple(map(tuple, cells)), 1):
            return -1
        minutes += 1
    return minutes


TEACHERS: tuple[Teacher[Any], ...] = (BinaryMatrix(), RottenOranges())

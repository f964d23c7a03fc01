"""Teachers of cells and their neighbors: distances to a zero, rotting oranges, the Game of Life."""

import dataclasses
import json
import random
from typing import Any, override

from r1ci_jax.teachers.teacher import Step, Teacher, UnreadableQuestionError
from r1ci_jax.teachers.template_teacher import (
    Matrix,
    matrix_literal,
    pick,
    read,
    read_matrix,
    script,
    sentence,
    step,
)

_GRIDS = ("grid", "matrix", "cells", "board", "g")
_ROW_COLUMN = {"x": ("r", "i", "row"), "y": ("c", "j", "col")}


def _count(rows: Matrix, value: int) -> int:
    return sum(row.count(value) for row in rows)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class BinaryMatrix(Teacher[Matrix]):
    """Finds the distance of each cell from the nearest zero."""

    task = "rg_binary_matrix"
    forms = ("breadth_first", "brute_force", "two_sweeps", "numpy")

    @override
    def parse(self, question: str) -> Matrix:
        return read_matrix(read(r"each cell in the matrix below:\n([01 \n]+)", question)[1])

    @override
    def step(self, data: Matrix, form: str, rng: random.Random) -> Step:
        names = pick(rng, grid=_GRIDS, dist=("dist", "distance", "d", "nearest"), **_ROW_COLUMN)
        code = script(
            "$given\nn = len($grid)\n"
            + _DISTANCES[form]
            + "\nfor line in $dist:\n    print(*line)",
            given=matrix_literal(data, names["grid"], rng),
            **names,
        )
        code = code if "import" not in code else _imports_first(code)
        zeros, n = _count(data, 0), len(data)
        opening = rng.choice(
            (
                f"The {n} x {n} matrix has {_counted(zeros, 'zero')}; every cell needs its taxicab "
                "distance from the nearest one.",
                f"For each of the {n * n} cells I need the smallest |r - r'| + |c - c'| over the "
                f"{_counted(zeros, 'zero')}.",
                "Taxicab distance without walls is the number of steps up, down, left and right "
                f"to the closest 0 in this {n} x {n} matrix.",
            )
        )
        return step(rng, (sentence(opening, _DISTANCE_WORDS[form]),), code)

    @override
    def check(self, data: Matrix, answer: str, rng: random.Random) -> Step:
        given, found = pick(rng, a=("given", "matrix"), b=("dist", "answer", "found")).values()
        code = script(
            """
            $one
            $two
            n = len($given)
            ok = len($found) == n and all(len(row) == n for row in $found)
            for r in range(n):
                for c in range(n):
                    near = [(r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)]
                    around = [$found[a][b] for a, b in near if 0 <= a < n and 0 <= b < n]
                    # A 0 has distance 0, any other cell is one step from its best neighbor.
                    want = 0 if $given[r][c] == 0 else min(around) + 1
                    ok = ok and $found[r][c] == want
            print(ok)
            """,
            one=matrix_literal(data, given, rng),
            two=matrix_literal(read_matrix(answer), found, rng),
            given=given,
            found=found,
        )
        words = (
            "In a correct table each nonzero cell is exactly one more than its smallest neighbor "
            "and the zeros stay 0; I test that.",
            "I verify the distances locally: 0 at the zeros, else 1 + the smallest neighbor.",
        )
        return step(rng, words, code)

    @override
    def first_attempt(self, data: Matrix, rng: random.Random) -> Step:
        names = pick(rng, grid=_GRIDS, dist=("dist", "distance", "nearest"))
        code = script(
            """
            $given
            n = len($grid)
            $dist = [[0 if v == 0 else 2 * n for v in line] for line in $grid]
            for r in range(n):
                for c in range(n):
                    if r:
                        $dist[r][c] = min($dist[r][c], $dist[r - 1][c] + 1)
                    if c:
                        $dist[r][c] = min($dist[r][c], $dist[r][c - 1] + 1)
            for line in $dist:
                print(*line)
            """,
            given=matrix_literal(data, names["grid"], rng),
            **names,
        )
        words = (
            f"One sweep over the {len(data)} x {len(data)} matrix carries the distances on.",
            "Each distance is one more than that of the neighbor above or to the left.",
        )
        return step(rng, words, code)

    @override
    def wrong_answer(self, data: Matrix, answer: str, rng: random.Random) -> str | None:
        guess = "\n".join(" ".join(map(str, row)) for row in data)
        return None if guess == answer else guess


_DISTANCES = {
    "breadth_first": """from collections import deque

$dist = [[None] * n for _ in range(n)]
queue = deque()
for $x in range(n):
    for $y in range(n):
        if $grid[$x][$y] == 0:
            $dist[$x][$y] = 0
            queue.append(($x, $y))
while queue:
    $x, $y = queue.popleft()
    for a, b in (($x + 1, $y), ($x - 1, $y), ($x, $y + 1), ($x, $y - 1)):
        if 0 <= a < n and 0 <= b < n and $dist[a][b] is None:
            $dist[a][b] = $dist[$x][$y] + 1
            queue.append((a, b))""",
    "brute_force": """zeros = [(a, b) for a in range(n) for b in range(n) if $grid[a][b] == 0]
$dist = [
    [min(abs($x - a) + abs($y - b) for a, b in zeros) for $y in range(n)]
    for $x in range(n)
]""",
    "two_sweeps": """$dist = [[0 if v == 0 else 2 * n for v in line] for line in $grid]
# Paths from above and from the left, then from below and from the right.
for $x in range(n):
    for $y in range(n):
        if $x > 0:
            $dist[$x][$y] = min($dist[$x][$y], $dist[$x - 1][$y] + 1)
        if $y > 0:
            $dist[$x][$y] = min($dist[$x][$y], $dist[$x][$y - 1] + 1)
for $x in reversed(range(n)):
    for $y in reversed(range(n)):
        if $x < n - 1:
            $dist[$x][$y] = min($dist[$x][$y], $dist[$x + 1][$y] + 1)
        if $y < n - 1:
            $dist[$x][$y] = min($dist[$x][$y], $dist[$x][$y + 1] + 1)""",
    "numpy": """import numpy as np

zeros = np.argwhere(np.array($grid) == 0)
places = np.stack(np.indices((n, n)), axis=-1)
# differences of every cell from every zero: (n, n, zeros, 2)
gaps = np.abs(places[:, :, None, :] - zeros)
$dist = gaps.sum(axis=-1).min(axis=-1)""",
}
_DISTANCE_WORDS = {
    "breadth_first": "A breadth-first search from all zeros at once gives it.",
    "brute_force": "There are few cells, so I take the minimum over all zeros directly.",
    "two_sweeps": "Two sweeps of dynamic programming, forwards and backwards, are enough.",
    "numpy": "numpy can subtract every zero's place from every cell's and take the minimum.",
}


def _imports_first(code: str) -> str:
    lines = code.split("\n")
    imports = [line for line in lines if line.startswith(("import ", "from "))]
    rest = "\n".join(line for line in lines if line not in imports)
    return "\n".join(imports) + "\n\n" + rest.replace("\n\n", "\n")


class RottenOranges(Teacher[Matrix]):
    """Counts the minutes until no orange is fresh."""

    task = "rg_rotten_oranges"
    forms = ("breadth_first", "minute_by_minute", "sets")

    @override
    def parse(self, question: str) -> Matrix:
        return read_matrix(read(r"the grid below has a fresh orange:\n([012 \n]+)", question)[1])

    @override
    def step(self, data: Matrix, form: str, rng: random.Random) -> Step:
        names = pick(
            rng,
            grid=_GRIDS,
            minutes=("minutes", "time", "elapsed"),
            fresh=("fresh", "good", "left"),
        )
        code = script(
            "$given\n" + _ROTTING[form], given=matrix_literal(data, names["grid"], rng), **names
        )
        code = code if "import" not in code else _imports_first(code)
        fresh, rotten = _count(data, 1), _count(data, 2)
        opening = rng.choice(
            (
                f"The grid has {fresh} fresh and {rotten} rotten oranges; rot spreads to the four "
                "neighbors each minute.",
                f"From {_counted(rotten, 'rotten orange')} the rot spreads to {fresh} fresh ones.",
                f"On this {len(data)} x {len(data)} grid I need the minute in which the last of "
                f"{fresh} fresh oranges rots, or -1 if one is never reached.",
            )
        )
        return step(rng, (sentence(opening, _ROTTING_WORDS[form]),), code)

    @override
    def small_case(self, data: Matrix, rng: random.Random) -> Step:
        names = pick(rng, grid=_GRIDS)
        code = script(
            """
            $given
            n = len($grid)
            for minute in range(1, 4):
                turning = [
                    (r, c)
                    for r in range(n)
                    for c in range(n)
                    if $grid[r][c] == 1
                    and any(
                        0 <= a < n and 0 <= b < n and $grid[a][b] == 2
                        for a, b in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1))
                    )
                ]
                for r, c in turning:
                    $grid[r][c] = 2
                print("minute", minute, "rots", len(turning))
            print("still fresh:", sum(row.count(1) for row in $grid))
            """,
            given=matrix_literal(data, names["grid"], rng),
            **names,
        )
        words = (
            "I watch the first three minutes to see how fast the rot moves.",
            f"First the beginning: how many of the {_count(data, 1)} fresh oranges rot in the "
            "first three minutes?",
        )
        return step(rng, words, code)

    @override
    def first_attempt(self, data: Matrix, rng: random.Random) -> Step:
        names = pick(rng, grid=_GRIDS, minutes=("minutes", "time", "elapsed"))
        code = script(
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
            given=matrix_literal(data, names["grid"], rng),
            **names,
        )
        words = (
            "I simulate in place: every minute each rotten orange infects its neighbors.",
            f"A loop over the {len(data)} x {len(data)} grid per minute does the simulation.",
        )
        return step(rng, words, code)

    @override
    def wrong_answer(self, data: Matrix, answer: str, rng: random.Random) -> str:
        return str(int(answer) + 1) if answer != "-1" else str(rng.randint(3, 7))


_ROTTING = {
    "breadth_first": """from collections import deque

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
print($minutes if $fresh == 0 else -1)""",
    "minute_by_minute": """n = len($grid)
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
print($minutes)""",
    "sets": """places = [(r, c) for r, row in enumerate($grid) for c in range(len(row))]
$fresh = {(r, c) for r, c in places if $grid[r][c] == 1}
front = {(r, c) for r, c in places if $grid[r][c] == 2}
$minutes = 0
while $fresh:
    reached = {(r + dr, c + dc) for r, c in front for dr, dc in ((0, 1), (1, 0), (0, -1), (-1, 0))}
    front = reached & $fresh
    if not front:
        break
    $fresh -= front
    $minutes += 1
print(-1 if $fresh else $minutes)""",
}
_ROTTING_WORDS = {
    "breadth_first": "A breadth-first search from all rotten ones gives the minute of each orange.",
    "minute_by_minute": "I simulate each minute, collecting what turns before changing the grid.",
    "sets": "Sets of coordinates make it short: the front meets the fresh ones until it stops.",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Board:
    """A board of the Game of Life and the number of steps."""

    rows: Matrix
    steps: int


class GameOfLife(Teacher[Board]):
    """Simulates the Game of Life on a torus."""

    task = "rg_game_of_life"
    forms = ("modulo", "numpy_roll", "live_set", "padded_rows")

    @override
    def parse(self, question: str) -> Board:
        found = read(r"look like after (\d+) steps? of simulation\?.*?\n\n(\[\[.*\]\])", question)
        try:
            rows = json.loads(found[2])
        except json.JSONDecodeError as error:
            raise UnreadableQuestionError(found[2][:200]) from error
        return Board(rows=tuple(map(tuple, rows)), steps=int(found[1]))

    @override
    def step(self, data: Board, form: str, rng: random.Random) -> Step:
        names = pick(rng, grid=_GRIDS, steps=("steps", "generations", "rounds"))
        code = script(
            "import json\n\n$given\n$steps = $number\n"
            + _LIVES[form]
            + '\nprint(json.dumps($grid, separators=(",", ":")))',
            given=matrix_literal(data.rows, names["grid"], rng),
            number=data.steps,
            **names,
        )
        high, wide, steps = len(data.rows), len(data.rows[0]), _counted(data.steps, "step")
        opening = rng.choice(
            (
                f"The {high} x {wide} board wraps around, so every cell has eight neighbors, also "
                "at the border.",
                f"{steps} from {_count(data.rows, 1)} live cells: a cell lives on "
                "with 2 or 3 live neighbors, a dead one is born with 3.",
                f"I simulate {steps} on a {high} x {wide} torus.",
            )
        )
        return step(rng, (sentence(opening, _LIFE_WORDS[form]),), _imports_first(code))

    @override
    def first_attempt(self, data: Board, rng: random.Random) -> Step:
        names = pick(rng, grid=_GRIDS, new=("new", "after"))
        code = script(
            """
            $given
            high, wide = len($grid), len($grid[0])
            for _ in range($steps):
                $new = [[0] * wide for _ in range(high)]
                for r in range(high):
                    for c in range(wide):
                        rows = $grid[max(r - 1, 0):r + 2]
                        live = sum(sum(row[max(c - 1, 0):c + 2]) for row in rows) - $grid[r][c]
                        $new[r][c] = int(live == 3 or (live == 2 and $grid[r][c] == 1))
                $grid = $new
            print($grid)
            """,
            given=matrix_literal(data.rows, names["grid"], rng),
            steps=data.steps,
            **names,
        )
        words = (
            "I sum the 3 x 3 block around each cell with slices and apply the rules.",
            f"For each cell of the {len(data.rows)} x {len(data.rows[0])} board I count the live "
            "cells in the block around it.",
        )
        return step(rng, words, code)

    @override
    def small_case(self, data: Board, rng: random.Random) -> Step:
        names = pick(rng, grid=_GRIDS)
        code = script(
            """
            $given
            high, wide = len($grid), len($grid[0])
            near = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if (a, b) != (0, 0)]
            for r in range(high):
                print(*(sum($grid[(r + a) % high][(c + b) % wide] for a, b in near)
                        for c in range(wide)))
            """,
            given=matrix_literal(data.rows, names["grid"], rng),
            **names,
        )
        words = (
            "First the number of live neighbors of each cell, with the wrapping.",
            "I look at the neighbor counts before I apply the rules.",
        )
        return step(rng, words, code)

    @override
    def wrong_answer(self, data: Board, answer: str, rng: random.Random) -> str | None:
        guess = json.dumps([list(row) for row in data.rows], separators=(",", ":"))
        return None if guess == answer else guess


_LIVES = {
    "modulo": """high, wide = len($grid), len($grid[0])


def neighbors(r, c):
    return sum(
        $grid[(r + a) % high][(c + b) % wide]
        for a in (-1, 0, 1)
        for b in (-1, 0, 1)
        if (a, b) != (0, 0)
    )


for _ in range($steps):
    $grid = [
        [int(neighbors(r, c) == 3 or ($grid[r][c] and neighbors(r, c) == 2)) for c in range(wide)]
        for r in range(high)
    ]""",
    "numpy_roll": """import numpy as np

state = np.array($grid)
shifts = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b]
for _ in range($steps):
    live = sum(np.roll(state, shift, axis=(0, 1)) for shift in shifts)
    state = ((live == 3) | ((state == 1) & (live == 2))).astype(int)
$grid = state.tolist()""",
    "live_set": """from collections import Counter

high, wide = len($grid), len($grid[0])
alive = {(r, c) for r in range(high) for c in range(wide) if $grid[r][c]}
for _ in range($steps):
    touched = Counter(
        ((r + a) % high, (c + b) % wide)
        for r, c in alive
        for a in (-1, 0, 1)
        for b in (-1, 0, 1)
        if a or b
    )
    alive = {cell for cell, k in touched.items() if k == 3 or (k == 2 and cell in alive)}
$grid = [[int((r, c) in alive) for c in range(wide)] for r in range(high)]""",
    "padded_rows": """for _ in range($steps):
    # Copy the opposite borders around the board, then no index needs to wrap.
    wide = [[row[-1], *row, row[0]] for row in $grid]
    wide = [wide[-1], *wide, wide[0]]
    after = []
    for r, row in enumerate($grid, 1):
        line = []
        for c, cell in enumerate(row, 1):
            block = sum(sum(wide[a][c - 1:c + 2]) for a in (r - 1, r, r + 1))
            line.append(int(block == 3 or (cell and block == 4)))
        after.append(line)
    $grid = after""",
}
_LIFE_WORDS = {
    "modulo": "Indices modulo the size do the wrapping.",
    "numpy_roll": "np.roll shifts the torus in the eight directions; their sum counts neighbors.",
    "live_set": "I keep only the set of live cells and count how often each cell is touched.",
    "padded_rows": "A border copied from the opposite side makes plain 3 x 3 blocks of the torus.",
}

TEACHERS: tuple[Teacher[Any], ...] = (BinaryMatrix(), RottenOranges(), GameOfLife())

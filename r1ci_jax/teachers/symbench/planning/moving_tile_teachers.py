"""Teacher of 2048 (one tile that moves)."""

import json
import random
import re
from typing import Any, Final, NamedTuple, override

from r1ci_jax.teachers.teacher import Step, Teacher
from r1ci_jax.teachers.template_teacher import pick, read, script, step

Grid = list[list[int]]

_TILE: Final = re.compile(
    r"The grid:\n((?:[0-9, ]+\n)+)\nThe tile in row ([0-9]+), column ([0-9]+) does the steps "
    r"([udlr]+)\."
)
_STEPS: Final = {"u": (-1, 0), "d": (1, 0), "l": (0, -1), "r": (0, 1)}
_STEP_NAMES: Final = {"u": "up", "d": "down", "l": "left", "r": "right"}

_TILE_FORMS: Final = {
    "nested_lists": """
        $grid = $rows
        $r, $c = $row - 1, $column - 1
        $steps = {"u": (-1, 0), "d": (1, 0), "l": (0, -1), "r": (0, 1)}
        for $m in "$moves":
            $nr, $nc = $r + $steps[$m][0], $c + $steps[$m][1]
            if not (0 <= $nr < len($grid) and 0 <= $nc < len($grid[0])):
                continue
            if $grid[$nr][$nc] in (0, $grid[$r][$c]):
                $grid[$nr][$nc] += $grid[$r][$c]  # an empty cell adds 0, an equal tile doubles
                $grid[$r][$c] = 0
                $r, $c = $nr, $nc
        print($grid)
    """,
    "dictionary": """
        $grid = $rows
        cells = {($r, $c): value for $r, line in enumerate($grid, 1)
                 for $c, value in enumerate(line, 1)}
        here = ($row, $column)
        $steps = {"u": (-1, 0), "d": (1, 0), "l": (0, -1), "r": (0, 1)}
        for $m in "$moves":
            ahead = (here[0] + $steps[$m][0], here[1] + $steps[$m][1])
            value = cells[here]
            if cells.get(ahead) == 0:
                cells[ahead], cells[here] = value, 0
            elif cells.get(ahead) == value:
                cells[ahead], cells[here] = 2 * value, 0
            else:
                continue  # another value, or outside
            here = ahead
        print([[cells[$r, $c] for $c in range(1, $end)] for $r in range(1, $end)])
    """,
    "numpy": """
        import numpy as np

        # A border of -1 blocks every step out of the grid.
        $grid = np.pad(np.array($rows), 1, constant_values=-1)
        $r, $c = $row, $column
        for $m in "$moves":
            $nr = $r + ($m == "d") - ($m == "u")
            $nc = $c + ($m == "r") - ($m == "l")
            if $grid[$nr, $nc] == 0 or $grid[$nr, $nc] == $grid[$r, $c]:
                $grid[$nr, $nc] += $grid[$r, $c]
                $grid[$r, $c] = 0
                $r, $c = $nr, $nc
        print($grid[1:-1, 1:-1].tolist())
    """,
    "tile_apart": """
        $grid = $rows
        $r, $c = $row - 1, $column - 1
        value = $grid[$r][$c]
        $grid[$r][$c] = 0  # the tile is lifted off the grid and put down at the end

        def cell($r, $c):
            inside = 0 <= $r < $side and 0 <= $c < $side
            return $grid[$r][$c] if inside else None

        for $m in "$moves":
            $nr = $r + {"u": -1, "d": 1}.get($m, 0)
            $nc = $c + {"l": -1, "r": 1}.get($m, 0)
            ahead = cell($nr, $nc)
            if ahead == 0:
                $r, $c = $nr, $nc
            elif ahead == value:
                $grid[$nr][$nc] = 0
                $r, $c, value = $nr, $nc, 2 * value
        $grid[$r][$c] = value
        print($grid)
    """,
}
_TILE_WORDS: Final = {
    "nested_lists": "I change the list of rows step by step; adding the moving tile to the next "
    "cell covers both the empty cell and the merge.",
    "dictionary": "With the cells in a dictionary, a cell outside the grid is simply missing.",
    "numpy": "A border of -1 around the array makes the edge behave like a tile of another value.",
    "tile_apart": "Lifting the tile off the grid leaves only its place and value to keep track of.",
}


class TilePath(NamedTuple):
    """A grid, the start of the tile (counted from 1) and its steps."""

    grid: Grid
    row: int
    column: int
    moves: str


class _Visit(NamedTuple):
    """What one step of the tile did."""

    move: str
    row: int
    column: int
    value: int
    ahead: int | None
    """The value that the tile met; None: the edge."""
    moved: bool


def _move_tile(data: TilePath, row: int, column: int) -> tuple[Grid, list[_Visit]]:
    """Return the final grid and what each step did, from a start counted from 0."""
    grid = [list(cells) for cells in data.grid]
    visits: list[_Visit] = []
    for move in data.moves:
        down, right = _STEPS[move]
        to_row, to_column = row + down, column + right
        inside = 0 <= to_row < len(grid) and 0 <= to_column < len(grid[0])
        ahead = grid[to_row][to_column] if inside else None
        value = grid[row][column]
        moved = ahead in (0, value)
        if moved:
            grid[row][column] = 0
            grid[to_row][to_column] = value + (ahead or 0)
            row, column = to_row, to_column
        visits.append(_Visit(move, row + 1, column + 1, grid[row][column], ahead, moved))
    return grid, visits


class Tile2048(Teacher[TilePath]):
    """Moves one tile over a grid; equal tiles merge, others block."""

    task = "2048"
    forms = tuple(_TILE_FORMS)

    @override
    def parse(self, question: str) -> TilePath:
        found = read(_TILE, question)
        grid = [[int(value) for value in line.split(",")] for line in found[1].splitlines()]
        return TilePath(grid, int(found[2]), int(found[3]), found[4])

    def _fields(self, data: TilePath, rng: random.Random) -> dict[str, Any]:
        names = pick(
            rng,
            grid="grid board tiles rows",
            steps="steps deltas directions offsets",
            m="m move letter step",
            c="c j col x",
        )
        names |= {
            "r": {"c": "r", "j": "i", "col": "row", "x": "y"}[names["c"]],
            "nr": {"c": "nr", "j": "ni", "col": "to_row", "x": "ny"}[names["c"]],
            "nc": {"c": "nc", "j": "nj", "col": "to_col", "x": "nx"}[names["c"]],
        }
        values = {
            "rows": data.grid,
            "row": data.row,
            "column": data.column,
            "moves": data.moves,
            "side": len(data.grid),
            "end": len(data.grid) + 1,
        }
        return names | values

    @override
    def step(self, data: TilePath, form: str, rng: random.Random) -> Step:
        side = len(data.grid)
        value = data.grid[data.row - 1][data.column - 1]
        opening = rng.choice(
            [
                f"The tile {value} in row {data.row}, column {data.column} has {len(data.moves)} "
                f"steps to do on a {side} by {side} grid.",
                f"I simulate the {len(data.moves)} steps {data.moves} of the tile {value}, which "
                "may move, merge or be blocked.",
                f"Only the tile at row {data.row}, column {data.column} moves, so the steps "
                f"{data.moves} can be simulated one by one.",
            ]
        )
        return Step(
            words=f"{opening} {_TILE_WORDS[form]}",
            code=script(_TILE_FORMS[form], **self._fields(data, rng)),
        )

    @override
    def check(self, data: TilePath, answer: str, rng: random.Random) -> Step:
        code = """
            before = $rows
            after = $claim
            shape = [len(line) for line in after] == [len(line) for line in before]
            total = sum(map(sum, after)) == sum(map(sum, before))  # merging keeps the sum
            r, c = $row - 1, $column - 1
            steps = {"u": (-1, 0), "d": (1, 0), "l": (0, -1), "r": (0, 1)}
            crossed = {(r, c)}
            for move in "$moves":
                nr, nc = r + steps[move][0], c + steps[move][1]
                value = sum(before[i][j] for i, j in crossed)  # all that was merged so far
                inside = 0 <= nr < $side and 0 <= nc < $side
                if inside and ((nr, nc) in crossed or before[nr][nc] in (0, value)):
                    r, c = nr, nc
                    crossed.add((r, c))
            total_of_tile = sum(before[i][j] for i, j in crossed)
            fits = all(
                after[i][j] == (total_of_tile if (i, j) == (r, c) else 0 if (i, j) in crossed
                                else before[i][j])
                for i in range($side) for j in range($side)
            )
            print(shape and total and fits)
        """
        return step(
            rng,
            [
                "Every cell that the tile crossed must be empty at the end, except the last, "
                "which holds the sum of what was there; the others must be unchanged.",
                "I check it another way: the sum of all tiles stays, crossed cells are "
                "empty, the tile holds all that it merged, and the other cells are as before.",
            ],
            script(code, claim=answer, **self._fields(data, rng)),
        )

    @override
    def small_case(self, data: TilePath, rng: random.Random) -> Step:
        count = max(2, len(data.moves) // 2)
        code = """
            $grid = $rows
            $r, $c = $row - 1, $column - 1
            $steps = {"u": (-1, 0), "d": (1, 0), "l": (0, -1), "r": (0, 1)}
            for $m in "$first":
                $nr, $nc = $r + $steps[$m][0], $c + $steps[$m][1]
                inside = 0 <= $nr < $side and 0 <= $nc < $side
                if inside and $grid[$nr][$nc] in (0, $grid[$r][$c]):
                    $grid[$nr][$nc] += $grid[$r][$c]
                    $grid[$r][$c] = 0
                    $r, $c = $nr, $nc
                print($m, "-> row", $r + 1, "column", $c + 1, "value", $grid[$r][$c])
        """
        return step(
            rng,
            [
                f"I watch the first {count} steps before I do them all.",
                f"First a look at steps {data.moves[:count]}, to see that moving, merging and "
                "blocking are understood.",
            ],
            script(code, first=data.moves[:count], **self._fields(data, rng)),
        )

    @override
    def first_attempt(self, data: TilePath, rng: random.Random) -> Step | None:
        side = len(data.grid)
        if data.row < side and data.column < side:
            wrong, _ = _move_tile(data, data.row, data.column)
            if wrong == _move_tile(data, data.row - 1, data.column - 1)[0]:
                return None
        template = _TILE_FORMS["nested_lists"].replace("$row - 1, $column - 1", "$row, $column")
        return Step(
            words=f"I start at row {data.row}, column {data.column} and do the steps in order.",
            code=script(template, **self._fields(data, rng)),
        )

    @override
    def in_words(self, data: TilePath, rng: random.Random) -> tuple[str, str] | None:
        if len(data.moves) > 8:
            return None
        final, visits = _move_tile(data, data.row - 1, data.column - 1)
        lines: list[str] = []
        for visit in visits:
            name = _STEP_NAMES[visit.move]
            place = f"row {visit.row}, column {visit.column}"
            if not visit.moved:
                met = (
                    "the edge"
                    if visit.ahead is None
                    else f"{'an' if visit.ahead == 8 else 'a'} {visit.ahead}"
                )
                lines.append(f"{name}, where {met} blocks it")
            elif visit.ahead:
                lines.append(f"{name} to {place}, where it merges to {visit.value}")
            else:
                lines.append(f"{name} to {place}")
        value = data.grid[data.row - 1][data.column - 1]
        opening = rng.choice(
            [
                f"The tile {value} starts in row {data.row}, column {data.column} and is sent",
                f"From row {data.row}, column {data.column} the {value} goes",
            ]
        )
        return f"{opening} {'; '.join(lines)}. All other tiles stay.", str(final)

    @override
    def wrong_answer(self, data: TilePath, answer: str, rng: random.Random) -> str | None:
        right = json.loads(answer)
        for count in range(len(data.moves) - 1, -1, -1):
            shorter = data._replace(moves=data.moves[:count])
            grid, _ = _move_tile(shorter, data.row - 1, data.column - 1)
            if grid != right:
                return str(grid)
        return None


TEACHERS: tuple[Teacher[Any], ...] = (Tile2048(),)

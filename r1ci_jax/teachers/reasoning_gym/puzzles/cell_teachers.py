"""Teachers of tables to fill: Kakurasu and small Sudoku."""

import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, override

from r1ci_jax.teachers.teacher import Step, Teacher
from r1ci_jax.teachers.template_teacher import Matrix, TemplateTeacher, read, read_matrix

Sums = tuple[tuple[int, ...], tuple[int, ...]]


def _lists(matrix: Matrix) -> list[list[int]]:
    return [list(row) for row in matrix]


class Kakurasu(TemplateTeacher[Sums]):
    """Finds cells whose weights give the sums of rows and columns."""

    task = "rg_kakurasu"
    forms = ("backtracking", "row_choices", "meet_of_sums", "brute_rows")
    names: ClassVar = {
        "across": ("row_sums", "row_totals", "across"),
        "down": ("col_sums", "column_totals", "down"),
        "table": ("grid", "chosen", "board"),
    }
    scripts: ClassVar = {
        "backtracking": """
        $across = $r
        $down = $c
        n, m = len($across), len($down)
        $table = [[0] * m for _ in range(n)]

        def solve(k, row_left, left):
            if k == n * m:
                return not any(left)
            i, j = divmod(k, m)
            row_left = $across[i] if j == 0 else row_left
            for bit in (1, 0):
                rest, column = row_left - bit * (j + 1), left[j] - bit * (i + 1)
                if rest < 0 or column < 0 or (j == m - 1 and rest):
                    continue
                $table[i][j] = bit
                if solve(k + 1, rest, [*left[:j], column, *left[j + 1 :]]):
                    return True
            return False

        solve(0, 0, $down)
        for row in $table:
            print(*row)
        """,
        "row_choices": """
        from itertools import product

        $across, $down = $r, $c
        m = len($down)

        def choices(total):
            rows = product((0, 1), repeat=m)
            return [row for row in rows if sum(j * x for j, x in enumerate(row, 1)) == total]

        def fill(i, left):
            if i > len($across):
                return [] if not any(left) else None
            for row in choices($across[i - 1]):
                rest = [have - i * x for have, x in zip(left, row)]
                if min(rest) >= 0:
                    below = fill(i + 1, rest)
                    if below is not None:
                        return [row, *below]
            return None

        for row in fill(1, $down):
            print(*row)
        """,
        "meet_of_sums": """
        from itertools import product

        $across = $r
        $down = $c
        m = len($down)
        # For each tuple of column sums reached so far: one set of rows that makes it.
        reached = {(0,) * m: []}
        for i, total in enumerate($across, 1):
            rows = [
                row
                for row in product((0, 1), repeat=m)
                if sum(j * x for j, x in enumerate(row, 1)) == total
            ]
            after = {}
            for sums, $table in reached.items():
                for row in rows:
                    now = tuple(s + i * x for s, x in zip(sums, row))
                    if all(s <= d for s, d in zip(now, $down)):
                        after[now] = [*$table, row]
            reached = after
        for row in reached[tuple($down)]:
            print(*row)
        """,
        "brute_rows": """
        from itertools import combinations

        $across, $down = $r, $c
        n, m = len($across), len($down)

        def subsets(total, count):
            everything = range(1, count + 1)
            sets = (s for k in range(count + 1) for s in combinations(everything, k))
            return [set(s) for s in sets if sum(s) == total]

        columns = [subsets(total, n) for total in $down]

        def extend(chosen):
            j = len(chosen)
            sums = [sum(k + 1 for k in range(j) if i in chosen[k]) for i in range(1, n + 1)]
            if any(have > want for have, want in zip(sums, $across)):
                return None
            if j == m:
                return chosen if sums == $across else None
            return next(filter(None, (extend([*chosen, s]) for s in columns[j])), None)

        $table = extend([])
        for i in range(1, n + 1):
            print(*[int(i in column) for column in $table])
        """,
    }
    methods: ClassVar = {
        "backtracking": "Backtracking cell by cell stops where a row or column sum is passed.",
        "row_choices": "For each row only a few patterns have its sum; a recursion combines them.",
        "meet_of_sums": "Row by row I keep the column sums that can be reached, with one way each.",
        "brute_rows": "Each column is a set of row numbers with its sum; I add columns in turn.",
    }
    checking = (
        (
            "I recompute the weighted sums of all rows and columns.",
            "The grid must have row sums $r and column sums $c.",
            "With the weights 1 to $m each row and column has to give its sum.",
        ),
        """
        grid = $answer
        $across, $down = $r, $c
        rows = [sum(j * x for j, x in enumerate(row, 1)) for row in grid]
        columns = [sum(i * x for i, x in enumerate(column, 1)) for column in zip(*grid)]
        print(rows == $across and columns == $down and {x for row in grid for x in row} <= {0, 1})
        """,
    )
    exploring = (
        (
            "First I count how many patterns each row admits by its own sum.",
            "A row sum leaves few of the patterns; I list how many.",
            "How far do the row sums $r alone narrow the rows?",
        ),
        """
        from itertools import product

        for i, total in enumerate($r, 1):
            rows = product((0, 1), repeat=$m)
            fits = [row for row in rows if sum(j * x for j, x in enumerate(row, 1)) == total]
            print(f"row {i} (sum {total}): {len(fits)} patterns")
        """,
    )

    @override
    def parse(self, question: str) -> Sums:
        found = re.findall(r"\[([\d, ]+)\]", question)
        read(r"Kukurasu", question)
        rows, columns = (tuple(map(int, text.split(","))) for text in found[:2])
        return rows, columns

    @override
    def values(self, data: Sums, rng: random.Random) -> Mapping[str, object]:
        return {"r": list(data[0]), "c": list(data[1]), "m": len(data[1])}

    @override
    def answer_values(self, data: Sums, answer: str) -> Mapping[str, object]:
        return {"answer": _lists(read_matrix(answer))}

    @override
    def openings(self, data: Sums) -> Sequence[str]:
        size = f"{len(data[0])} x {len(data[1])}"
        return (
            f"In the {size} grid a 1 counts its column number for its row and its row number for "
            "its column.",
            f"The row sums {list(data[0])} and column sums {list(data[1])} fix the {size} cells.",
            f"The {size} cells are 0 or 1, and the weights of the first row must add up to "
            f"{data[0][0]}.",
        )

    @override
    def wrong_answer(self, data: Sums, answer: str, rng: random.Random) -> str:
        rows = _lists(read_matrix(answer))
        row = rng.choice(rows)
        place = rng.randrange(len(row))
        row[place] = 1 - row[place]
        return "\n".join(" ".join(map(str, each)) for each in rows)


class MiniSudoku(TemplateTeacher[Matrix]):
    """Solves a Sudoku of four rows."""

    task = "rg_mini_sudoku"
    forms = ("backtracking", "permutations", "candidates")
    names: ClassVar = {
        "table": ("grid", "board", "puzzle"),
        "d": ("d", "digit", "value"),
        "r": ("r", "row", "i"),
        "c": ("c", "col", "j"),
    }
    scripts: ClassVar = {
        "backtracking": """
        $table = $given

        def allowed($r, $c, $d):
            a, b = $r // 2 * 2, $c // 2 * 2
            block = [$table[a + x][b + y] for x in (0, 1) for y in (0, 1)]
            column = [line[$c] for line in $table]
            return $d not in $table[$r] and $d not in column and $d not in block

        def solve():
            for $r in range(4):
                for $c in range(4):
                    if $table[$r][$c] == 0:
                        for $d in range(1, 5):
                            if allowed($r, $c, $d):
                                $table[$r][$c] = $d
                                if solve():
                                    return True
                                $table[$r][$c] = 0
                        return False
            return True

        solve()
        for line in $table:
            print(*line)
        """,
        "permutations": """
        from itertools import permutations, product

        $table = $given

        def fits(line, clue):
            return all(want in (0, have) for have, want in zip(line, clue))

        rows = [[p for p in permutations((1, 2, 3, 4)) if fits(p, clue)] for clue in $table]
        for lines in product(*rows):
            columns = all(len(set(column)) == 4 for column in zip(*lines))
            blocks = all(
                len({*lines[a][b : b + 2], *lines[a + 1][b : b + 2]}) == 4
                for a in (0, 2)
                for b in (0, 2)
            )
            if columns and blocks:
                for line in lines:
                    print(*line)
                break
        """,
        "candidates": """
        $table = $given
        full = {1, 2, 3, 4}

        def options(g, $r, $c):
            a, b = $r // 2 * 2, $c // 2 * 2
            used = {*g[$r], *(line[$c] for line in g), *g[a][b : b + 2], *g[a + 1][b : b + 2]}
            return full - used

        def solve(g):
            empty = [($r, $c) for $r in range(4) for $c in range(4) if g[$r][$c] == 0]
            if not empty:
                return g
            # The cell with the fewest candidates comes first.
            $r, $c = min(empty, key=lambda cell: len(options(g, *cell)))
            for $d in options(g, $r, $c):
                after = [list(line) for line in g]
                after[$r][$c] = $d
                done = solve(after)
                if done:
                    return done
            return None

        for line in solve($table):
            print(*line)
        """,
    }
    methods: ClassVar = {
        "backtracking": "Backtracking tries 1 to 4 in each empty cell and undoes dead ends.",
        "permutations": "Each row is a permutation that fits its clues; I combine the rows.",
        "candidates": "I fill the cell with the fewest candidates first, with a recursion.",
    }
    checking = (
        (
            "Rows, columns and blocks must each hold 1 to 4, and the clues must stand.",
            "I compare the grid with the $clues clues and test all 12 lines and blocks.",
            "Four rows, four columns and four blocks have to be permutations of 1 to 4.",
        ),
        """
        clues = $given
        grid = $answer
        lines = grid + [list(column) for column in zip(*grid)]
        lines += [grid[a][b : b + 2] + grid[a + 1][b : b + 2] for a in (0, 2) for b in (0, 2)]
        kept = all(w in (0, h) for have, want in zip(grid, clues) for h, w in zip(have, want))
        print(kept and all(sorted(line) == [1, 2, 3, 4] for line in lines))
        """,
    )
    exploring = (
        (
            "First the candidates of each empty cell, row by row.",
            "I list what fits into each of the $open empty cells.",
            "Cells with one candidate can be filled at once, so I look for those.",
        ),
        """
        g = $given
        for r in range(4):
            for c in range(4):
                if g[r][c] == 0:
                    a, b = r // 2 * 2, c // 2 * 2
                    used = {*g[r], *(line[c] for line in g), *g[a][b : b + 2], *g[a + 1][b : b + 2]}
                    print((r, c), sorted({1, 2, 3, 4} - used))
        """,
    )
    slip = (
        (
            "I fill each row with the digits it lacks, in increasing order.",
            "Each row needs 1 to 4, so its zeros get the missing digits.",
            "The $open empty cells take what their rows lack.",
        ),
        """
        $table = $given
        for line in $table:
            missing = [d for d in range(1, 5) if d not in line]
            print(*[d or missing.pop(0) for d in line])
        """,
    )

    @override
    def parse(self, question: str) -> Matrix:
        found = read(r"Mini Sudoku puzzle:\s+((?:[_1-4] ?){4}(?:\n[_1-4 ]+){3})", question)[1]
        return read_matrix(found.replace("_", "0"))

    @override
    def values(self, data: Matrix, rng: random.Random) -> Mapping[str, object]:
        return {
            "given": _lists(data),
            "open": sum(row.count(0) for row in data),
            "clues": 16 - sum(row.count(0) for row in data),
        }

    @override
    def answer_values(self, data: Matrix, answer: str) -> Mapping[str, object]:
        return {"answer": _lists(read_matrix(answer))}

    @override
    def openings(self, data: Matrix) -> Sequence[str]:
        empty = sum(row.count(0) for row in data)
        return (
            f"{empty} of the 16 cells are empty, written as 0.",
            f"The 4 x 4 Sudoku lacks {empty} digits.",
            f"{16 - empty} clues are given; the first row reads {' '.join(map(str, data[0]))}, "
            "0 for empty.",
        )

    @override
    def first_attempt(self, data: Matrix, rng: random.Random) -> Step | None:
        filled = _filled_by_row(data)
        lines = [*filled, *zip(*filled, strict=True)]
        lines += [filled[a][b : b + 2] + filled[a + 1][b : b + 2] for a in (0, 2) for b in (0, 2)]
        right = all(len(set(line)) == 4 for line in lines)
        return None if right else super().first_attempt(data, rng)

    @override
    def wrong_answer(self, data: Matrix, answer: str, rng: random.Random) -> str | None:
        """Exchange two digits of a row that were not given."""
        rows = _lists(read_matrix(answer))
        pairs = [
            (r, a, b)
            for r, row in enumerate(data)
            for a in range(4)
            for b in range(a)
            if row[a] == row[b] == 0
        ]
        if not pairs:
            return None
        r, a, b = rng.choice(pairs)
        rows[r][a], rows[r][b] = rows[r][b], rows[r][a]
        return "\n".join(" ".join(map(str, row)) for row in rows)


def _filled_by_row(grid: Matrix) -> Matrix:
    """Put the digits that a row lacks into its gaps, in increasing order."""
    rows = []
    for row in grid:
        missing = iter(sorted({1, 2, 3, 4} - set(row)))
        rows.append(tuple(digit or next(missing) for digit in row))
    return tuple(rows)


TEACHERS: tuple[Teacher[Any], ...] = (Kakurasu(), MiniSudoku())

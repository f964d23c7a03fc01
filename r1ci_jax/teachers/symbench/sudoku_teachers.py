"""Teacher of the 9 x 9 Sudoku."""

import dataclasses
import random
import re
from typing import Any, override

from r1ci_jax.teachers.teacher import Step, Teacher
from r1ci_jax.teachers.template_teacher import pick, require, script, step, text_block

_MANY = 32
"""With fewer empty cells, filling them without thought may happen to be right."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sudoku:
    """The rows of a grid, with a point for each empty cell."""

    rows: tuple[str, ...]

    @property
    def blanks(self) -> int:
        """Return the number of empty cells."""
        return "".join(self.rows).count(".")


_FEWEST_CHOICES = """
    $given

    def choices(r, c):
        top, left = r // 3 * 3, c // 3 * 3
        box = {digit for row in $grid[top : top + 3] for digit in row[left : left + 3]}
        return set("123456789") - set($grid[r]) - {row[c] for row in $grid} - box

    def $solve():
        empty = [(r, c) for r in range(9) for c in range(9) if $grid[r][c] == "."]
        if not empty:
            return True
        # The cell with the fewest possible digits comes first.
        r, c = min(empty, key=lambda cell: len(choices(*cell)))
        for digit in sorted(choices(r, c)):
            $grid[r][c] = digit
            if $solve():
                return True
        $grid[r][c] = "."
        return False

    $solve()
    for row in $grid:
        print("".join(row))
"""
_UNIT_SETS = """
    from collections import defaultdict

    $given
    left = defaultdict(lambda: set("123456789"))  # digits that a row, column or box still lacks

    def units(r, c):
        return [left["row", r], left["column", c], left["box", r // 3, c // 3]]

    cells = [(r, c) for r in range(9) for c in range(9)]
    for r, c in cells:
        for unit in units(r, c):
            unit.discard($grid[r][c])

    def $solve(empty):
        if not empty:
            return True
        r, c = min(empty, key=lambda cell: len(set.intersection(*units(*cell))))
        for digit in sorted(set.intersection(*units(r, c))):
            for unit in units(r, c):
                unit.remove(digit)
            $grid[r][c] = digit
            if $solve(empty - {(r, c)}):
                return True
            for unit in units(r, c):
                unit.add(digit)
        return False

    $solve({(r, c) for r, c in cells if $grid[r][c] == "."})
    print("\\n".join(map("".join, $grid)))
"""
_EXACT_COVER = """
    from itertools import product

    $given

    # Each placement (row, column, digit) meets four demands; every demand must be met once.
    places = {}
    for r, c, d in product(range(9), range(9), "123456789"):
        if $grid[r][c] in (".", d):
            box = r // 3 * 3 + c // 3
            places[r, c, d] = [("cell", r, c), ("row", r, d), ("column", c, d), ("box", box, d)]
    demands = {}
    for place, needs in places.items():
        for need in needs:
            demands.setdefault(need, set()).add(place)

    def $solve(open_demands):
        if not open_demands:
            return []
        for place in sorted(min(open_demands.values(), key=len)):
            out = set().union(*(open_demands[need] for need in places[place]))
            rest = {n: p - out for n, p in open_demands.items() if n not in places[place]}
            if (found := $solve(rest)) is not None:
                return [place, *found]

    digits = "".join(d for r, c, d in sorted($solve(demands)))
    for start in range(0, 81, 9):
        print(digits[start : start + 9])
"""
_TEXT_SEARCH = """
    $given
    cells = "".join(map("".join, $grid))

    def options(cells, i):
        seen = {
            cells[j]
            for j in range(81)
            if j // 9 == i // 9 or j % 9 == i % 9 or (j // 27, j % 9 // 3) == (i // 27, i % 9 // 3)
        }
        return sorted(set("123456789") - seen)

    def $solve(cells):
        empty = [i for i in range(81) if cells[i] == "."]
        if not empty:
            return cells
        i = min(empty, key=lambda i: len(options(cells, i)))  # the most constrained cell
        for digit in options(cells, i):
            if found := $solve(cells[:i] + digit + cells[i + 1 :]):
                return found

    solved = $solve(cells)
    print(*[solved[i : i + 9] for i in range(0, 81, 9)], sep="\\n")
"""
_SUDOKU_SCRIPTS = {
    "fewest_choices": _FEWEST_CHOICES,
    "unit_sets": _UNIT_SETS,
    "exact_cover": _EXACT_COVER,
    "text_search": _TEXT_SEARCH,
}
_SUDOKU_WORDS = {
    "fewest_choices": (
        "{n} cells are empty. Backtracking that always fills the cell with the fewest possible "
        "digits solves such a grid at once.",
        "I search: take the empty cell with the fewest choices among the {n}, try its digits, and "
        "go back where a cell has none left.",
    ),
    "unit_sets": (
        "For every row, column and box I keep the set of digits it still lacks; a cell can take "
        "what lies in all three sets, and a search fills the {n} empty cells.",
        "The digits of an empty cell are the intersection of what its row, column and box lack. I "
        "fill the {n} cells, the most constrained first, and go back if one has no digit.",
    ),
    "exact_cover": (
        "A Sudoku is an exact cover problem: each cell gets one digit, and each row, column and "
        "box gets each digit once. I choose the demand with the fewest placements first.",
        "With {n} cells open I write the Sudoku as an exact cover: every placement meets four "
        "demands, and each demand must be met once.",
    ),
    "text_search": (
        "I hold the grid as a text of 81 characters and replace its {n} dots one by one, always "
        "where the fewest digits fit.",
        "A recursive search over texts of 81 characters needs no undoing: each call fills one of "
        "the {n} dots and passes the new text on.",
    ),
}


class StandardSudoku(Teacher[Sudoku]):
    """Completes a 9 x 9 Sudoku."""

    task = "standard_sudoku"
    forms = tuple(_SUDOKU_SCRIPTS)

    @override
    def parse(self, question: str) -> Sudoku:
        lines = re.findall(r"^[1-9.](?: [1-9.]){8}$", question, re.MULTILINE)
        require(len(lines) == 9, question)
        return Sudoku(rows=tuple(line.replace(" ", "") for line in lines))

    def _given(self, data: Sudoku, name: str) -> str:
        bands = [" ".join(data.rows[start : start + 3]) for start in (0, 3, 6)]
        return f"{text_block('text', bands)}\n{name} = [list(row) for row in text.split()]"

    @override
    def step(self, data: Sudoku, form: str, rng: random.Random) -> Step:
        names = pick(rng, grid=("grid", "board", "sudoku"), solve=("solve", "search", "fill"))
        given = self._given(data, names["grid"])
        code = script(_SUDOKU_SCRIPTS[form], given=given, **names)
        words = [text.format(n=data.blanks) for text in _SUDOKU_WORDS[form]]
        return step(rng, words, code)

    @override
    def check(self, data: Sudoku, answer: str, rng: random.Random) -> Step:
        code = script(
            """
            given = "$given"
            solved = "$solved"

            units = [solved[i : i + 9] for i in range(0, 81, 9)]
            units += [solved[i::9] for i in range(9)]
            for i in (0, 3, 6, 27, 30, 33, 54, 57, 60):
                units.append(solved[i : i + 3] + solved[i + 9 : i + 12] + solved[i + 18 : i + 21])
            complete = all(sorted(unit) == list("123456789") for unit in units)
            kept = all(a in (".", b) for a, b in zip(given, solved, strict=True))
            print(complete and kept)
            """,
            given="".join(data.rows),
            solved="".join(answer.split()),
        )
        words = (
            "I check the 27 rows, columns and boxes of the result, and that no given digit has "
            f"changed while {data.blanks} cells were filled.",
            "Does every row, column and box hold the digits 1 to 9, and are the given digits "
            "still in their places?",
        )
        return step(rng, words, code)

    @override
    def first_attempt(self, data: Sudoku, rng: random.Random) -> Step | None:
        # The boxes are forgotten, and no choice is taken back.
        if data.blanks < _MANY:
            return None
        code = script(
            """
            $given

            for r in range(9):
                for c in range(9):
                    if grid[r][c] == ".":
                        used = set(grid[r]) | {row[c] for row in grid}
                        grid[r][c] = min(set("123456789") - used)
            print("\\n".join(map("".join, grid)))
            """,
            given=self._given(data, "grid"),
        )
        words = (
            f"I fill the {data.blanks} empty cells one after another with a digit that is free.",
            "For each empty cell I take the smallest digit that its row and column allow.",
        )
        return step(rng, words, code)

    @override
    def wrong_answer(self, data: Sudoku, answer: str, rng: random.Random) -> str:
        # Two digits of a row are exchanged.
        rows = [list(line) for line in answer.split()]
        row = rng.choice([r for r in range(9) if data.rows[r].count(".") > 1])
        one, two = rng.sample([c for c in range(9) if data.rows[row][c] == "."], 2)
        rows[row][one], rows[row][two] = rows[row][two], rows[row][one]
        return "\n".join(map("".join, rows))


TEACHERS: tuple[Teacher[Any], ...] = (StandardSudoku(),)
